"""The verdict as a document: findings, counts, coverage, and the sentence on top."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from spectra.gate.coverage import Coverage, coverage_of
from spectra.gate.reading import Reading
from spectra.numbers import EXACT, percent
from spectra.policy import RULES, Policy
from spectra.policy.facts import Facts
from spectra.policy.judge import Judgement
from spectra.policy.rules.inventory import is_compared_outside
from spectra.text import counted, listed, printable
from spectra.words import SEVERITIES

PASS, FINDINGS, TOO_LITTLE = 0, 1, 3
"""Exit codes."""

NOT_COMPARED = " Nothing outside the layers was compared: no base."
"""Of a model of which neither a reference nor its class tells what it should hold."""


def summary_of(
    policy: Policy, verdict: Judgement, model: Reading, facts: Facts, alias: str
) -> Mapping[str, Any]:
    """Return the summary of a check."""
    cover = coverage_of(model, facts, ruled=bool(verdict.judged()))
    failing = verdict.failing(policy)
    counts = verdict.counts()
    short = _too_little(policy, verdict, cover, facts.failed)
    code = TOO_LITTLE if short else FINDINGS if failing else PASS
    alone = "" if is_compared_outside(facts) else NOT_COMPARED
    return {
        "reading": _reading(policy, verdict, code, cover) + short + alone,
        "passed": code == PASS,
        "exit_code": code,
        "alias": alias,
        "policy": policy.path,
        "findings": [finding.plain() for finding in verdict.findings],
        "ignored": [finding.plain() for finding in verdict.ignored],
        "counts": counts,
        "coverage": cover.plain(),
        "rules": [dataclasses.asdict(outcome) for outcome in verdict.outcomes],
        # What an adapter makes of its base's matrices are rows beside its own.
        "matrices": sum(subject.tensor in facts.shapes for subject in facts.matrices()),
        "skipped": len(model.left),
    }


def _reading(policy: Policy, verdict: Judgement, code: int, cover: Coverage) -> str:
    counts = verdict.counts()
    told = [counted(counts[word], word) for word in SEVERITIES if counts[word]]
    what = ", ".join(told) or "no findings"
    word = {PASS: "PASS", FINDINGS: "FAIL", TOO_LITTLE: "INCOMPLETE"}[code]
    text = f"{word}  {what} in {counted(cover.total, 'tensor')} (coverage {percent(cover.share)})"
    left = cover.told()
    text += f". Not judged: {left}." if left else "."
    if counts["unchanged"] and not policy.fail_unchanged:
        text += f" {counts['unchanged']:,} unchanged since the baseline."
    if counts["gone"]:
        text += f" {counted(counts['gone'], 'finding')} of the baseline gone."
    if counts["ignored"]:
        text += f" {counts['ignored']:,} accepted by the policy."
    return text


def _too_little(
    policy: Policy, verdict: Judgement, cover: Coverage, failed: Mapping[str, str]
) -> str:
    """Return why too little was judged, as a sentence more; empty: enough was."""
    if not verdict.judged():
        return f" No rule judged anything: {_unjudged(policy, verdict)}."
    if cover.is_nothing:
        return " No matrix could be judged."
    for name, why in failed.items():
        first = "" if len(failed) == 1 else "the first "
        many = counted(len(failed), "tensor")
        return f" {many} could not be measured: {first}{printable(name)}, {why}."
    if cover.share < policy.min_coverage:
        return f" The policy asks for a coverage of {percent(policy.min_coverage, EXACT)}."
    return ""


def _unjudged(policy: Policy, verdict: Judgement) -> str:
    """Say why no rule judged: what each lacks, or what left none of those that are selected."""
    reasons: dict[str, list[str]] = {}
    for one in verdict.outcomes:
        if one.why_not:
            reasons.setdefault(one.why_not, []).append(one.code)
    if reasons:
        return "; ".join(f"{_codes(codes)}: {why}" for why, codes in reasons.items())
    chosen, given = " ".join(policy.select), " ".join(policy.ignore)
    rules = [code for code, rule in RULES.items()
             if rule.needs != "policy" and code.startswith(policy.select)]  # fmt: skip
    if not rules:
        return f"{chosen} selects what judges the policy alone. Select rules of the model too: SPC0"
    off = [code for code in rules if policy.selects(code)]
    ignored = [code for code in rules if code not in off]
    told = [f"{_codes(codes)} {'is' if len(codes) == 1 else 'are'} {how}"
            for codes, how in ((ignored, f"ignored ({given})"), (off, "off in the policy"))
            if codes]  # fmt: skip
    change = [word for codes, word in ((ignored, "ignore less"), (off, "give it a severity"))
              if codes]  # fmt: skip
    return (
        f"of what is selected ({chosen}) {' and '.join(told)}. Select other rules, or "
        f"{' and '.join(change)}"
    )


def _codes(codes: Sequence[str]) -> str:
    """Name a few rules, or say how many they are."""
    return listed(codes) if len(codes) <= NAMED else f"all {len(codes):,} rules"


NAMED = 5  # rules that a sentence names


def settings_of(policy: Policy) -> dict[str, Any]:
    """Return the policy as plain data."""
    found = dataclasses.asdict(policy)
    for ignore in found["ignores"]:
        ignore["until"] = ignore["until"] and ignore["until"].isoformat()
    return found
