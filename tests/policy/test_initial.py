import datetime as dt
import math
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.subjects import facts, matrix
from spectra.checkpoint.damaged import Fault
from spectra.gate import plan_check
from spectra.policy import Policy
from spectra.policy.document import policy_of, read_policy
from spectra.policy.facts import Facts
from spectra.policy.initial import LOOK, initial, rounded_up
from spectra.policy.judge import Judgement, judge
from spectra.policy.peers import pattern
from spectra.words import VECTOR

TODAY = dt.date(2026, 3, 1)


def fitted(folder: Path, found: Facts) -> Policy:
    path = folder / "spectra.toml"
    path.write_text(initial(found, "release", TODAY), encoding="utf-8")
    return read_policy(path)


def judged(policy: Policy, found: Facts, day: dt.date = TODAY) -> Judgement:
    return judge(policy, found, "release", day)


def layers(count: int = 6, **changed: float) -> Facts:
    subjects = []
    for i in range(count):
        kappa = 10.0 + i
        for kind, size in (("attn.q", 4.0), ("mlp.down", 40.0)):
            values = {"sigma_max": size, "sigma_min": size / kappa, "kappa": kappa * size}
            subjects.append(matrix(f"h.{i}.{kind}.weight", kind, **values))
    subjects[-1] = replace(subjects[-1], values={**subjects[-1].values, **changed})
    found = facts(*subjects, matrix("norm", VECTOR))
    return replace(found, shapes=dict.fromkeys([*found.subjects, "positions"], (8, 8)))


def test_a_real_model_has_no_findings_by_it(minilm: Path, tmp_path: Path) -> None:
    found = plan_check(minilm, Policy()).measure()
    policy = fitted(tmp_path, found)
    assert policy.ignores == ()
    assert judged(policy, found).findings == ()
    kappas = {one.role: one.number("kappa") for one in found.matrices()}
    assert set(policy.rules) == {"SPC201", "SPC204"}
    assert 5 <= len(policy.overrides) <= len(kappas)


@pytest.mark.parametrize("asked", [None, Policy(fail_on="note", ignore=("SPC3",), base="./b")])
def test_what_has_its_default_is_written_in_full_alone(
    tmp_path: Path, asked: Policy | None
) -> None:
    found = layers(sigma_min=0.0, kappa=math.inf, kappa_excess=1e9)
    short, long = (initial(found, "it", TODAY, asked, full=full) for full in (False, True))
    rules = {code: own for code, own in tomllib.loads(long)["rules"].items() if own}
    assert tomllib.loads(short) == {**tomllib.loads(long), "rules": rules}
    path = tmp_path / "spectra.toml"
    assert policy_of(short, path) == policy_of(long, path)
    head, body = short.split("schema = 1")
    assert [line for line in body.splitlines() if line.startswith("#")] == [
        next(line for line in body.splitlines() if line.startswith("# singular: "))
    ]
    assert "--init --full" in head
    assert "Limits are 2 times" in head
    # What is set stands before what is not: in the file, and under each heading.
    assert long.index("[[ignore]]") < long.index("[rules.SPC001]")
    for part in long.split("\n["):
        lines = [line.startswith("# ") for line in part.splitlines()[1:] if " = " in line]
        assert lines == sorted(lines)


def test_no_limits_are_told_where_none_are_set(tmp_path: Path) -> None:
    text = initial(facts(matrix("norm", VECTOR)), "it", TODAY)
    assert "Limits" not in text
    assert tomllib.loads(text) == {"schema": 1}


def test_limits_are_twice_the_largest_of_each_role(tmp_path: Path) -> None:
    policy = fitted(tmp_path, layers())
    assert policy.rules == {"SPC201": {"max": 1200.0}, "SPC204": {"max": 80.0}}
    assert [(one.tensors, dict(one.rules)) for one in policy.overrides] == [
        (("h.*.attn.q.weight",), {"SPC201": {"max": 120.0}, "SPC204": {"max": 8.0}})
    ]


@pytest.mark.parametrize("role", ["attn.q", "mlp.down"])
def test_what_is_worse_than_its_role_by_more_is_found(tmp_path: Path, role: str) -> None:
    found = layers()
    policy = fitted(tmp_path, found)
    name = f"h.2.{role}.weight"
    old = found.subjects[name]
    for times, count in ((1.5, 0), (2.7, 1)):
        worse = replace(old, values={**old.values, "kappa": times * (old.number("kappa") or 0)})
        told = judged(policy, replace(found, subjects={**found.subjects, name: worse})).findings
        assert [(one.rule, one.matrix) for one in told] == [("SPC201", name)] * count


