"""Vectors along all left singular vectors of a matrix, without forming these.

A full SVD spends most of its time on singular vectors. To know how much a few vectors y have
in common with every one, U^T y is enough: W is reduced to a bidiagonal matrix by reflections,
W = Q B P^T, B to its singular values by rotations, and y is carried along by both. What comes
out is exact for a matrix that differs from W by some roundings of sigma_1, as of any SVD.

Source:
    Golub and Van Loan 2013, Matrix Computations, sections 5.4.8 and 8.6; Chan 1982, An improved
    algorithm for computing the SVD (QR first).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.errors import NonFiniteError
from spectra.kernels.entries import largest_entry, power_of_two_near
from spectra.kernels.lapack import bidiagonal_components
from spectra.kernels.singular import left_singular


def left_components(
    matrix: Float[Tensor, "rows cols"], vectors: Float[Tensor, "rows k"]
) -> tuple[Float[Tensor, "rank k"], Float[Tensor, " rank"]]:
    """Return U^T y of several vectors y, and the singular values of W = U S V^T.

    Args:
        matrix: W; any shape that is not empty, any floating dtype up to float64.
        vectors: The y; float64.

    Returns:
        Float64, on the CPU, where LAPACK is; values descend, `rank = min(rows, cols)`.

    Raises:
        NonFiniteError: The matrix holds NaN or Inf.
    """
    scale = power_of_two_near(largest_entry(matrix)) or 1.0
    rows, cols = matrix.shape
    wide, carried = matrix.cpu().to(torch.float64, copy=True).div_(scale), vectors.cpu()
    if rows < cols:  # a triangular factor of the transpose has the same left singular vectors
        wide = torch.linalg.qr(wide.mT, mode="r").R.mT
    elif rows > cols:
        reflectors, factors = torch.geqrf(wide)
        carried = torch.ormqr(reflectors, factors, carried, transpose=True)[:cols]
        wide = reflectors[:cols].triu()
        del reflectors
    if not bool(wide.isfinite().all()):
        raise NonFiniteError("products of the entries overflow float64")
    lines = carried.mT.clone(memory_format=torch.contiguous_format)
    sigma = bidiagonal_components(wide.contiguous(), lines)
    if sigma is None:
        basis, sigma = left_singular(matrix.cpu())
        return basis.mT @ vectors.cpu(), sigma
    return lines.mT, sigma * scale
