"""A check's document as its writers read it: findings in order, which of them fail, where."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

from spectra.policy import RULES
from spectra.policy.finding import fingerprint
from spectra.text import counted, printable
from spectra.words import SEVERITIES

Document: TypeAlias = Mapping[str, Any]

ALL = ("SPC",)
OF_THE_MODEL = "the model as a whole"
TOO_LITTLE = 3  # exit code where less could be judged than the policy asks for


@dataclass(frozen=True, slots=True)
class Found:
    """One finding; what an older document lacks is None."""

    rule: str
    name: str
    severity: str
    message: str
    place: str | None = None
    tensor: str | None = None
    matrix: str | None = None
    role: str | None = None
    layer: int | None = None
    value: float | None = None
    limit: float | None = None
    baseline: float | None = None
    state: str | None = None
    file: str | None = None
    line: int | None = None
    fingerprint: str = ""
    reason: str | None = None  # of one that the policy accepts
    until: str | None = None

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
    def order(self) -> tuple[bool, bool, int]:
        """Worst first, the unchanged after the new, those gone last."""
        worst = SEVERITIES.index(self.severity) if self.severity in SEVERITIES else len(SEVERITIES)
        return self.state == "gone", self.state == "unchanged", worst

    @property
    def level(self) -> str:
        """Its severity as one of the three words that every reader knows."""
        return self.severity if self.severity in SEVERITIES else "note"


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of one rule."""

    code: str
    name: str
    severity: str
    summary: str
    findings: int
    judged: bool
    why_not: str | None

    @property
    def title(self) -> str:
        """Code and name."""
        return f"{self.code} {self.name}".strip()


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
    found: tuple[Found, ...]  # in order, those gone since the baseline last
    compared: bool  # with a baseline
    ignored: tuple[Found, ...]
    rules: tuple[Judged, ...]
    fail_on: str
    fail_unchanged: bool
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()

    @property
    def present(self) -> list[Found]:
        """Those that the model has now."""
        return [one for one in self.found if one.state != "gone"]

    @property
    def gone(self) -> list[Found]:
        """Those that only the baseline has."""
        return [one for one in self.found if one.state == "gone"]

    @property
    def unjudged(self) -> list[Judged]:
        """Rules that could not judge."""
        return [rule for rule in self.rules if not rule.judged]

    def fails(self, one: Found) -> bool:
        """Say whether a finding is one for which the release may not ship."""
        if self.passed or self.fail_on not in SEVERITIES or one.level != one.severity:
            return False
        if one.state == "gone" or (one.state == "unchanged" and not self.fail_unchanged):
            return False
        return SEVERITIES.index(one.level) <= SEVERITIES.index(self.fail_on)


def verdict_of(document: Document) -> Verdict:
    """Read the document of a check, live or saved."""
    summary, settings = document["summary"], document["settings"]
    spec = next((str(m["spec"]) for m in document["models"] if m["part"] == "model"), "")
    alias = str(summary.get("alias") or settings.get("alias") or _last_part(spec) or "model")
    findings = _read(summary.get("findings", ()), alias)
    passed = bool(summary["passed"])
    policy = summary.get("policy")
    return Verdict(
        version=printable(str(document["spectra"])),
        alias=printable(alias),
        spec=printable(spec),
        policy=printable(policy) if isinstance(policy, str) and policy else None,
        reading=printable(str(summary["reading"])),
        passed=passed,
        exit_code=int(summary.get("exit_code", 0 if passed else 1)),
        coverage=summary.get("coverage", {}),
        found=tuple(sorted(findings, key=lambda one: one.order)),
        compared=any(one.state is not None for one in findings),
        ignored=tuple(_read(summary.get("ignored", ()), alias)),
        rules=tuple(_rules(summary.get("rules", ()))),
        fail_on=str(settings.get("fail_on", "error")),
        fail_unchanged=bool(settings.get("fail_unchanged", False)),
        select=tuple(printable(str(word)) for word in settings.get("select", ())),
        ignore=tuple(printable(str(word)) for word in settings.get("ignore", ())),
    )


def policy_line(verdict: Verdict) -> str:
    """Say by which policy it was judged, and by how many of its rules."""
    judged = sum(rule.judged and not rule.code.startswith("SPC9") for rule in verdict.rules)
    pieces = [f"policy: {verdict.policy or 'defaults'}"]
    if verdict.select and verdict.select != ALL:
        pieces.append(f"select {' '.join(verdict.select)}")
    if verdict.ignore:
        pieces.append(f"ignore {' '.join(verdict.ignore)}")
    return "; ".join([*pieces, f"{counted(judged, 'rule')} judged"])


def counted_rules(verdict: Verdict) -> list[Judged]:
    """Return the rules of a check, those among them that only a finding names."""
    known = {rule.code: rule for rule in verdict.rules}
    for one in (*verdict.found, *verdict.ignored):
        if one.rule not in known:
            known[one.rule] = Judged(
                one.rule, one.name, one.severity, _summary(one.rule, one.name), 0, True, None
            )
    return list(known.values())


def reasons(verdict: Verdict) -> dict[str, list[Judged]]:
    """Return the rules that could not judge, by the reason why."""
    found: dict[str, list[Judged]] = {}
    for rule in verdict.unjudged:
        found.setdefault(rule.why_not or "no reason given", []).append(rule)
    return found


def told(one: Found) -> str:
    """Return a finding as one sentence that stands alone."""
    return one.message if one.what != one.message else f"{one.where}: {one.message}"


def _read(findings: Sequence[Mapping[str, Any]], alias: str) -> list[Found]:
    """Return findings with every text on one line."""
    names = [field.name for field in fields(Found)]
    result = []
    for found in findings:
        known = {key: _plain(found[key]) for key in names if found.get(key) is not None}
        if not known.get("fingerprint"):
            place = known.get("matrix") or known.get("place") or known.get("file") or ""
            known["fingerprint"] = fingerprint(str(known["rule"]), str(place), alias)
        result.append(Found(**known))
    return result


def _rules(rules: Sequence[Mapping[str, Any]]) -> Iterator[Judged]:
    """Yield what became of each rule."""
    for rule in rules:
        code, name = printable(str(rule["code"])), printable(str(rule.get("name", "")))
        why = rule.get("why_not")
        yield Judged(
            code,
            name,
            str(rule.get("severity", "warning")),
            printable(str(rule.get("summary") or _summary(code, name))),
            int(rule.get("findings", 0)),
            bool(rule.get("judged", True)),
            printable(str(why)) if why else None,
        )


def _summary(code: str, name: str) -> str:
    """Return what a rule finds, as far as this version knows it."""
    return RULES[code].summary if code in RULES else name or code


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return a text on one line, anything else as it is."""
    return printable(value) if isinstance(value, str) else value


def _last_part(spec: str) -> str:
    """Return the last part of a model's place, without a revision."""
    return spec.rstrip("/").rsplit("/", 1)[-1].split("@")[0]
