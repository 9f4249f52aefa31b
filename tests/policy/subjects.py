"""Facts written by hand: a model of a few matrices with numbers that a test sets."""

from collections.abc import Mapping
from typing import Any

from spectra.policy.facts import Facts, Subject
from spectra.policy.policy import Policy
from spectra.policy.rule import Rule, Settings
from spectra.words import VECTOR


def matrix(name: str, role: str = "attn.q", **values: object) -> Subject:
    """One matrix; its layer is the number in its name, if any."""
    digits = "".join(c for c in name if c.isdigit())
    return Subject(
        name=name,
        tensor=name.split("[", maxsplit=1)[0],
        role=role,
        layer=int(digits) if digits else None,
        expert=None,
        rows=8,
        cols=1 if role == VECTOR else 8,
        dtype="F32",
        codec=None,
        file="model.safetensors",
        status="ok",
        values=values,
    )


def facts(*subjects: Subject, base: Facts | None = None, baseline: Facts | None = None) -> Facts:
    """A model of these."""
    return Facts(subjects={one.name: one for one in subjects}, base=base, baseline=baseline)


class Fixed:
    """Settings of a rule by a policy, the same for all or by override."""

    def __init__(self, rule: Rule, given: Mapping[str, Any] | None = None) -> None:
        self.policy = Policy(rules={rule.code: given or {}})
        self.rule = rule

    def __call__(self, name: str) -> Settings | None:
        return self.policy.settings(self.rule, (name,))
