"""The leading left singular vectors from float64 Gram matrices, nearly as exact as an SVD's.

Eigenvectors of W W^T lose those of small singular values: below the root of rounding, relative
to sigma_1, they are mixed among each other. So those above come first, and are taken out of W;
what is left is looked at again. Values are within some eps64 of sigma_1.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.errors import NonFiniteError
from spectra.kernels.entries import largest_entry, power_of_two_near
from spectra.kernels.lapack import leading_eigenpairs

RESOLVED = 1e-7  # of the largest eigenvalue: what is below is looked at again, alone


def leading_by_gram(
    matrix: Float[Tensor, "rows cols"], count: int
) -> tuple[Float[Tensor, "rows count"], Float[Tensor, " count"]]:
    """Return the leading left singular vectors and values, float64, on the CPU.

    Args:
        matrix: Any shape, any floating dtype up to float64.
        count: How many, at most the shorter side.

    Raises:
        NonFiniteError: The matrix holds NaN or Inf.
    """
    scale = power_of_two_near(largest_entry(matrix)) or 1.0
    rest = matrix.cpu().to(torch.float64, copy=True).div_(scale)
    tall = matrix.shape[0] > matrix.shape[1]
    vectors, values = rest.new_zeros(len(rest), 0), rest.new_zeros(0)
    while True:
        gram = rest.mT @ rest if tall else rest @ rest.mT
        if not bool(gram.isfinite().all()):
            raise NonFiniteError("products of the entries overflow float64")
        squares, found = _leading(gram, count - vectors.shape[1])
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
        if len(values) >= count:
            return vectors, values * scale
        rest = rest - found @ seen
        known = seen / sizes.clamp(min=1e-300)[:, None]
        rest = rest - (rest @ known.mT) @ known


def _leading(gram: Float[Tensor, "rank rank"], count: int) -> tuple[Tensor, Tensor]:
    """Return the largest eigenvalues, descending, and their eigenvectors."""
    found = leading_eigenpairs(gram.clone(), count)
    if found is None:
        squares, vectors = torch.linalg.eigh(gram)
        return squares.flip(0)[:count], vectors.flip(1)[:, :count]
    return found
