"""The screen of a check: the verdict first, findings worst first, what to do next."""

import pytest

from report.findings.subjects import DOWN, accepted, document, finding, hostile, varied
from spectra.policy import RULES
from spectra.policy.judge import NOT_ASKED
from spectra.report.screens import screen_of
from spectra.report.table import render_text

JUDGED = sum(not code.startswith("SPC9") for code in RULES) - 1  # SPC401 had no proxy
SHORT = DOWN.removesuffix(".weight")


def test_a_failing_check() -> None:
    text = render_text(screen_of(varied(), full=False, hints=True), 120)
    lines = text.splitlines()
    assert lines[1] == "  FAIL  6 findings in 291 tensors (coverage 100 %)."
    assert lines[2] == f"  policy: spectra.toml; {JUDGED} rules judged"
    assert lines[5].split() == [
        "SPC101", "error", "intruder-dimensions", SHORT, "6", ">", "4", "allowed", "(baseline",
        "1)", "new",
    ]  # fmt: skip
    assert [line.split()[0] for line in lines[5:12]] == [
        "SPC101", "SPC002", "SPC104", "SPC401", "SPC999", "SPC202", "SPC301",
    ]  # fmt: skip
    assert lines[11].split()[-1] == "gone"
    assert "  not judged: SPC401: no proxy is set" in lines
    assert lines[-1] == (
        "  explain: spectra rule SPC101   accept: add an [[ignore]] with a reason to spectra.toml"
        "   exit 1"
    )


def test_rules_that_nobody_asked_for_are_no_news() -> None:
    rules = [
        {"code": code, "name": "x", "severity": "error", "summary": "x", "findings": 0,
         "judged": False, "why_not": why}
        for code, why in (("SPC201", NOT_ASKED), ("SPC101", "no base is given"))
    ]  # fmt: skip
    assert screen_of(document(rules=rules)).facts == ["not judged: SPC101: no base is given"]


def test_marks_repeat_what_fails() -> None:
    screen = screen_of(varied())
    marks = {line.cells[0]: line.mark for line in screen.lines}
    assert marks == {
        "SPC101": "bad", "SPC002": "bad", "SPC104": "", "SPC401": "", "SPC999": "",
        "SPC202": "dim", "SPC301": "good",
    }  # fmt: skip


def test_marks_follow_the_policy() -> None:
    found = [finding(state="unchanged"), finding("SPC202", state="new")]
    strict = document(found, settings={"fail_on": "warning"}, passed=False)
    assert [line.mark for line in screen_of(strict).lines] == ["bad", "dim"]


def test_a_passing_check_is_its_sentence() -> None:
    screen = screen_of(document(rules=[]), hints=True)
    assert render_text(screen) == (
        "\n  PASS  0 findings in 291 tensors (coverage 100 %).\n"
        "  policy: spectra.toml; 0 rules judged\n\n  exit 0\n"
    )


def test_the_policy_is_named_with_what_it_leaves_out() -> None:
    options: dict[str, object] = {"select": ["SPC0", "SPC1"], "ignore": ["SPC009"]}
    screen = screen_of(document(policy=None, settings=options, rules=[]))
    assert screen.under == "policy: defaults; select SPC0 SPC1; ignore SPC009; 0 rules judged"


def test_without_a_baseline_there_is_no_state() -> None:
    assert [column.title for column in screen_of(document([finding()])).columns][-1] == "finding"
    assert [column.title for column in screen_of(varied()).columns][-1] == "state"


def test_a_document_has_no_hints() -> None:
    assert not screen_of(varied(), full=True).hints


@pytest.mark.parametrize("width", [60, 80, 100, 120, 140])
def test_nothing_wraps(width: int) -> None:
    for found in (varied(), hostile()):
        text = render_text(screen_of(found, hints=True), width)
        assert max(map(len, text.splitlines())) <= width
        rows = [line for line in text.splitlines() if line.startswith("  SPC")]
        assert len(rows) == min(len(found["summary"]["findings"]), 20)


@pytest.mark.parametrize("limit", [60, 80, 100, 160])
def test_the_message_is_whole_and_names_give_way(limit: int) -> None:
    long = "condition number 410,000, 38 times the median of its like (11,000)"
    found = document([finding("SPC202", DOWN, message=long, state="unchanged")])
    lines = render_text(screen_of(found), limit).splitlines()
    head = next(line for line in lines if line.lstrip().startswith("rule"))
    start = head.find("finding") if "finding" in head else 0  # below the names, where it is narrow
    told = " ".join(line[start:].replace("unchanged", "") for line in lines[4:])
    assert long in " ".join(told.split())
    assert any(SHORT[-12:] in line for line in lines)
    whole = render_text(screen_of(found, full=True))
    assert DOWN in whole
    assert long in whole


def test_the_rule_is_named_where_there_is_room() -> None:
    found = document([finding(state="new")])
    assert "intruder-dimensions" in render_text(screen_of(found), 120)
    assert "intruder-dimensions" not in render_text(screen_of(found), 80)
    assert "SPC101" in render_text(screen_of(found), 80)


def test_few_are_shown_unless_all_are_asked_for() -> None:
    many = [finding(matrix=f"layers.{i}.w") for i in range(25)]
    many += [finding("SPC202", f"layers.{i}.w") for i in range(5)]
    few = screen_of(document(many))
    assert len(few.lines) == 20
    assert few.more == "... 10 more, 5 of them errors (-v shows all)"
    gone = [finding(matrix=f"layers.{i}.v", state="gone") for i in range(7)]
    fixed = screen_of(document([*many[:19], *gone]))
    assert fixed.more == "... 6 more (-v shows all)"
    full = screen_of(document(many), full=True)
    assert len(full.lines) == 30
    assert full.more == ""


def test_all_that_was_accepted_is_told_where_all_is_asked_for() -> None:
    found = document([], [accepted()])
    what = "accepted: SPC201 lm_head.weight: 6 > 4 allowed (baseline 1)"
    told = f"{what}; known, issue 42 (until 2027-03-01)"
    assert told in screen_of(found, full=True).facts
    assert told not in screen_of(found).facts


def test_no_name_moves_the_cursor() -> None:
    text = render_text(screen_of(hostile(), full=True, hints=True))
    assert all(line.isprintable() for line in text.splitlines())
