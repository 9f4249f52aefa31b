"""Planned analyses: what they will cost is known, nothing has been read."""

import dataclasses
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from spectra import distribution
from spectra.analyzers import Analyzer, Row, Summary
from spectra.analyzers.analyzer import (
    Across,
    Attentions,
    Composed,
    Each,
    Factors,
    Idling,
    Neighbours,
    Pairs,
    PerLayer,
    Twins,
    Updates,
    WithMoments,
)
from spectra.checkpoint import Adapter, Checkpoint, Skipped, TensorEntry
from spectra.checkpoint.codecs.composed import made_of
from spectra.checkpoint.digest import weights_digest
from spectra.checkpoint.fingerprints import Ledger
from spectra.errors import UsageError
from spectra.matrices import Selection, views_of
from spectra.runs.beside import broken_vectors, vector_bytes, vectors_changed
from spectra.runs.result import (
    Result,
    counted_codecs,
    failed_in,
    not_read,
    noted,
    unread_in,
)
from spectra.text import counted, listed
from spectra.wording import worded
from spectra.words import FAILED
from spectra.work import Model, Plan, plan_model, plan_pair
from spectra.work.conclusions import concluded
from spectra.work.estimate import Estimate, estimate
from spectra.work.executor import Executor, Report, Sink, measured, silent
from spectra.work.local import Local
from spectra.work.planning.attention import plan_attention
from spectra.work.planning.groups import plan_across, plan_layers, plan_moments
from spectra.work.planning.neighbours import plan_neighbours
from spectra.work.planning.plan import Member, weights_of
from spectra.work.planning.updates import plan_updates
from spectra.work.store import Store
from spectra.work.task import Input, Replaced
from spectra.work.threads import threads_within

MANY = 1000  # matrices, of which what is concluded may take long
CHECKPOINT = re.compile(r"(?:checkpoint|ckpt|step|iter|epoch)[-_]?[0-9]+", re.IGNORECASE)


