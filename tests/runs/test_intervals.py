"""Intervals hold what the documentation promises, and nothing twice as wide."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spectra.kernels.summary import effective_rank, energy_rank, stable_rank
from spectra.runs.intervals import SIGMA, Interval, interval_of

ROW: dict[str, Any] = {"rows": 64, "cols": 48, "status": "ok", "sigma_max": 8.0, "sigma_min": 0.5}


def row(**values: object) -> dict[str, Any]:
    return ROW | values


@given(
    st.lists(st.floats(1e-3, 10.0), min_size=2, max_size=48),
    st.integers(0, 2**32 - 1),
)
def test_what_follows_from_singular_values_stays_within_their_error(
    values: list[float], seed: int
) -> None:
    """Whatever the errors of single values are, up to the stated one."""
    sigma = torch.tensor(sorted(values, reverse=True), dtype=torch.float64)
    signs = torch.rand(len(sigma), generator=torch.Generator().manual_seed(seed)).double() * 2 - 1
    other = (sigma * (1 + SIGMA * signs.sign())).sort(descending=True).values
    shape = {"rows": len(sigma), "cols": len(sigma), "sigma_max": float(sigma[0])}
    for key, of in (("stable_rank", stable_rank), ("effective_rank", effective_rank)):
        found = interval_of(row(**shape, **{key: of(sigma)}), key)
        assert found is not None
        assert found.low <= of(other) <= found.high
    found = interval_of(row(**shape, energy_rank=energy_rank(sigma, 0.99)), "energy_rank")
    assert found is not None
    assert found.low - 0.5 <= energy_rank(other, 0.99) <= found.high + 0.5


def test_a_condition_number_has_the_error_of_both_ends() -> None:
    found = interval_of(row(kappa=16.0), "kappa")
    assert found is not None
    assert found.low == pytest.approx(16 * (1 - 2 * SIGMA), rel=1e-7)
    assert found.high == pytest.approx(16 * (1 + 2 * SIGMA), rel=1e-7)


def test_a_singular_matrix_has_no_highest_condition_number() -> None:
    found = interval_of(row(kappa=None, sigma_min=0.0, status="singular"), "kappa")
    assert found is not None
    assert found.bound
    assert found.low > 1e12


def test_a_proven_bracket_is_taken_as_it_is() -> None:
    assert interval_of(row(kappa=5.0, kappa_low=4.9, kappa_high=5.2), "kappa") == (4.9, 5.2)
    outside = row(kappa=None, kappa_low=7.5, kappa_high=None, status="outside")
    assert interval_of(outside, "kappa") == (7.5, math.inf)


def test_ends_that_bounds_prove_are_within_a_thousandth() -> None:
    found = interval_of(row(decided_by="bound"), "sigma_max")
    assert found is not None
    assert found == pytest.approx((8 - 0.008, 8 + 0.008))


def test_a_rank_of_which_more_may_be_hidden_is_a_bound() -> None:
    found = row(delta_rank=8, delta_rank_status="at least")
    assert interval_of(found, "delta_rank") == (8, math.inf)
    assert interval_of(found | {"delta_rank_status": "ok"}, "delta_rank") == (8, 8)


def test_the_lowest_cosine_is_an_interval_or_an_upper_bound() -> None:
    detail = [
        {"max_cos": 0.9, "max_cos_error": 0.01, "decided_by": "match"},
        {"max_cos": 0.95, "max_cos_error": 0.2, "decided_by": "match"},
    ]
    assert interval_of(row(intruder_detail=detail), "worst_cos") == pytest.approx((0.75, 0.91))
    bound = {"max_cos": 0.3, "max_cos_error": 0.0, "decided_by": "bound"}
    found = interval_of(row(intruder_detail=[*detail, bound]), "worst_cos")
    assert found == pytest.approx((0.0, 0.3), abs=2e-6)


def test_alpha_has_the_error_of_its_fit() -> None:
    profile = [10.0] * 25 + [1.0] * 23
    found = row(alpha=3.0, alpha_xmin=50.0, resolved_rank=48, sigma_profile=profile)
    assert interval_of(found, "alpha") == pytest.approx((3 - 2 / 5, 3 + 2 / 5))


def test_bounds_that_meet_do_not_differ() -> None:
    assert Interval(1.0, 2.0).beyond(Interval(2.0, 3.0)) == 0.0
    assert Interval(1.0, 2.0).beyond(Interval(2.5, math.inf)) == 0.5
    assert Interval(2.5, math.inf).beyond(Interval(1.0, 2.0)) == -0.5
    assert Interval(5.0, math.inf).beyond(Interval(9.0, math.inf)) == 0.0


def test_nothing_is_known_of_nothing() -> None:
    assert interval_of(row(alpha=None), "alpha") is None
    assert interval_of(row(selected=True), "selected") is None


def test_a_logarithm_near_zero_is_rounded_as_what_it_is_of() -> None:
    found = interval_of({"alpha_weighted": 6e-13}, "alpha_weighted")
    assert found is not None
    assert found.low < 0.0 < found.high < 2e-6
    other = interval_of({"rmse": 6e-13}, "rmse")
    assert other is not None
    assert other.low > 0.0
