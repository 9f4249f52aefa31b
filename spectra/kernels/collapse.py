"""How many directions of a matrix are its own, and not what storing it rounded off.

A matrix that has collapsed to k directions and is stored in bfloat16 has full rank again: the
rounding of its entries fills it up, evenly and far below. So what is lost is told by a break:
sigma_k stands clear of the rounding, sigma_(k+1) lies within it, and nothing lies between. A
spectrum that merely falls, or a large direction such as an embedding's mean, has no such
break at the rounding.

Large rows round off more than small ones, and one level for a whole matrix would take the small
ones for rounding. But scaling of rows and columns changes no rank and leaves relative rounding
as it is: where they differ in size, a break must also be there when none is larger than most.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.kernels.entries import Sizes, largest_entry, power_of_two_near, sizes
from spectra.kernels.noise import mean_rounding_floor, rounding_floor
from spectra.kernels.singular import singular_values
from spectra.kernels.summary import frobenius

MARGIN = 4.0  # roundings of independent sign that entries may have come through
MADE = 64.0  # those of a sum of products in float32, that made a matrix of low rank
FLOAT32 = 2.0**-24  # what they round off
BREAK = 4.0  # sigma_k over sigma_(k+1)
ENOUGH = 0.75  # of the directions above the floor, that nothing is in doubt
UNLIKE = 1.5  # the floor over that of entries of one size, from which on rows or columns differ
ROUNDS = 2  # of bringing rows, then columns, to one norm


def resolved_rank(
    matrix: Float[Tensor, "rows cols"],
    of: Sizes,
    sigma: Float[Tensor, " rank"],
    unit_roundoff: float,
    smallest: float = 0.0,
) -> int:
    """Return how many singular values stand above the rounding of the stored values.

    With k of them above `MARGIN * rounding_floor`, or above that of `MADE` roundings of float32
    (finer ones for float64), it is k where sigma_k is at least `BREAK` times sigma_(k+1), and
    otherwise all that are not 0. Where that leaves less than `ENOUGH` in doubt, and rows or
    columns are unlike, it is the count with the larger ones scaled down to the median norm.

    `unit_roundoff` is the most that storing moved an entry, relative to it, `smallest` the smallest
    positive number of the stored dtype, where that matters.
    """
    unit = _unit(unit_roundoff)
    floor = made_floor(of, unit_roundoff, smallest)
    rank, above = _before_the_break(sigma, floor)
    rows, cols = matrix.shape
    alike = floor <= UNLIKE * mean_rounding_floor(frobenius(sigma), rows, cols, unit)
    if alike or min(rank, above) >= ENOUGH * len(sigma) or not rank:
        return rank
    balanced = _balanced(matrix)
    # A decomposition more, but of matrices that seem to have lost something alone.
    return _before_the_break(singular_values(balanced), rounding_floor(sizes(balanced), unit))[0]


def made_floor(of: Sizes, unit_roundoff: float, smallest: float = 0.0) -> float:
    """Return about the most that making and storing a matrix moved a singular value by.

    From the sizes of the entries as stored; all as for `resolved_rank`.
    """
    return rounding_floor(of, _unit(unit_roundoff), MARGIN * smallest)


def _unit(unit_roundoff: float) -> float:
    """Return all roundings of an entry, relative to it."""
    return max(MARGIN * unit_roundoff, MADE * min(unit_roundoff, FLOAT32))


def _before_the_break(sigma: Float[Tensor, " rank"], floor: float) -> tuple[int, int]:
    """Return the rank where the floor tells one, and how many values stand above it."""
    exact = int((sigma > 0.0).sum())
    above = int((sigma > floor).sum())
    broken = 0 < above < exact and float(sigma[above - 1]) >= BREAK * float(sigma[above])
    return above if broken else exact, above


def _balanced(matrix: Float[Tensor, "rows cols"]) -> Float[Tensor, "rows cols"]:
    """Return the matrix with rows and columns that are larger than most scaled down to them.

    Those that are smaller stay: a scheme's own scales round off more of them.
    """
    scaled = matrix.double() / (power_of_two_near(largest_entry(matrix)) or 1.0)
    for _ in range(ROUNDS):
        for axis in (1, 0):
            norms = torch.linalg.vector_norm(scaled, dim=axis, keepdim=True)
            filled = norms[norms > 0.0]
            scaled /= norms.clamp(min=float(filled.median())) if len(filled) else 1.0
    return scaled.to(matrix.dtype if matrix.dtype == torch.float64 else torch.float32)
