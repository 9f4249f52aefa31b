import datetime as dt
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from policy.subjects import facts, matrix
from spectra.checkpoint.damaged import Fault
from spectra.policy import Breach, Ignore, Override, Policy
from spectra.policy.facts import Facts
from spectra.policy.hygiene import hygiene
from spectra.policy.judge import judge
from spectra.policy.rules import RULES

TODAY = dt.date(2026, 3, 1)
OVER = TODAY - dt.timedelta(days=1)
NO_BASE = {"SPC101": "no base is given"}


def model(**more: Any) -> Facts:  # noqa: ANN401 - any of its fields
    split = matrix("h.1.qkv[q]", sigma_max=1.0)
    return replace(facts(matrix("h.0.q", sigma_max=1.0), split), **more)


def found(
    policy: Policy,
    used: tuple[int, ...] = (),
    unjudged: Mapping[str, str] | None = None,
    of: Facts | None = None,
) -> list[tuple[str, Breach]]:
    told = hygiene(policy, of or model(), set(used), unjudged or {}, TODAY)
    return [(rule.code, breach) for rule, breach in told]


def messages(*args: Any, **more: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - of `found`
    return [(code, breach.message) for code, breach in found(*args, **more)]


def test_an_ignore_that_covers_nothing_is_told_with_its_line() -> None:
    ignores = (Ignore("SPC203", "x", line=3), Ignore("SPC2", "y", ("h.0.*", "h.1.*"), line=7))
    policy = Policy("spectra.toml", ignores=ignores)
    assert found(policy, used=(0, 1)) == []
    assert found(policy, used=(0,)) == [
        ("SPC901", Breach(
            "[[ignore]] SPC2 on h.0.*, h.1.* covers no finding", file="spectra.toml", line=7,
            subject="[[ignore]] SPC2 on h.0.*, h.1.*",
        ))
    ]  # fmt: skip


@pytest.mark.parametrize(
    "policy",
    [Policy(), Policy(select=("SPC2",)), Policy(ignore=("SPC1",)),
     Policy(rules={"SPC101": {"severity": "off"}})],
    ids=["unjudged", "not selected", "ignored", "off"],
)  # fmt: skip
def test_an_ignore_of_what_was_not_judged_may_cover_nothing(policy: Policy) -> None:
    mine = replace(policy, ignores=(Ignore("SPC101", "x"),))
    unjudged = NO_BASE if policy == Policy() else {}
    assert found(mine, unjudged=unjudged) == []
    assert [code for code, _ in found(replace(mine, ignores=(Ignore("SPC20", "x"),)))] == ["SPC901"]


def test_an_ignore_that_is_over_says_what_follows() -> None:
    policy = Policy(ignores=(Ignore("SPC203", "x", until=OVER, line=4),))
    over = "[[ignore]] SPC203 ended on 2026-02-28; "
    assert messages(policy, used=(0,)) == [("SPC902", over + "its findings count again")]
    assert messages(policy) == [("SPC902", over + "it covers nothing: remove it")]
    assert messages(replace(policy, ignores=(Ignore("SPC203", "x", until=TODAY),)), (0,)) == []


def test_globs_that_fit_nothing_are_told_each() -> None:
    policy = Policy(
        "spectra.toml",
        overrides=(
            Override(("h.*", "g.*"), off=("SPC2",), line=5),
            Override(("h.1.qkv",), rules={"SPC105": {"allowed": ("g.1",)}}, line=9),
        ),
        rules={"SPC104": {"expect": ("*.q", "*.k")}},
        ignores=(Ignore("SPC203", "x", ("h.0.q", "g.2")), Ignore("SPC203", "x", ("g.3",))),
        lines={"SPC104": 2},
    )
    assert [
        (breach.line, breach.message) for code, breach in found(policy, (0,)) if code == "SPC903"
    ] == [
        (5, "g.* in [[override]] fits no tensor of the model"),
        (9, "g.1 in [override.rules.SPC105] allowed fits no tensor of the model"),
        (2, "*.k in [rules.SPC104] expect fits no tensor of the model"),
        (None, "g.2 in [[ignore]] SPC203 fits no tensor of the model"),
    ]


@pytest.mark.parametrize(
    "of",
    [model(shapes={"g.0": (1,)}), model(held={"g.0": "a"}), model(index={"g.0": "a"}),
     model(faults=(Fault("a", "cut", ("g.0",)),))],
    ids=["stored", "held", "indexed", "lost"],
)  # fmt: skip
def test_every_tensor_can_be_meant(of: Facts) -> None:
    policy = Policy(overrides=(Override(("g.?",), off=("SPC2",)),))
    assert [code for code, _ in found(policy)] == ["SPC903"]
    assert found(policy, of=of) == []


def test_an_ignore_may_name_files_and_roles() -> None:
    policy = Policy(ignores=(Ignore("SPC0", "x", ("h.*", "a-*.safetensors", "b.*", "attn.?")),))
    of = model(files=("a-1.safetensors",), held={"h.0.q": "b.safetensors"})
    assert found(policy, (0,), of=of) == []
    assert len(found(policy, (0,))) == 2


def test_lists_of_rules_that_do_not_count_are_passed_over() -> None:
    policy = Policy(select=("SPC2",), rules={"SPC104": {"expect": ("g.*",)}})
    assert found(policy) == []


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        (Policy(), False),
        (Policy(select=("SPC1",)), True),
        (Policy(select=("SPC2", "SPC101")), True),
        (Policy(rules={"SPC101": {"max": 4.0}}), True),
        (Policy(rules={"SPC101": {"severity": "note"}}), False),
        (Policy(rules={"SPC101": {"max": None}}), False),
        (Policy(overrides=(Override(("h.*",), rules={"SPC101": {"max": 4.0}}),)), True),
    ],
    ids=["by default", "group", "code", "limit", "severity", "no limit", "override"],
)
def test_a_rule_that_is_asked_for_and_could_not_judge_is_told(policy: Policy, told: bool) -> None:
    text = "SPC101 (intruder-dimensions) could not judge: no base is given"
    assert messages(policy, unjudged=NO_BASE) == ([("SPC904", text)] if told else [])


