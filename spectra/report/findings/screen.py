"""What a user sees of a check: the verdict, the findings worst first, what to do next."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from spectra.policy.judge import NOT_ASKED
from spectra.report.findings.found import Found, Verdict, reasons, told, verdict_of
from spectra.report.table import Column, Line, Screen
from spectra.text import counted

LIMIT = 20  # findings shown without -v
WORDS = {"warning": "warn"}
ALL = ("SPC",)


def check_screen(document: Mapping[str, Any], *, full: bool = False, hints: bool = False) -> Screen:
    """Lay a check out for reading.

    Args:
        document: Of a check, as `Result.document()` gives it or as it was saved.
        full: Show every finding, and each that the policy accepts.
        hints: Say what to do next; documents leave it out.
    """
    verdict = verdict_of(document)
    listed = list(verdict.found)
    shown = listed if full else listed[:LIMIT]
    columns = [
        Column("rule", "left"), Column("", "left"), Column("finds", "left", optional=True),
        Column("matrix", "left", flexible=True), Column("finding", "left", yielding=True),
        *([Column("state", "left")] if verdict.compared else []),
    ]  # fmt: skip
    return Screen(
        reading=verdict.reading,
        under=policy_line(verdict),
        columns=columns,
        lines=[_line(one if full else _shorter(one), verdict) for one in shown],
        more=_more(listed[len(shown) :]),
        facts=_facts(verdict, full=full),
        hints=_hints(verdict) if hints else (),
    )


def policy_line(verdict: Verdict) -> str:
    """Say by which policy it was judged, and by how many of its rules."""
    judged = sum(rule.judged and not rule.code.startswith("SPC9") for rule in verdict.rules)
    pieces = [f"policy: {verdict.policy or 'defaults'}"]
    if verdict.select and verdict.select != ALL:
        pieces.append(f"select {' '.join(verdict.select)}")
    if verdict.ignore:
        pieces.append(f"ignore {' '.join(verdict.ignore)}")
    return "; ".join([*pieces, f"{counted(judged, 'rule')} judged"])


def _line(one: Found, verdict: Verdict) -> Line:
    """Write one finding."""
    cells = [
        one.rule, WORDS.get(one.severity, one.severity), one.name, one.where, one.what,
        *([one.state or ""] if verdict.compared else []),
    ]  # fmt: skip
    if one.state == "gone":
        return Line(cells, "good")
    return Line(cells, "bad" if verdict.fails(one) else "dim" if one.state == "unchanged" else "")


def _shorter(one: Found) -> Found:
    """Leave out what nearly every name ends with: a screen has little room beside it."""
    return replace(one, matrix=one.matrix and one.matrix.removesuffix(".weight"))


def _more(hidden: Sequence[Found]) -> str:
    """Say what the screen leaves out."""
    if not hidden:
        return ""
    bad = sum(one.level == "error" and one.state != "gone" for one in hidden)
    what = f", {bad:,} of them error{'' if bad == 1 else 's'}" if bad else ""
    return f"... {len(hidden):,} more{what} (-v shows all)"


def _facts(verdict: Verdict, *, full: bool) -> list[str]:
    """Return what was accepted, and what could not be judged."""
    facts = []
    if full:
        facts += [
            f"accepted: {one.rule} {told(one)}; {one.reason or 'no reason given'}"
            f"{f' (until {one.until})' if one.until else ''}"
            for one in verdict.ignored
        ]
    facts += [
        f"not judged: {', '.join(rule.code for rule in rules)}: {why}"
        for why, rules in reasons(verdict).items()
        if why != NOT_ASKED
    ]
    return facts


def _hints(verdict: Verdict) -> list[str]:
    """Return what to do next."""
    pieces = []
    if verdict.present:
        policy = (verdict.policy or "spectra.toml").replace("\\", "/").rsplit("/", 1)[-1]
        pieces.append(f"explain: spectra rule {verdict.present[0].rule}")
        pieces.append(f"accept: add an [[ignore]] with a reason to {policy}")
    pieces.append(f"exit {verdict.exit_code}")
    return ["   ".join(pieces)]
