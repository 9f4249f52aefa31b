"""What a rule found, what became of a rule, and how a finding compares with a baseline."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from spectra.words import SEVERITIES, Severity, State

OF_THE_MODEL = "the model as a whole"
POLICY_RULES = "SPC9"  # begins the codes of rules about the policy itself


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
    """A breach in full: which rule, where, how severe, whether it is new or accepted."""

    rule: str  # its code
    name: str  # of the rule
    severity: Severity  # of a document of another version, perhaps another word
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
    reason: str | None = None  # for which the policy accepts it; None: it does not
    until: str | None = None  # the last day on which it does

    @property
    def where(self) -> str:
        """What it is about, in words."""
        return self.matrix or self.tensor or self.place or self.file or OF_THE_MODEL

    @property
    def what(self) -> str:
        """What is wrong with it, for a column beside its name."""
        rest = self.message.removeprefix(self.where)
        return rest.lstrip(" :,") or self.message

    @property
    def told(self) -> str:
        """All of it as one sentence that stands alone."""
        return self.message if self.what != self.message else f"{self.where}: {self.message}"

    @property
    def rank(self) -> int:
        """Place of its severity, 0 for the worst; a word that is none comes last."""
        known = self.severity in SEVERITIES
        return SEVERITIES.index(self.severity) if known else len(SEVERITIES)

    @property
    def order(self) -> tuple[bool, bool, int]:
        """Worst first, the unchanged after the new, those gone last."""
        return self.state == "gone", self.state == "unchanged", self.rank

    @property
    def level(self) -> Severity:
        """Its severity as one of the three words that every reader knows."""
        return self.severity if self.rank < len(SEVERITIES) else "note"

    def fails(self, fail_on: str, *, unchanged: bool) -> bool:
        """Say whether a release may not ship for it.

        Args:
            fail_on: The least severity that fails; no severity: none does.
            unchanged: What the baseline has fails too.
        """
        if fail_on not in SEVERITIES or self.state == "gone":
            return False
        known = self.state == "unchanged" and not unchanged
        return not known and self.rank <= SEVERITIES.index(fail_on)

    def plain(self) -> dict[str, Any]:
        """Return it as JSON data; one that the policy accepts tells why."""
        found = asdict(self)
        if self.reason is None:
            del found["reason"], found["until"]
        return found

    @staticmethod
    def read(found: Mapping[str, Any], alias: str = "") -> "Finding":
        """Return a finding of a check's document.

        Args:
            found: As `plain` wrote it; what an older document lacks has its default.
            alias: Short name of the model, for a fingerprint that is not there.

        Raises:
            KeyError: Its rule, severity or message is missing.
        """
        known = {key: found[key] for key in KEYS if found.get(key) is not None or key in REQUIRED}
        if not known.get("fingerprint"):
            place = known.get("matrix") or known.get("place") or known.get("file") or ""
            known["fingerprint"] = fingerprint(known["rule"], place, alias)
        return Finding(**known)


KEYS = tuple(one.name for one in fields(Finding))
REQUIRED = ("rule", "name", "severity", "message")
"""Fields that every document has."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one rule."""

    code: str
    name: str
    severity: Severity
    summary: str
    findings: int  # how many
    judged: bool
    why_not: str | None = None  # it could not judge

    @property
    def title(self) -> str:
        """Code and name."""
        return f"{self.code} {self.name}".strip()

    @property
    def is_about_policy(self) -> bool:
        """Say whether it judges the policy, not the model."""
        return self.code.startswith(POLICY_RULES)


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
