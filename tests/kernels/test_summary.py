"""Summaries of a spectrum against the formulas, written out in numpy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from spectra.kernels.summary import (
    condition_number,
    effective_rank,
    energy_rank,
    frobenius,
    numerical_rank,
    stable_rank,
)

SPECTRA = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=40).map(
    lambda values: torch.tensor(sorted(values, reverse=True), dtype=torch.float64)
)


def of(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@given(SPECTRA)
def test_frobenius(sigma: Tensor) -> None:
    assert frobenius(sigma) == pytest.approx(float(np.sqrt((sigma.numpy() ** 2).sum())), rel=1e-13)


@given(SPECTRA)
def test_stable_rank(sigma: Tensor) -> None:
    s = sigma.numpy()
    assert stable_rank(sigma) == pytest.approx(float((s**2).sum() / s[0] ** 2), rel=1e-12)
    assert 1.0 <= stable_rank(sigma) <= len(s) * (1 + 1e-12)


@given(SPECTRA)
def test_effective_rank(sigma: Tensor) -> None:
    p = sigma.numpy() / sigma.numpy().sum()
    expected = float(np.exp(-(p * np.log(p)).sum()))
    assert effective_rank(sigma) == pytest.approx(expected, rel=1e-12)
    assert 1.0 - 1e-12 <= effective_rank(sigma) <= len(p) * (1 + 1e-12)


@given(SPECTRA, st.floats(0.01, 1.0))
def test_energy_rank(sigma: Tensor, share: float) -> None:
    energy = np.cumsum(sigma.numpy() ** 2) / (sigma.numpy() ** 2).sum()
    least, most = (int((energy < share + slack).sum()) + 1 for slack in (-1e-12, 1e-12))
    assert least <= energy_rank(sigma, share) <= min(most, len(energy))


@given(SPECTRA)
def test_condition_number(sigma: Tensor) -> None:
    assert condition_number(sigma) == float(sigma.numpy()[0] / sigma.numpy()[-1])


@given(SPECTRA, st.integers(1, 5000), st.sampled_from([torch.float32, torch.float64]))
def test_numerical_rank(sigma: Tensor, length: int, dtype: torch.dtype) -> None:
    epsilon = torch.finfo(dtype).eps
    expected = int((sigma.numpy() > sigma.numpy()[0] * length * epsilon).sum())
    assert numerical_rank(sigma, length, epsilon) == expected


@given(SPECTRA, st.floats(1e-200, 1e200))
def test_ranks_do_not_know_the_scale(sigma: Tensor, factor: float) -> None:
    for rank in (stable_rank, effective_rank, condition_number):
        assert rank(sigma * factor) == pytest.approx(rank(sigma), rel=1e-9)


@pytest.mark.parametrize("factor", [1e-300, 1e-30, 1.0, 1e30, 1e300])
def test_norms_do_not_overflow(factor: float) -> None:
    assert frobenius(of(4, 3) * factor) == pytest.approx(5 * factor, rel=1e-14)
    assert stable_rank(of(4, 3) * factor) == pytest.approx(25 / 16, rel=1e-14)


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_the_identity_has_full_rank_of_every_kind(size: int) -> None:
    ones = torch.ones(size, dtype=torch.float64)
    assert stable_rank(ones) == size
    assert effective_rank(ones) == pytest.approx(size, rel=1e-12)
    assert energy_rank(ones, 0.99) == math.ceil(0.99 * size)
    assert numerical_rank(ones, size, 1e-7) == size
    assert condition_number(ones) == 1.0
    assert frobenius(ones) == pytest.approx(math.sqrt(size))


def test_one_direction_has_rank_one_of_every_kind() -> None:
    sigma = of(3, 0, 0, 0)
    assert stable_rank(sigma) == 1.0
    assert effective_rank(sigma) == 1.0
    assert energy_rank(sigma, 0.99) == energy_rank(sigma, 1.0) == 1
    assert numerical_rank(sigma, 4, 1e-7) == 1
    assert condition_number(sigma) == math.inf
    assert frobenius(sigma) == 3.0


@pytest.mark.parametrize("size", [1, 5])
def test_a_zero_matrix_has_rank_zero_of_every_kind(size: int) -> None:
    zero = torch.zeros(size, dtype=torch.float64)
    assert stable_rank(zero) == effective_rank(zero) == frobenius(zero) == 0.0
    assert energy_rank(zero, 0.99) == numerical_rank(zero, size, 1e-7) == 0
    assert condition_number(zero) == math.inf


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.4, 1), (0.41, 2), (0.7, 2), (0.71, 3), (0.9, 3), (0.91, 4), (1.0, 4), (1e-9, 1)],
)
def test_energy_rank_at_exact_boundaries(share: float, expected: int) -> None:
    assert energy_rank(of(4, 3, 2, 1).sqrt(), share) == expected


@pytest.mark.parametrize("percent", range(1, 101))
def test_energy_rank_is_not_moved_by_binary_fractions(percent: int) -> None:
    assert energy_rank(torch.ones(100, dtype=torch.float64), percent / 100) == percent


def test_the_whole_energy_needs_the_smallest_value_too() -> None:
    assert energy_rank(of(1, 1, 1e-6), 1.0) == energy_rank(of(1, 1, 1e-12), 1.0) == 3
    assert energy_rank(of(1, 1, 0), 1.0) == 2


def test_effective_rank_of_two_levels() -> None:
    p = [0.5, 0.25, 0.25]
    expected = math.exp(-sum(q * math.log(q) for q in p))
    assert effective_rank(of(2, 1, 1)) == pytest.approx(expected, rel=1e-14)
