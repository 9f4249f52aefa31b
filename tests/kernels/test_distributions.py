"""Quantiles of t and F against scipy's and against closed forms."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from spectra.kernels.distributions import fisher_quantile, incomplete_beta, student_quantile

PROBABILITIES = (1e-9, 1e-4, 0.025, 0.3, 0.49, 0.51, 0.7, 0.95, 0.975, 0.9995, 1 - 1e-9)
FREEDOMS = (0.3, 1.0, 1.5, 2.0, 3.0, 7.3, 30.0, 200.0, 1e4)


@pytest.mark.parametrize("freedom", FREEDOMS)
@pytest.mark.parametrize("probability", PROBABILITIES)
def test_student_as_scipy(probability: float, freedom: float) -> None:
    expected = float(stats.t.ppf(probability, freedom))
    assert student_quantile(probability, freedom) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("numerator", [0.5, 1.0, 2.0, 3.0, 10.0, 1000.0])
@pytest.mark.parametrize("denominator", [0.5, 1.0, 2.0, 5.5, 30.0, 1e4])
@pytest.mark.parametrize("probability", [1e-4, 0.05, 0.5, 0.95, 0.999])
def test_fisher_as_scipy(probability: float, numerator: float, denominator: float) -> None:
    expected = float(stats.f.ppf(probability, numerator, denominator))
    found = fisher_quantile(probability, numerator, denominator)
    assert found == pytest.approx(expected, rel=1e-8)


@given(st.floats(1e-6, 1 - 1e-6), st.floats(0.1, 500.0), st.floats(0.1, 500.0))
def test_the_incomplete_beta_function_as_scipys(x: float, a: float, b: float) -> None:
    expected = float(special.betainc(a, b, x))
    assert incomplete_beta(x, 1.0 - x, a, b) == pytest.approx(expected, rel=1e-8, abs=1e-12)


def test_closed_forms() -> None:
    # One degree of freedom is Cauchy's distribution; two have t = (2p - 1) / sqrt(2p (1 - p)).
    assert student_quantile(0.975, 1.0) == pytest.approx(math.tan(math.pi * 0.475), rel=1e-12)
    assert student_quantile(0.9, 2.0) == pytest.approx(0.8 / math.sqrt(0.18), rel=1e-12)
    # F(2, n) has P(F > x) = (1 + 2 x / n)^(-n / 2).
    assert fisher_quantile(0.95, 2.0, 8.0) == pytest.approx(4.0 * (0.05**-0.25 - 1.0), rel=1e-12)
    assert student_quantile(0.5, 7.0) == 0.0
    assert incomplete_beta(0.0, 1.0, 2.0, 3.0) == 0.0
    assert incomplete_beta(1.0, 0.0, 2.0, 3.0) == 1.0


def test_millions_of_degrees_are_normal() -> None:
    assert student_quantile(0.975, 1e6) == pytest.approx(float(stats.norm.ppf(0.975)), rel=1e-5)


@given(st.floats(0.501, 0.9999), st.floats(0.5, 50.0))
def test_t_is_odd_and_its_square_is_f(probability: float, freedom: float) -> None:
    t = student_quantile(probability, freedom)
    assert student_quantile(1.0 - probability, freedom) == pytest.approx(-t, rel=1e-9)
    assert fisher_quantile(2.0 * probability - 1.0, 1.0, freedom) == pytest.approx(t * t, rel=1e-8)


@pytest.mark.parametrize("probability", [0.0, 1.0, -0.1, math.nan])
def test_no_such_probability(probability: float) -> None:
    with pytest.raises(ValueError, match="expected more than 0 and less than 1"):
        student_quantile(probability, 3.0)


@pytest.mark.parametrize("freedom", [0.0, -1.0, math.inf, math.nan])
def test_no_such_degrees_of_freedom(freedom: float) -> None:
    with pytest.raises(ValueError, match="expected above 0 and at most 1e6"):
        fisher_quantile(0.5, 3.0, freedom)
