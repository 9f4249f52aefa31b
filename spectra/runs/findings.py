"""What became of the findings of a check in another one."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from spectra.policy.finding import Finding
from spectra.report.findings.found import Verdict, verdict_of
from spectra.report.kind import Document

Became: TypeAlias = Literal["new", "gone", "accepted", "no longer accepted", "not judged"]
"""Of a finding; `not judged`: only one of both checks judged its rule, so nothing is known."""
Name: TypeAlias = tuple[str, str, int]
WORDS = {0: "PASS", 1: "FAIL", 3: "TOO LITTLE"}


def verdict_word(document: Document) -> str:
    """Return the verdict of a check in one word."""
    found = verdict_of(document)
    word, gap, _ = found.reading.partition("  ")
    return word if gap else WORDS.get(found.exit_code, "FAIL")


def findings_between(before: Document, after: Document) -> list[dict[str, Any]]:
    """Return every finding that only one of two checks has, errors first.

    They are the same by rule and place: fingerprints also hold the model's name, by which two
    releases may differ.
    """
    first, second = verdict_of(before), verdict_of(after)
    had, has = _named(first.present), _named(second.present)
    accepted, now_accepted = _named(first.ignored), _named(second.ignored)
    lists = [
        ("no longer accepted" if name in accepted else _or_not_judged("new", one, first), one)
        for name, one in has.items()
        if name not in had
    ]
    lists += [
        ("accepted" if name in now_accepted else _or_not_judged("gone", one, second), one)
        for name, one in had.items()
        if name not in has
    ]
    told = [{"became": became, **_plain(one)} for became, one in lists]
    return sorted(told, key=lambda one: (one["became"] == "gone", one["rank"]))


def rules_not_in_both(before: Document, after: Document) -> Mapping[str, Sequence[str]]:
    """Return the codes of rules that only one of two checks could judge."""
    first, second = _judged(verdict_of(before)), _judged(verdict_of(after))
    return {"before": sorted(first - second), "after": sorted(second - first)}


def _or_not_judged(became: Became, one: Finding, other: Verdict) -> Became:
    """Say so where a finding may be missing because nobody looked."""
    known = _judged(other)
    return became if one.rule in known or not other.rules else "not judged"


def _judged(verdict: Verdict) -> set[str]:
    return {rule.code for rule in verdict.rules if rule.judged}


def _named(findings: Sequence[Finding]) -> dict[Name, Finding]:
    """Return findings by rule and place, those of one place counted."""
    found: dict[Name, Finding] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for one in findings:
        place = one.rule, one.where
        found[*place, counts[place]] = one
        counts[place] += 1
    return found


def _plain(one: Finding) -> dict[str, Any]:
    return {
        "severity": one.level, "rule": one.rule, "name": one.name, "matrix": one.matrix,
        "tensor": one.tensor, "where": one.where, "message": one.message, "rank": one.rank,
    }  # fmt: skip
