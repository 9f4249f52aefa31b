"""Collapsed matrices are told from healthy ones, however they are stored."""

import pytest
import torch
from torch import Tensor

from examples import with_spectrum
from spectra.kernels.entries import sizes
from spectra.kernels.noise import resolved_rank
from spectra.kernels.singular import singular_values

UNIT = {
    torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11, torch.float32: 2.0**-24,
    torch.float8_e4m3fn: 2.0**-4, torch.float8_e5m2: 2.0**-3,
}  # fmt: skip
SHAPES = [(128, 128), (64, 300), (3000, 48)]


def rank_of(matrix: Tensor, dtype: torch.dtype = torch.bfloat16) -> int:
    """Count as stored in a dtype."""
    stored = matrix.to(dtype).float()
    smallest = 2.0**-24 if dtype == torch.float16 else 0.0
    return resolved_rank(stored, sizes(stored), singular_values(stored), UNIT[dtype], smallest)


def normal(rows: int, cols: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, cols, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", UNIT, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("mean", [0.0, 1.0, 2.0])
def test_a_healthy_matrix_keeps_its_rank(
    shape: tuple[int, int], dtype: torch.dtype, mean: float
) -> None:
    matrix = normal(*shape) + mean * normal(1, shape[1], 1)
    assert rank_of(matrix, dtype) == min(shape)


@pytest.mark.parametrize("dtype", UNIT, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("rank", [3, 16])
def test_a_collapsed_one_has_what_is_left(
    shape: tuple[int, int], dtype: torch.dtype, rank: int
) -> None:
    made = normal(shape[0], rank) @ normal(rank, shape[1], 1) / rank**0.5
    assert rank_of(made, dtype) == rank
    if UNIT[dtype] <= 2.0**-8:  # a sixteenth of the mean would drown the rest
        assert rank_of(made + 2.0 * normal(1, shape[1], 2), dtype) == rank + 1


@pytest.mark.parametrize("factor", [50.0, 500.0, 1e6])
def test_a_large_row_or_entry_hides_nothing_and_makes_nothing(factor: float) -> None:
    healthy, collapsed = normal(128, 128), normal(128, 8) @ normal(8, 128, 1)
    for matrix, rank in ((healthy, 128), (collapsed, 8)):
        row, column = matrix.clone(), matrix.clone()
        row[3] *= factor
        column[:, 5] *= factor
        assert rank_of(row) == rank_of(column) == rank
    healthy[3, 4] = factor
    assert rank_of(healthy) == 128


@pytest.mark.parametrize("decades", [1, 3, 6])
def test_a_spectrum_that_falls_evenly_loses_nothing(decades: int) -> None:
    graded = with_spectrum(torch.logspace(0, -decades, 128), 128, 128)
    assert rank_of(graded) == rank_of(graded, torch.float32) == 128


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_scale_does_not_matter(scale: float) -> None:
    assert rank_of(scale * normal(60, 60)) == rank_of(normal(60, 60)) >= 59
    assert rank_of(scale * normal(60, 5) @ normal(5, 60, 1)) == 5


def test_what_is_exact() -> None:
    assert rank_of(torch.zeros(5, 6)) == 0
    assert rank_of(torch.eye(50)) == 50
    assert rank_of(torch.full((50, 40), 0.3)) == 1
    assert rank_of(normal(1, 30)) == rank_of(normal(30, 1)) == 1
    zeroed = normal(90, 90)
    zeroed[:30] = 0.0
    assert rank_of(zeroed) == 60


def test_rank_survives_permutation_and_transposition() -> None:
    for matrix, rank in ((normal(60, 90), 60), (normal(60, 7) @ normal(7, 90), 7)):
        order = torch.randperm(90, generator=torch.Generator().manual_seed(1))
        assert rank_of(matrix[:, order]) == rank_of(matrix.mT) == rank


def test_float64_knows_its_own_rounding() -> None:
    low = normal(60, 4).double() @ normal(4, 60, 1).double()
    matrix = low + 1e-9 * normal(60, 60, 2).double()
    sigma = singular_values(matrix)
    assert resolved_rank(matrix, sizes(matrix), sigma, 2.0**-53) == 60
    assert resolved_rank(matrix, sizes(matrix), sigma, 2.0**-24) == 4
