import datetime as dt
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.subjects import facts, matrix
from spectra.policy import Ignore, Override, Policy
from spectra.policy.facts import Facts
from spectra.policy.finding import Finding, fingerprint
from spectra.policy.judge import Judgement, judge
from spectra.policy.rules import RULES

TODAY = dt.date(2026, 3, 1)


def model(*kappas: float, before: Facts | None = None) -> Facts:
    subjects = (
        matrix(f"h.{i}.q", sigma_max=1.0, sigma_min=1 / kappa, kappa=kappa)
        for i, kappa in enumerate(kappas)
    )
    return facts(*subjects, baseline=before)


def policy(**changes: object) -> Policy:
    base = Policy(select=("SPC201", "SPC9"), rules={"SPC201": {"error": 100.0, "warn": 10.0}})
    return replace(base, **changes)  # type: ignore[arg-type]


def run(found: Facts, by: Policy | None = None, before: list[Finding] | None = None) -> Judgement:
    return judge(by or policy(), found, "model", TODAY, before)


def told(found: Judgement) -> list[tuple[str, str | None, str]]:
    return [(one.rule, one.matrix, one.severity) for one in found.findings]


def test_findings_come_worst_first() -> None:
    found = run(model(50.0, 1.0, 500.0))
    assert told(found) == [("SPC201", "h.2.q", "error"), ("SPC201", "h.0.q", "warning")]
    assert found.counts() == {
        "error": 1, "warning": 1, "note": 0, "ignored": 0, "new": 0, "unchanged": 0, "gone": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fail_on", "count"),
    [("error", 1), ("warning", 2), ("note", 2), ("never", 0)],
    ids=str,
)
def test_fail_on_is_the_least_severity_that_fails(fail_on: str, count: int) -> None:
    by = policy(fail_on=fail_on)
    assert len(run(model(50.0, 500.0), by).failing(by)) == count


def test_an_ignore_accepts_what_it_covers_and_says_why() -> None:
    ignore = Ignore("SPC2", "known", ("h.1.*",))
    found = run(model(500.0, 500.0), policy(ignores=(ignore,)))
    assert told(found) == [("SPC201", "h.0.q", "error")]
    assert [(one.matrix, one.reason) for one in found.ignored] == [("h.1.q", "known")]


def test_an_ignore_ends_after_its_last_day() -> None:
    last = Ignore("SPC201", "until spring", until=TODAY)
    assert told(run(model(500.0), policy(ignores=(last,)))) == []
    over = replace(last, until=TODAY - dt.timedelta(days=1))
    rules = [rule for rule, _, _ in told(run(model(500.0), policy(ignores=(over,))))]
    assert sorted(rules) == ["SPC201", "SPC902"]


def test_an_ignore_that_covers_nothing_is_reported() -> None:
    found = run(model(1.0), policy(ignores=(Ignore("SPC201", "once needed"),)))
    assert [rule for rule, _, _ in told(found)] == ["SPC901"]


def test_an_override_changes_limits_and_turns_rules_off() -> None:
    looser = Override(("h.0.*",), rules={"SPC201": {"error": 1e4, "warn": None}})
    off = Override(("h.1.*",), off=("SPC2",))
    found = run(model(500.0, 500.0, 500.0), policy(overrides=(looser, off)))
    assert told(found) == [("SPC201", "h.2.q", "error")]


def test_a_rule_that_is_off_is_not_judged() -> None:
    found = run(model(500.0), policy(rules={"SPC201": {"severity": "off", "error": 1.0}}))
    assert found.findings == ()
    assert "SPC201" not in [one.code for one in found.outcomes]


def test_the_baselines_findings_are_unchanged_and_do_not_fail() -> None:
    old = run(model(500.0, 1.0))
    found = run(model(510.0, 500.0, before=model(500.0, 1.0)), before=list(old.findings))
    assert [(one.matrix, one.state, one.baseline) for one in found.findings] == [
        ("h.1.q", "new", 1.0),
        ("h.0.q", "unchanged", 500.0),
    ]
    assert [one.matrix for one in found.failing(policy())] == ["h.1.q"]
    assert len(found.failing(policy(fail_unchanged=True))) == 2


def test_a_value_beyond_the_tolerance_is_new_again() -> None:
    old = run(model(500.0))
    found = run(model(600.0), before=list(old.findings))
    assert [(one.state, one.value, one.baseline) for one in found.findings] == [
        ("new", 600.0, 500.0)
    ]
    assert run(model(600.0), policy(tolerance=0.5), list(old.findings)).counts()["new"] == 0


def test_a_warning_that_became_an_error_is_new() -> None:
    old = run(model(99.0))
    found = run(model(101.0), before=list(old.findings))
    assert [(one.severity, one.state) for one in found.findings] == [("error", "new")]


def test_what_the_baseline_had_and_the_model_has_not_is_gone() -> None:
    old = run(model(500.0, 500.0))
    found = run(model(500.0, 1.0), before=list(old.findings))
    assert [(one.matrix, one.state, one.value) for one in found.findings] == [
        ("h.0.q", "unchanged", 500.0),
        ("h.1.q", "gone", None),
    ]
    assert found.failing(policy(fail_unchanged=True)) == [found.findings[0]]
    assert found.counts()["error"] == 1


def test_what_is_gone_is_accepted_no_more() -> None:
    old = run(model(500.0), policy(ignores=(Ignore("SPC201", "known", until=TODAY),)))
    (gone,) = run(model(1.0), before=list(old.ignored)).findings
    assert (gone.state, gone.reason, gone.until) == ("gone", None, None)


def test_what_was_not_judged_this_time_is_not_gone() -> None:
    old = run(model(500.0))
    assert run(model(500.0), policy(select=("SPC203",)), list(old.findings)).findings == ()


def test_a_baseline_of_another_name_is_compared_all_the_same() -> None:
    old = judge(policy(), model(500.0), "model-v1", TODAY)
    found = judge(policy(), model(500.0), "model-v2", TODAY, old.findings)
    assert [one.state for one in found.findings] == ["unchanged"]


def test_a_rule_without_its_reference_says_why_it_could_not_judge() -> None:
    found = run(model(1.0), Policy())
    reasons = {one.code: one.why_not for one in found.outcomes}
    assert reasons["SPC101"] == "no base is given (--base, or a model as --baseline)"
    assert reasons["SPC201"] == "no limit is set: it judges what a policy asks"
    assert reasons["SPC203"] is None


@given(
    st.sampled_from(list(RULES)),
    st.text(min_size=1),
    st.floats(allow_nan=False),
    st.floats(allow_nan=False),
)
def test_a_fingerprint_knows_rule_and_place_alone(
    code: str, place: str, value: float, limit: float
) -> None:
    plain = {"rule": code, "place": place}
    one = fingerprint(**plain, alias="m")
    assert one == fingerprint(**plain, alias="m")
    assert len({one, fingerprint(**plain, alias="n"), fingerprint(code, place + "x", "m")}) == 3
    found = Finding(code, "n", "error", f"{value} > {limit}", one, place, value=value, limit=limit)
    assert Finding.read(found.plain()) == found
