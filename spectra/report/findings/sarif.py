"""SARIF 2.1.0, as code scanning services read it.

Source:
    OASIS, Static Analysis Results Interchange Format (SARIF) Version 2.1.0 plus Errata 01, 2023.
"""

import gzip
import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from spectra.distribution import address, documentation
from spectra.policy import RULES
from spectra.policy.finding import Finding, Outcome
from spectra.report.findings.found import Verdict, counted_rules
from spectra.report.findings.place import path_of, uri_of

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
PAGE = "docs/rules.md"
MOST_RESULTS = 25_000  # of a run, that GitHub takes
MOST_BYTES = 10_000_000  # of a file, compressed by gzip, that GitHub takes
WORDS = {"error": "error", "warning": "warning", "note": "recommendation"}


def to_sarif(verdict: Verdict) -> str:
    """Return a log of one run: as many results, worst first, as readers take."""
    results = [*verdict.present, *verdict.ignored, *verdict.gone]
    kept = min(len(results), MOST_RESULTS)
    while True:
        text = json.dumps(_log(verdict, results, kept), indent=2, allow_nan=False) + "\n"
        nbytes = len(gzip.compress(text.encode(), mtime=0))
        if nbytes <= MOST_BYTES or not kept:
            return text
        kept = int(0.95 * kept * MOST_BYTES / nbytes)


def _log(verdict: Verdict, results: Sequence[Finding], kept: int) -> dict[str, Any]:
    rules = counted_rules(verdict)
    index = {rule.code: i for i, rule in enumerate(rules)}
    seen: Counter[str] = Counter()
    shown = []
    for one in results[:kept]:
        seen[one.fingerprint] += 1
        shown.append(_result(one, verdict, index[one.rule], seen[one.fingerprint]))
    run = {
        "tool": {
            "driver": {
                "name": "spectra",
                "version": verdict.version,
                **_linked("informationUri", address("Documentation") or address("Repository")),
                "rules": [_rule(rule) for rule in rules],
            }
        },
        "automationDetails": {"id": f"spectra/{verdict.alias}/"},
        "invocations": [_invocation(verdict, index, results[kept:])],
        "results": shown,
        "properties": {
            "reading": verdict.reading,
            "passed": verdict.passed,
            "model": verdict.spec,
            "policy": verdict.policy,
            "coverage": dict(verdict.coverage),
        },
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(rule: Outcome) -> dict[str, Any]:
    """Return the description of a rule: all of it where this version knows the code."""
    known = RULES.get(rule.code)
    severity = known.severity if known else rule.severity
    severity = severity if severity in WORDS else "warning"
    help_text, help_markdown, full = rule.summary, rule.summary, rule.summary
    if known:
        full = f"{known.summary}. {known.why}"
        more = (
            f"In the documentation that ships with spectra: {PAGE}#{rule.code.lower()}; in a "
            f"terminal: `spectra rule {rule.code}`."
        )
        help_text = "\n\n".join([*(f"{title}: {text}" for title, text in known.parts), more])
        help_markdown = "\n\n".join(
            [*(f"**{title}.** {text}" for title, text in known.parts), more]
        )
    return {
        "id": rule.code,
        "name": _pascal(rule.name),
        "shortDescription": {"text": _message(rule.summary)},
        "fullDescription": {"text": _message(full)},
        "help": {"text": _message(help_text), "markdown": _message(help_markdown)},
        **_linked("helpUri", documentation("rules", rule.code.lower()) if known else None),
        "defaultConfiguration": {"level": severity},
        "properties": {
            "tags": ["weights", rule.name],
            "precision": "very-high",
            "problem.severity": WORDS[severity],
        },
    }


def _result(one: Finding, verdict: Verdict, index: int, occurrence: int) -> dict[str, Any]:
    path, line = path_of(one, verdict)
    place: dict[str, Any] = {
        "physicalLocation": {
            "artifactLocation": {"uri": uri_of(path)},
            "region": {"startLine": line, "startColumn": 1, "endLine": line, "endColumn": 1},
        }
    }
    name = one.matrix or one.tensor
    if name:
        place["logicalLocations"] = [{"fullyQualifiedName": name, "kind": "value"}]
    result = {
        "ruleId": one.rule,
        "ruleIndex": index,
        "level": one.level,
        "message": {"text": _message(one.told)},
        "locations": [place],
        "partialFingerprints": {
            # Two findings of one rule in one place stay two: readers merge what has one hash.
            "primaryLocationLineHash": f"{one.fingerprint}:{occurrence}",
            "spectra/v1": one.fingerprint,
        },
    }
    state = {"new": "new", "unchanged": "unchanged", "gone": "absent"}.get(one.state or "")
    if state:
        result["baselineState"] = state
    if one.reason is not None:
        result["suppressions"] = [
            {"kind": "external", "status": "accepted", "justification": one.reason}
        ]
    kept = {
        "role": one.role, "layer": one.layer, "value": one.value, "limit": one.limit,
        "baseline": one.baseline, "until": one.until,
    }  # fmt: skip
    result["properties"] = {key: value for key, value in kept.items() if value is not None}
    return result


def _invocation(
    verdict: Verdict, index: dict[str, int], left_out: Sequence[Finding]
) -> dict[str, Any]:
    """Return how the run went: rules that could not judge, and what is not in the log."""
    found: dict[str, Any] = {
        "executionSuccessful": verdict.exit_code in (0, 1),
        "exitCode": verdict.exit_code,
        "toolConfigurationNotifications": [
            {
                "descriptor": {"id": "not-judged"},
                "associatedRule": {"id": rule.code, "index": index[rule.code]},
                "level": "note",
                "message": {"text": _message(f"{rule.title}: not judged: {rule.why_not}")},
            }
            for rule in verdict.unjudged
        ],
    }
    notes = []
    if verdict.exit_code not in (0, 1):
        notes.append(("incomplete", "error", verdict.reading))
    if left_out:
        words = Counter(one.level if one.reason is None else "accepted" for one in left_out)
        what = ", ".join(f"{count:,} {word}" for word, count in words.items())
        text = (
            f"{len(left_out):,} more findings are not in this log ({what}): it holds the worst "
            "that its readers take. The JSON of the check has all."
        )
        notes.append(("left-out", "warning", text))
    if notes:
        found["toolExecutionNotifications"] = [
            {"descriptor": {"id": name}, "level": level, "message": {"text": _message(text)}}
            for name, level, text in notes
        ]
    return found


def _linked(key: str, address: str | None) -> dict[str, str]:
    """Return a link of which there is an address: one that leads nowhere is worse than none."""
    return {key: address} if address else {}


def _message(text: str) -> str:
    """Return text as a message string: braces are placeholders there, `[a](b)` is a link."""
    return text.replace("{", "{{").replace("}", "}}").replace("](", "]\u200b(")


def _pascal(name: str) -> str:
    """Return a rule's name in the case that SARIF asks for."""
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", name))
