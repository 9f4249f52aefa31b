from pathlib import Path

import pytest

from spectra.errors import UsageError
from spectra.policy import Policy
from spectra.policy.given import Options, changed, policy_in_force

FILE = Policy(base="old", baseline="before", select=("SPC0",), ignore=("SPC001",), min_coverage=0.5)


def test_options_go_before_the_file_and_ignore_besides_it() -> None:
    options = Options(
        base="new", adapter="lora", select=("spc1", "spikes"), ignore=("SPC101",), fail_on="note",
        min_coverage="99.9%",
    )  # fmt: skip
    assert changed(FILE, options) == Policy(
        base="new", adapter="lora", baseline="before", select=("SPC1", "SPC303"),
        ignore=("SPC001", "SPC101"), fail_on="note", min_coverage=0.999,
    )  # fmt: skip


def test_rules_are_given_one_by_one_or_with_commas() -> None:
    options = Options(select=("SPC001,SPC008",), ignore=("SPC1, non-finite", "SPC2"))
    found = changed(Policy(), options)
    assert (found.select, found.ignore) == (("SPC001", "SPC008"), ("SPC1", "SPC001", "SPC2"))


def test_what_is_not_given_changes_nothing() -> None:
    assert changed(FILE, Options()) == FILE
    assert changed(FILE, Options(min_coverage=0)).min_coverage == 0.0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (Options(select=("SPC9999",)), "'SPC9999' is no rule. `spectra rule` lists all."),
        (Options(ignore=("intruder-dimension",)), "Did you mean 'intruder-dimensions'?"),
        (Options(min_coverage="101%"), "'101%' is no share. Expected a number from 0 to 1"),
        (Options(min_coverage="most"), "'most' is no share."),
    ],
)
def test_what_cannot_be_meant_is_refused(options: Options, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        changed(FILE, options)
    assert told in str(caught.value)


def test_the_closest_file_is_in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spectra.toml").write_text('[check]\nalias = "a"\n')
    inner = tmp_path / "inner"
    inner.mkdir()
    monkeypatch.chdir(inner)
    assert policy_in_force(None) == Policy(path="../spectra.toml", alias="a")
    assert policy_in_force(None, isolated=True) == Policy()
    assert policy_in_force(tmp_path / "spectra.toml", isolated=True).alias == "a"
