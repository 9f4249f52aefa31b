"""Two models matched by the order of their units: rows by matrix, what follows, permutations."""

import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from spectra.analyzers import Row
from spectra.analyzers.match import NUMBERS, Given, Match
from spectra.checkpoint import Adapter, Checkpoint
from spectra.deferred import torch
from spectra.errors import UsageError
from spectra.matrices import Selection
from spectra.runs.analysis import Analysis
from spectra.runs.around import Around
from spectra.runs.matching_reading import SCALED, reading_of, relation_of, with_vectors
from spectra.runs.matching_vectors import compared_vectors, homes_of
from spectra.runs.result import Result
from spectra.text import guess, listed, quote, shown
from spectra.words import UNMEASURED
from spectra.work import Plan
from spectra.work.executor import Executor, Report, silent
from spectra.work.local import Local
from spectra.work.planning.plan import weights_of
from spectra.work.planning.twins import plan_twins
from spectra.work.task import Task
from spectra.writing.atomic import require_writable, write_atomically
from spectra.writing.tensors import Slot, write_tensors

SUFFIX = ".safetensors"
WORD = 8  # bytes of a place in a permutation
Opened = Checkpoint | Adapter
KEYS = ("module", "relation", "moved_share", *NUMBERS, "weighted_null")


@dataclass(frozen=True, slots=True)
class Matching(Around[Analysis]):
    """Two models, module by module, and where the permutations go."""

    permutation: Path | None = None  # that was given
    save: Path | None = None

    def run(self, executor: Executor | None = None, report: Report = silent) -> Result:
        """Read, match and compare; write the permutations where that was asked for.

        Raises:
            SpectraError: A file changed or ended while it was read, or cannot be written.
        """
        start = time.perf_counter()
        result = self.analysis.run(executor, report)
        tasks = {task.place.matrix: task for task in self.plan.tasks}
        modules = {row.place.matrix: row for row in result.rows}
        rows = [one for name, row in modules.items() for one in _each(row, tasks[name])]
        analyzer: Any = self.analysis.analyzer
        settings = {key: value for key, value in result.settings.items() if key != "given"}
        if self.permutation is not None:
            settings["permutation"] = str(self.permutation)
        lone = self.plan.unpaired
        summary = reading_of(
            rows, whole=lone is None or not lone.base + lone.tuned,
            given=self.permutation is not None, everything=analyzer.all_directions,
            broken=sum(len(_wrong(row)) for row in modules.values()),
            factors={at: factor for name, row in modules.items()
                     for at, factor in _factors(row, tasks[name])},
        )  # fmt: skip
        if str(summary["relation"]).startswith("the same"):
            homes = [pair for name, row in modules.items() for pair in homes_of(tasks[name], row)]
            one, other = (weights_of(member.opened) for member in self.plan.members)
            summary = with_vectors(summary, compared_vectors(
                (one, other), self.analysis.selection, dict(homes), SCALED, executor or Local()
            ))  # fmt: skip
        if self.save is not None and summary["relation"] != "nothing":
            self._write(self.save, modules, tasks)
        told = str(result.summary["reading"]).strip()
        reading = " ".join(text for text in (str(summary["reading"]), told) if text)
        return replace(
            result, rows=rows, settings=settings,
            summary={**result.summary, **summary, "reading": reading},
            seconds=time.perf_counter() - start,
        )  # fmt: skip

    def _write(self, path: Path, modules: Mapping[str, Row], tasks: Mapping[str, Task]) -> None:
        slots = {
            key_of(tasks[name]): Slot("I64", (len(order),), WORD * len(order), partial(_raw, order))
            for name, row in modules.items()
            if (order := row.integers("permutation")) is not None
        }
        first, second = (shown(member.opened.spec) for member in self.plan.members)
        about = {
            "spectra": "match",
            "first": first,
            "second": second,
            "meaning": "unit p[i] of the second model stands for unit i of the first",
        }
        write_atomically(path, lambda part: write_tensors(part, slots, about))


def _raw(order: Sequence[int]) -> tuple[bytes]:
    return (array("q", order).tobytes(),)


def plan_match(
    first: Opened, second: Opened, analyzer: Match, selection: Selection,
    permutation: str | Path | None = None, save: str | Path | None = None,
) -> Matching:  # fmt: skip
    """Plan the comparison of two models whose units may stand in another order.

    Args:
        first: The model that stays as it is.
        second: The one whose units move.
        analyzer: How they are compared.
        selection: Filters on the matrices.
        permutation: A file of permutations, in place of those that are looked for.
        save: Where those that were found are written.

    Raises:
        SpectraError: They do not fit, or a file of permutations is none or fits neither.
    """
    if save is not None:
        if Path(save).suffix != SUFFIX:
            raise UsageError(f"{shown(str(save))} should end in {SUFFIX}: it holds permutations.")
        require_writable(Path(save))
    plan = plan_twins(first, second, selection)
    path = None if permutation is None else Path(permutation)
    if path is not None:
        analyzer = replace(analyzer, given=_given(path, plan))
    return Matching(Analysis(analyzer, plan, selection), path, None if save is None else Path(save))


