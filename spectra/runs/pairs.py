"""Modules of attention in their streams, and which of them read what others write."""

from collections.abc import Sequence
from dataclasses import dataclass

from spectra.analyzers.head_lines import KINDS
from spectra.kernels.composition import DRAWN, LEADING
from spectra.matrices.attention import Attention
from spectra.matrices.layers import place_in
from spectra.work.executor import in_order
from spectra.work.task import Task

FEWER = 0.3  # operations by Gram matrices beside products of lines, from which on they are made


@dataclass(frozen=True, slots=True)
class Module:
    """A module of attention in its stream."""

    task: Task
    about: Attention
    stack: str  # of layers that write to one stream
    place: tuple[int, bool]  # in it: the layer, and whether it attends across, which comes after
    heads: tuple[int, ...]  # that have numbers

    @property
    def name(self) -> str:
        """In the checkpoint."""
        return self.about.module


@dataclass(frozen=True, slots=True)
class Pair:
    """Two modules and the side of the later one that reads."""

    writer: Module
    reader: Module
    kind: str  # of KINDS

    @property
    def rows(self) -> tuple[int, int]:
        """The lines of a head of the writer, and of one of the reader's side."""
        other = self.reader.about
        return self.writer.about.value_size, other.value_size if self.kind == "v" else other.size

    @property
    def heads(self) -> int:
        """Pairs of heads."""
        return self.writer.about.heads * self.reader.about.heads

    def operations(self, *, summed: bool) -> float:
        """Return the floating-point operations of products of all their heads' lines."""
        few = LEADING + DRAWN
        one, other = (min(row, few) if summed else row for row in self.rows)
        return 2.0 * self.heads * one * other * self.writer.about.written


def modules_of(tasks: Sequence[Task]) -> list[Module]:
    """Return the modules of a plan in the order in which they write to their streams."""
    found = []
    for task in in_order(tasks):
        place = place_in(task.inputs[0].view.entry.name)
        if task.about is not None and place is not None:
            where = (task.place.layer or 0, task.about.across)
            heads = tuple(range(task.about.heads))
            found.append(Module(task, task.about, place.stack, where, heads))
    return sorted(found, key=lambda one: (one.stack, one.place))


def pairs_of(modules: Sequence[Module]) -> list[Pair]:
    """Return every earlier module with every later one of a stream, and each side that reads it.

    What attends across reads its own stream with its queries, and with keys and values what the
    other stack has written in the end.
    """
    found = []
    for reader in modules:
        other = _memory(reader, modules) if reader.about.across else reader.stack
        for writer in modules:
            before = writer.stack == reader.stack and writer.place < reader.place
            kinds = KINDS if not reader.about.across else ("q",) if before else ()
            if before and writer.about.written == reader.about.width:
                found += [Pair(writer, reader, kind) for kind in kinds]
            beyond = reader.about.across and writer.stack == other
            if beyond and writer.about.written == reader.about.memory:
                found += [Pair(writer, reader, kind) for kind in ("k", "v")]
    return found


def _memory(reader: Module, modules: Sequence[Module]) -> str:
    """Return the stack whose stream keys and values are of; nothing where that is not plain."""
    others = {one.stack for one in modules if one.stack != reader.stack}
    named = {one for one in others if one == reader.stack.replace("decoder", "encoder")}
    some = named or others
    return some.pop() if len(some) == 1 else ""


def by_width(pairs: Sequence[Pair]) -> dict[int, list[int]]:
    """Return the places of all pairs by the width of the stream."""
    found: dict[int, list[int]] = {}
    for place, one in enumerate(pairs):
        found.setdefault(one.writer.about.written, []).append(place)
    return found


def gram_operations(pairs: Sequence[Pair]) -> float:
    """Return the floating-point operations of all pairs of one stream by their Gram matrices."""
    lines = {
        (module.name, side): module.about.heads * rows
        for one in pairs
        for module, side, rows in (
            (one.writer, "writes", one.rows[0]), (one.reader, one.kind, one.rows[1])
        )
    }  # fmt: skip
    width = float(max(one.writer.about.written for one in pairs))
    return width**2 * (sum(one.heads for one in pairs) + sum(lines.values()))


def is_by_grams(pairs: Sequence[Pair]) -> bool:
    """Say whether Gram matrices take so few operations that they are worth being made."""
    return gram_operations(pairs) < FEWER * sum(one.operations(summed=False) for one in pairs)


def operations(pairs: Sequence[Pair], *, summed: bool) -> float:
    """Return the floating-point operations of all pairs in the way that they are computed."""
    if summed:
        return sum(one.operations(summed=True) for one in pairs)
    total = 0.0
    for places in by_width(pairs).values():
        some = [pairs[at] for at in places]
        grams = is_by_grams(some)
        total += gram_operations(some) if grams else sum(
            one.operations(summed=False) for one in some
        )  # fmt: skip
    return total
