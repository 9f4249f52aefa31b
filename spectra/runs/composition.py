"""Which heads read what earlier ones write: every pair of one model, from lines alone."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from spectra.analyzers.head_lines import KINDS, HeadLines
from spectra.analyzers.heads_reading import naming
from spectra.deferred import Tensor, torch
from spectra.kernels.composition import gram_memory
from spectra.kernels.work import SINGLE, Work
from spectra.matrices.attention import Attention
from spectra.numbers import hundredths, number, whole
from spectra.runs.analysis import Analysis
from spectra.runs.around import Around
from spectra.runs.candidates import Frames, chosen_of, exactly, leading
from spectra.runs.pairs import Module, Pair, modules_of, operations, pairs_of
from spectra.runs.result import Result
from spectra.runs.scores import Found, scored
from spectra.runs.staged import Stage, staged
from spectra.text import counted
from spectra.words import UNMEASURED
from spectra.work.estimate import Estimate, estimate
from spectra.work.executor import Executor, Report, measured, silent
from spectra.work.local import Local
from spectra.work.store import keep, recalled
from spectra.work.task import Task
from spectra.work.threads import threads_within

EXACT, ROOM = 4e12, 1 << 30  # operations and bytes up to which every pair is computed exactly
MOST = 128  # pairs that are computed exactly; where the others are not estimated, at least
NAMED = 3  # pairs in a sentence
CLEAR = 3.0  # times chance, from which on a pair is told in a sentence
LOST = "No two heads that may read each other have numbers."
STRONGEST = 20  # pairs that are told where nothing else is asked


@dataclass(frozen=True, slots=True)
class Asked:
    """What the pairs of a model hang on, beside its weights: under it the store keeps them."""

    name: ClassVar[str] = "composition"
    version: ClassVar[int] = 4
    keys: ClassVar[tuple[str, ...]] = ()

    modules: tuple[tuple[Attention, str, tuple[int, bool]], ...]
    fold: bool
    summed: bool


class Kept:
    """A sink that keeps lines in memory."""

    def __init__(self) -> None:
        self.held: dict[str, Mapping[str, Tensor]] = {}

    def take(self, task: Task, tensors: Mapping[str, Tensor]) -> None:
        """Take those of one module."""
        self.held[task.place.matrix] = tensors


@dataclass(frozen=True, slots=True)
class Composition(Around[Analysis]):
    """The heads of a model, and which of them read what others write.

    Scores of all pairs are exact where that takes little time. Otherwise they are estimated, with
    an error of each; those that may be among the strongest are then computed exactly.
    """

    fold: bool = True
    strongest: int = STRONGEST  # pairs that are told

    def estimate(self, executor: Executor | None = None) -> Estimate:
        """Tell from headers what heads and their pairs will cost; the weights are read twice."""
        executor = executor or Local()
        modules = modules_of(self.plan.tasks)
        pairs = pairs_of(modules)
        summed = not _exact(pairs)
        first = self.analysis.estimate(executor)
        if self._known(executor, modules, summed=summed) is not None:
            return first
        threads = torch.get_num_threads()
        lines = _lines(self.fold, pairs, summed=summed, threads=threads)
        second = estimate(self.plan, lines, executor)
        took = Work(products=SINGLE * operations(pairs, summed=summed))
        seconds = None if None in {first.seconds, second.seconds} else (
            (first.seconds or 0.0) + (second.seconds or 0.0)
            + took.threaded(threads) * first.busy
        )  # fmt: skip
        memory = max(first.memory, second.memory + _kept(pairs, summed=summed, threads=threads))
        return replace(first, seconds=seconds, memory=memory, nbytes=first.nbytes + second.nbytes)

    def run(self, executor: Executor | None = None, report: Report = silent) -> Result:
        """Read, measure and compare.

        Raises:
            SpectraError: A file changed or ended while it was read.
        """
        start, executor = time.perf_counter(), executor or Local()
        report = staged(report, self.stages(executor))
        result = self.analysis.run(executor, report)
        sound: dict[str, list[int]] = defaultdict(list)
        for row in result.rows:
            if row.status not in UNMEASURED:
                sound[row.place.tensor].append(int(row.number("head") or 0))
        modules = [replace(one, heads=tuple(sound[one.name]))
                   for one in modules_of(self.plan.tasks) if one.name in sound]  # fmt: skip
        pairs = pairs_of(modules)
        told = self._compared(executor, modules, pairs, report) if pairs else _nothing()
        lost = not pairs and bool(pairs_of(modules_of(self.plan.tasks)))
        reading = f"{result.summary['reading']} {LOST if lost else sentence(told)}".strip()
        return replace(
            result,
            settings={**result.settings, "compose": True, "strongest": self.strongest},
            summary={**result.summary, "reading": reading, "composition": told},
            seconds=time.perf_counter() - start,
        )

    def stages(self, executor: Executor) -> list[Stage]:
        """Return what is measured one after the other; of lines that are not needed nothing.

        Raises:
            UsageError: What is kept of them would not fit into the memory that is given.
        """
        first = Stage.of(self.plan.tasks, self.analysis.analyzer)
        modules = modules_of(self.plan.tasks)
        pairs, tasks = pairs_of(modules), _tasks(modules)
        summed = not _exact(pairs)
        if not pairs or self._known(executor, modules, summed=summed) is not None:
            return [first]
        analyzer = _lines(self.fold, pairs, summed=summed, threads=torch.get_num_threads())
        executor.peak(tasks, analyzer)  # too little memory is refused before any work
        return [first, Stage.of(tasks, analyzer)]

    def _asked(self, modules: Sequence[Module], *, summed: bool) -> Asked:
        places = tuple((one.about, one.stack, one.place) for one in modules)
        return Asked(places, self.fold, summed)

    def _known(
        self, executor: Executor, modules: Sequence[Module], *, summed: bool
    ) -> Mapping[str, Any] | None:
        """Return what the store has of all pairs, if that is enough for as many as are told."""
        found = recalled(executor, _tasks(modules), self._asked(modules, summed=summed))
        if found is None or summed or len(found["checked"]) >= min(self.strongest, found["pairs"]):
            return found
        return None

    def _compared(
        self, executor: Executor, modules: Sequence[Module], pairs: Sequence[Pair], report: Report
    ) -> dict[str, Any]:
        """Return what is told of all pairs.

        The store keeps that of as many as were computed exactly, whatever is told of them now, and
        none of the lines.
        """
        summed = not _exact(pairs)
        found = self._known(executor, modules, summed=summed)
        if found is None:
            found = self._measured(executor, modules, pairs, report, summed=summed)
            keep(executor, _tasks(modules), self._asked(modules, summed=summed), found)
        checked = found["checked"][: self.strongest][-1]
        few = sorted(found["strongest"][:checked], key=lambda one: -float(one["score"]))
        return {
            **found, "checked": checked, "complete": checked < MOST or not summed,
            "strongest": few[: self.strongest],
        }  # fmt: skip

    def _measured(
        self, executor: Executor, modules: Sequence[Module], pairs: Sequence[Pair],
        report: Report, *, summed: bool,
    ) -> dict[str, Any]:  # fmt: skip
        """Return what is told of all pairs, of the strongest in the order of their scores' bounds.

        Under `checked` how many of these, from the first on, are to be computed exactly where one
        pair is told, two, and so on.
        """
        kept, tasks = Kept(), _tasks(modules)
        lines = _lines(self.fold, pairs, summed=summed, threads=torch.get_num_threads())
        measured(executor, tasks, lines, report, kept)
        found = scored(pairs, kept.held, summed=summed)
        wanted, checked = leading(found, MOST if summed else max(MOST, self.strongest))
        if summed:
            kept.held.clear()
            chosen = chosen_of(wanted)
            some = [one.task for one in modules if one.name in chosen]
            measured(executor, some, HeadLines(self.fold, chosen=chosen), report, kept)
            places = chosen
        else:
            places = {
                one.name: dict.fromkeys(("writes", *KINDS), tuple(range(one.about.heads)))
                for one in modules
            }
        frames: Frames = {}
        with threads_within(1):  # small products, whose helpers would wait for each other
            exact = [exactly(one, kept.held, places, frames) for one in wanted]
        spread = torch.cat([one.error.flatten() / one.score.flatten().clamp(min=1e-12)
                            for one in found])  # fmt: skip
        return {
            "pairs": sum(one.score.numel() for one in found),
            "exact": not summed, "checked": checked, "complete": True,
            "error": float(spread.median()) if summed else 0.0,
            "strongest": [one.plain() for one in exact],
            "layers": [_of_layers(one) for one in found],
        }  # fmt: skip


def _tasks(modules: Sequence[Module]) -> list[Task]:
    return [one.task for one in modules]


def _exact(pairs: Sequence[Pair]) -> bool:
    """Say whether all pairs are computed exactly; on every machine the same ones are."""
    operations = sum(one.operations(summed=False) for one in pairs)
    return operations <= EXACT and _kept(pairs, summed=False, threads=1) <= ROOM


def _kept(pairs: Sequence[Pair], *, summed: bool, threads: int) -> int:
    """Return the bytes of the lines of all modules, and of what is made of them at once."""
    modules = {one.name: one.about for pair in pairs for one in (pair.writer, pair.reader)}
    return _lines(True, pairs, summed=summed, threads=threads).kept([*modules.values()])


def _lines(fold: bool, pairs: Sequence[Pair], *, summed: bool, threads: int) -> HeadLines:
    """Return what measures the lines of all heads, which so many threads are to compare."""
    modules = {one.name: one.about for pair in pairs for one in (pair.writer, pair.reader)}
    grams = 0 if summed else gram_memory(
        max((one.written for one in modules.values()), default=0),
        sum(one.heads for one in modules.values()),
        threads,
    )  # fmt: skip
    return HeadLines(fold, summed, beside=grams)


def _of_layers(found: Found) -> dict[str, Any]:
    """Return what a picture shows of two modules."""
    one, other = found.pair.writer, found.pair.reader
    return {
        "kind": found.pair.kind, "writer": one.name, "reader": other.name,
        "writer_layer": one.place[0], "reader_layer": other.place[0],
        "highest": float(found.score.max()), "mean": float(found.score.mean()),
        "null": one.about.written**-0.5,
    }  # fmt: skip


def _nothing() -> dict[str, Any]:
    return {"pairs": 0, "exact": True, "checked": 0, "complete": True, "error": 0.0,
            "strongest": [], "layers": []}  # fmt: skip


def sentence(told: Mapping[str, Any]) -> str:
    """Say which heads read most of what others write."""
    if not told["pairs"]:
        return "No head reads what another one writes: there is one layer of each stream."
    clear = [one for one in told["strongest"] if one["over"] >= CLEAR]
    what = counted(told["pairs"], "way in which a head may read an earlier one",
                   "ways in which heads may read earlier ones")  # fmt: skip
    if not clear:
        top = told["strongest"][0]["over"] if told["strongest"] else 0.0
        if not top:
            return f"Of {what}, every score is 0: what is written, nothing later reads."
        return f"Of {what}, none exceeds {number(top, 2)} times chance."
    place = naming(one[side] for one in told["layers"] for side in ("writer", "reader"))
    named = ", ".join(
        f"{place(one['writer'], one['writer_layer'], one['writer_head'])} by "
        f"{place(one['reader'], one['reader_layer'], one['reader_head'])}'s "
        f"{one['kind'].upper()} ({hundredths(one['score'])}, {whole(one['over'])} times chance)"
        for one in clear[:NAMED]
    )
    return f"Of {what}, the strongest: {named}."
