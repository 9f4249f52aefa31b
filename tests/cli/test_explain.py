"""Rules and numbers, each asked for where the other is explained."""

import json
from pathlib import Path

import pytest

from spectra.policy.document import read_policy
from spectra.policy.rules import RULES

from .conftest import Command


@pytest.mark.parametrize("word", ["SPC101", "spc101", "intruder-dimensions", "intruder_dimensions"])
def test_explain_shows_a_rule(command: Command, word: str) -> None:
    done = command("explain", word)
    assert (done.code, done.out) == (0, command("rule", "SPC101").out)
    told = json.loads(command("explain", word, "--format", "json").out)
    assert [one["code"] for one in told["rules"]] == ["SPC101"]


def test_a_word_that_is_both_is_the_number(command: Command) -> None:
    assert command("explain", "delta_rank").out.split()[0] == "delta_rank"


@pytest.mark.parametrize("code", RULES)
def test_a_rule_shows_the_lines_that_accept_its_findings(
    command: Command, code: str, tmp_path: Path
) -> None:
    out = command("rule", code).out
    text = out.partition("  To accept a finding, in spectra.toml\n")[2]
    told = json.loads(command("rule", code, "--format", "json").out)["rules"][0]["accept"]
    assert [line.strip() for line in text.splitlines()] == told.splitlines()
    (tmp_path / "spectra.toml").write_text(f"schema = 1\n{text}")
    policy = read_policy(tmp_path / "spectra.toml")
    if code.startswith("SPC9"):
        assert code in policy.rules
    else:
        assert [(one.code, one.tensors) for one in policy.ignores] == [(code, ("MATRIX",))]


@pytest.mark.parametrize("word", ["SPC2", "spc2", "SPC20"])
def test_the_beginning_of_codes_lists_rules(command: Command, word: str) -> None:
    done = command("rule", word)
    assert done.code == 0
    named = [code for code in RULES if code in done.out]
    assert named == [code for code in RULES if code.startswith(word.upper())]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("rule stable_rank", "is a number, no rule: `spectra explain stable_rank` explains it"),
        ("rule stabel_rank", "is no rule. `spectra rule` lists all"),
        ("rule non-finit", "is no rule. Did you mean 'non-finite'?"),
        ("rule SPC888", "is no rule. `spectra rule` lists all"),
        ("rule SPC10l", "is no rule. Did you mean 'SPC1"),
        ("explain SPC888", "is no rule. `spectra rule` lists all"),
        ("explain stabel_rank", "is no key or heading. Did you mean 'stable_rank'?"),
    ],
)
def test_a_guess_is_near_or_none_is_made(command: Command, words: str, told: str) -> None:
    done = command(*words.split())
    assert done.code == 2
    assert told in done.err
    assert done.out == ""
