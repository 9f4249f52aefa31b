"""A planned check: what it reads, and how its rules come to a verdict."""

import datetime as dt
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from spectra import distribution
from spectra.analyzers import Row
from spectra.gate.account import Account, account_of
from spectra.gate.baseline import Saved
from spectra.gate.checkup import Checkup
from spectra.gate.reading import Reading, renamed
from spectra.gate.sides import rows_by_side
from spectra.gate.verdict import settings_of, summary_of
from spectra.policy import Policy
from spectra.policy.facts import Facts, Fit
from spectra.policy.finding import Finding
from spectra.policy.judge import judge
from spectra.runs.analysis import Analysis, names_of
from spectra.runs.result import Result
from spectra.text import shown
from spectra.words import FAILED, VECTOR
from spectra.work import Plan
from spectra.work.estimate import Estimate, estimate
from spectra.work.executor import Executor, Report, measured, silent
from spectra.work.local import Local
from spectra.work.planning.changes import Unpaired


@dataclass(frozen=True, slots=True)
class Check:
    """A model, what it is compared with, and the policy that judges it."""

    policy: Policy
    model: Reading
    plan: Plan  # of all that is read
    checkup: Checkup
    base: Reading | None = None  # may be the baseline itself
    baseline: Reading | Saved | None = None
    widths: Analysis | None = None  # of the model beside a proxy
    warnings: tuple[str, ...] = ()  # what the comparisons did not see, a sentence each
    unpaired: Unpaired | None = None  # of the model and its base
    today: dt.date | None = None  # None: the day it runs, UTC
    fit: Fit | None = None  # of an adapter that it is, or that was merged into it
    starts: str | None = None  # a baseline that this check is to be: all that it finds is known

    @property
    def command(self) -> str:
        """The name of its question."""
        return "check"

    @property
    def notes(self) -> Sequence[str]:
        """What of it was asked for and does nothing."""
        return self.plan.notes

    def estimate(self, executor: Executor | None = None) -> Estimate:
        """Tell from headers what it will cost, all references included."""
        views = self.model.views
        return replace(
            estimate(self.plan, self.checkup, executor or Local()),
            matrices=sum(view.role.kind != VECTOR for view in views),
            tensors=len({(view.entry.name, view.part.slab) for view in views}),
        )

    def run(self, executor: Executor | None = None, report: Report = silent) -> Result:
        """Read everything, then judge.

        Raises:
            SpectraError: A file changed or ended while it was read.
        """
        start = time.perf_counter()
        executor = executor or Local()
        rows, facts = self._measured(executor, report)
        readings = [self.model, self.base, self.baseline]
        models = {
            id(one): one.model(executor.ledger) for one in readings if isinstance(one, Reading)
        }
        saved = [self.baseline.model] if isinstance(self.baseline, Saved) else []
        return Result(
            command=self.command,
            version=distribution.version(),
            settings=settings_of(self.policy),
            models=[*models.values(), *saved],
            rows=rows,
            skipped=self.model.left,
            summary=self.judged(facts, account_of(rows)),
            seconds=time.perf_counter() - start,
            checkpoints=(self.model.weights,),
        )

    def measure(self, executor: Executor | None = None, report: Report = silent) -> Facts:
        """Read everything and judge nothing."""
        return self._measured(executor or Local(), report)[1]

    def judged(self, facts: Facts, merge: Account | None = None) -> Mapping[str, Any]:
        """Return the summary of what was measured, by the policy.

        Args:
            facts: What was measured.
            merge: What the model holds of an adapter.
        """
        alias = self.policy.alias or alias_of(self.model.survey.checkpoint.spec)
        today = self.today or dt.datetime.now(tz=dt.UTC).date()
        verdict = judge(self.policy, facts, alias, today, self._before(facts, alias, today))
        summary = summary_of(self.policy, verdict, self.model, facts, alias)
        if self.starts and not summary["passed"]:  # and so is no baseline: nothing is known
            verdict = judge(self.policy, facts, alias, today)
            summary = summary_of(self.policy, verdict, self.model, facts, alias)
        return self._told(summary, merge)

    def _told(self, summary: Mapping[str, Any], merge: Account | None) -> Mapping[str, Any]:
        """Add what of an adapter its base does not show, and what the comparison did not see."""
        unpaired = self.unpaired.text() if self.unpaired else ""
        start = ""
        if self.starts and summary["passed"]:
            start = (
                f"This check is the baseline {shown(self.starts)} now. Keep the file: later checks "
                "fail for what it does not have."
            )
        held = merge.text() if merge else ""
        told = [summary["reading"], start, held, *self.warnings, unpaired]
        counts: dict[str, Any] = {"unpaired": self.unpaired.plain()} if self.unpaired else {}
        if merge:
            counts["merge"] = merge.plain()
        return {**summary, "reading": " ".join(text for text in told if text), **counts}

    def _measured(self, executor: Executor, report: Report) -> tuple[list[Row], Facts]:
        """Return the model's rows, and its facts beside those of its references."""
        found = measured(executor, self.plan.tasks, self.checkup, report)
        sides = rows_by_side(self.plan.tasks, found)
        rows = _joined(sides, "model", ("change", "meant"))
        failed = {row.matrix: row.error or FAILED for row in found if row.status == FAILED}
        own = replace(self.model.facts(rows), proxy=self._proxy(sides), failed=failed,
                      adapter=self.fit)  # fmt: skip
        names = list(own.shapes)
        base = baseline = None
        if self.base is not None:
            base = renamed(self.base.facts(sides.get(self.base.part, {}).values()), names)
        if isinstance(self.baseline, Saved):
            baseline = self.baseline.facts
        elif self.baseline is not None:
            old = self.baseline.facts(_joined(sides, "baseline", ("earlier",)))
            # Of a model against itself nothing is known that an update could tell.
            own_base = None if self.base is self.baseline else base
            baseline = replace(renamed(old, names), base=own_base)
        return rows, replace(own, base=base, baseline=baseline)

    def _before(self, facts: Facts, alias: str, today: dt.date) -> Sequence[Finding] | None:
        """Return the baseline's findings, those among them that the policy accepts."""
        if isinstance(self.baseline, Saved):
            return self.baseline.findings
        if self.starts and not self.model.survey.faults:  # of what is lost nothing is known later
            own = judge(self.policy, facts, alias, today)
            return [*own.findings, *own.ignored]
        if facts.baseline is None:
            return None
        verdict = judge(replace(self.policy, ignores=()), facts.baseline, alias, today)
        return verdict.findings

    def _proxy(self, sides: Mapping[str, Mapping[str, Row]]) -> Mapping[str, Any] | None:
        if self.widths is None:
            return None
        model = self.widths.plan.members[0].labels
        rows = []
        for task in self.widths.plan.tasks:
            side = "width" if task.place.labels == model else "proxy"
            rows.append(replace(sides[side][task.place.matrix], place=task.place))
        return self.widths.analyzer.conclude(rows)[1]


def _joined(sides: Mapping[str, Mapping[str, Row]], whose: str, more: Sequence[str]) -> list[Row]:
    """Return a model's rows with what comparing it with its base tells of each.

    An adapter has none of the base's matrices; what it does to them are rows of their own.
    """
    rows = dict(sides.get(whose, {}))
    others = []
    for side in more:
        for name, found in sides.get(side, {}).items():
            if name in rows and (side == "meant" or rows[name].place == found.place):
                row = rows[name]
                rows[name] = replace(row, values={**row.values, **found.values})
            else:
                others.append(found)
    return [*rows.values(), *others]


def alias_of(spec: str) -> str:
    """Return a model's short name: the last part of its place, without a revision."""
    return names_of([spec.rstrip("/")])[0].split("@")[0]
