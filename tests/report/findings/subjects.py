"""Checks written by hand: documents with the findings that a test wants."""

from collections.abc import Sequence
from typing import Any

from spectra.policy import RULES
from spectra.policy.finding import fingerprint

Finding = dict[str, Any]
Document = dict[str, Any]

DOWN = "model.layers.30.mlp.down_proj.weight"
HOSTILE = (
    "a\nb", "\x1b[31mred", "::error::x", "##[error]x", "%0A::error::x", "a|b", "`x`", "<b>x</b>",
    "<!-- x", "]]>", "&amp;", "@someone", "see #12", "https://example.org/x", "www.example.org",
    "![x](https://example.org/x.png)", "{0} {x}", "a,b:c=d", "\x00\x08", "\ud800", "\ufffe",
    "naïve/模型 x%20y", "x" * 5000, "*x* _y_ ~~z~~", "# x", "- x", "\u202e\u2028", "",
)  # fmt: skip
"""What a name in a file can be, if somebody means harm."""


def finding(rule: str = "SPC101", matrix: str | None = DOWN, **given: object) -> Finding:
    """One finding of a matrix; of a place, a file or the model where there is none."""
    known = RULES.get(rule)
    place = str(matrix or given.get("place") or given.get("file") or "")
    return {
        "rule": rule,
        "name": known.name if known else "of-another-version",
        "severity": known.severity if known else "error",
        "message": "6 > 4 allowed (baseline 1)",
        "fingerprint": fingerprint(rule, place, "release"),
        "place": place,
        "tensor": matrix,
        "matrix": matrix,
        "role": "mlp.down" if matrix else None,
        "layer": 30 if matrix else None,
        "value": 6.0,
        "limit": 4.0,
        "baseline": 1.0,
        "state": None,
        "file": "model-00001-of-00002.safetensors" if matrix else None,
        "line": None,
    } | given


def accepted(rule: str = "SPC201", matrix: str = "lm_head.weight", **given: object) -> Finding:
    """One finding that the policy accepts."""
    return finding(rule, matrix) | {"reason": "known, issue 42", "until": "2027-03-01"} | given


def document(
    findings: Sequence[Finding] = (),
    ignored: Sequence[Finding] = (),
    *,
    spec: str = "release/",
    settings: dict[str, object] | None = None,
    **summary: object,
) -> Document:
    """A whole check; it fails on its errors that are new or without a baseline."""
    here = [one for one in findings if one["state"] != "gone"]
    bad = [one for one in here if one["severity"] == "error" and one["state"] != "unchanged"]
    word = "FAIL" if bad else "PASS"
    return {
        "schema": "spectra/1",
        "spectra": "0.1.0",
        "command": "check",
        "settings": {"fail_on": "error", "fail_unchanged": False} | (settings or {}),
        "models": [{"spec": spec, "resolved": f"/srv/{spec}", "part": "model", "codecs": {}}],
        "rows": [],
        "skipped": [],
        "summary": {
            "reading": f"{word}  {len(here)} findings in 291 tensors (coverage 100 %).",
            "passed": not bad,
            "exit_code": int(bool(bad)),
            "alias": "release",
            "policy": "spectra.toml",
            "findings": list(findings),
            "ignored": list(ignored),
            "counts": {},
            "coverage": {"tensors": 291, "judged": 291, "share": 1.0},
            "rules": [outcome(code) for code in RULES],
            "skipped": 0,
        }
        | summary,
    }


def outcome(code: str) -> dict[str, object]:
    """What became of a rule: SPC401 had no proxy."""
    rule = RULES[code]
    return {
        "code": code,
        "name": rule.name,
        "severity": rule.severity,
        "summary": rule.summary,
        "findings": 0,
        "judged": code != "SPC401",
        "why_not": "no proxy is set" if code == "SPC401" else None,
    }


def varied() -> Document:
    """A check with some of everything: states, severities, places, a rule of another version."""
    findings = [
        finding(state="new"),
        finding("SPC002", None, file="model-00002-of-00002.safetensors", state="new",
                message="ends at byte 12 of 100", value=None, limit=None, baseline=None),
        finding("SPC202", "model.layers.2.self_attn.k_proj.weight", state="unchanged"),
        finding("SPC104", "model.layers.3.self_attn.q_proj.weight", state="new"),
        finding("SPC999", None, file="spectra.toml", line=7, state="new", severity="note",
                place="lm_head*"),
        finding("SPC401", None, place="mlp.down", state="new"),
        finding("SPC301", "model.layers.4.mlp.up_proj.weight", state="gone", value=None),
    ]  # fmt: skip
    return document(findings, [accepted()])


def hostile() -> Document:
    """A check of a model whose names and texts try to be more than text."""
    findings = [
        finding(matrix=text or None, message=f"holds {text}", file=text or None, place=text)
        for text in HOSTILE
    ]
    ignored = [accepted(matrix=text, reason=text, message=text) for text in HOSTILE]
    found = document(findings, ignored, spec="".join(HOSTILE))
    found["summary"] |= {
        "alias": "".join(HOSTILE)[:300],
        "reading": f"FAIL  {' '.join(HOSTILE)}",
        "policy": "::error::\n.toml",
    }
    return found
