"""Grids of floating-point numbers: which values lie on one, and how far rounding to it moves."""

import sys
from dataclasses import dataclass

from jaxtyping import Bool, Float

from spectra.deferred import Tensor, torch

EPS64 = sys.float_info.epsilon
SHARE = 0.9  # of a row's entries that must lie on a coarser grid for the row to count as on it
SAMPLE = 1 << 12  # entries that rule most grids out
BLOCK = 1 << 20  # entries looked at together where the sample does not
EXPONENT = {4: 0xFF << 23, 8: 0x7FF << 52}  # its bits, by bytes


def integers(size: int) -> "torch.dtype":
    """Return torch's signed integers of 1, 2, 4 or 8 bytes."""
    found: torch.dtype = getattr(torch, f"int{8 * size}")
    return found


@dataclass(frozen=True, slots=True)
class Grid:
    """The numbers of one floating dtype."""

    name: str  # as sentences have it
    word: str  # as torch has it

    @property
    def dtype(self) -> "torch.dtype":
        """The dtype."""
        found: torch.dtype = getattr(torch, self.word)
        return found

    def spacing(self, values: Float[Tensor, "rows cols"]) -> Float[Tensor, "rows cols"]:
        """Return the distance of each value to the next larger number of the grid.

        Values are float32 or float64, here and below; what the grid lacks counts by its size.
        """
        wide = values.dtype
        bits = values.view(integers(wide.itemsize)) & EXPONENT[wide.itemsize]
        own = torch.finfo(self.dtype)
        step = bits.view(wide).mul_(own.eps)
        return step.clamp_(min=max(own.smallest_normal * own.eps, torch.finfo(wide).tiny))

    def holds(self, values: Float[Tensor, "rows cols"]) -> Bool[Tensor, "rows cols"]:
        """Say of each value whether it is a number of the grid."""
        return self.rounded(values) == values

    def rounded(self, values: Float[Tensor, "rows cols"]) -> Float[Tensor, "rows cols"]:
        """Return the nearest numbers of the grid, ties to even."""
        return values.to(self.dtype).to(values.dtype)


F64 = Grid("F64", "float64")
F32 = Grid("F32", "float32")
F16 = Grid("F16", "float16")
BF16 = Grid("BF16", "bfloat16")
E4M3 = Grid("F8_E4M3", "float8_e4m3fn")
E5M2 = Grid("F8_E5M2", "float8_e5m2")
GRIDS = (E5M2, E4M3, BF16, F16, F32, F64)
"""Coarsest first."""
STORED = {f"torch.{grid.word}": grid for grid in GRIDS}
"""By the text of a dtype."""


def grid_of(values: Float[Tensor, "rows cols"], stored: Grid) -> Grid:
    """Return the coarsest grid on which most rows of a matrix lie; at last that of its dtype.

    A matrix that was rounded and then stored in a wider dtype is no finer for it. By chance
    half of the numbers of F8_E4M3 are such of F8_E5M2, one in 8 of float16 is one of
    bfloat16, and all others are rarer: of a row, `SHARE` must be on a grid, zeros aside.
    """
    flat = values.reshape(-1)
    sample = _comparable(flat[:: max(1, len(flat) // SAMPLE)].unsqueeze(0))
    for grid in GRIDS[: GRIDS.index(stored)]:
        if not bool(on_grid(sample, grid).any()):
            continue
        rows = found = 0
        for block in values.split(max(1, BLOCK // max(values.shape[1], 1))):
            some = _comparable(block)
            known = some != 0
            rows += int(known.any(dim=1).sum())
            found += int((on_grid(some, grid) & known).any(dim=1).sum())
        if rows and 2 * found >= rows:
            return grid
    return stored


def _comparable(values: Tensor) -> Tensor:
    """Return values in a dtype that torch compares: eight bits are not."""
    return values.float() if values.element_size() == 1 else values


def on_grid(values: Float[Tensor, "rows cols"], grid: Grid) -> Bool[Tensor, "rows cols"]:
    """Say which entries lie on a grid as their whole rows do: some may be there by chance."""
    known = values != 0
    held = grid.holds(values)
    share = (held & known).sum(dim=1) / known.sum(dim=1).clamp(min=1)
    return held & (share >= SHARE).unsqueeze(1)


def half_steps(
    values: Float[Tensor, "rows cols"], grid: Grid, stored: Grid
) -> Float[Tensor, "rows cols"]:
    """Return the most that rounding can have moved each value.

    `grid` is that of most rows, as `grid_of` finds it, `stored` that of the other entries.
    """
    step = stored.spacing(values)
    if grid is not stored:  # what is small in float16 has coarser steps than bfloat16's
        step = torch.where(on_grid(values, grid), step.maximum(grid.spacing(values)), step)
    return step.div_(2)