def key_of(task: Task) -> str:
    """Return what the permutation of a module goes by: the matrix that reads its units."""
    reads = next(one for one in task.inputs if one.role in {"a.o", "a.down"})
    return reads.view.name


def units_of(task: Task) -> int:
    """Return how many units of a module may move; 0: none."""
    if task.about is not None:
        return task.about.heads
    return next((one.view.cols for one in task.inputs if one.role == "a.down"), 0)


def _given(path: Path, plan: Plan) -> Given:
    """Read permutations, and refuse what is none.

    Raises:
        UsageError: The file cannot be read, has no permutations, or some that do not fit.
    """
    from safetensors import SafetensorError  # noqa: PLC0415 - few give one
    from safetensors.torch import load_file  # noqa: PLC0415 - likewise

    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UsageError(
            f"{shown(str(path))} cannot be read as permutations: {error}. Expected a safetensors "
            "file as --save-permutation writes it."
        ) from None
    tasks = {key_of(task): task for task in plan.tasks if units_of(task)}
    for name, order in found.items():
        if name not in tasks:
            raise UsageError(
                f"{shown(str(path))} has a permutation of {quote(name)}, which is no matrix that "
                f"reads units here.{guess(name, tasks)}"
            )
        count = units_of(tasks[name])
        whole = not order.is_floating_point() and order.shape == (count,)
        if not whole or not torch.equal(order.sort().values.long(), torch.arange(count)):
            raise UsageError(
                f"{quote(name)} in {shown(str(path))} is no permutation. Expected whole numbers "
                f"from 0 to {count - 1:,}, each once."
            )
        about = tasks[name].about
        if about is not None:
            share = about.heads // about.keys
            groups = (order // share).reshape(about.keys, share)
            if not bool((groups == groups[:, :1]).all()):
                raise UsageError(
                    f"{quote(name)} in {shown(str(path))} parts heads that share keys and values. "
                    f"Expected groups of {share} heads to stay together."
                )
    orders = {name: tuple(order.tolist()) for name, order in sorted(found.items())}
    return Given(sha256(repr(orders).encode()).hexdigest(), orders)


def _wrong(row: Row) -> Mapping[str, str]:
    """Return what is no number in a module's matrices that hold such, by their part."""
    told: Any = row.values["matrices"] if row.status == "non-finite" else None
    return {one["part"]: one["wrong"] for one in told or ()}


def _factors(row: Row, task: Task) -> Iterator[tuple[str, float]]:
    """Yield what matrices of a module are multiples of the first model's, and by how much."""
    if relation_of(row.values["matched"], row.values["weighted_null"]) != "same":
        return
    views = {one.role[2:]: one.view for one in task.inputs if one.role.startswith("a.")}
    told: Any = row.values["matrices"]
    for one in told:
        if one["factor"] is not None and abs(one["factor"] - 1.0) > SCALED:
            yield views[one["part"]].place().matrix, one["factor"]


def _each(row: Row, task: Task) -> Iterator[Row]:
    """Yield the rows of a module's matrices."""
    views = {one.role[2:]: one.view for one in task.inputs if one.role.startswith("a.")}
    if row.status in UNMEASURED:
        wrong = _wrong(row)
        names = [views[part].place().matrix for part in wrong]
        others = row.error
        if names:
            holds = f"holds {wrong[next(iter(wrong))]}" if len(names) == 1 else "hold NaN or Inf"
            others = f"{listed(names)} of its module {holds}"
        for part, view in views.items():
            place, error = view.place(), wrong.get(part, others)
            yield Row(place, row.status, error, dict.fromkeys(KEYS), {})
        return
    told: Any = row.values["matrices"]
    order = row.integers("permutation")
    of: Any = {
        "module": row.place.matrix if len(views) > 1 else None,
        "moved_share": None
        if order is None
        else sum(place != at for at, place in enumerate(order)) / len(order),
        "weighted_null": row.values["weighted_null"],
    }
    for one in told:
        found = dict.fromkeys(KEYS) | {key: one[key] for key in NUMBERS} | of
        found["relation"] = relation_of(row.values["matched"], row.values["weighted_null"])
        yield replace(row, place=views[one["part"]].place(), values=found, arrays={})
