"""Judging a model: every rule, what is accepted, and what is new since the baseline."""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from spectra.policy.facts import Facts
from spectra.policy.finding import Breach, Finding, Outcome, fingerprint
from spectra.policy.hygiene import hygiene
from spectra.policy.policy import Policy
from spectra.policy.rule import NEEDS, Rule, Settings
from spectra.policy.rules import RULES
from spectra.policy.rules.experts import idle_names
from spectra.words import SEVERITIES

NOT_ASKED = "no limit is set: it judges what a policy asks"


@dataclass(frozen=True, slots=True)
class Judgement:
    """All findings, worst first."""

    findings: tuple[Finding, ...]  # those of the baseline that are gone among them
    ignored: tuple[Finding, ...]  # that the policy accepts
    outcomes: tuple[Outcome, ...]

    def failing(self, policy: Policy) -> list[Finding]:
        """Return the findings for which a release may not ship."""
        return [
            one
            for one in self.findings
            if one.fails(policy.fail_on, unchanged=policy.fail_unchanged)
        ]

    def judged(self) -> list[Outcome]:
        """Return the rules that judged the model."""
        return [one for one in self.outcomes if one.judged and not one.is_about_policy]

    def counts(self) -> dict[str, int]:
        """Return how many findings there are of each severity and state."""
        here = [finding for finding in self.findings if finding.state != "gone"]
        found: dict[str, int] = {}
        for word in SEVERITIES:
            found[word] = sum(one.severity == word for one in here)
        found["ignored"] = len(self.ignored)
        for state in ("new", "unchanged", "gone"):
            found[state] = sum(one.state == state for one in self.findings)
        return found


def judge(
    policy: Policy,
    facts: Facts,
    alias: str,
    today: dt.date,
    before: Sequence[Finding] | None = None,
) -> Judgement:
    """Judge a model by every rule that a policy selects.

    Args:
        policy: What counts.
        facts: What was measured; names of base and baseline are the model's own.
        alias: Short name of the model.
        today: Ignores that ended before it cover nothing.
        before: Findings of the baseline, the accepted ones among them; None: there is none.
    """
    finding = partial(_finding, policy, facts, alias)
    found: list[Finding] = []
    unjudged: dict[str, str] = {}
    counted = [rule for rule in RULES.values() if policy.counts(rule)]
    rules = [rule for rule in counted if rule.needs != "policy"]
    trained = _trained(facts)
    for rule in rules:
        reason = why_not(policy, rule, facts)
        if reason is not None:
            unjudged[rule.code] = reason
            continue
        # Spectra of experts that were never trained say nothing, and would shift the medians.
        looked_at = trained if rule.needs == "spectrum" else facts
        settings_of = partial(_settings, policy, rule, looked_at)
        found += [finding(rule, breach) for breach in rule.judge(looked_at, settings_of)]
    findings, ignored, used = _accepted(policy, found, today)
    about = hygiene(policy, facts, used, unjudged, today)
    findings += [finding(rule, breach) for rule, breach in about if policy.counts(rule)]
    if before is not None:
        judged = {rule.code for rule in rules} - unjudged.keys()
        present = {one.fingerprint for one in ignored}
        findings = _compared(findings, _at_home(before, alias), policy.tolerance, judged, present)
    outcomes = [
        Outcome(
            code=rule.code,
            name=rule.name,
            severity=policy.severity(rule),
            summary=rule.summary,
            findings=sum(one.rule == rule.code and one.state != "gone" for one in findings),
            judged=rule.code not in unjudged,
            why_not=unjudged.get(rule.code),
        )
        for rule in counted
    ]
    findings.sort(key=lambda one: (*one.order, one.rule))
    return Judgement(tuple(findings), tuple(ignored), tuple(outcomes))


def _trained(facts: Facts) -> Facts:
    """Return a model without the experts that were never trained."""
    idle = idle_names(facts)
    if not idle:
        return facts
    return replace(
        facts,
        subjects={name: one for name, one in facts.subjects.items() if name not in idle},
        baseline=facts.baseline and _trained(facts.baseline),
    )