class Planned(Protocol):
    """What can be estimated and run."""

    @property
    def command(self) -> str:
        """The name of its question."""

    @property
    def plan(self) -> Plan:
        """What will be read and measured."""

    @property
    def notes(self) -> Sequence[str]:
        """What of it was asked for and does nothing."""

    def estimate(self, executor: Executor | None = None) -> Estimate:
        """Tell from headers what it will cost."""

    def run(self, executor: Executor | None = None, report: Report = ...) -> Result:
        """Read, measure and conclude."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """One question about one model, a pair, or several."""

    analyzer: Analyzer[Any]
    plan: Plan
    selection: Selection

    @property
    def command(self) -> str:
        """The name of its question."""
        return self.analyzer.name

    @property
    def notes(self) -> Sequence[str]:
        """What of it was asked for and does nothing."""
        idle = self.analyzer.idle() if isinstance(self.analyzer, Idling) else ()
        return [*self.plan.notes, *idle]

    def estimate(self, executor: Executor | None = None) -> Estimate:
        """Tell from headers what it will cost."""
        executor = executor or Local()
        found = estimate(self.plan, self.analyzer, executor)
        more = sum(vector_bytes(model, executor) for _, model in self._compared())
        return dataclasses.replace(found, nbytes=found.nbytes + more)

    def run(
        self,
        executor: Executor | None = None,
        report: Report = silent,
        sink: Sink | None = None,
    ) -> Result:
        """Read, measure and conclude.

        Args:
            executor: Who measures; this machine's processors by default.
            report: Called as rows come.
            sink: Gets what measuring made.

        Raises:
            SpectraError: A file changed or ended while it was read.
        """
        start, plan = time.perf_counter(), self.plan
        executor = executor or Local()
        rows = measured(executor, plan.tasks, self.analyzer, report, sink)
        marked, summary = concluded(self.analyzer, rows, executor.ledger, self._concluded)
        told = summary.get("notes")
        broken, named = broken_vectors(self._compared(), executor)
        own = [*(told if isinstance(told, list) else ()), *named]
        unpaired, opened = plan.unpaired, [member.opened for member in plan.members]
        alone = plan.members[0].part == "model" and not plan.members[0].labels
        reading = [
            not_read(plan.checkpoint, views_of(plan.checkpoint)[1]).strip() if alone else "",
            plan.warning,
            str(summary.get("reading", "")),
            broken,
            unpaired.text() if unpaired else "",
            self._lost_to_quantising() if summary.get("changed", True) else "",
            self._lost_to_factors() if summary.get("changed", True) else "",
            "" if summary.get("changed", True) else self._beside(executor),
        ]
        return Result(
            command=self.analyzer.name,
            version=distribution.version(),
            settings=_settings(self.analyzer, self.selection),
            models=[self._model(member, executor.ledger) for member in plan.members],
            rows=marked,
            skipped=plan.skipped,
            summary=_complete(summary, reading, plan.skipped, marked)
            | noted([*dict.fromkeys([*self.notes, *own])])
            | unread_in(*opened)
            | ({"unpaired": unpaired.plain()} if unpaired else {}),
            seconds=time.perf_counter() - start,
            checkpoints=(plan.checkpoint,),
            cached=isinstance(executor.ledger, Store),
        )

    def _concluded(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Conclude; with one thread where little is computed, as several wait for each other."""
        if len(rows) > MANY:
            return self.analyzer.conclude(rows)
        with threads_within(1):
            return self.analyzer.conclude(rows)

    def _lost_to_quantising(self) -> str:
        """Say where a change is not training's alone: one side quantised, or each differently."""
        pairs = [
            {entry.codec.name if entry.codec and entry.is_quantised else "" for entry in pair}
            for pair in (
                (one.view.entry, one.change.entry)
                for one in self._inputs()
                if isinstance(one.change, Replaced)
            )
        ]
        differing = set().union(*(pair for pair in pairs if len(pair) > 1)) - {""}
        if not differing:
            return ""
        return (
            f"One side is decoded from {listed(sorted(differing))}: what quantising lost is "
            "part of the change."
        )

    def _lost_to_factors(self) -> str:
        """Say where one side is made of stored factors, and the other is not."""
        sides = [
            [made_of(entry) for entry in (one.view.entry, one.change.entry)]
            for one in self._inputs()
            if isinstance(one.change, Replaced)
        ]
        found = [(name, sum(pair[at] and not pair[1 - at] for pair in sides))
                 for at, name in ((0, "base"), (1, "tuned model"))]  # fmt: skip
        return " ".join(
            f"{counted(count, 'matrix', 'matrices')} of the {name} {'is' if count == 1 else 'are'} "
            "stored as factors: what these leave out is part of the change."
            for name, count in found
            if count
        )

    def _compared(self) -> list[tuple[str, Checkpoint | Adapter]]:
        """Return models whose vectors are looked at too, each with what sentences call it."""
        if not self.command.startswith("diff") or self.selection != Selection():
            return []
        several = len(self.plan.members) > 2
        names = {"base": "the base", "tuned": "the tuned model"}
        return [
            (str(one.labels["model"]) if several and "model" in one.labels else
             names.get(one.part, one.part), one.opened)
            for one in self.plan.members
        ]  # fmt: skip

    def _beside(self, executor: Executor) -> str:
        """Say what changed of a pair whose matrices are all the same."""
        opened = {member.part: member.opened for member in self.plan.members}
        base, tuned = opened.get("base"), opened.get("tuned")
        if self.command != "diff" or not isinstance(base, Checkpoint) or tuned is None:
            return ""
        return vectors_changed(base, tuned, executor) if self.selection == Selection() else ""

    def _model(self, member: Member, ledger: Ledger | None) -> Model:
        opened = member.opened
        entries: Iterable[TensorEntry] = (
            (
                one.change.entry
                for one in self._inputs()
                if isinstance(one.change, Replaced) and one.change.source is opened
            )
            if member.part == "tuned"
            else {
                one.view.name: one.view.entry for one in self._inputs() if one.source is opened
            }.values()
        )
        codecs = counted_codecs(entries)
        digest = weights_digest(weights_of(opened).files, ledger)
        return Model(opened.spec, opened.resolved, member.part, codecs, member.labels, digest)

    def _inputs(self) -> list[Input]:
        return [one for task in self.plan.tasks for one in task.inputs]


