"""What a rule found, and how it compares with a baseline."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from spectra.words import Severity, State


@dataclass(frozen=True, slots=True)
class Breach:
    """One place where a rule does not hold, as the rule tells it."""

    message: str  # one line: what is wrong, with the numbers that say so
    matrix: str | None = None  # or a tensor that is none; None: the model or policy as a whole
    value: float | None = None
    limit: float | None = None
    baseline: float | None = None
    severity: Severity | None = None  # None: that of the rule
    file: str | None = None  # where there is no matrix: the file it is about
    line: int | None = None  # of the policy file
    subject: str | None = None  # what tells it from others of its rule where there is no matrix


@dataclass(frozen=True, slots=True)
class Finding:
    """A breach in full: which rule, where, how severe, and whether it is new."""

    rule: str  # its code
    name: str  # of the rule
    severity: Severity
    message: str
    fingerprint: str  # of rule, place and model, never of numbers
    place: str = ""  # the matrix, or what else of the model it is about
    tensor: str | None = None
    matrix: str | None = None
    role: str | None = None
    layer: int | None = None
    value: float | None = None
    limit: float | None = None
    baseline: float | None = None
    state: State | None = None  # None: there is no baseline
    file: str | None = None
    line: int | None = None

    def plain(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return asdict(self)

    @staticmethod
    def from_plain(found: Mapping[str, Any]) -> "Finding":
        """Return a finding that `plain` wrote.

        Raises:
            KeyError: Something is missing.
        """
        known = {field.name: found[field.name] for field in fields(Finding)}
        return Finding(**known)


def fingerprint(rule: str, place: str, alias: str) -> str:
    """Return what identifies a finding from run to run: 16 hexadecimal digits.

    Args:
        rule: Code of the rule.
        place: The matrix, or what else it is about.
        alias: Short name of the model, the same for all its releases.
    """
    told = "\0".join((rule, place, alias))
    # A path may hold bytes that are no text, which Python keeps as lone surrogates.
    return hashlib.sha256(told.encode(errors="surrogatepass")).hexdigest()[:16]
