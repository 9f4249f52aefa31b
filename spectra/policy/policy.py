"""A policy: which rules count, how severely, where not, and against what."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from spectra.policy.rule import Rule
from spectra.words import FailOn, Severity


@dataclass(frozen=True, slots=True)
class Override:
    """Other settings for some matrices; of several that fit, the last counts."""

    tensors: tuple[str, ...]  # globs
    off: tuple[str, ...] = ()  # codes or their beginnings
    rules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # settings by code
    line: int | None = field(default=None, compare=False)  # of the file


@dataclass(frozen=True, slots=True)
class Ignore:
    """Findings that are known and accepted, for a reason and perhaps for a time."""

    code: str  # or the beginning of codes
    reason: str
    tensors: tuple[str, ...] = ()  # globs; empty: wherever it is found
    until: dt.date | None = None  # the last day on which it counts
    line: int | None = field(default=None, compare=False)  # of the file

    def covers(self, code: str, names: Sequence[str]) -> bool:
        """Say whether a finding of this rule, on what has these names, is meant."""
        if not code.startswith(self.code):
            return False
        return not self.tensors or any(matches(self.tensors, name) for name in names)

    def expired(self, today: dt.date) -> bool:
        """Say whether its time is over."""
        return self.until is not None and today > self.until


@dataclass(frozen=True, slots=True)
class Policy:
    """What `spectra check` goes by; a policy file changes the fields it names."""

    path: str | None = None  # the file it came from
    alias: str | None = None  # the model's short name in fingerprints; None: from its spec
    select: tuple[str, ...] = ("SPC",)  # codes or their beginnings
    ignore: tuple[str, ...] = ()  # codes or their beginnings, left out of those selected
    fail_on: FailOn = "error"  # the least severity that fails
    fail_unchanged: bool = False  # also findings that the baseline has
    base: str | None = None  # what the model was trained from
    adapter: str | None = None  # what was merged into the base
    baseline: str | None = None  # the release before: a model or a saved check
    min_coverage: float = 0.0  # share of the tensors that must have been judged
    tolerance: float = 0.05  # a value this much worse than the baseline's is a new finding
    rules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # settings by code
    overrides: tuple[Override, ...] = ()
    ignores: tuple[Ignore, ...] = ()
    lines: Mapping[str, int] = field(default_factory=dict, compare=False)  # of tables, by code

    def selects(self, code: str) -> bool:
        """Say whether a rule counts at all."""
        return code.startswith(self.select) and not (self.ignore and code.startswith(self.ignore))

    def counts(self, rule: Rule) -> bool:
        """Say whether a rule is selected and not off everywhere."""
        return self.selects(rule.code) and self.settings(rule) is not None

    def settings(self, rule: Rule, names: Sequence[str] = ()) -> dict[str, Any] | None:
        """Return a rule's settings, `severity` among them; None where it is off.

        Args:
            rule: One that is selected.
            names: Of the matrix and its tensor; none: the settings for the model as a whole.
        """
        found = {"severity": rule.severity, **rule.defaults, **self.rules.get(rule.code, {})}
        off = found["severity"] == "off"
        for override in self.overrides:
            if not any(matches(override.tensors, name) for name in names):
                continue
            own = override.rules.get(rule.code, {})
            found.update(own)
            if "severity" in own:
                off = own["severity"] == "off"
            if override.off and rule.code.startswith(override.off):
                off = True
        return None if off else found

    def sets(self, code: str, *keys: str) -> bool:
        """Say whether a rule is given a value anywhere, for one of some settings or for any."""
        tables = (self.rules.get(code, {}), *(one.rules.get(code, {}) for one in self.overrides))
        return any(
            value is not None and key != "severity" and (not keys or key in keys)
            for table in tables
            for key, value in table.items()
        )

    def severity(self, rule: Rule, names: Sequence[str] = ()) -> Severity:
        """Return how severe a finding of the rule is on what has these names."""
        settings = self.settings(rule, names)
        chosen: Severity = settings["severity"] if settings else rule.severity
        return chosen


def rules_of(settings: Mapping[str, Any]) -> Policy:
    """Return what the settings of a check's document tell of its rules and their limits.

    What is not of the form that a policy has, as in a file that others wrote, tells nothing.
    """
    plain, told = Policy(), settings.get("overrides")
    overrides = tuple(
        Override(_words(one.get("tensors")), _words(one.get("off")), _tables(one.get("rules")))
        for one in (told if isinstance(told, list | tuple) else ())
        if isinstance(one, Mapping)
    )
    return Policy(
        select=_words(settings.get("select")) or plain.select,
        ignore=_words(settings.get("ignore")),
        rules=_tables(settings.get("rules")),
        overrides=overrides,
    )


def _words(found: object) -> tuple[str, ...]:
    return tuple(map(str, found)) if isinstance(found, list | tuple) else ()


def _tables(found: object) -> dict[str, Mapping[str, Any]]:
    tables = found if isinstance(found, Mapping) else {}
    return {str(code): table for code, table in tables.items() if isinstance(table, Mapping)}


def matches(globs: Sequence[str], name: str) -> bool:
    """Match a name against globs: `*` and `?` are wild, `[` is not."""
    return any(fnmatchcase(name, glob.replace("[", "[[]")) for glob in globs)
