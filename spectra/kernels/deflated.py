"""Lanczos from several vectors at once, kept clear of directions that are already known.

For each vector y the recurrence builds orthonormal L and a tridiagonal J with

    W W^T L = L J + (what leaves, in the last column) + G,

from y' = y - D D^T y and the deflated operator (I - D D^T) W W^T: G holds what deflation and
rounding do, and is measured column by column with float64 products. Deflation keeps the few
largest eigenvalues, to which every Krylov space turns first, out of a remainder that lives
among the small ones.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.kernels.christoffel import Jacobi
from spectra.kernels.linear_map import LinearMap

SKEW = 1e-9  # of L from orthonormal


def deflated_lanczos(
    of: LinearMap, known: Float[Tensor, "rows d"], vectors: Float[Tensor, "rows n"], steps: int
) -> list[Jacobi]:
    """Run Lanczos on W W^T from every column; reads the matrix twice a step.

    Args:
        of: W.
        known: D, orthonormal directions to stay away from.
        vectors: Starting vectors.
        steps: Columns of each L.

    Returns:
        One process per column, its error infinite where L lost orthogonality.
    """
    rows, count = vectors.shape

    def outside(block: Tensor) -> Tensor:
        """Return the part of a block outside of D."""
        for _ in range(2):
            block = block - known @ (known.mT @ block)
        return block

    start = outside(vectors)
    norms = torch.linalg.vector_norm(start, dim=0)
    basis = start.new_zeros(count, steps + 1, rows)
    diagonal, beside = start.new_zeros(count, steps), start.new_zeros(count, steps)
    basis[:, 0] = (start / norms.clamp(min=1e-300)).mT
    for j in range(steps):
        here = basis[:, j].mT
        image = outside(of.times(of.transposed_times(here)))
        diagonal[:, j] = (image * here).sum(dim=0)
        across = image.mT[:, :, None]
        own = basis[:, : j + 1]
        for _ in range(2):
            across = across - own.mT @ (own @ across)
        beside[:, j] = torch.linalg.vector_norm(across, dim=(1, 2))
        basis[:, j + 1] = across[:, :, 0] / beside[:, j, None].clamp(min=1e-300)
    error = _relation_error(of, basis, diagonal, beside)
    return [
        _process(diagonal[i], beside[i], float(norms[i]), float(error[i])) for i in range(count)
    ]


def _relation_error(
    of: LinearMap,
    basis: Float[Tensor, "n columns rows"],
    diagonal: Float[Tensor, "n steps"],
    beside: Float[Tensor, "n steps"],
) -> Float[Tensor, " n"]:
    """Bound ||G|| of all columns but the last, from float64 products."""
    count, columns, rows = basis.shape
    used = columns - 2  # the last column's relation bounds nothing
    flat = basis[:, :used].reshape(count * used, rows).mT
    image = of.products(flat.new_zeros(of.shape[1], 0), flat)[1]
    image = of.products(image, flat[:, :0])[0]
    expected = diagonal[:, :used, None] * basis[:, :used]
    expected += beside[:, :used, None] * basis[:, 1 : used + 1]
    expected[:, 1:] += beside[:, : used - 1, None] * basis[:, : used - 1]
    missed = image.mT.reshape(count, used, rows) - expected
    own = 2.0 * math.sqrt(used) * of.rounding() * of.norm
    inner = basis[:, :-1] @ basis[:, :-1].mT
    skew = (inner - torch.eye(columns - 1).to(inner)).abs().amax(dim=(1, 2))
    error = torch.linalg.vector_norm(missed, dim=(1, 2)) + own
    return torch.where(skew <= SKEW, error, math.inf)


def _process(
    diagonal: Float[Tensor, " steps"], beside: Float[Tensor, " steps"], norm: float, error: float
) -> Jacobi:
    """Cut the process where it ended by itself, in an invariant subspace."""
    diagonal, beside = diagonal.cpu(), beside.cpu()
    ended = (beside <= 1e-12 * float(diagonal.abs().max())).nonzero()
    length = int(ended[0]) + 1 if len(ended) else len(diagonal)
    return Jacobi(diagonal[:length], beside[: length - 1], norm, error)
