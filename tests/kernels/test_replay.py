"""Merges to the last bit: what counts as one, and what no longer does."""

import pytest
import torch
from torch import Tensor

from spectra.kernels.replay import Merge, Steps, lies_at, replayed, ways
from spectra.kernels.rounding import BF16, F16, F32, Grid

GRIDS = pytest.mark.parametrize("grid", [F32, BF16, F16], ids=lambda grid: grid.name)


def planted(grid: Grid) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    source = torch.Generator().manual_seed(2)
    base, up, down = (torch.randn(*size, generator=source)
                      for size in ((96, 80), (96, 8), (8, 80)))  # fmt: skip
    base = grid.rounded(base)
    # The order of sums of another machine: r backwards, in float64.
    product = (up.double().flip(1) @ down.double().flip(0)).float()
    return base, grid.rounded(base + 0.01 * product), up, down


@GRIDS
def test_the_order_of_sums_is_none_of_a_merges_faults(grid: Grid) -> None:
    base, tuned, up, down = planted(grid)
    found, off = replayed(Merge(base, tuned, grid, F32), up, down, 0.01)
    assert Steps() in found
    assert off < 0.05 * base.numel()


@GRIDS
@pytest.mark.parametrize("at", [(0, 0), (41, 33), (95, 79)], ids=str)
def test_one_value_two_steps_off_is_no_merge(grid: Grid, at: tuple[int, int]) -> None:
    base, tuned, up, down = planted(grid)
    tuned[at] += 2.1 * grid.spacing(tuned)[at]
    assert replayed(Merge(base, grid.rounded(tuned), grid, F32), up, down, 0.01)[0] == []


@GRIDS
@pytest.mark.parametrize("scale", [0.0101, 0.02, -0.01])
def test_another_scale_is_no_merge(grid: Grid, scale: float) -> None:
    base, tuned, up, down = planted(grid)
    assert replayed(Merge(base, tuned, grid, F32), up, down, scale)[0] == []


def test_every_way_has_a_name_of_its_own() -> None:
    for grid in (F32, BF16, F16):
        for factors in (F32, BF16, F16):
            for exact in (True, False):
                found = [one.text for one in ways(grid, factors, exact=exact)]
                assert len(set(found)) == len(found)
                assert found[0] == "summed in float32"


def test_nan_is_no_merge() -> None:
    base, tuned, up, down = planted(F32)
    tuned[3, 4] = torch.nan
    merge = Merge(base, tuned, F32, F32)
    assert replayed(merge, up, down, 0.01)[0] == []
    assert lies_at(merge, base, torch.zeros_like(base)) is None
