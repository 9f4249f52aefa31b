"""Annotations: what GitHub's runner reads out of each line is what was found, and no more."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from report.findings.subjects import DOWN, HOSTILE, Document, document, finding, hostile, varied
from spectra.report.findings import render
from spectra.report.findings.github import LONGEST
from spectra.text import printable


@dataclass(frozen=True)
class Command:
    """One workflow command, as the runner reads it."""

    kind: str
    properties: dict[str, str]
    text: str


def unescaped(text: str, pairs: str) -> str:
    """Undo the runner's escapes; `%25` last, as it does."""
    for escape in pairs.split():
        text = text.replace(escape, chr(int(escape[1:], 16)))
    return text.replace("%25", "%")


def commands(text: str) -> tuple[list[str], list[Command]]:
    """Read a log as the runner does: `::name key=value,key=value::data`; the rest is text."""
    plain, found = [], []
    for line in text.split("\n")[:-1]:
        match = re.fullmatch(r"\s*::([^ :]+)(?: ([^:]*(?::(?!:)[^:]*)*))?::(.*)", line)
        if match is None:
            assert "##[" not in line
            assert not line.lstrip().startswith("::")
            plain.append(line)
            continue
        pairs = [pair.split("=", 1) for pair in match[2].split(",")]
        properties = {key: unescaped(value, "%0D %0A %3A %2C") for key, value in pairs}
        found.append(Command(match[1], properties, unescaped(match[3], "%0D %0A")))
    return plain, found


def test_a_finding_is_one_annotation_with_its_place() -> None:
    plain, (found,) = commands(render(document([finding(state="new")]), "github"))
    assert plain == [
        "FAIL  1 findings in 291 tensors (coverage 100 %).",
        "policy: spectra.toml; 33 rules judged",
    ]
    assert found == Command(
        "error",
        {
            "title": "spectra (SPC101) intruder-dimensions",
            "file": "release/model-00001-of-00002.safetensors",
            "line": "1",
        },
        f"{DOWN}: 6 > 4 allowed (baseline 1)",
    )


def test_kinds_follow_severity_and_what_is_known_is_but_noted() -> None:
    _, found = commands(render(varied(), "github"))
    kinds = [(one.kind, one.properties["title"].split()[1]) for one in found]
    assert kinds == [
        ("error", "(SPC101)"), ("error", "(SPC002)"), ("warning", "(SPC104)"),
        ("warning", "(SPC401)"), ("notice", "(SPC999)"), ("notice", "(SPC202)"),
    ]  # fmt: skip
    assert found[-1].text.endswith("(unchanged since the baseline)")
    by_rule = {one.properties["title"].split()[1]: one.properties for one in found}
    assert (by_rule["(SPC999)"]["file"], by_rule["(SPC999)"]["line"]) == ("spectra.toml", "7")


def test_escapes_are_those_of_the_runner() -> None:
    text = render(document([finding(message="5 % of a\r\nb, c: d", file="a,b:c%.bin")]), "github")
    line = text.splitlines()[2]
    assert "file=release/a%2Cb%3Ac%25.bin,line=1::" in line
    assert line.endswith("5 %25 of a\\r\\nb, c: d")


def test_no_name_is_a_command_or_hides_one() -> None:
    plain, found = commands(render(hostile(), "github"))
    assert len(plain) == 2
    assert {one.kind for one in found} == {"error", "notice"}
    assert all(set(one.properties) <= {"title", "file", "line"} for one in found)
    errors = [one for one in found if one.kind == "error"]
    for one, text in zip(errors, HOSTILE, strict=False):
        assert one.text == f"{printable(text)}: holds {printable(text)}"[:LONGEST]


def test_the_verdict_is_no_command() -> None:
    text = render(document(reading="::error::x ##[error]y"), "github")
    assert text.splitlines()[0] == ": :error: :x ## [error]y"


def test_a_long_text_is_cut() -> None:
    _, (found,) = commands(render(document([finding(message="m" * 9000)]), "github"))
    assert len(found.text) == LONGEST
    assert found.text.endswith("mm…")


@pytest.mark.parametrize(("count", "shown", "told"), [(10, 10, 0), (11, 10, 1), (40, 10, 30)])
@pytest.mark.parametrize("kind", ["error", "warning"])
def test_ten_of_a_kind_are_shown_and_the_rest_counted(
    kind: str, count: int, shown: int, told: int
) -> None:
    many = [finding(matrix=f"layers.{i}.w", severity=kind) for i in range(count)]
    _, found = commands(render(document(many, passed=kind != "error"), "github"))
    assert sum(one.kind == kind for one in found) == shown
    rest = [one.text for one in found if one.kind == "notice"]
    plural = "" if told == 1 else "s"
    words = f"{told} more findings ({told} {kind}{plural}). The JSON of the check has all."
    assert rest == ([words] if told else [])


@pytest.mark.parametrize(("count", "shown", "told"), [(10, 10, 0), (11, 9, 2), (30, 9, 21)])
def test_notices_leave_room_for_the_count(count: int, shown: int, told: int) -> None:
    many = [finding(matrix=f"layers.{i}.w", severity="note") for i in range(count)]
    _, found = commands(render(document(many), "github"))
    assert len(found) == shown + (1 if told else 0) <= 10
    if told:
        assert found[-1].text.startswith(f"{told} more findings ({told} notices)")


def test_a_check_that_fails_without_an_error_says_so() -> None:
    text = render(document(passed=False, exit_code=3, reading="INCOMPLETE  by 40 %"), "github")
    assert commands(text)[1] == [
        Command("error", {"title": "spectra check"}, "INCOMPLETE  by 40 %")
    ]


@pytest.mark.parametrize("made", [document, varied, hostile], ids=["empty", "varied", "hostile"])
def test_it_is_the_same_each_time(made: Callable[[], Document]) -> None:
    assert render(made(), "github") == render(made(), "github")
