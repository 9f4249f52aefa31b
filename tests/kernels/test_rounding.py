"""Grids of floating-point numbers, against torch's own casts and numpy's spacing."""

import numpy as np
import pytest
import torch
from torch import Tensor

from spectra.kernels.rounding import (
    BF16,
    E4M3,
    E5M2,
    F16,
    F32,
    F64,
    GRIDS,
    Grid,
    grid_of,
    half_steps,
    on_grid,
)


def normal(rows: int, cols: int, seed: int = 0) -> Tensor:
    return 0.02 * torch.randn(rows, cols, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: grid.name)
def test_spacing_is_that_to_the_next_number(grid: Grid) -> None:
    numbers = grid.rounded(
        torch.cat([normal(4, 500), torch.tensor([[2.0**-7] * 500, [0.0] * 500])])
    )
    if grid in {F32, F16}:
        kind = {F32: np.float32, F16: np.float16}[grid]
        expected = np.spacing(numbers.abs().numpy().astype(kind)).astype(np.float32)
        found = grid.spacing(numbers).numpy()
        assert np.array_equal(np.maximum(expected, np.finfo(np.float32).tiny), found)
    step = grid.spacing(numbers.double())
    beyond = (numbers.abs().double() + step)[numbers != 0]
    assert grid.holds(beyond.unsqueeze(0)).all()
    between = (numbers.abs().double() + step / 2)[numbers != 0]
    if grid is not F64:
        assert not grid.holds(between.unsqueeze(0)).any()


@pytest.mark.parametrize("grid", [E5M2, E4M3, BF16, F16], ids=lambda grid: grid.name)
@pytest.mark.parametrize("stored", [F32, F64], ids=lambda grid: grid.name)
def test_a_grid_is_found_in_a_wider_dtype(grid: Grid, stored: Grid) -> None:
    values = grid.rounded(normal(60, 80).to(stored.dtype))
    assert grid_of(values, stored) is grid
    exact = normal(60, 80).to(stored.dtype)
    assert (values - exact).abs().le(half_steps(values, grid, stored)).all()


def test_values_of_a_dtype_are_on_no_coarser_grid_by_chance() -> None:
    for grid in GRIDS[:-1]:
        values = grid.rounded(normal(60, 80))
        assert grid_of(values, grid) is grid
    assert grid_of(normal(60, 80).double() / 3, F64) is F64


def test_a_few_rows_off_the_grid_keep_their_own_steps() -> None:
    values = BF16.rounded(normal(60, 80))
    values[7] = normal(1, 80, 1)
    assert grid_of(values, F32) is BF16
    steps = half_steps(values, BF16, F32)
    assert torch.equal(steps[7], F32.spacing(values[7:8])[0] / 2)
    rest = torch.arange(60) != 7
    assert torch.equal(steps[rest], BF16.spacing(values[rest]) / 2)
    values[:40] = normal(40, 80, 2)
    assert grid_of(values, F32) is F32


def test_zeros_tell_nothing() -> None:
    values = normal(60, 80) * (normal(60, 80, 1) > 0)
    assert grid_of(values, F32) is F32
    assert grid_of(torch.zeros(4, 5), F32) is F32
    assert not bool(on_grid(values, BF16)[values != 0].any())


def test_small_numbers_of_float16_have_its_steps() -> None:
    values = F16.rounded(normal(60, 80) * 1e-4)  # below its normal range
    grid = grid_of(values, F16)
    assert torch.equal(half_steps(values, grid, F16).unique(), torch.tensor([2.0**-25]))
