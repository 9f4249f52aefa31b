"""Embedding and output head, read a stretch of rows at a time for all directions at once."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from spectra.analyzers.readout import EMBEDDING, HEAD, Readout
from spectra.checkpoint import Checkpoint
from spectra.checkpoint.gguf.codec import GgufCodec
from spectra.deferred import Tensor
from spectra.kernels.entries import power_of_two_near
from spectra.kernels.readout import Ends
from spectra.matrices import View
from spectra.matrices.part import Part
from spectra.matrices.role import Role
from spectra.matrices.stream import Gain
from spectra.matrices.vocabulary import Vocabulary
from spectra.words import UNMEASURED
from spectra.work import Plan
from spectra.work.executor import Executor, Report, measured
from spectra.work.planning.plan import Member
from spectra.work.task import Input, Task

STRETCH = 1 << 24  # numbers of a table that one task reads
"""More would wait for each other; with fewer, products are small."""


@dataclass
class Gathered:
    """A sink that keeps what was found in all rows so far."""

    ends: dict[str, Ends] = field(default_factory=dict)
    crossed: Tensor | None = None

    def take(self, task: Task, tensors: Mapping[str, Tensor]) -> None:  # noqa: ARG002 - a port
        """Put what some rows hold beside what others did."""
        for role in (HEAD, EMBEDDING):
            if f"{role}.highest" in tensors:
                names = ("highest", "highest.rows", "lowest", "lowest.rows")
                own = Ends(*(tensors[f"{role}.{name}"] for name in names))
                self.ends[role] = self.ends[role].beside(own) if role in self.ends else own
        if "crossed" in tensors:
            some = tensors["crossed"]
            self.crossed = some.double() if self.crossed is None else self.crossed.add_(some)


def tasks_of(checkpoint: Checkpoint, vocabulary: Vocabulary, *roles: str) -> tuple[Task, ...]:
    """Return the tasks that read the tables of some roles, a stretch of rows each.

    Where both are read, of the rows that both have.
    """
    held = {HEAD: vocabulary.head, EMBEDDING: vocabulary.embedding}
    views = {role: view for role in roles if (view := held[role]) is not None}
    rows = min(view.rows for view in views.values())
    whole = any(not _by_rows(view) for view in views.values())
    step = rows if whole else max(1, STRETCH // max(view.cols for view in views.values()))
    found = []
    for start in range(0, rows, step):
        stop = min(rows, start + step)
        some = {role: view if whole and view.rows == rows else _rows(view, start, stop)
                for role, view in views.items()}  # fmt: skip
        first = next(iter(some.values()))
        inputs = tuple(Input(role, checkpoint, view) for role, view in some.items())
        found.append(Task(replace(first.place(), matrix=f"{first.entry.name} {start}"), inputs))
    return tuple(found)


def _by_rows(view: View) -> bool:
    """Say whether some rows can be read without decoding all of them."""
    plain = view.part == Part()
    return plain and (view.entry.codec is None or isinstance(view.entry.codec, GgufCodec))


def _rows(view: View, start: int, stop: int) -> View:
    part = Part(block=(start, stop))
    return View(f"{view.name} {start}", Role("lm_head"), view.entry, part, stop - start, view.cols)


def plan_of(checkpoint: Checkpoint, vocabulary: Vocabulary, *roles: str) -> Plan:
    """Return what reading the tables of some roles takes, for an estimate."""
    return Plan((Member(checkpoint),), tasks_of(checkpoint, vocabulary, *roles))


def read_out(
    executor: Executor,
    checkpoint: Checkpoint,
    vocabulary: Vocabulary,
    directions: Mapping[str, Tensor],
    k: int,
    report: Report,
) -> dict[str, Ends]:
    """Return the rows at both ends of each direction, by role; every table is read once.

    Of a table that holds NaN or Inf nothing is returned.

    Args:
        executor: Who measures.
        checkpoint: That has the tables.
        vocabulary: Which these are.
        directions: By role, directions x width, norms folded in.
        k: Rows at each end.
        report: Called as rows of the table are done.
    """
    some = {role: lines for role, lines in directions.items() if len(lines)}
    gathered: dict[str, Ends] = {}
    together = [tuple(some)] if vocabulary.tied and some else [(role,) for role in some]
    for roles in together:
        sink = Gathered()
        tasks = tasks_of(checkpoint, vocabulary, *roles)
        own = {role: some[role] for role in roles}
        rows = measured(executor, tasks, Readout(own, k), report, sink)
        if not any(row.status in UNMEASURED for row in rows):
            gathered |= sink.ends
    return gathered


def crossed_of(
    executor: Executor, checkpoint: Checkpoint, vocabulary: Vocabulary, report: Report,
    *, fold: bool,
) -> Tensor | None:  # fmt: skip
    """Return the sum over tokens of e w^T, the final norm folded into w; None without embedding.

    Over a power of two near its largest entry: what copies does so at any scale of both tables.
    """
    if vocabulary.embedding is None:
        return None
    sink = Gathered()
    tasks = tasks_of(checkpoint, vocabulary, EMBEDDING, HEAD)
    rows = measured(executor, tasks, Readout({}, crosses=True), report, sink)
    if sink.crossed is None or any(row.status in UNMEASURED for row in rows):
        return None
    found = sink.crossed
    if fold and vocabulary.norm is not None:
        found = folded(found, vocabulary.norm, checkpoint, reads=True)
    if not found.isfinite().all():
        return None
    return (found / (power_of_two_near(float(found.abs().max())) or 1.0)).float()


def folded(lines: Tensor, gain: Gain, checkpoint: Checkpoint, *, reads: bool = False) -> Tensor:
    """Return directions with a norm in them.

    What is written loses its mean before it is multiplied with the gain; what is read through a
    norm is multiplied first.

    Args:
        lines: Directions x width.
        gain: What the norm does.
        checkpoint: That has it.
        reads: They are lines of what reads through the norm, not what is written to it.
    """
    scale = scale_of(gain, checkpoint)
    wide = lines.double()
    if reads and scale is not None:
        wide = wide * scale
    if gain.kind == "layer":
        wide = wide - wide.mean(dim=1, keepdim=True)
    if not reads and scale is not None:
        wide = wide * scale
    return wide


def scale_of(gain: Gain, checkpoint: Checkpoint) -> Tensor | None:
    """Return what a norm multiplies with, in float64."""
    if gain.entry is None:
        return None
    found = checkpoint.read(gain.entry).double().flatten()
    return found + 1.0 if gain.kind == "rms1" else found