def test_globs_that_fit_another_role_too_do_not_loosen_it(tmp_path: Path) -> None:
    outer = [matrix(f"h.{i}.out", "mlp.down", sigma_max=9.0) for i in range(3)]
    inner = [matrix(f"h.{i}.attn.out", "attn.o", sigma_max=1.0) for i in range(3)]
    top = matrix("head", "head", sigma_max=50.0)
    for subjects in ([*inner, *outer, top], [top, *outer, *inner]):
        policy = fitted(tmp_path, facts(*subjects))
        assert [(one.tensors, dict(one.rules)) for one in policy.overrides] == [
            (("h.*.out",), {"SPC204": {"max": 18.0}}),
            (("h.*.attn.out",), {"SPC204": {"max": 2.0}}),
        ]


def test_what_is_found_is_accepted_for_a_time_and_told(tmp_path: Path) -> None:
    found = layers(sigma_min=0.0, kappa=math.inf, kappa_excess=1e9)
    text = initial(found, "release", TODAY)
    policy = fitted(tmp_path, found)
    verdict = judged(policy, found)
    assert verdict.findings == ()
    assert [one.rule for one in verdict.ignored] == ["SPC203"]
    assert [(one.code, one.tensors) for one in policy.ignores] == [
        ("SPC203", ("h.5.mlp.down.weight",))
    ]
    assert "# singular: the smallest of its 8 singular values is 0" in text
    after = {one.rule for one in judged(policy, found, TODAY + LOOK).findings}
    assert after == set()
    later = TODAY + LOOK + dt.timedelta(days=1)
    assert {one.rule for one in judged(policy, found, later).findings} == {"SPC203", "SPC902"}


def test_no_limit_is_set_where_one_is_infinite(tmp_path: Path) -> None:
    policy = fitted(tmp_path, layers(kappa=math.inf))
    assert policy.rules == {"SPC204": {"max": 80.0}}
    assert dict(policy.overrides[0].rules) == {"SPC201": {"max": 120.0}, "SPC204": {"max": 8.0}}


def test_what_all_layers_share_is_one_glob(tmp_path: Path) -> None:
    subjects = [matrix(f"h.{i}.q", sigma_max=1.0, sigma_min=0.0) for i in range(12)]
    policy = fitted(tmp_path, facts(*subjects))
    assert [one.tensors for one in policy.ignores] == [("h.*.q",)]
    some = [*subjects[:11], matrix("h.11.q", sigma_max=1.0, sigma_min=0.5)]
    names = [one.tensors for one in fitted(tmp_path, facts(*some)).ignores]
    assert names == [tuple(f"h.{i}.q" for i in range(11))]


def test_what_has_no_matrix_is_accepted_by_its_place(tmp_path: Path) -> None:
    found = replace(layers(), faults=(Fault("a.safetensors", "is cut", ("h.9.q",)),))
    policy = fitted(tmp_path, found)
    verdict = judged(policy, found)
    assert verdict.findings == ()
    assert ("SPC002", ("a.safetensors",)) in [(one.code, one.tensors) for one in policy.ignores]


def test_coverage_is_what_the_model_has(tmp_path: Path) -> None:
    assert fitted(tmp_path, layers(200)).min_coverage == 0.99
    assert fitted(tmp_path, layers(6)).min_coverage == 0.92  # 13 of 14
    assert fitted(tmp_path, facts()).min_coverage == 0.0
    whole = layers()
    whole = replace(whole, shapes=dict.fromkeys(whole.subjects, (8, 8)))
    assert fitted(tmp_path, whole).min_coverage == 0.99


def test_an_adapter_has_no_limits(tmp_path: Path) -> None:
    policy = fitted(tmp_path, facts(matrix("h.0.q.lora_A.weight"), matrix("h.0.q.lora_B.weight")))
    assert (policy.rules, policy.overrides) == ({}, ())


def test_names_of_any_kind_can_be_written(tmp_path: Path) -> None:
    bad = 'h.0."q\\\n\x7f*'
    found = facts(matrix(bad, sigma_max=1.0, sigma_min=0.0), matrix("other", "mlp", sigma_max=9.0))
    assert judged(fitted(tmp_path, found), found).findings == ()
    text = initial(found, "rel\nease", TODAY)
    assert tomllib.loads(text)["ignore"][0]["tensors"] == ['h.*."q\\\n\x7f*']
    assert "# Policy of `spectra check` for 'rel\\nease', written" in text


@given(st.floats(min_value=1e-300, max_value=1e300))
def test_a_limit_is_never_below_what_it_has_room_for(value: float) -> None:
    assert value <= rounded_up(value) <= 1.11 * value


@pytest.mark.parametrize(
    ("name", "glob"),
    [
        ("h.10.attn.q", "h.*.attn.q"),
        ("blk.0.ffn_gate_exps[12]", "blk.*.ffn_gate_exps[*]"),
        ("layer1.0.conv2.weight", "layer1.*.conv2.weight"),
        ("0.weight", "*.weight"),
        ("lm_head", "lm_head"),
    ],
    ids=["layer", "expert", "stage", "first", "none"],
)
def test_numbers_of_layers_may_be_any(name: str, glob: str) -> None:
    assert pattern(name) == glob
