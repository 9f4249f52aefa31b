"""A planned check: what it reads, and how its rules come to a verdict."""

import datetime as dt
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from spectra.analyzers import Row
from spectra.checkpoint import Adapter
from spectra.gate.baseline import Saved
from spectra.gate.comparison import Comparison
from spectra.gate.merge import Merge
from spectra.gate.reading import Reading, Report, renamed
from spectra.gate.verdict import settings_of, summary_of
from spectra.policy import Policy
from spectra.policy.facts import Facts
from spectra.policy.finding import Finding
from spectra.policy.judge import judge
from spectra.runs.analysis import Series, names_of
from spectra.runs.result import Result, package_version
from spectra.work.estimate import Estimate, estimate
from spectra.work.local import Progress, Resources, execute


@dataclass(frozen=True, slots=True)
class Check:
    """A model, what it is compared with, and the policy that judges it."""

    policy: Policy
    model: Reading
    base: Reading | None = None  # may be the baseline itself
    baseline: Reading | Saved | None = None
    changes: Comparison | None = None  # of the model to its base
    earlier: Comparison | None = None  # of the baseline to the base
    merge: Merge | None = None  # of the adapter that the model should hold
    widths: Series | None = None  # of the model beside a proxy
    today: dt.date | None = None  # None: the day it runs, UTC

    @property
    def command(self) -> str:
        """The name of its question."""
        return "check"

    @property
    def readings(self) -> list[Reading]:
        """Every model that is read, each once."""
        found = [self.model]
        for one in (self.base, self.baseline):
            if isinstance(one, Reading) and all(one is not other for other in found):
                found.append(one)
        return found

    @property
    def parts(self) -> list[Reading | Comparison]:
        """All that is run."""
        pairs = (self.changes, self.earlier)
        return [*self.readings, *(pair for pair in pairs if pair is not None)]

    def estimate(self, workers: int | None = None) -> Estimate:
        """Tell from headers what it will cost: sums, and the largest peak."""
        found = [estimate(part.plan, part.analyzer, workers) for part in self.parts]
        if self.widths is not None:
            found.append(self.widths.estimate(workers))
        return replace(
            found[0],
            nbytes=sum(one.nbytes for one in found),
            memory=max(one.memory for one in found),
            seconds=sum(one.seconds for one in found),
        )

    def run(
        self, resources: Resources | None = None, report: Report = lambda _progress: None
    ) -> Result:
        """Read everything, then judge.

        Raises:
            SpectraError: A file changed or ended while it was read.
        """
        start = time.perf_counter()
        rows, facts = self._measured(resources or Resources(), report)
        alias = self.policy.alias or alias_of(self.model.survey.checkpoint.spec)
        today = self.today or dt.datetime.now(tz=dt.UTC).date()
        verdict = judge(self.policy, facts, alias, today, self._before(facts, alias, today))
        models = [reading.model() for reading in self.readings]
        if isinstance(self.baseline, Saved):
            models.append(self.baseline.model)
        return Result(
            command=self.command,
            version=package_version(),
            settings=settings_of(self.policy),
            models=models,
            rows=rows,
            skipped=self.model.plan.skipped,
            summary=self._told(summary_of(self.policy, verdict, self.model, facts, alias)),
            seconds=time.perf_counter() - start,
            checkpoints=(self.model.weights,),
        )

    def _told(self, summary: Mapping[str, Any]) -> Mapping[str, Any]:
        """Add what of an adapter its base does not show, and what the comparison did not see."""
        if self.merge is not None:
            reading = f"{summary['reading']} {self.merge.text()}".strip()
            summary = {**summary, "reading": reading}
        if self.changes is None:
            return summary
        plan = self.changes.plan
        adapter = isinstance(self.model.survey.checkpoint, Adapter)
        unpaired = plan.unpaired.text() if plan.unpaired else ""
        told = [summary["reading"], plan.warning if adapter else "", unpaired]
        counts = {"unpaired": plan.unpaired.plain()} if plan.unpaired else {}
        return {**summary, "reading": " ".join(text for text in told if text), **counts}

    def measure(
        self, resources: Resources | None = None, report: Report = lambda _progress: None
    ) -> Facts:
        """Read everything and judge nothing."""
        return self._measured(resources or Resources(), report)[1]

    def _measured(self, resources: Resources, report: Report) -> tuple[list[Row], Facts]:
        """Return the model's rows, and its facts beside those of its references."""
        onward = _Onward(self.parts, report)
        found = {
            id(part): execute(part.plan, part.analyzer, resources, onward.part(part))
            for part in self.parts
        }
        rows = self._merged(_rows(self.model, self.changes, found), resources)
        own = replace(self.model.facts(rows), proxy=self._proxy(resources))
        names = list(own.shapes)
        base = None
        if self.base is not None:
            base = renamed(self.base.facts(found[id(self.base)]), names)
        baseline = None
        if isinstance(self.baseline, Saved):
            baseline = renamed(self.baseline.facts, names)
        elif self.baseline is not None:
            old = self.baseline.facts(_rows(self.baseline, self.earlier, found))
            # Of a model against itself nothing is known that an update could tell.
            baseline = renamed(old, names)
            baseline = replace(baseline, base=None if self.base is self.baseline else base)
        return rows, replace(own, base=base, baseline=baseline)

    def _before(self, facts: Facts, alias: str, today: dt.date) -> Sequence[Finding] | None:
        """Return the baseline's findings, those among them that the policy accepts."""
        if isinstance(self.baseline, Saved):
            return self.baseline.findings
        if facts.baseline is None:
            return None
        verdict = judge(replace(self.policy, ignores=()), facts.baseline, alias, today)
        return verdict.findings

    def _merged(self, rows: list[Row], resources: Resources) -> list[Row]:
        """Add to each row how often the adapter is in it."""
        if self.merge is None:
            return rows
        found = self.merge.measure(resources.device)
        return [replace(row, values={**row.values, **found.get(row.matrix, {})}) for row in rows]

    def _proxy(self, resources: Resources) -> Mapping[str, Any] | None:
        """Return how widths match those of the proxy that the policy names."""
        return None if self.widths is None else self.widths.run(resources).summary


class _Onward:
    """How far a check is, over all that it reads."""

    def __init__(self, parts: Sequence[Reading | Comparison], report: Report) -> None:
        """Add up what there is to do."""
        self.total = sum(part.plan.cost(part.analyzer) for part in parts) or 1.0
        self.done = 0.0
        self.report = report

    def part(self, part: Reading | Comparison) -> Report:
        """Return the report of the next part."""
        before = self.done
        self.done += part.plan.cost(part.analyzer)
        return lambda now: self.report(Progress(before + now.done, self.total, now.matrix))


def _rows(
    reading: Reading, comparison: Comparison | None, found: Mapping[int, list[Row]]
) -> list[Row]:
    """Return a model's rows with what they are to its base, and why some have no numbers."""
    rows = [_told(row) for row in found[id(reading)]]
    return rows if comparison is None else comparison.added(rows, found[id(comparison)])


def _told(row: Row) -> Row:
    """Say of a row without a spectrum what it holds."""
    if row.status != "non-finite" or row.error:
        return row
    values = row.values
    text = f"{values['nan']:,} NaN and {values['inf']:,} Inf, first at {values['first_non_finite']}"
    return replace(row, error=text)


def alias_of(spec: str) -> str:
    """Return a model's short name: the last part of its place, without a revision."""
    return names_of([spec.rstrip("/")])[0].split("@")[0]
