"""Leading directions of a matrix that rounding its entries can have made: none of its own.

A matrix that collapsed to k directions has full rank again once it is stored: the rounding of its
entries fills it up, far below. Vectors of such singular values are as random as the rounding is,
and resemble nothing.
"""

import math
from dataclasses import replace

from jaxtyping import Float

from spectra.analyzers.difference import BLOCK, Side, side_of
from spectra.deferred import Tensor, torch
from spectra.kernels.entries import largest_entry, power_of_two_near
from spectra.kernels.noise import FLOAT32, MADE
from spectra.kernels.resolution import Resolution, resolve
from spectra.kernels.streamed import Streamed, blocks
from spectra.kernels.work import is_streamed
from spectra.matrices.pair import LowRank, Pair, widened


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
    edge = sum(math.sqrt(float(sums.max())) for sums in _sums(variance))
    slack = 1.0 + 2.0 * min(variance.shape) ** (-2 / 3)  # Tracy and Widom's, for small matrices
    count = int((sigma > slack * edge * scale).sum())
    if count < len(sigma):
        wide = _tuned(pair, scale, variance)
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
    wide = _over(side.values, scale, variance)
    return resolve(wide, variance, coherent=False)[0]


def _tuned(pair: Pair, scale: float, like: Tensor | Streamed) -> Tensor | Streamed:
    """Return what the base became over a scale, as wide as its variance, and streamed where it is.

    What is added to a long matrix is added row by row.
    """
    update = pair.tuned
    if isinstance(like, Tensor) or not isinstance(update, LowRank):
        return _over(pair.tuned_exact(), scale, like)
    left, right = update.left.double(), update.right.double()

    def added(here: slice) -> Tensor:
        exact = pair.base[here].double().addmm(left[here], right)
        return exact.div_(scale).to(like.dtype)

    return replace(like, make=added)


def _over(values: Tensor, scale: float, like: Tensor | Streamed) -> Tensor | Streamed:
    """Return values over a scale, as wide as their variance, and streamed where it is."""
    if isinstance(like, Tensor):
        return widened(values).div(scale).to(like.dtype)
    return replace(like, make=lambda here: values[here].to(like.dtype).div(scale))


def _sums(variance: Tensor | Streamed) -> tuple[Tensor, Tensor]:
    """Return the sums of columns and of rows, float64."""
    cols = torch.zeros(variance.shape[1], dtype=torch.float64, device=variance.device)
    rows = torch.zeros(variance.shape[0], dtype=torch.float64, device=variance.device)
    for here, block in blocks(variance):
        cols += block.sum(dim=0, dtype=torch.float64)
        rows[here] = block.sum(dim=1, dtype=torch.float64)
    return cols, rows


def _variance(side: Side, scale: float) -> Float[Tensor, "rows cols"] | Streamed:
    """Return what rounding adds to each entry over a scale: its variance."""
    dtype = torch.float64 if side.values.dtype == torch.float64 else torch.float32
    grid = side.grid or side.stored
    made = MADE * min(torch.finfo(grid.dtype).eps / 2, FLOAT32)

    def of_rows(here: slice) -> Tensor:
        wide = side.values[here].to(dtype, copy=True)
        steps = side.steps(wide, here).div_(scale).square_()
        wide.mul_(made / scale).square_()
        return steps.add_(wide).div_(3.0)

    rows, cols = side.values.shape
    if is_streamed(rows, cols):
        return Streamed((rows, cols), dtype, side.values.device, of_rows)
    found = side.values.new_empty(rows, cols, dtype=dtype)
    step = max(1, BLOCK // max(cols, 1))
    for start in range(0, rows, step):
        here = slice(start, start + step)
        found[here] = of_rows(here)
    return found
