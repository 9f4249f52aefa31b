"""The entries of a matrix: the largest, their norm, and whether all are numbers."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.errors import NonFiniteError

BLOCK = 1 << 20  # entries widened to float64 at a time


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
    rows = max(BLOCK // max(matrix.shape[1], 1), 1)
    wide = matrix.new_empty((min(rows, len(matrix)), matrix.shape[1]), dtype=torch.float64)
    parts = [float(wide[: len(part)].copy_(part).div_(scale).norm()) for part in matrix.split(rows)]
    return scale * math.hypot(*parts)


def power_of_two_near(value: float) -> float:
    """Return the power of two next below `value`, 0 for 0: scaling by it never rounds."""
    return math.ldexp(1.0, math.frexp(value)[1] - 1) if value else 0.0
