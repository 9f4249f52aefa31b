"""All left singular vectors from float64 Gram matrices, nearly as exact as those of an SVD.

Eigenvectors of W W^T cost less than half of an SVD, and lose those of small singular values:
below the root of rounding, relative to sigma_1, they are mixed among each other. But they
span the right space together, and W seen from that space alone is no larger than what they
belong to: its Gram matrix separates them, and so on, down to rounding of sigma_1 itself. Values
are within some eps64 of sigma_1; vectors of the least may hold about 1e-9 of the largest.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.errors import NonFiniteError
from spectra.kernels.entries import largest_entry, power_of_two_near
from spectra.kernels.rounding import EPS64

RESOLVED = 1e-7  # of the largest eigenvalue: what is below is looked at again, alone


def left_singular_by_gram(
    matrix: Float[Tensor, "rows cols"],
) -> tuple[Float[Tensor, "rows rank"], Float[Tensor, " rank"]]:
    """Return the left singular vectors and values, float64.

    Args:
        matrix: Any shape, any floating dtype up to float64.

    Returns:
        Orthonormal columns and descending values; `rank = min(rows, cols)`.

    Raises:
        NonFiniteError: The matrix holds NaN or Inf.
    """
    scale = power_of_two_near(largest_entry(matrix)) or 1.0
    wide = matrix.double() / scale
    rows, cols = matrix.shape
    if rows <= cols:
        vectors, values = _levels(wide)
        return vectors, values * scale
    reflectors, factors = torch.geqrf(wide)
    del wide
    turned, values = _levels(reflectors[:cols].triu())
    padded = torch.zeros_like(reflectors)
    padded[:cols] = turned
    return torch.ormqr(reflectors, factors, padded), values * scale


def leading_by_gram(
    matrix: Float[Tensor, "rows cols"], count: int
) -> tuple[Float[Tensor, "rows count"], Float[Tensor, " count"]]:
    """Return the leading left singular vectors and values alone, float64.

    Args:
        matrix: As above.
        count: How many, at most the shorter side.

    Raises:
        NonFiniteError: The matrix holds NaN or Inf.
    """
    scale = power_of_two_near(largest_entry(matrix)) or 1.0
    rest = matrix.double() / scale
    tall = matrix.shape[0] > matrix.shape[1]
    vectors, values = rest.new_zeros(len(rest), 0), rest.new_zeros(0)
    while vectors.shape[1] < count:
        gram = _finite(rest.mT @ rest if tall else rest @ rest.mT)
        squares, found = _top(gram, count - vectors.shape[1])
        clear = max(int((squares > RESOLVED * squares[0]).sum()), 1)
        if not float(squares[0]) > 0.0:
            clear = len(squares)  # nothing is left: any vectors serve
        found = rest @ found[:, :clear] if tall else found[:, :clear]
        # Those of larger values are not to be found again.
        found = torch.linalg.qr(torch.cat([vectors, found], dim=1)).Q[:, vectors.shape[1] :]
        vectors = torch.cat([vectors, found], dim=1)
        seen = found.mT @ rest
        sizes = torch.linalg.vector_norm(seen, dim=1)
        values = torch.cat([values, sizes])
        rest = rest - found @ seen
        known = seen / sizes.clamp(min=1e-300)[:, None]
        rest = rest - (rest @ known.mT) @ known
    return vectors, values * scale


def _top(gram: Float[Tensor, "rank rank"], count: int) -> tuple[Tensor, Tensor]:
    """Return the largest eigenvalues, descending, and their eigenvectors."""
    if gram.is_cuda:
        squares, vectors = torch.linalg.eigh(gram)
    else:
        from scipy.linalg import eigh  # noqa: PLC0415 - others need no scipy

        ends = len(gram) - count, len(gram) - 1
        found = eigh(gram.cpu().numpy(), subset_by_index=ends, driver="evr", check_finite=False)
        squares, vectors = (torch.from_numpy(part).to(gram) for part in found)
    return squares.flip(0)[:count], vectors.flip(1)[:, :count]


def left_singular_by_gram_cost(rows: int, cols: int) -> float:
    """Return about how many operations it takes, where one level does."""
    short, long = sorted((rows, cols))
    return 2.0 * long * short**2 + 18.0 * short**3


def _levels(wide: Float[Tensor, "rank cols"]) -> tuple[Tensor, Tensor]:
    """Decompose level by level: what one leaves mixed makes the next."""
    rest, basis = wide, torch.eye(len(wide), dtype=wide.dtype, device=wide.device)
    vectors: list[Tensor] = []
    values: list[Tensor] = []
    floor = 0.0
    while len(rest):
        squares, turn = torch.linalg.eigh(_finite(rest @ rest.mT))
        squares, turn = squares.flip(0), turn.flip(1)
        top = max(float(squares[0]), 0.0)
        floor = floor or (max(wide.shape) * EPS64) ** 2 * top
        clear = int((squares > RESOLVED * top).sum()) if top > floor else len(squares)
        basis = basis @ turn if vectors else turn
        vectors.append(basis[:, :clear])
        basis = basis[:, clear:]
        seen = vectors[-1].mT @ wide
        values.append(torch.linalg.vector_norm(seen, dim=1))  # a root of squares loses digits
        if basis.shape[1]:
            # Vectors near the cut hold a little of what is left: it is not to be seen twice.
            known = seen / values[-1][:, None]
            wide = wide - (wide @ known.mT) @ known
        rest = basis.mT @ wide
    found, order = torch.cat(values).sort(descending=True)
    return torch.cat(vectors, dim=1)[:, order], found


def _finite(gram: Float[Tensor, "rank rank"]) -> Float[Tensor, "rank rank"]:
    if not bool(gram.isfinite().all()):
        raise NonFiniteError("products of the entries overflow float64")
    return gram
