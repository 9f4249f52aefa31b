"""Singular values and vectors, exact to a stated tolerance.

Three ways lead to all singular values. The float64 Gram matrix and its eigenvalues
cost less than a float32 SVD and lose nothing while the condition number is moderate:
products of float32 entries are exact in float64, so only the summation and the
eigensolver round, and every `lambda` is off by at most
`GRAM_ERROR * sqrt(max(m, n)) * eps64 * sigma_1^2`. The square root is that of
probabilistic rounding analysis (Higham and Mary 2019). The factor is measured, not
proven: with sides up to 4096, real weights and random, graded, clustered and integer-grid
matrices stayed below 2, ternary ones, whose equal products round alike, below 2.5; only
matrices built so that equal products cancel (spikes minus a constant, of one tiny sigma)
reached 15. The few smallest sigma of which that is more than `RELATIVE_ERROR` come from
inverse iteration, whose residual proves them; where it does not, the float64 SVD decides.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.errors import NonFiniteError
from spectra.kernels.rounding import EPS64
from spectra.kernels.smallest import smallest_singular_values

RELATIVE_ERROR = 1e-4  # of every singular value returned, against exact arithmetic
GRAM_ERROR = 16.0  # of the Gram path's sigma^2, in sqrt(max(m, n)) * eps64 * sigma_1^2
SMALL = 48  # below this the float64 SVD costs nothing
BLOCK = 1024  # columns or rows widened to float64 at a time


def singular_values(matrix: Float[Tensor, "rows cols"]) -> Float[Tensor, " rank"]:
    """Return all singular values, descending, in float64.

    Each is within a relative `RELATIVE_ERROR` of the exact value, or within the rounding
    floor `max(rows, cols) * eps64 * sigma_1` of it; what is no larger than the floor is 0.

    Args:
        matrix: Any shape, any floating dtype up to float64.

    Returns:
        `min(rows, cols)` values.

    Raises:
        NonFiniteError: The matrix holds NaN or Inf.
    """
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT
    rank, length = wide.shape
    if rank == 0:
        return torch.zeros(0, dtype=torch.float64, device=matrix.device)
    scale = power_of_two_near(largest_entry(matrix))
    if scale == 0.0:
        return torch.zeros(rank, dtype=torch.float64, device=matrix.device)
    lost, squares = rank, None
    if rank > SMALL and matrix.dtype != torch.float64:
        squares = torch.linalg.eigvalsh(_gram(wide, scale)).flip(0)
        rounding = GRAM_ERROR * math.sqrt(length) * EPS64 * float(squares[0])
        # sigma errs half as much as its square
        lost = int((squares <= rounding / (2.0 * RELATIVE_ERROR)).sum())
        if lost == 0:
            resolved: Tensor = squares.sqrt_().mul_(scale)
            return resolved
    exact = wide.to(torch.float64, copy=True).div_(scale)
    if squares is not None and lost < rank:
        above = math.sqrt(float(squares[-lost - 1])) * (1.0 - RELATIVE_ERROR)
        tail = smallest_singular_values(exact, lost, above, RELATIVE_ERROR)
        if tail is not None:
            return torch.cat([squares[:-lost].sqrt_(), tail]).mul_(scale)
    values = torch.linalg.svdvals(exact) if rank > 1 else exact.norm().reshape(1)
    floor = length * EPS64 * float(values[0])
    return torch.where(values > floor, values, 0.0).mul_(scale)


def singular_value_error(value: float, largest: float, length: int) -> float:
    """Return how far a singular value of `singular_values` may be from the exact one.

    Args:
        value: As returned, not 0.
        largest: sigma_1.
        length: The longer side of the matrix.
    """
    by_gram = GRAM_ERROR * math.sqrt(length) * EPS64 * largest * (largest / value) / 2.0
    return max(length * EPS64 * largest, min(by_gram, RELATIVE_ERROR * value))


def left_singular(
    matrix: Float[Tensor, "rows cols"],
) -> tuple[Float[Tensor, "rows rank"], Float[Tensor, " rank"]]:
    """Return the left singular vectors and values of a float64 LAPACK SVD.

    A matrix that is not square is first reduced to its triangular factor. A wide one
    shares left singular vectors with it, so that the right ones are never formed; those
    of a tall one are turned back by the reflectors, which takes less memory than LAPACK.

    Args:
        matrix: Any shape, any floating dtype up to float64.

    Returns:
        Orthonormal columns and descending values, both float64;
        `rank = min(rows, cols)`.

    Raises:
        NonFiniteError: The matrix holds NaN or Inf.

    Source:
        Chan 1982, An improved algorithm for computing the SVD (QR first).
    """
    largest_entry(matrix)
    rows, cols = matrix.shape
    if cols > rows:
        # The transpose of a row-major matrix is LAPACK's own order: no further copy.
        triangle = torch.linalg.qr(matrix.double().mT, mode="r").R.mT
        left, values, _ = torch.linalg.svd(triangle)
        return left, values
    if rows == cols:
        left, values, _ = torch.linalg.svd(matrix.double())
        return left, values
    reflectors, scales = torch.geqrf(matrix.double())
    turned, values, _ = torch.linalg.svd(reflectors[:cols].triu())
    padded = torch.zeros_like(reflectors)
    padded[:cols] = turned
    return torch.ormqr(reflectors, scales, padded), values


def singular_values_cost(rows: int, cols: int) -> float:
    """Return about how many operations `singular_values` takes: Gram, then eigenvalues."""
    short, long = sorted((rows, cols))
    return 2.0 * long * short**2 + 5.0 * short**3  # half of the eigensolver is memory-bound


def singular_values_memory(rows: int, cols: int) -> int:
    """Return about the peak bytes of `singular_values`, the float32 matrix included."""
    return 5 * rows * cols + 2 * 8 * min(rows, cols) ** 2


def left_singular_cost(rows: int, cols: int) -> float:
    """Return about how many operations `left_singular` takes."""
    short, long = sorted((rows, cols))
    return 4.0 * long * short**2 + 40.0 * short**3


def left_singular_memory(rows: int, cols: int) -> int:
    """Return about the peak bytes that `left_singular` adds to its input."""
    short, size = min(rows, cols), rows * cols
    return (16 if cols > rows else 24) * size + 64 * short**2


def _gram(wide: Float[Tensor, "rank length"], scale: float) -> Float[Tensor, "rank rank"]:
    """Return `wide @ wide.T / scale^2` in float64, widening one block at a time."""
    rank, length = wide.shape
    gram = torch.zeros(rank, rank, dtype=torch.float64, device=wide.device)
    for start in range(0, length, BLOCK):
        block = wide[:, start : start + BLOCK].to(torch.float64, copy=True).div_(scale)
        gram.addmm_(block, block.mT)
    return gram


def largest_entry(matrix: Float[Tensor, "rows cols"]) -> float:
    """Return the largest |entry|, 0 for an empty matrix.

    Raises:
        NonFiniteError: The matrix holds NaN or Inf. `nan < threshold` is False, so
            every comparison after this one would silently go one way.
    """
    if matrix.numel() == 0:
        return 0.0
    low, high = torch.aminmax(matrix)
    largest = max(-float(low), float(high))
    if not math.isfinite(largest):
        unusable = (~torch.isfinite(matrix)).nonzero()
        row, col = (int(i) for i in unusable[0])
        raise NonFiniteError(
            f"{len(unusable):,} of {matrix.numel():,} entries are NaN or Inf, "
            f"first at [{row}, {col}]"
        )
    return largest


def entry_norm(matrix: Float[Tensor, "rows cols"]) -> float:
    """Return the Frobenius norm from the entries, in float64 and at any scale.

    Raises:
        NonFiniteError: The matrix holds NaN or Inf.
    """
    scale = power_of_two_near(largest_entry(matrix))
    if not scale:
        return 0.0
    # Always into the same memory: fresh pages cost more than the sum.
    rows = max(BLOCK * BLOCK // max(matrix.shape[1], 1), 1)
    wide = matrix.new_empty((min(rows, len(matrix)), matrix.shape[1]), dtype=torch.float64)
    parts = [float(wide[: len(part)].copy_(part).div_(scale).norm()) for part in matrix.split(rows)]
    return scale * math.hypot(*parts)


def power_of_two_near(value: float) -> float:
    """Return the power of two next below `value`, 0 for 0: scaling by it never rounds."""
    return math.ldexp(1.0, math.frexp(value)[1] - 1) if value else 0.0
