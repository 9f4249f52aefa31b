"""Which directions of the residual stream are read in tokens, and their vectors."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from spectra.analyzers import Row
from spectra.analyzers.directions import ENDS, Directions, HeadDirections, Wanted
from spectra.analyzers.readout import EMBEDDING, HEAD
from spectra.checkpoint import Checkpoint
from spectra.deferred import Tensor
from spectra.kernels.heads import APART
from spectra.matrices.stream import Flow, Touch, apart, touch_of
from spectra.matrices.vocabulary import Vocabulary
from spectra.runs.composition import Kept
from spectra.runs.tokens_told import Told
from spectra.runs.vocabulary import crossed_of, folded
from spectra.words import UNMEASURED
from spectra.work import Plan
from spectra.work.executor import Executor, Report, measured
from spectra.work.task import Task

LEADING = 3  # singular directions of a matrix
FAINT = 1e-6  # of sigma_1: below it no direction is told
NO_EMBEDDING = "no embedding of tokens as wide as the stream is known by its name"


@dataclass(frozen=True, slots=True)
class Direction:
    """One direction that is to be read."""

    row: str  # the matrix of its row
    told: Told
    vector: Tensor
    role: str  # of the table that it is read by


@dataclass(frozen=True, slots=True)
class Finder:
    """Finds the directions of measured rows, and says of the others why there are none."""

    plan: Plan
    command: str
    source: Checkpoint  # whose head and embedding are taken, and whose norms
    vocabulary: Vocabulary
    fold: bool
    status: dict[str, str] = field(default_factory=dict)  # of rows, why not every direction is told
    copied: dict[str, float | None] = field(default_factory=dict)  # of heads, copying of tokens

    def found(self, executor: Executor, rows: Sequence[Row], report: Report) -> list[Direction]:
        """Return the directions of rows."""
        if self.command == "heads":
            return [*self._of_heads(executor, rows, report)]
        return [*self._of_matrices(executor, rows, report)]

    def _of_heads(
        self, executor: Executor, rows: Sequence[Row], report: Report
    ) -> Iterator[Direction]:
        """Yield what the strongest components of every head read and write."""
        crossed = crossed_of(executor, self.source, self.vocabulary, report, fold=self.fold)
        some = {row.place.tensor for row in rows if row.status not in UNMEASURED}
        tasks = {one.place.matrix: one for one in self.plan.tasks if one.place.matrix in some}
        kept = Kept()
        measured(executor, [*tasks.values()], HeadDirections(self.fold, crossed), report, kept)
        for row in rows:
            held = kept.held.get(row.place.tensor)
            if held is None or row.status in UNMEASURED:
                self.status[row.matrix] = row.error or "not measured"
                continue
            head = int(row.number("head") or 0)
            why: dict[str, list[str]] = {}
            for name in ENDS:
                part, does = name.split("_")
                vector, sigma = held[name][head], held["sigma"][head, int(part == "qk")]
                reason = self._no_direction(tasks[row.place.tensor], name, len(vector))
                if float(sigma[0]) == 0.0:
                    reason = "it is 0"
                if reason:
                    why.setdefault(reason, []).append(f"{part.upper()} {does}")
                    continue
                tied = bool(sigma[0] - sigma[1] <= APART * sigma[0])
                norm = str(row.values.get("folded") or "unknown")
                told = Told(part, 0, float(sigma[0]), does, tied, norm)
                role = HEAD if does == "writes" else EMBEDDING
                yield self._direction(row.matrix, told, vector, role)
            lacks = [one for parts in why.values() for one in parts if one.startswith("OV")]
            known = not lacks and "copying" in held
            self.copied[row.matrix] = _number(held["copying"][head]) if known else None
            if why:
                self.status[row.matrix] = "; ".join(
                    f"{', '.join(parts)}: {reason}" for reason, parts in why.items()
                )

    def _no_direction(self, task: Task, name: str, size: int) -> str:
        """Return why what a head reads or writes is not told in tokens; empty where it is."""
        width = self.vocabulary.width
        if size != width:
            return f"it has {size:,} numbers where the stream has {width:,}"
        role = {"ov_writes": "o", "ov_reads": "v", "qk_query": "q", "qk_key": "k"}[name]
        view = next(one.view for one in task.inputs if one.role == role)
        flow: Flow = "writes" if role == "o" else "reads"
        lacks = flow == "reads" and self.vocabulary.embedding is None
        far = apart(view.entry.name, f"attn.{role}", flow, self.source)
        return far or (NO_EMBEDDING if lacks else "")

    def _of_matrices(
        self, executor: Executor, rows: Sequence[Row], report: Report
    ) -> Iterator[Direction]:
        """Yield leading directions of every matrix, or its intruders beside their matches."""
        tasks = {one.place.matrix: one for one in self.plan.tasks}
        touches: dict[str, Touch] = {}
        asked: dict[str, Wanted] = {}
        for row in rows:
            found = self._wanted(row, tasks[row.matrix])
            if isinstance(found, str):
                self.status[row.matrix] = found
            else:
                asked[row.matrix], touches[row.matrix] = found
        kept, some = Kept(), [one for one in self.plan.tasks if one.place.matrix in asked]
        measured(executor, some, Directions(asked), report, kept)
        for row in rows:
            held, touch = kept.held.get(row.matrix), touches.get(row.matrix)
            if touch is None:
                continue
            if held is None:
                self.status[row.matrix] = "its directions could not be found"
                continue
            yield from self._of_row(row, asked[row.matrix], touch, held)

    def _wanted(self, row: Row, task: Task) -> tuple[Wanted, Touch] | str:
        """Return which directions of a matrix are told; or why none is."""
        if row.status in UNMEASURED:
            return row.error or "not measured"
        touch = touch_of(task.views[0], task.inputs[0].source, self.vocabulary.width)
        if isinstance(touch, Touch) and touch.flow == "reads" and self.vocabulary.embedding is None:
            touch = NO_EMBEDDING
        if isinstance(touch, str):
            return touch
        if self.command == "spectrum":
            sigma = row.arrays["sigma"]
            count = int((sigma[:LEADING] > FAINT * sigma[0]).sum())
            if not count:
                return "it is 0 in every entry"
            return Wanted(touch.side, tuple(range(count))), touch
        found = _intruders(row)
        if not found:
            return "no intruders"
        best = [one["best_match"] for one in found if one["best_match"] is not None]
        return Wanted(touch.side, tuple(one["index"] for one in found), tuple(best)), touch

    def _of_row(
        self, row: Row, asked: Wanted, touch: Touch, held: Mapping[str, Tensor]
    ) -> Iterator[Direction]:
        role = EMBEDDING if touch.flow == "reads" else HEAD
        norm = "unknown" if touch.gain is None else touch.gain.word
        own = self._with_norm(held["own"], touch)
        if self.command == "spectrum":
            sigma = row.arrays["sigma"].tolist()
            for index, vector in zip(asked.own, own, strict=True):
                told = Told("component", index, sigma[index], touch.flow, _tied(sigma, index), norm)
                yield self._direction(row.matrix, told, vector, role, touch)
            return
        before = iter(self._with_norm(held["before"], touch) if asked.before else ())
        for detail, vector in zip(_intruders(row), own, strict=True):
            index, best = detail["index"], detail["best_match"]
            told = Told("intruder", index, detail["sigma"], touch.flow, detail["tied"], norm,
                        -1 if best is None else best)  # fmt: skip
            yield self._direction(row.matrix, told, vector, role, touch)
            if best is not None:
                other = next(before)
                sign = -1.0 if float(other @ vector) < 0.0 else 1.0
                told = Told("match", best, None, touch.flow, False, norm, index)
                yield self._direction(row.matrix, told, sign * other, role, touch)

    def _with_norm(self, vectors: Tensor, touch: Touch) -> Tensor:
        """Return directions with the norm beside their own matrix in them."""
        if touch.gain is None or not self.fold:
            return vectors.double()
        return folded(vectors, touch.gain, self.source, reads=touch.flow == "reads")

    def _direction(
        self, row: str, told: Told, vector: Tensor, role: str, touch: Touch | None = None
    ) -> Direction:
        """Return a direction as it meets its table: what is written passes the final norm."""
        norm = self.vocabulary.norm
        wide = vector.double()[None]
        raw = touch is not None and touch.outside
        if role == HEAD and self.fold and norm is not None and not raw:
            wide = folded(wide, norm, self.source)
        return Direction(row, told, wide[0].float(), role)


def _intruders(row: Row) -> list[dict[str, Any]]:
    """Return the verdicts on intruders of either side; each triplet once."""
    both: dict[int, dict[str, Any]] = {}
    for key in ("intruder_detail", "intruder_detail_right"):
        verdicts: Any = row.values.get(key) or ()
        for one in verdicts:
            if one["intruder"]:
                both.setdefault(one["index"], one)
    return [both[index] for index in sorted(both)]


def _tied(sigma: Sequence[float], index: int) -> bool:
    near = [sigma[at] for at in (index - 1, index + 1) if 0 <= at < len(sigma)]
    return any(abs(one - sigma[index]) <= APART * sigma[0] for one in near)


def _number(value: Tensor) -> float | None:
    found = float(value)
    return None if math.isnan(found) else found
