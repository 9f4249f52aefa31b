import datetime as dt
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.test_document import EXAMPLE
from policy.test_schema import GOOD
from spectra.policy import Ignore, Override, Policy
from spectra.policy.document import read_policy
from spectra.policy.policy import Policy as Read
from spectra.policy.writing import shown, toml

_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
_NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
_GLOBS = st.lists(_TEXTS, min_size=1, max_size=3, unique=True).map(tuple)


def again(folder: Path, policy: Policy) -> Read:
    path = folder / "again.toml"
    path.write_text(shown(policy), encoding="utf-8")
    return replace(read_policy(path), path=policy.path)


@pytest.mark.parametrize("text", GOOD, ids=[str(n) for n in range(len(GOOD))])
def test_what_is_shown_reads_back(tmp_path: Path, text: str) -> None:
    path = tmp_path / "spectra.toml"
    path.write_text(text, encoding="utf-8")
    policy = read_policy(path)
    assert again(tmp_path, policy) == policy


@given(
    globs=_GLOBS,
    reason=_TEXTS,
    number=_NUMBERS,
    share=st.floats(0, 1),
    until=st.none() | st.dates(),
    alias=st.none() | _TEXTS,
)
def test_any_policy_reads_back(
    workshop: Path,
    globs: tuple[str, ...],
    reason: str,
    number: float,
    share: float,
    until: dt.date | None,
    alias: str | None,
) -> None:
    policy = Policy(
        path="any\nfile",
        alias=alias,
        ignore=("SPC3",),
        fail_on="never",
        min_coverage=share,
        tolerance=share,
        rules={
            "SPC201": {"max": number, "max-regression": share, "severity": "off"},
            "SPC105": {"allowed": globs},
            "SPC202": {"outlier": None},
        },
        overrides=(Override(globs, ("SPC1",), {"SPC203": {"severity": "note"}}),),
        ignores=(Ignore("SPC101", reason, globs, until),),
    )
    assert again(workshop, policy) == policy


@given(_TEXTS | _NUMBERS | st.integers() | st.booleans() | st.lists(_TEXTS))
def test_values_are_toml(value: object) -> None:
    assert tomllib.loads(f"x = {toml(value)}")["x"] == value


def test_all_settings_are_told_and_those_of_the_policy_alone_are_set(tmp_path: Path) -> None:
    path = tmp_path / "spectra.toml"
    path.write_text(EXAMPLE, encoding="utf-8")
    lines = shown(read_policy(path)).splitlines()
    assert lines[0] == f"# The policy in force, from {path}."
    assert (
        'fail-on = "warning"  # least severity that fails: error, warning, note or never' in lines
    )
    start = lines.index("[rules.SPC201]  # condition-number: kappa is higher than a policy allows")
    assert [line.split("  #")[0] for line in lines[start + 1 : start + 7]] == [
        "warn = 10000", "error = 1000000", "max-regression = 0.07",
        '# severity = "error"', '# max = "off"', '# outlier = "off"',
    ]  # fmt: skip


def test_defaults_are_shown_in_full() -> None:
    text = shown(Policy())
    assert "from the defaults; no file was read" in text
    assert tomllib.loads(text)["check"] == {}
    assert not any(tomllib.loads(text)["rules"].values())
    # Every line of comment that has a key is a setting that could be set.
    freed = "\n".join(
        line.removeprefix("# ")
        for line in text.splitlines()
        if not line.startswith("# ") or " = " in line
    )
    assert tomllib.loads(freed)["rules"]["SPC101"]["max"] == 1