def test_of_a_group_rules_that_judge_by_limits_alone_need_none() -> None:
    unjudged = {"SPC201": "no limit is set"}
    assert found(Policy(select=("SPC2",)), unjudged=unjudged) == []
    assert len(found(Policy(select=("SPC201",)), unjudged=unjudged)) == 1


def test_a_comparison_without_a_baseline_is_told() -> None:
    policy = Policy(rules={"SPC204": {"max-regression": 0.1}}, lines={"SPC204": 6})
    text = "max-regression of SPC204 judges nothing: no baseline is given (--baseline)"
    assert [(code, one.message, one.line) for code, one in found(policy)] == [("SPC904", text, 6)]
    assert found(policy, of=model(baseline=model())) == []
    assert found(Policy(rules={"SPC204": {"max": 1.0}})) == []


def test_every_finding_has_a_place_of_its_own() -> None:
    policy = Policy(
        select=("SPC1", "SPC2", "SPC9"),
        overrides=(Override(("g.*", "i.*"), off=("SPC2",)),),
        ignores=(Ignore("SPC203", "x"), Ignore("SPC203", "x", ("h.0.q",))),
    )
    told = judge(policy, model(), "m", TODAY).findings
    assert {one.rule for one in told} == {"SPC901", "SPC903", "SPC904"}
    assert len({one.fingerprint for one in told}) == len(told)


def test_its_rules_can_be_left_out() -> None:
    policy = Policy(ignore=("SPC901",), ignores=(Ignore("SPC203", "x"),))
    assert judge(policy, model(), "m", TODAY).findings == ()


@pytest.mark.parametrize("code", ["SPC901", "SPC902", "SPC903", "SPC904"])
def test_no_rule_about_the_policy_judges_the_model(code: str) -> None:
    assert RULES[code].needs == "policy"
    assert list(RULES[code].judge(model(), lambda _: {})) == []


def test_a_limit_that_is_off_asks_for_nothing() -> None:
    policy = Policy(select=("SPC2",), rules={"SPC201": {"max": None, "error": None}})
    told = judge(policy, model(), "m", TODAY)
    why = {one.code: one.why_not for one in told.outcomes}
    assert str(why["SPC201"]).startswith("no limit is set")
