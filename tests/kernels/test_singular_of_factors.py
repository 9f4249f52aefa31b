"""Singular values of a product of thin factors against those of the dense product."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from spectra.errors import NonFiniteError
from spectra.kernels.rounding import EPS64
from spectra.kernels.singular import product_singular_values

SIDES = st.integers(1, 40)


def factors(rows: int, rank: int, cols: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    return (
        torch.randn(rows, rank, generator=source),
        torch.randn(rank, cols, generator=source),
    )


def check(left: Tensor, right: Tensor) -> Tensor:
    dense = torch.linalg.svdvals(left.double() @ right.double())
    found = product_singular_values(left, right)
    kept = min(left.shape[0], left.shape[1], right.shape[1])
    assert found.shape == (kept,)
    assert found.dtype == torch.float64
    tolerance = 20 * max(*left.shape, *right.shape) * EPS64
    size = tolerance * float(left.double().norm() * right.double().norm())
    torch.testing.assert_close(found, dense[:kept], rtol=0, atol=size)
    assert (dense[kept:] <= size).all()
    return found


@given(SIDES, SIDES, SIDES, st.integers(0, 2**31))
def test_any_shape_as_the_dense_product(rows: int, rank: int, cols: int, seed: int) -> None:
    check(*factors(rows, rank, cols, seed))


@pytest.mark.parametrize("shape", [(384, 8, 384), (1536, 8, 384), (50, 80, 60), (50, 55, 60)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_adapters_and_ranks_above_the_shorter_side(
    shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    left, right = factors(*shape)
    check(left.to(dtype), right.to(dtype))


@pytest.mark.parametrize("which", ["left", "right", "both"])
def test_a_zero_factor_gives_zeros(which: str) -> None:
    left, right = factors(20, 4, 30)
    left = left if which == "right" else torch.zeros_like(left)
    right = right if which == "left" else torch.zeros_like(right)
    assert product_singular_values(left, right).tolist() == [0.0] * 4


def test_dependent_columns_lower_the_rank() -> None:
    left, right = factors(30, 4, 20)
    left[:, 3] = left[:, 0]
    found = check(left, right)
    assert found[2] > 1.0
    assert found[3] < 1e-12


def test_turning_the_product_changes_nothing() -> None:
    left, right = factors(30, 5, 20)
    found = product_singular_values(left, right)
    turned = product_singular_values(right.mT, left.mT)
    torch.testing.assert_close(turned, found, rtol=1e-12, atol=0)


@pytest.mark.parametrize("factor", [1e-25, 1e20])
def test_extreme_scales(factor: float) -> None:
    left, right = factors(30, 5, 20)
    found = product_singular_values(left * factor, right * factor)
    expected = product_singular_values(left, right) * factor**2
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


def test_a_real_update(updates: dict[str, tuple[Tensor, Tensor]]) -> None:
    assert len(updates) == 36
    for left, right in list(updates.values())[:6]:
        assert (check(left, right) > 1e-4).all()


@pytest.mark.parametrize("which", [0, 1])
def test_a_factor_that_is_not_finite_is_refused(which: int) -> None:
    pair = factors(6, 2, 5)
    pair[which][1, 1] = math.inf
    with pytest.raises(NonFiniteError, match=r"^1 (NaN|Inf), the first at \[1, 1\]$"):
        product_singular_values(*pair)


def test_parts_that_cancel_leave_nothing() -> None:
    left, right = factors(60, 4, 50)
    both = torch.cat([left, -left], dim=1), torch.cat([right, right])
    assert not bool(product_singular_values(*both).any())
    # What is left of factors that nearly cancel is told all the same.
    both[1][0, 0] *= 1.0 + 1e-6
    found = product_singular_values(*both)
    assert int((found > 0.0).sum()) == 1
    check(*both)
