import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.subjects import facts, matrix
from spectra.policy.facts import Facts
from spectra.policy.finding import Breach
from spectra.policy.threshold import Threshold, limits, robust

ABOVE = Threshold("x", "the x", "above")
BELOW = Threshold("x", "the x", "below")


def judged(threshold: Threshold, found: Facts, **settings: float | str) -> list[Breach]:
    defaults = {one.key: one.default for one in limits(threshold.worse)}
    return list(threshold(found, lambda _name: defaults | settings))


def model(*values: float | None, before: tuple[float, ...] | None = None) -> Facts:
    subjects = [matrix(f"h.{i}.w", x=value) for i, value in enumerate(values)]
    old = [matrix(f"h.{i}.w", x=value) for i, value in enumerate(before or ())]
    return facts(*subjects, baseline=facts(*old) if old else None)


def test_without_limits_nothing_is_judged() -> None:
    assert judged(ABOVE, model(1e9, -1e9)) == []


def test_a_limit_is_exceeded_not_met() -> None:
    found = judged(ABOVE, model(4.0, 4.5), max=4)
    assert [(one.matrix, one.value, one.limit, one.severity) for one in found] == [
        ("h.1.w", 4.5, 4.0, None)
    ]
    assert found[0].message == "the x 4.5 > 4 allowed"
    assert [one.matrix for one in judged(BELOW, model(4.0, 3.5), min=4)] == ["h.1.w"]


def test_warn_and_error_stand_side_by_side() -> None:
    found = judged(ABOVE, model(1.0, 20.0, 300.0), warn=10, error=100)
    assert [(one.matrix, one.severity) for one in found] == [
        ("h.1.w", "warning"),
        ("h.2.w", "error"),
    ]


def test_of_limits_the_first_that_is_broken_counts() -> None:
    """The rule's own severity goes before that of `warn`, even where it is less."""
    found = judged(ABOVE, model(300.0), warn=10, max=20, severity="note")
    assert [(one.limit, one.severity) for one in found] == [(20.0, None)]


@pytest.mark.parametrize(
    ("threshold", "value", "breaks"),
    [(ABOVE, 1.1, False), (ABOVE, 1.11, True), (BELOW, 1 / 1.1, False), (BELOW, 0.9, True)],
    ids=["above-within", "above-beyond", "below-within", "below-beyond"],
)
def test_a_regression_is_relative_to_the_baseline(
    threshold: Threshold, value: float, breaks: bool
) -> None:
    found = judged(threshold, model(value, before=(1.0,)), **{"max-regression": 0.1})
    assert bool(found) is breaks
    assert all("1 in the baseline: worse by more than 10 %" in one.message for one in found)


def test_the_worst_of_several_breaches_is_told() -> None:
    found = judged(ABOVE, model(5.0, before=(1.0,)), warn=4, **{"max-regression": 0.1})
    assert found[0].severity is None  # that of the rule, an error, and not the warning
    assert "in the baseline" in found[0].message
    rule_warns = {one.key: one.default for one in limits("above")} | {
        "severity": "warning", "error": 4, "max-regression": 0.1,
    }  # fmt: skip
    told = list(ABOVE(model(5.0, before=(1.0,)), lambda _name: rule_warns))
    assert [one.severity for one in told] == ["error"]


def test_what_the_baseline_lacks_cannot_regress() -> None:
    assert judged(ABOVE, model(1.0, 50.0, before=(1.0,)), **{"max-regression": 0.1}) == []


def test_an_outlier_stands_off_its_role_and_off_the_roles_spread() -> None:
    tight = [1.0, 1.1, 0.9, 1.05, 20.0]
    found = judged(ABOVE, model(*tight), outlier=10)
    assert [one.matrix for one in found] == ["h.4.w"]
    assert "19.05 times the median of its like (1.05)" in found[0].message
    spread = [1.0, 3.0, 0.3, 9.0, 0.1, 20.0]  # a role whose values differ by factors anyway
    assert judged(ABOVE, model(*spread), outlier=10) == []


def test_a_role_of_few_has_no_outliers() -> None:
    assert judged(ABOVE, model(1.0, 1.0, 1e6), outlier=10) == []


def test_roles_are_judged_apart() -> None:
    found = facts(
        *(matrix(f"h.{i}.q", "attn.q", x=1.0) for i in range(4)),
        *(matrix(f"h.{i}.k", "attn.k", x=100.0) for i in range(4)),
    )
    assert judged(ABOVE, found, outlier=10) == []


def test_numbers_that_are_not_there_are_no_findings() -> None:
    assert judged(ABOVE, model(None, 1.0), max=0.5)[0].matrix == "h.1.w"


@given(st.lists(st.floats(1e-6, 1e6), min_size=4, max_size=12), st.integers(-20, 20))
def test_an_outlier_does_not_depend_on_the_unit(values: list[float], power: int) -> None:
    plain = judged(ABOVE, model(*values), outlier=2)
    scaled = judged(ABOVE, model(*(math.ldexp(value, power) for value in values)), outlier=2)
    assert [one.matrix for one in plain] == [one.matrix for one in scaled]


def test_robust_is_median_and_the_spread_of_logarithms() -> None:
    middle, spread = robust([1.0, math.e, math.e**2])
    assert middle == pytest.approx(math.e)
    assert spread == pytest.approx(1.4826)
