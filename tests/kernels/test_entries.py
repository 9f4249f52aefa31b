"""Sizes of entries against their definitions, at any scale."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spectra.errors import NonFiniteError
from spectra.kernels.entries import (
    BLOCK,
    are_equal,
    entry_norm,
    filled_lines,
    is_zero,
    shuffled,
    sizes,
)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 1000), st.integers(-100, 100))
def test_sizes_are_those_of_the_entries(rows: int, cols: int, seed: int, power: int) -> None:
    source = torch.Generator().manual_seed(seed)
    matrix = torch.randn(rows, cols, generator=source, dtype=torch.float64).round() * 2.0**power
    found, wide = sizes(matrix), matrix.double()
    assert found.nonzero == int(matrix.count_nonzero())
    assert found.filled == tuple(int(matrix.any(dim=axis).sum()) for axis in (1, 0))
    assert found.total == pytest.approx(float(wide.abs().sum()), rel=1e-13)
    for norms, axis in ((found.rows, 1), (found.cols, 0)):
        expected = torch.linalg.vector_norm(wide, dim=axis)
        torch.testing.assert_close(norms.sqrt() * found.scale, expected, rtol=1e-13, atol=0)
    assert entry_norm(matrix) == pytest.approx(float(wide.norm()), rel=1e-13)


@pytest.mark.parametrize("shape", [(BLOCK // 64 + 3, 65), (3, BLOCK + 5), (0, 4), (4, 0)], ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_more_and_less_than_one_block(shape: tuple[int, int], dtype: torch.dtype) -> None:
    matrix = torch.ones(shape, dtype=dtype)
    found = sizes(matrix)
    count = shape[0] * shape[1]
    assert (found.nonzero, found.total) == (count, count)
    assert found.filled == (shape if count else (0, 0))
    assert entry_norm(matrix) == pytest.approx(math.sqrt(count))


def test_nan_is_an_error() -> None:
    with pytest.raises(NonFiniteError):
        sizes(torch.tensor([[1.0, math.nan]]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_which_entry_goes_where_does_not_depend_on_how_they_are_stored(dtype: torch.dtype) -> None:
    matrix = torch.arange(120.0).reshape(8, 15).mT  # whole numbers, which every dtype holds
    found = shuffled(matrix.to(dtype), seed=4)
    assert found.dtype == dtype
    assert torch.equal(found.float(), shuffled(matrix, seed=4))
    assert not torch.equal(found.float(), matrix)


@pytest.mark.parametrize("row", [0, 200], ids=["first", "last"])
def test_one_entry_anywhere_tells_two_matrices_apart_and_one_from_zeros(row: int) -> None:
    one, other = torch.zeros(201, 3), torch.zeros(201, 3)
    assert are_equal(one, other)
    assert is_zero(one)
    other[row, 2] = 1.0
    assert not are_equal(one, other)
    assert not is_zero(other)
    where = other != 0.0
    assert [lines.tolist() for lines in filled_lines(where)] == [
        where.any(dim=1).tolist(), where.any(dim=0).tolist(),
    ]  # fmt: skip
    assert [lines.numel() for lines in filled_lines(where[:0])] == [0, 3]
