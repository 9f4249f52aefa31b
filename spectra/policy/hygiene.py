"""Judging the policy itself: ignores, patterns and rules that are without effect."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from spectra.policy.facts import Facts
from spectra.policy.finding import Breach
from spectra.policy.kinds import FAMILY
from spectra.policy.policy import Ignore, Policy, matches
from spectra.policy.rule import Rule
from spectra.policy.rules import RULES
from spectra.policy.rules.hygiene import EXPIRED, NOT_JUDGED, UNMATCHED, UNUSED

Found = Iterator[tuple[Rule, Breach]]


def hygiene(
    policy: Policy, facts: Facts, used: Set[int], unjudged: Mapping[str, str], today: dt.date
) -> list[tuple[Rule, Breach]]:
    """Return what is wrong with a policy.

    Args:
        policy: It.
        facts: Of the model that was judged by it.
        used: Which ignores covered a finding, by their index, expired ones among them.
        unjudged: Why selected rules could not judge, by their codes.
        today: Ignores that ended before it are expired.
    """
    judged = [
        rule.code
        for rule in RULES.values()
        if rule.needs != "policy" and policy.counts(rule) and rule.code not in unjudged
    ]
    audit = _Audit(policy, facts, frozenset(used), judged)
    return [*audit.ignores(today), *audit.patterns(), *audit.silent(unjudged)]


@dataclass(frozen=True, slots=True)
class _Audit:
    policy: Policy
    facts: Facts
    used: frozenset[int]
    judged: Sequence[str]  # codes

    def _breach(self, message: str, subject: str, line: int | None) -> Breach:
        return Breach(message, subject=subject, file=self.policy.path, line=line)

    def ignores(self, today: dt.date) -> Found:
        for index, ignore in enumerate(self.policy.ignores):
            name, used = title(ignore), index in self.used
            if ignore.expired(today):
                after = "its findings count again" if used else "it covers nothing: remove it"
                text = f"{name} ended on {ignore.until}; {after}"
                yield EXPIRED, self._breach(text, name, ignore.line)
            elif not used and any(code.startswith(ignore.code) for code in self.judged):
                yield UNUSED, self._breach(f"{name} covers no finding", name, ignore.line)

    def patterns(self) -> Found:
        names = self._names()
        for owner, globs, line in self._globs():
            for glob in globs:
                if not any(matches((glob,), name) for name in names):
                    text = f"{glob} in {owner} fits no tensor of the model"
                    yield UNMATCHED, self._breach(text, f"{owner} {glob}", line)

    def _names(self) -> set[str]:
        """Return all that a glob can be about."""
        facts = self.facts
        lost = {name for fault in facts.faults for name in fault.tensors}
        own = {name for one in facts.subjects.values() for name in (one.name, one.tensor)}
        return own | lost | set(facts.shapes) | set(facts.held) | set(facts.index or ())

    def _globs(self) -> Iterator[tuple[str, Sequence[str], int | None]]:
        """Yield globs, with what they belong to and its line."""
        policy = self.policy
        for override in policy.overrides:
            yield "[[override]]", override.tensors, override.line
            for code, settings in override.rules.items():
                for key, globs in _texts(code, settings):
                    yield f"[override.rules.{code}] {key}", globs, override.line
        for code, settings in policy.rules.items():
            if policy.counts(RULES[code]):
                for key, globs in _texts(code, settings):
                    yield f"[rules.{code}] {key}", globs, policy.lines.get(code)
        for index, ignore in enumerate(policy.ignores):
            # One that covers nothing is told of already, and a single glob that does fits.
            if index in self.used and len(ignore.tensors) > 1:
                yield f"[[ignore]] {ignore.code}", self._of_tensors(ignore), ignore.line

    def _of_tensors(self, ignore: Ignore) -> list[str]:
        """Return an ignore's globs but for those of files and roles, which findings can name."""
        others = {*self.facts.files, *self.facts.held.values(), *self.facts.by_role()}
        return [
            glob for glob in ignore.tensors if not any(matches((glob,), name) for name in others)
        ]

    def silent(self, unjudged: Mapping[str, str]) -> Found:
        """Yield rules that were asked for and could not judge, in whole or against a baseline."""
        for code, why in unjudged.items():
            if self._asked(RULES[code]):
                text = f"{code} ({RULES[code].name}) could not judge: {why}"
                yield NOT_JUDGED, self._breach(text, code, self.policy.lines.get(code))
        if self.facts.baseline is not None:
            return
        for code in self.judged:
            if self.policy.sets(code, "max-regression"):
                text = f"max-regression of {code} judges nothing: no baseline is given (--baseline)"
                line = self.policy.lines.get(code)
                yield NOT_JUDGED, self._breach(text, f"{code} max-regression", line)

    def _asked(self, rule: Rule) -> bool:
        """Say whether the policy names a rule, or its group, or sets a limit of it."""
        named = [word for word in self.policy.select if word != FAMILY]
        if rule.code in named or self.policy.sets(rule.code):
            return True
        # Of a group only those that judge by default.
        return not rule.asked and rule.code.startswith(tuple(named))


def title(ignore: Ignore) -> str:
    """Return how findings name an ignore."""
    return f"[[ignore]] {ignore.code}{' on ' if ignore.tensors else ''}{', '.join(ignore.tensors)}"


def _texts(code: str, settings: Mapping[str, object]) -> Iterator[tuple[str, Sequence[str]]]:
    for setting in RULES[code].settings:
        globs = settings.get(setting.key)
        if setting.kind == "texts" and isinstance(globs, tuple | list):
            yield setting.key, globs
