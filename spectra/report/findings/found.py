"""A check's document as its writers read it: findings in order, which of them fail, where."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias, TypeVar

from spectra.policy import RULES, Policy
from spectra.policy.finding import Finding, Outcome
from spectra.text import counted, printable

Document: TypeAlias = Mapping[str, Any]

TOO_LITTLE = 3  # exit code where less could be judged than the policy asks for


@dataclass(frozen=True, slots=True)
class Verdict:
    """A check, as its document tells it; every text is safe to print on one line."""

    version: str
    alias: str
    spec: str
    policy: str | None
    reading: str
    passed: bool
    exit_code: int
    coverage: Mapping[str, Any]
    found: tuple[Finding, ...]  # in order, those gone since the baseline last
    compared: bool  # with a baseline
    ignored: tuple[Finding, ...]
    rules: tuple[Outcome, ...]
    fail_on: str
    fail_unchanged: bool
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()

    @property
    def present(self) -> list[Finding]:
        """Those that the model has now."""
        return [one for one in self.found if one.state != "gone"]

    @property
    def gone(self) -> list[Finding]:
        """Those that only the baseline has."""
        return [one for one in self.found if one.state == "gone"]

    @property
    def unjudged(self) -> list[Outcome]:
        """Rules that could not judge."""
        return [rule for rule in self.rules if not rule.judged]

    def fails(self, one: Finding) -> bool:
        """Say whether a finding is one for which the release may not ship."""
        return not self.passed and one.fails(self.fail_on, unchanged=self.fail_unchanged)


def verdict_of(document: Document) -> Verdict:
    """Read the document of a check, live or saved; what an older one lacks has a default."""
    summary, settings = document["summary"], document["settings"]
    spec = next((m["spec"] for m in document["models"] if m["part"] == "model"), "")
    alias = summary.get("alias") or settings.get("alias") or _last_part(spec) or "model"
    found = [_safe(Finding.read(one, alias)) for one in summary["findings"]]
    passed = bool(summary["passed"])
    return _safe(
        Verdict(
            version=document["spectra"],
            alias=alias,
            spec=spec,
            policy=summary.get("policy") or None,
            reading=summary["reading"],
            passed=passed,
            exit_code=summary.get("exit_code", 0 if passed else 1),
            coverage=summary.get("coverage", {}),
            found=tuple(sorted(found, key=lambda one: one.order)),
            compared=any(one.state is not None for one in found),
            ignored=tuple(
                _safe(replace(Finding.read(one, alias), reason=one.get("reason") or ""))
                for one in summary["ignored"]
            ),
            rules=tuple(_safe(_outcome(one)) for one in summary.get("rules", ())),
            fail_on=settings.get("fail_on", "error"),
            fail_unchanged=bool(settings.get("fail_unchanged", False)),
            select=tuple(map(printable, settings.get("select", ()))),
            ignore=tuple(map(printable, settings.get("ignore", ()))),
        )
    )


def policy_line(verdict: Verdict) -> str:
    """Say by which policy it was judged, and by how many of its rules."""
    judged = sum(rule.judged and not rule.is_about_policy for rule in verdict.rules)
    pieces = [f"policy: {verdict.policy or 'defaults'}"]
    if verdict.select and verdict.select != Policy().select:
        pieces.append(f"select {' '.join(verdict.select)}")
    if verdict.ignore:
        pieces.append(f"ignore {' '.join(verdict.ignore)}")
    return "; ".join([*pieces, f"{counted(judged, 'rule')} judged"])


def counted_rules(verdict: Verdict) -> list[Outcome]:
    """Return the rules of a check, those among them that only a finding names."""
    known = {rule.code: rule for rule in verdict.rules}
    for one in (*verdict.found, *verdict.ignored):
        if one.rule not in known:
            told = {"code": one.rule, "name": one.name, "severity": one.severity}
            known[one.rule] = _outcome(told)
    return list(known.values())


def reasons(verdict: Verdict) -> dict[str, list[Outcome]]:
    """Return the rules that could not judge, by the reason why."""
    found: dict[str, list[Outcome]] = {}
    for rule in verdict.unjudged:
        found.setdefault(rule.why_not or "no reason given", []).append(rule)
    return found


def _outcome(found: Mapping[str, Any]) -> Outcome:
    """Return what became of a rule, its summary as far as this version knows it."""
    code, name = found["code"], found.get("name", "")
    summary = RULES[code].summary if code in RULES else name or code
    return Outcome(
        code=code,
        name=name,
        severity=found.get("severity", "warning"),
        summary=found.get("summary") or summary,
        findings=found.get("findings", 0),
        judged=found.get("judged", True),
        why_not=found.get("why_not") or None,
    )


Told = TypeVar("Told", Finding, Outcome, Verdict)


def _safe(told: Told) -> Told:
    """Return it with every text on one line."""
    values = ((one.name, getattr(told, one.name)) for one in fields(told))
    odd: dict[str, Any] = {key: printable(value) for key, value in values
                           if isinstance(value, str) and not value.isprintable()}  # fmt: skip
    return replace(told, **odd) if odd else told


def _last_part(spec: str) -> str:
    """Return the last part of a model's place, without a revision."""
    return spec.rstrip("/").rsplit("/", 1)[-1].split("@")[0]
