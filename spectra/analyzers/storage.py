"""What storing a matrix has rounded off its entries, as its dtype or scheme tells."""

from spectra.checkpoint.entry import ROUNDOFF
from spectra.kernels.noise import mean_rounding_floor
from spectra.kernels.rounding import F32, F64, grid_of
from spectra.matrices import Matrix

WIDE = {"F32": F32, "F64": F64}
"""Dtypes in which weights are often saved that were rounded to a half one before."""


def unit_roundoff(matrix: Matrix) -> float | None:
    """Return the most that storing moved an entry, relative to it; None where no dtype says.

    Values that were rounded to a half dtype and then saved in a wider one are no finer for it.
    A grid of eight bits without scales is not looked for: matrices of few values lie on it.
    """
    entry = matrix.view.entry
    if entry.dtype not in WIDE or entry.codec is not None:
        return ROUNDOFF.get(entry.dtype)
    grid = grid_of(matrix.values, WIDE[entry.dtype])
    return min(ROUNDOFF[grid.name], ROUNDOFF["BF16"])


def likely_roundoff(matrix: Matrix) -> float:
    """Return the same, or about that of a scheme of integers or four bits."""
    found = unit_roundoff(matrix)
    return matrix.view.entry.rate_roundoff if found is None else found


def stands_clear(matrix: Matrix, norm: float, sigma_min: float) -> bool | None:
    """Say whether sigma_min stands above what storing rounded off; None: not known.

    `norm` is the Frobenius norm.
    """
    roundoff = unit_roundoff(matrix)
    if roundoff is None:
        return None
    rows, cols = matrix.values.shape
    return sigma_min > mean_rounding_floor(norm, rows, cols, roundoff)