def why_not(policy: Policy, rule: Rule, facts: Facts) -> str | None:
    """Return why a selected rule cannot judge; None where it can."""
    if rule.asked and not asked_for(policy, rule):
        return NOT_ASKED
    need = NEEDS[rule.needs]
    return None if need.there(facts) else need.why_not(facts)


def asked_for(policy: Policy, rule: Rule) -> bool:
    """Say whether a policy sets any of a rule's settings that judge nothing by default."""
    return any(policy.sets(rule.code, one.key) for one in rule.settings if one.default is None)


def _settings(policy: Policy, rule: Rule, facts: Facts, name: str) -> Settings | None:
    subject = facts.subjects.get(name)
    return policy.settings(rule, (name, subject.tensor) if subject else (name,))


def _finding(policy: Policy, facts: Facts, alias: str, rule: Rule, breach: Breach) -> Finding:
    subject = facts.subjects.get(breach.matrix) if breach.matrix else None
    names = tuple(name for name in (breach.matrix, subject.tensor if subject else None) if name)
    place = breach.matrix or breach.subject or breach.file or ""
    return Finding(
        rule=rule.code,
        name=rule.name,
        severity=breach.severity or policy.severity(rule, names),
        message=breach.message,
        fingerprint=fingerprint(rule.code, place, alias),
        place=place,
        tensor=subject.tensor if subject else breach.matrix,
        matrix=breach.matrix,
        role=subject.role if subject else None,
        layer=subject.layer if subject else None,
        value=breach.value,
        limit=breach.limit,
        baseline=breach.baseline,
        file=breach.file or (subject.file if subject else None),
        line=breach.line,
    )


def _accepted(
    policy: Policy, findings: Iterable[Finding], today: dt.date
) -> tuple[list[Finding], list[Finding], set[int]]:
    """Part findings by the policy's ignores; third, which ignores covered something."""
    kept, ignored, used = [], [], set()
    for finding in findings:
        names = [name for name in (finding.matrix, finding.tensor, finding.place) if name]
        covering = {i for i, one in enumerate(policy.ignores) if one.covers(finding.rule, names)}
        used |= covering
        valid = [one for i in sorted(covering) if not (one := policy.ignores[i]).expired(today)]
        if valid:
            last = valid[0].until
            until = None if last is None else last.isoformat()
            ignored.append(replace(finding, reason=valid[0].reason, until=until))
        else:
            kept.append(finding)
    return kept, ignored, used


def _at_home(before: Iterable[Finding], alias: str) -> dict[str, Finding]:
    """Return a baseline's findings by fingerprint, as if the model had the same name."""
    renamed = (
        replace(one, fingerprint=fingerprint(one.rule, one.place, alias), reason=None, until=None)
        for one in before
        if one.state != "gone"
    )
    return {one.fingerprint: one for one in renamed}


def _compared(
    findings: Sequence[Finding],
    before: Mapping[str, Finding],
    tolerance: float,
    judged: set[str],
    present: set[str],
) -> list[Finding]:
    """Tag findings as new or unchanged, and add those of the baseline that are gone."""
    tagged = []
    for finding in findings:
        old = before.get(finding.fingerprint)
        same = old is not None and not _worse(finding, old, tolerance)
        shown = finding.baseline
        if old is not None and shown is None:
            shown = old.value
        tagged.append(replace(finding, state="unchanged" if same else "new", baseline=shown))
    here = {finding.fingerprint for finding in findings} | present
    gone = [
        replace(old, state="gone", baseline=old.value, value=None)
        for key, old in before.items()
        if key not in here and old.rule in judged
    ]
    return [*tagged, *gone]


def _worse(now: Finding, old: Finding, tolerance: float) -> bool:
    """Say whether a finding is one step more severe, or its value farther off its limit."""
    if now.rank < old.rank:
        return True
    if now.value is None or old.value is None:
        return False
    below = now.limit is not None and now.value < now.limit
    step = tolerance * abs(old.value)
    return now.value < old.value - step if below else now.value > old.value + step