def plan_for(
    analyzer: Analyzer[Any], models: Sequence[Checkpoint | Adapter], selection: Selection
) -> Plan:
    """Plan what an analyzer takes of opened models, without reading weights.

    Args:
        analyzer: Its `takes` tells what it is about.
        models: One; a base and what became of it; a model and the moments of its inputs; or two
            and more of one architecture.
        selection: Filters on the matrices.

    Raises:
        SpectraError: There are too few or too many models, or nothing is left to analyse.
    """
    takes = analyzer.takes
    many = {Pairs: "a base and what became of it", WithMoments: "a model and its moments"}
    if not isinstance(takes, Across | Updates):
        told = many.get(type(takes), "one model")
        if len(models) != (2 if type(takes) in many else 1):
            raise UsageError(f"{analyzer.name} takes {told}, got {len(models)} models.")
    match takes:
        case Each() | PerLayer() | Neighbours() | Attentions():
            return _plan_one(analyzer, takes, models[0], selection)
        case Pairs(by_head):
            return plan_pair(models[0], models[1], selection, by_head=by_head)
        case WithMoments():
            return plan_moments(models[0], models[1], selection)
        case Across():
            return plan_across(models, names_of([model.spec for model in models]), selection)
        case Updates():
            names = names_of([model.spec for model in models[1:]])
            return plan_updates(models[0], models[1:], [{"model": one} for one in names], selection)
        case Factors():
            raise UsageError(f"{analyzer.name} is about factors: `spectra.lowrank` plans it.")
        case Twins():
            raise UsageError(f"{analyzer.name} is about two models: `spectra.match` plans it.")


def _plan_one(
    analyzer: Analyzer[Any],
    takes: Each | PerLayer | Neighbours | Attentions,
    model: Checkpoint | Adapter,
    selection: Selection,
) -> Plan:
    match takes:
        case Each():
            return plan_model(model, selection, analyzer)
        case PerLayer(roles):
            return plan_layers(model, selection, roles)
        case Neighbours(size):
            return plan_neighbours(model, selection, size)
        case Attentions():
            return plan_attention(model, selection)


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


def _settings(analyzer: Analyzer[Any], selection: Selection) -> dict[str, Any]:
    fields: dict[str, Any] = dataclasses.asdict(analyzer)  # type: ignore[call-overload]
    if isinstance(analyzer, Composed):  # settings of those that it asks are its own
        del fields["ask"]
        asked = [name for name, value in fields.items() if isinstance(value, dict)]
        fields = {key: value for name in asked for key, value in fields.pop(name).items()} | fields
        fields.pop("shared", None)  # between those that it asks
    late: frozenset[str] = getattr(analyzer, "later", frozenset())
    own = {one.name: one.default for one in dataclasses.fields(analyzer)}  # type: ignore[arg-type]
    fields = {key: value for key, value in fields.items() if key not in late or value != own[key]}
    return fields | dataclasses.asdict(selection)


def _complete(
    summary: Summary, reading: Iterable[str], skipped: Sequence[Skipped], rows: Sequence[Row]
) -> dict[str, object]:
    """Add to a summary what the analyzer cannot know or must not hide."""
    failed = failed_in(rows)
    broken = summary.get("non_finite")
    verbs = ("hold", "have") if broken != 1 else ("holds", "has")
    told = [f"{broken:,} {verbs[0]} NaN or Inf and {verbs[1]} no numbers."] if broken else []
    return {
        **summary,
        "reading": worded(" ".join(text for text in (*reading, *told, failed) if text)),
        "skipped": len(skipped),
        **({"failed": sum(row.status == FAILED for row in rows)} if failed else {}),
    }
