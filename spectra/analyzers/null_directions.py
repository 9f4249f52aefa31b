"""Leading directions of a matrix that rounding its entries can have made: none of its own.

A matrix that collapsed to k directions has full rank again once it is stored: the rounding of its
entries fills it up, far below. Vectors of such singular values are as random as the rounding is,
and resemble nothing.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.analyzers.evidence import BLOCK, Side, side_of
from spectra.kernels.entries import largest_entry, power_of_two_near
from spectra.kernels.noise import FLOAT32, MADE
from spectra.kernels.resolution import Resolution, resolve
from spectra.matrices.pair import Pair, widened


def own_directions(pair: Pair, sigma: Float[Tensor, " k"]) -> tuple[int, str]:
    """Return how many leading singular values of the tuned matrix are its own, and of what grid.

    Those count that exceed about the largest singular value of the rounding, or in number what
    exceeds it once rows and columns of unlike rounding are scaled to one level. Beside storing
    this is that of `MADE` operations in float32, as a product of factors takes. What was added
    to the base, or computed from it, is as exact as that is.

    Args:
        pair: Both sides.
        sigma: The largest singular values of what the base became, descending.
    """
    stored = pair.tuned if isinstance(pair.tuned, Tensor) and not pair.formed else None
    side = (side_of(pair.base, pair.base_codec) if stored is None
            else side_of(stored, pair.tuned_codec))  # fmt: skip
    if not len(sigma):
        return 0, side.name
    scale = power_of_two_near(float(sigma[0]))
    variance = _variance(side, scale)
    edge = sum(math.sqrt(float(variance.sum(dim=dim, dtype=torch.float64).max())) for dim in (0, 1))
    slack = 1.0 + 2.0 * min(variance.shape) ** (-2 / 3)  # Tracy and Widom's, for small matrices
    count = int((sigma > slack * edge * scale).sum())
    if count < len(sigma):
        wide = widened(pair.tuned_exact()).div(scale).to(variance.dtype)
        found, _ = resolve(wide, variance, coherent=False)
        count = max(count, min(found.rank, len(sigma)))
    return count, side.name


def own_rank(side: Side) -> Resolution:
    """Return how many directions of stored values rounding cannot have made.

    Args:
        side: The values, finite and not all zero.
    """
    scale = power_of_two_near(largest_entry(side.values))
    variance = _variance(side, scale)
    wide = side.values.to(variance.dtype, copy=True).div_(scale)
    return resolve(wide, variance, coherent=False)[0]


def _variance(side: Side, scale: float) -> Float[Tensor, "rows cols"]:
    """Return what rounding adds to each entry over a scale: its variance."""
    dtype = torch.float64 if side.values.dtype == torch.float64 else torch.float32
    grid = side.grid or side.stored
    made = MADE * min(torch.finfo(grid.dtype).eps / 2, FLOAT32)
    found = side.values.new_empty(side.values.shape, dtype=dtype)
    step = max(1, BLOCK // max(found.shape[1], 1))
    for start in range(0, len(found), step):
        rows = slice(start, start + step)
        wide = side.values[rows].to(dtype, copy=True)
        steps = side.steps(wide, rows).div_(scale).square_()
        wide.mul_(made / scale).square_()
        torch.add(steps, wide, out=found[rows]).div_(3.0)
    return found
