"""Planned analyses: what they will cost is known, nothing has been read."""

import dataclasses
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from spectra.analyzers import Analyzer, Row, Summary
from spectra.analyzers.analyzer import Round
from spectra.checkpoint import Skipped
from spectra.matrices import Selection, views_of
from spectra.runs.result import Result, counted_codecs, not_read, package_version, unread_in
from spectra.text import listed
from spectra.work import Model, Plan
from spectra.work.estimate import Estimate, estimate
from spectra.work.local import Progress, Resources, execute
from spectra.work.planning.changes import Replaced

Report = Callable[[Progress], None]
CHECKPOINT = re.compile(r"(?:checkpoint|ckpt|step|iter|epoch)[-_]?[0-9]+", re.IGNORECASE)


class Planned(Protocol):
    """What can be estimated and run."""

    @property
    def command(self) -> str:
        """The name of its question."""

    def estimate(self, workers: int | None = None) -> Estimate:
        """Tell from headers what it will cost."""

    def run(self, resources: Resources | None = None, report: Report = ...) -> Result:
        """Read, measure and conclude."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """One question about one model, or one pair."""

    analyzer: Analyzer[Any]
    plan: Plan
    selection: Selection
    following: Callable[[Sequence[Row]], Round | None] | None = None
    """What to measure next, given the rows so far, where that depends on them."""

    @property
    def command(self) -> str:
        """The name of its question."""
        return self.analyzer.name

    def estimate(self, workers: int | None = None) -> Estimate:
        """Tell from headers what it will cost."""
        return estimate(self.plan, self.analyzer, workers)

    def run(
        self, resources: Resources | None = None, report: Report = lambda _progress: None
    ) -> Result:
        """Read, measure and conclude."""
        start = time.perf_counter()
        rows = self._rows(resources or Resources(), report)
        marked, summary = self.analyzer.conclude(rows)
        unpaired = self.plan.unpaired
        first = ""
        if self.plan.tuned is None:
            first = not_read(self.plan.checkpoint, views_of(self.plan.checkpoint)[1]).strip()
        reading = [
            first,
            self.plan.warning,
            str(summary.get("reading", "")),
            unpaired.text() if unpaired else "",
            self._lost_to_quantising() if summary.get("changed", True) else "",
        ]
        return Result(
            command=self.analyzer.name,
            version=package_version(),
            settings=_settings(self.analyzer, self.selection),
            models=self._models(),
            rows=marked,
            skipped=self.plan.skipped,
            summary=_complete(summary, reading, self.plan.skipped)
            | unread_in(self.plan.checkpoint, self.plan.tuned)
            | ({"unpaired": unpaired.plain()} if unpaired else {}),
            seconds=time.perf_counter() - start,
            checkpoints=(self.plan.checkpoint,),
        )

    def _rows(self, resources: Resources, report: Report) -> list[Row]:
        """Measure, in as many rounds as it takes; natural order of names."""
        if self.following is None:
            return execute(self.plan, self.analyzer, resources, report)
        rows: dict[str, Row] = {}
        while (part := self.following(list(rows.values()))) is not None:
            plan = self.plan if part.matrices is None else self.plan.only(part.matrices)
            found = execute(plan, part.analyzer, resources, report)
            rows.update((row.matrix, row) for row in found)  # an old name keeps its place
        return list(rows.values())

    def _lost_to_quantising(self) -> str:
        """Say where a change is not training's alone: one side quantised, or each differently."""
        schemes = [
            {entry.codec.name if entry.codec and entry.is_quantised else "" for entry in pair}
            for pair in (
                (step.entry, step.change.entry)
                for step in self.plan.steps
                if isinstance(step.change, Replaced)
            )
        ]
        differing = set().union(*(pair for pair in schemes if len(pair) > 1)) - {""}
        if not differing:
            return ""
        return (
            f"One side is decoded from {listed(sorted(differing))}: what quantising lost is "
            "part of the change."
        )

    def _models(self) -> list[Model]:
        """Return the checkpoints, their parts, and the codecs that gave their values."""
        main, tuned = self.plan.checkpoint, self.plan.tuned
        own = _codecs(self.plan)
        if tuned is None:
            return [Model(main.spec, main.resolved, "model", own)]
        theirs = counted_codecs(
            step.change.entry
            for step in self.plan.steps
            if isinstance(step.change, Replaced)
            for _ in step.views
        )
        return [
            Model(main.spec, main.resolved, "base", own),
            Model(tuned.spec, tuned.resolved, "tuned", theirs),
        ]


