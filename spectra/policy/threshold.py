"""Judging a number: against a limit, against a baseline, against its like in the model."""

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal, TypeAlias

from spectra.numbers import EXACT, Write, apart, number, percent
from spectra.policy.facts import Facts
from spectra.policy.finding import Breach
from spectra.policy.peers import FEWEST, peers
from spectra.policy.rule import Setting, Settings, SettingsOf
from spectra.words import SEVERITIES, Severity

SPREAD = 5.0  # robust standard deviations that an outlier stands off besides
MAD = 1.4826  # of a normal distribution, standard deviation over median absolute deviation

Told: TypeAlias = tuple[str, float, Severity | None]
"""What follows the value in a message, the limit, and a severity where it is not the rule's."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """How one measured number is judged; called as the `judge` of a rule."""

    key: str  # of the measured values
    noun: str  # how messages name it: "condition number"
    worse: Literal["above", "below"]
    write: Write = number

    def __call__(self, facts: Facts, settings_of: SettingsOf) -> Iterator[Breach]:
        """Yield at most one breach a matrix: the worst; of like ones limit, baseline, peers."""
        alike = peers(facts.matrices())
        middles = self._middles(facts, alike)
        twins = facts.baseline.subjects if facts.baseline else {}
        for subject in facts.matrices():
            value, settings = subject.number(self.key), settings_of(subject.name)
            if value is None or settings is None:
                continue
            twin = twins.get(subject.name)
            before = twin.number(self.key) if twin else None
            found = [
                *self._absolute(value, settings),
                *self._regression(value, before, settings),
                *self._outlier(value, middles.get(alike[subject.name]), settings),
            ]
            if found:
                usual: Severity = settings.get("severity", "error")
                text, limit, severity = min(
                    found, key=lambda one: SEVERITIES.index(one[2] or usual)
                )
                told = apart(value, limit, self.write)
                text = f"{self.noun} {told}{text}"
                yield Breach(text, subject.name, value, limit, before, severity)

    def _beyond(self, value: float, limit: float) -> bool:
        return value > limit if self.worse == "above" else value < limit

    def _absolute(self, value: float, settings: Settings) -> Iterator[Told]:
        """Compare with `error`, `max` or `min`, and `warn`: the first that is broken counts."""
        sign, plain = (">", "max") if self.worse == "above" else ("<", "min")
        limits: tuple[tuple[str, Severity | None], ...] = (
            ("error", "error"), (plain, None), ("warn", "warning"),
        )  # fmt: skip
        for name, severity in limits:
            limit = settings.get(name)
            if limit is not None and self._beyond(value, limit):
                most = self.write(limit, EXACT)
                yield f" {sign} {most} allowed", float(limit), severity
                return

    def _regression(self, value: float, before: float | None, settings: Settings) -> Iterator[Told]:
        share = settings.get("max-regression")
        if share is None or before is None:
            return
        limit = before * (1.0 + share) if self.worse == "above" else before / (1.0 + share)
        if self._beyond(value, limit):
            text = f", {self.write(before)} in the baseline: worse by more than "
            text += percent(share, EXACT)
            yield text, limit, None

    def _outlier(
        self, value: float, like: tuple[float, float] | None, settings: Settings
    ) -> Iterator[Told]:
        """Compare with the median of the matrices that are alike."""
        factor = settings.get("outlier")
        if factor is None or like is None or value <= 0.0:
            return
        middle, spread = like
        step = max(math.log(factor), SPREAD * spread)
        above = self.worse == "above"
        limit = middle * math.exp(step if above else -step)
        if self._beyond(value, limit):
            times = value / middle if above else middle / value
            than = f"{'' if above else 'below '}the median of its like ({self.write(middle)})"
            yield f", {number(times)} times {than}", limit, None

    def _middles(
        self, facts: Facts, alike: Mapping[str, Hashable]
    ) -> dict[Hashable, tuple[float, float]]:
        """Return the median of all that are alike, and the spread of their logarithms."""
        known: dict[Hashable, list[float]] = {}
        for subject in facts.matrices():
            value = subject.number(self.key)
            if value is not None and value > 0.0:
                known.setdefault(alike[subject.name], []).append(value)
        return {key: robust(values) for key, values in known.items() if len(values) >= FEWEST}


def robust(values: Sequence[float]) -> tuple[float, float]:
    """Return the median, and the spread of the logarithms by their median deviation."""
    middle = median(values)
    return middle, MAD * median(abs(math.log(value / middle)) for value in values)


def limits(
    worse: Literal["above", "below"],
    *,
    absolute: float | None = None,
    warn: float | None = None,
    regression: float | None = None,
    outlier: float | None = None,
) -> tuple[Setting, ...]:
    """Return the settings that `Threshold` reads, with a rule's defaults.

    Args:
        worse: The side on which values are bad.
        absolute: The limit whose breach has the rule's severity.
        warn: The limit whose breach is a warning.
        regression: Share by which a value may be worse than the baseline's.
        outlier: Factor off the median of its like (`peers`).
    """
    plain = "max" if worse == "above" else "min"
    return (
        Setting(plain, "number", absolute, f"a value {worse} it is a finding", limit=True),
        Setting("warn", "number", warn, f"a value {worse} it is a warning", limit=True),
        Setting("error", "number", None, f"a value {worse} it is an error", limit=True),
        Setting("max-regression", "share", regression,
                "how much worse than the baseline's a value may be", limit=True),
        Setting("outlier", "number", outlier,
                f"a value this many times {worse} the median of its like is a finding",
                limit=True, above=1.0),
    )  # fmt: skip
