"""Judging a number: against a limit, against a baseline, against its like in the model."""

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from spectra.policy.facts import Facts, Subject
from spectra.policy.finding import Breach
from spectra.policy.peers import FEWEST, peers
from spectra.policy.rule import Setting, SettingsOf
from spectra.words import SEVERITIES, Severity

SPREAD = 5.0  # robust standard deviations that an outlier stands off besides
MAD = 1.4826  # of a normal distribution, standard deviation over median absolute deviation


@dataclass(frozen=True, slots=True)
class Threshold:
    """How one measured number is judged; called as the `judge` of a rule."""

    key: str  # of the measured values
    noun: str  # how messages name it: "condition number"
    worse: Literal["above", "below"]
    style: str = ".3g"

    def __call__(self, facts: Facts, settings_of: SettingsOf) -> Iterator[Breach]:
        """Yield at most one breach a matrix: the worst; of like ones limit, baseline, peers."""
        alike = peers(facts.matrices())
        middles = self._middles(facts, alike)
        for subject in facts.matrices():
            value, settings = subject.number(self.key), settings_of(subject.name)
            if value is None or settings is None:
                continue
            before = self._before(facts, subject)
            told = (
                self._absolute(value, settings),
                self._regression(value, before, settings),
                self._outlier(value, settings, middles.get(alike[subject.name])),
            )
            found = [one for one in told if one is not None]
            if found:
                usual: Severity = settings.get("severity", "error")
                worst = min(found, key=lambda one: SEVERITIES.index(one[2] or usual))
                text, limit, severity = worst
                yield Breach(text, subject.name, value, limit, before, severity)

    def _before(self, facts: Facts, subject: Subject) -> float | None:
        twin = facts.baseline.subjects.get(subject.name) if facts.baseline else None
        return twin.number(self.key) if twin else None

    def _beyond(self, value: float, limit: float) -> bool:
        return value > limit if self.worse == "above" else value < limit

    def _write(self, value: float) -> str:
        return format(value, self.style)

    def _absolute(
        self, value: float, settings: Mapping[str, Any]
    ) -> tuple[str, float, Severity | None] | None:
        """Compare with `error`, `warn` and `max` or `min`."""
        plain = "max" if self.worse == "above" else "min"
        limits: tuple[tuple[str, Severity | None], ...] = (
            ("error", "error"), (plain, None), ("warn", "warning"),
        )  # fmt: skip
        for name, severity in limits:
            limit = settings.get(name)
            if limit is not None and self._beyond(value, limit):
                sign = ">" if self.worse == "above" else "<"
                text = f"{self.noun} {self._write(value)} {sign} {self._write(limit)} allowed"
                return text, float(limit), severity
        return None

    def _regression(
        self, value: float, before: float | None, settings: Mapping[str, Any]
    ) -> tuple[str, float, None] | None:
        share = settings.get("max-regression")
        if share is None or before is None:
            return None
        limit = before * (1.0 + share) if self.worse == "above" else before / (1.0 + share)
        if not self._beyond(value, limit):
            return None
        text = (
            f"{self.noun} {self._write(value)}, {self._write(before)} in the baseline: worse by "
            f"more than {share:.0%}"
        )
        return text, limit, None

    def _outlier(
        self, value: float, settings: Mapping[str, Any], like: tuple[float, float] | None
    ) -> tuple[str, float, None] | None:
        """Compare with the median of the matrices that are alike."""
        factor = settings.get("outlier")
        if factor is None or like is None or value <= 0.0:
            return None
        middle, spread = like
        step = max(math.log(factor), SPREAD * spread)
        limit = middle * math.exp(step if self.worse == "above" else -step)
        if not self._beyond(value, limit):
            return None
        times = value / middle if self.worse == "above" else middle / value
        text = (
            f"{self.noun} {self._write(value)}, {times:.3g} times "
            f"{'' if self.worse == 'above' else 'below '}the median of its like "
            f"({self._write(middle)})"
        )
        return text, limit, None

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
