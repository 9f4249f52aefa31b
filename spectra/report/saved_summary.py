"""What the settings and the summary of each command hold, as far as they are shown again."""

from collections.abc import Mapping
from typing import Any

_WIDTH_ROLE = {
    "role": "text", "counted": "flag", "sigma": "by model", "slope": "number?", "low": "number?",
    "high": "number?", "ratio": "number?", "ok": "flag?", "expected": "number~",
    "normalised_slope": "number~",
}  # fmt: skip
_FINDING = {
    "rule": "text", "name": "text", "severity": "severity", "message": "text", "tensor": "text~",
    "matrix": "text~", "value": "number~", "limit": "number~", "baseline": "number~",
    "state": "text~",
}  # fmt: skip

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "diff": {"intruders": "flag", "epsilon": "number~", "side": "text~", "k": "whole~"},
    "kappa": {
        "rank_by": frozenset({"kappa", "kappa_excess"}), "per": frozenset({"global", "role"}),
        "by": frozenset({"matrices", "params"}), "include_embeddings": "flag",
    },
    "width": {
        "members": [
            {"model": "text", "width": "number", "eta": "number?", "weight_decay": "number?",
             "proxy": "flag"}
        ],
    },
}  # fmt: skip
"""Settings that say how a result is read."""

SUMMARIES: Mapping[str, Mapping[str, Any]] = {
    "ls": {"parameters": "whole"},
    "spectrum": {"parameters": "whole"},
    "diff": {"changed": "whole", "certified": "flag~", "intruders": "whole~"},
    "kappa": {"selected": "names", "cut": "number?", "eligible": "whole"},
    "width": {"roles": [_WIDTH_ROLE], "overall": _WIDTH_ROLE, "advice": "names"},
    "trend": {
        "steps": "numbers",
        "roles": [
            {"role": "text", "matrices": "whole", "sigma_max": "gaps", "stable_rank": "gaps",
             "kappa": "gaps"}
        ],
    },
    "check": {
        "passed": "flag",
        "findings": [_FINDING],
        "ignored": [_FINDING | {"reason": "text~", "until": "text~"}],
        "counts": "mapping",
        "coverage": "mapping",
        "rules": [
            {"code": "text", "name": "text", "severity": "text", "summary": "text",
             "findings": "whole", "judged": "flag", "why_not": "text~"}
        ],
    },
}  # fmt: skip
"""Kinds by key: `?` where null will do, `~` where the key may be missing too; a list holds the
shape of each of its objects."""
