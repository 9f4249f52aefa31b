"""What storing a matrix has rounded off its entries, as its dtype or scheme tells."""

import math

from spectra.kernels.rounding import F32, F64, grid_of
from spectra.matrices import Matrix

UNIT_ROUNDOFF = {
    "F64": 2.0**-53, "F32": 2.0**-24, "F16": 2.0**-11, "BF16": 2.0**-8,
    "F8_E4M3": 2.0**-4, "F8_E4M3FNUZ": 2.0**-4, "F8_E5M2": 2.0**-3, "F8_E5M2FNUZ": 2.0**-3,
}  # fmt: skip
"""Half of machine epsilon; what other dtypes round off depends on their scales."""

SMALLEST = {"F16": 2.0**-24}
"""Positive number; of the wider dtypes too small to matter."""

WIDE = {"F32": F32, "F64": F64}
"""Dtypes in which weights are often saved that were rounded to a half one before."""


def unit_roundoff(matrix: Matrix) -> float | None:
    """Return the most that storing moved an entry, relative to it; None where no dtype says.

    Values that were rounded to a half dtype and then saved in a wider one are no finer for it.
    A grid of eight bits without scales is not looked for: matrices of few values lie on it.
    """
    dtype = matrix.view.entry.dtype
    found = UNIT_ROUNDOFF.get(dtype)
    if dtype not in WIDE or matrix.view.entry.codec is not None:
        return found
    grid = grid_of(matrix.values, WIDE[dtype])
    return min(UNIT_ROUNDOFF[grid.name], UNIT_ROUNDOFF["BF16"])


def likely_roundoff(matrix: Matrix) -> float:
    """Return the same, or about that of a scheme of integers or four bits.

    With b bits a value, twice 2^-b of a row's root mean square: somewhat more than the
    distortion that a good code of that rate leaves.

    Source:
        Cover and Thomas, Elements of Information Theory, 10.3.2.
    """
    found = unit_roundoff(matrix)
    if found is not None:
        return found
    entry = matrix.view.entry
    return 2.0 * math.exp2(-8.0 * entry.nbytes / max(entry.numel, 1))
