"""What `spectra check` tells: the verdict, and the findings worst first."""

from dataclasses import MISSING, fields
from typing import get_args

from spectra.policy.finding import Finding
from spectra.report.kinds.kind import Kind, Metric
from spectra.report.shape import (
    COUNT,
    FLAG,
    SHARE,
    TEXT,
    Items,
    Object,
    Shape,
    Value,
    Words,
    nullable,
    older,
    shapes_of,
)  # fmt: skip
from spectra.words import SEVERITIES, State

FINGERPRINT = Value(TEXT.told, TEXT.as_schema | {"pattern": "^[0-9a-f]{16}$"}, TEXT.holds)
"""To a reader any text is one."""


def _finding() -> dict[str, Shape]:
    """Return what a finding has; of what has a default, older files do not have all."""
    found = shapes_of(Finding) | {"fingerprint": FINGERPRINT}
    late = [one.name for one in fields(Finding) if one.default is not MISSING]
    return found | {key: older(found[key]) for key in (*late, "fingerprint")}


FINDING = _finding()
ACCEPTED = FINDING | {"reason": older(TEXT), "until": older(nullable(TEXT))}
RULE = Object(closed=True, keys={
    "code": TEXT, "name": TEXT, "severity": Words(SEVERITIES), "summary": TEXT,
    "findings": COUNT, "judged": FLAG, "why_not": older(nullable(TEXT)),
})  # fmt: skip
COUNTS = dict.fromkeys((*SEVERITIES, "ignored", *get_args(State)), older(COUNT))
COVERAGE = Object(closed=True, keys={
    "tensors": older(COUNT), "judged": older(COUNT), "share": older(SHARE), "missing": older(COUNT),
    "not_judged": older(Items(Object({"what": TEXT, "reason": TEXT}, closed=True))),
})  # fmt: skip

KIND = Kind(
    "check",
    "Release check",
    order=(("intruders", True), ("kappa", True)),
    visible=(
        "sigma_max", "kappa", "stable_rank", "alpha", "delta_relative", "intruders", "worst_cos",
    ),
    metrics=(
        Metric("findings", "count"), Metric("kappa", "log"), Metric("intruders", "count"),
        Metric("sigma_max", "log"), Metric("stable_rank", "log", "low"), Metric("alpha", "linear"),
        Metric("delta_relative", "linear"),
    ),
    judges=True,
    parts=("model",),
    options={
        "base": None, "adapter": None, "baseline": None, "fail_on": "error", "min_coverage": 0.0,
    },
    summary={
        "passed": FLAG, "exit_code": older(Words((0, 1, 3))), "alias": older(TEXT),
        "policy": older(nullable(TEXT)), "findings": Items(Object(FINDING, closed=True)),
        "ignored": Items(Object(ACCEPTED, closed=True)), "counts": Object(COUNTS, closed=True),
        "coverage": COVERAGE, "rules": Items(RULE), "matrices": older(COUNT),
    },
)  # fmt: skip