@dataclass(frozen=True, slots=True)
class Member:
    """One model of several, and what tells it from the others."""

    plan: Plan
    labels: Mapping[str, Any]  # `model`, its name, and its `width` or `step`


@dataclass(frozen=True, slots=True)
class Series:
    """One question about several models together, measured one after the other."""

    analyzer: Analyzer[Any]
    members: tuple[Member, ...]
    selection: Selection
    warning: str = ""  # what a reader must know before the numbers

    @property
    def command(self) -> str:
        """The name of its question."""
        return self.analyzer.name

    def estimate(self, workers: int | None = None) -> Estimate:
        """Tell from headers what it will cost: sums, and the largest peak."""
        found = [estimate(member.plan, self.analyzer, workers) for member in self.members]
        return Estimate(
            matrices=sum(one.matrices for one in found),
            tensors=sum(one.tensors for one in found),
            nbytes=sum(one.nbytes for one in found),
            memory=max(one.memory for one in found),
            seconds=sum(one.seconds for one in found),
            skipped=sum(one.skipped for one in found),
        )

    def run(
        self, resources: Resources | None = None, report: Report = lambda _progress: None
    ) -> Result:
        """Read and measure model by model, then conclude over all."""
        start = time.perf_counter()
        rows: list[Row] = []
        costs = [member.plan.cost(self.analyzer) for member in self.members]
        total = sum(costs) or 1.0
        for index, member in enumerate(self.members):
            found = execute(
                member.plan,
                self.analyzer,
                resources or Resources(),
                _onward(report, sum(costs[:index]), total),
            )
            rows += [replace(row, labels=member.labels) for row in found]
        marked, summary = self.analyzer.conclude(rows)
        skipped = tuple(
            Skipped(item.tensor, item.reason, str(member.labels["model"]))
            for member in self.members
            for item in member.plan.skipped
        )
        return Result(
            command=self.analyzer.name,
            version=package_version(),
            settings=_settings(self.analyzer, self.selection),
            models=[
                Model(
                    member.plan.checkpoint.spec,
                    member.plan.checkpoint.resolved,
                    "model",
                    _codecs(member.plan),
                    member.labels,
                )
                for member in self.members
            ],
            rows=marked,
            skipped=skipped,
            summary=_complete(summary, [self.warning, str(summary.get("reading", ""))], skipped)
            | unread_in(*(member.plan.checkpoint for member in self.members)),
            seconds=time.perf_counter() - start,
            checkpoints=tuple(member.plan.checkpoint for member in self.members),
        )


def names_of(specs: Sequence[str]) -> list[str]:
    """Return a short name of each spec: its last parts, as many as tell all apart.

    Checkpoints of several runs (`small/checkpoint-500`) go by their runs. A spec given twice
    keeps its whole text, and a number.
    """
    parts = [[part for part in spec.split("/") if part] or [spec] for spec in specs]
    runs = {part[-2] for part in parts if len(part) > 1 and CHECKPOINT.fullmatch(part[-1])}
    if len(runs) == len(parts):
        return [part[-2] for part in parts]
    names = list(specs)
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{name} ({index})" for index, name in enumerate(names, 1)]


def _onward(report: Report, before: float, total: float) -> Report:
    """Return a report of one part's progress as that of the whole."""
    return lambda part: report(Progress(before + part.done, total, part.matrix))


def _settings(analyzer: Analyzer[Any], selection: Selection) -> dict[str, Any]:
    """Return what was asked, as plain data."""
    fields: dict[str, Any] = dataclasses.asdict(analyzer)  # type: ignore[call-overload]
    return fields | dataclasses.asdict(selection)


def _codecs(plan: Plan) -> dict[str, int]:
    """Return how many matrices of a plan each scheme decodes."""
    return counted_codecs(view.entry for step in plan.steps for view in step.views)


def _complete(
    summary: Summary, reading: Iterable[str], skipped: Sequence[Skipped]
) -> dict[str, object]:
    """Add to a summary what the analyzer cannot know or must not hide."""
    broken = summary.get("non_finite")
    told = [f"{broken:,} hold NaN or Inf and have no numbers."] if broken else []
    return {
        **summary,
        "reading": " ".join(text for text in (*reading, *told) if text),
        "skipped": len(skipped),
    }
