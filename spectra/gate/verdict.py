"""The verdict as a document: findings, counts, coverage, and the sentence on top."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from spectra.analyzers.analyzer import counted
from spectra.gate.reading import Reading
from spectra.policy import Policy
from spectra.policy.facts import Facts
from spectra.policy.judge import Judgement

PASS, FINDINGS, TOO_LITTLE = 0, 1, 3
"""Exit codes."""


def summary_of(
    policy: Policy, verdict: Judgement, model: Reading, facts: Facts, alias: str
) -> Mapping[str, Any]:
    """Return the summary of a check."""
    total = model.tensors()
    judged = len({one.tensor for one in facts.subjects.values()} & set(facts.shapes))
    share = judged / total if total else 0.0
    covered = share >= policy.min_coverage
    failing = verdict.failing(policy)
    counts = verdict.counts()
    code = (FINDINGS if failing else PASS) if covered else TOO_LITTLE
    return {
        "reading": _reading(policy, verdict, code, (judged, total)),
        "passed": code == PASS,
        "exit_code": code,
        "alias": alias,
        "policy": policy.path,
        "findings": [finding.plain() for finding in verdict.findings],
        "ignored": [
            finding.plain()
            | {"reason": ignore.reason, "until": ignore.until and ignore.until.isoformat()}
            for finding, ignore in verdict.ignored
        ],
        "counts": counts,
        "coverage": {"tensors": total, "judged": judged, "share": share},
        "rules": [outcome.plain() for outcome in verdict.outcomes],
        "matrices": sum(1 for _ in facts.matrices()),
        "skipped": len(model.plan.skipped),
    }


def _reading(policy: Policy, verdict: Judgement, code: int, cover: tuple[int, int]) -> str:
    """Return the sentence on top."""
    counts = verdict.counts()
    told = [counted(counts[word], word) for word in ("error", "warning", "note") if counts[word]]
    judged, total = cover
    share = judged / total if total else 0.0
    percent = f"{int(1000 * share) / 10:g} %"
    what = ", ".join(told) or "no findings"
    word = {PASS: "PASS", FINDINGS: "FAIL", TOO_LITTLE: "INCOMPLETE"}[code]
    text = f"{word}  {what} in {counted(total, 'tensor')} (coverage {percent})."
    if code == TOO_LITTLE:
        text += f" The policy asks for a coverage of {100 * policy.min_coverage:g} %."
    if counts["unchanged"] and not policy.fail_unchanged:
        text += f" {counts['unchanged']:,} unchanged since the baseline."
    if counts["gone"]:
        text += f" {counted(counts['gone'], 'finding')} of the baseline gone."
    if counts["ignored"]:
        text += f" {counts['ignored']:,} accepted by the policy."
    return text


def settings_of(policy: Policy) -> dict[str, Any]:
    """Return the policy as plain data."""
    found = dataclasses.asdict(policy)
    for ignore in found["ignores"]:
        ignore["until"] = ignore["until"] and ignore["until"].isoformat()
    return found
