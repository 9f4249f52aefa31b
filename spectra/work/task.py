"""The unit of work: one row to be, what it reads, and the matrices it is about."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from spectra.analyzers import Analyzer
from spectra.analyzers.analyzer import Composed, OfFactors, knows_products
from spectra.checkpoint import Checkpoint, LoraFactors, TensorEntry
from spectra.checkpoint.adapter.adapter import NewRows
from spectra.checkpoint.adapter.updates.update import ROUNDED, Update
from spectra.checkpoint.entry import COMPOSED, Slab, shards_of
from spectra.kernels.work import DOUBLE, NO_WORK, Work, is_long
from spectra.matrices import Place, View
from spectra.matrices.attention import Attention
from spectra.matrices.part import Part
from spectra.matrices.view import inner_of
from spectra.work.read import Read, distinct


@dataclass(frozen=True, slots=True)
class Replaced:
    """The matrix is stored anew, in a tuned checkpoint or beside an adapter's factors."""

    source: Checkpoint
    entry: TensorEntry
    slab: Slab
    part: Part  # of that tensor: it may lie otherwise than in the base

    @property
    def reads(self) -> tuple[Read, ...]:
        """The tensor."""
        return (Read(self.source, self.entry, self.slab),)


@dataclass(frozen=True, slots=True)
class Updated:
    """An adapter adds `scale * B @ A`, and may then give each output a new length (DoRA)."""

    source: Checkpoint
    factors: LoraFactors
    turned: bool  # the stored tensor is [in, out] and gets (B A)^T
    expert: int | None = None  # of a stack of factors
    rows: Slab = None  # of the update: those that are this tensor's, where two lie fused
    start: TensorEntry | None = None  # what is updated, where the adapter stores that too
    inside: bool = False  # it is that of the matrix alone, of several in a tensor: outputs x inputs

    @property
    def dense(self) -> bool:
        """Say whether the tuned values must be formed as such."""
        return self.factors.magnitude is not None or self.start is not None

    @property
    def ranks(self) -> Slab:
        """The rows of A that are this expert's."""
        rank = self.factors.rank
        if self.expert is None or self.factors.count == 1:
            return None
        return self.expert * rank, (self.expert + 1) * rank

    @property
    def reads(self) -> tuple[Read, ...]:
        """The factors, B's of a whole stack of experts, and what the values start from."""
        more = [part for part in (self.factors.magnitude, self.start) if part is not None]
        a = Read(self.source, self.factors.a, self.ranks)
        return (a, *(Read(self.source, entry) for entry in (self.factors.b, *more)))


@dataclass(frozen=True, slots=True)
class Rewritten:
    """An adapter replaces some rows of an embedding."""

    source: Checkpoint
    rows: NewRows
    start: TensorEntry | None = None  # whose other rows count, where the adapter stores it

    @property
    def reads(self) -> tuple[Read, ...]:
        """The rows, and the embedding where the adapter has its own."""
        more = [] if self.start is None else [Read(self.source, self.start)]
        return (Read(self.source, self.rows.entry), *more)


@dataclass(frozen=True, slots=True)
class Shifted:
    """An adapter adds a vector, scaled, to a bias."""

    source: Checkpoint
    entry: TensorEntry
    scale: float
    rank: int  # of the factors whose scale it is
    start: TensorEntry | None = None  # what is added to, where the adapter stores that too

    @property
    def reads(self) -> tuple[Read, ...]:
        """The vector, and the bias where the adapter has its own."""
        more = [] if self.start is None else [Read(self.source, self.start)]
        return (Read(self.source, self.entry), *more)


@dataclass(frozen=True, slots=True)
class Remade:
    """A method makes new values of the base's, such as by turning its inputs."""

    source: Checkpoint
    update: Update
    turned: bool  # the stored tensor is [in, out]
    weight: Read | None = None  # of a bias: that of its layer, where new values hang on it

    @property
    def reads(self) -> tuple[Read, ...]:
        """Everything that the method stores, and the weight beside a bias."""
        stored = tuple(Read(self.source, entry) for _, entry in self.update.parts)
        return stored if self.weight is None else (*stored, self.weight)


MEANT = "meant"
"""The role of what an adapter would make, which is compared with what a merge has made."""

Change: TypeAlias = Replaced | Updated | Rewritten | Shifted | Remade | None


@dataclass(frozen=True, slots=True)
class Input:
    """One matrix that a task is about, or a matrix and what became of it."""

    role: str  # in its task; empty where it is the only one
    source: Checkpoint
    view: View
    paired: bool = False
    change: Change = None  # of a pair; None there means unchanged
    stored: Read | None = None  # what holds the same values, where they are read from that

    @property
    def own(self) -> Read:
        """The tensor that holds the matrix."""
        return self.stored or Read(self.source, self.view.entry, self.view.part.slab)

    @property
    def formed(self) -> bool:
        """Say whether the tuned values are computed from those of the base."""
        return isinstance(self.change, Rewritten | Remade) or (
            isinstance(self.change, Updated) and self.change.dense
        )

    @property
    def whole(self) -> Read:
        """The tensor that tuned values are computed from, all of it."""
        change = self.change
        if isinstance(change, Updated | Rewritten) and change.start is not None:
            return Read(change.source, change.start)
        return Read(self.source, self.view.entry)

    @property
    def reads(self) -> tuple[Read, ...]:
        """Everything that is read for it, each once."""
        return tuple({read.key: read for read in self.used}.values())

    @property
    def used(self) -> list[Read]:
        """Everything that it is made of, in an order that tells each from the others."""
        found = [self.own, *(self.change.reads if self.change else ())]
        if self.formed:
            found.append(self.whole)
        if isinstance(self.change, Updated) and self.change.start is not None:
            found.append(Read(self.change.source, self.change.start, self.own.slab))
        return found

    @property
    def coded(self) -> tuple[Read, ...]:
        """What is read of which it counts how far quantising may have moved each value."""
        if not isinstance(self.change, Replaced):
            return ()
        sides = self.own, *self.change.reads
        codecs = [(read, read.entry.codec) for read in sides]
        return tuple([read for read, own in codecs if own and own.name not in COMPOSED])

    @property
    def key(self) -> Hashable:
        """What tells values that are read or formed for it; matrices of one tensor share them."""
        change = self.change
        if isinstance(change, Updated):
            return self.own.key, change.reads[0].key, change.turned, change.expert, change.rows
        more = [read.key for read in change.reads] if change else [self.paired]
        return self.own.key, *more

    @property
    def made(self) -> int:
        """Bytes of values that are computed from the base's."""
        change, width = self.change, 4
        if isinstance(change, Remade):  # what its own merge makes too, and bounds, in two dtypes
            width = 8 + (32 if self.role == MEANT and change.update.method in ROUNDED else 0)
        found = width * self.view.entry.numel if self.formed else 0
        if self.paired:
            sides = [self.own, *(self.change.reads if isinstance(self.change, Replaced) else ())]
            found += sum(4 * one.numel for one in sides if inner_of(one.entry) is not None)
        return found


@dataclass(frozen=True, slots=True)
class Task:
    """One row to be."""

    place: Place  # of the row
    inputs: tuple[Input, ...]  # in the order in which the analyzer names them
    about: Attention | None = None  # how they go together, where they are a module of attention

    @property
    def views(self) -> tuple[View, ...]:
        """The matrices that it is about."""
        return tuple([one.view for one in self.inputs])

    @property
    def reads(self) -> tuple[Read, ...]:
        """Everything that is read, each once."""
        return distinct(read for one in self.inputs for read in one.reads)

    @property
    def memory(self) -> int:
        """Bytes that what was read takes, what several inputs share once."""
        read = {read.key: read.memory for one in self.inputs for read in one.reads}
        beside = {one.key: one.made + 4 * sum(read.numel for read in one.coded)
                  for one in self.inputs}  # fmt: skip
        return sum(read.values()) + sum(beside.values())

    @property
    def start(self) -> tuple[str, int, int]:
        """Where the bytes begin: tasks in this order read forwards."""
        own = self.inputs[0].own
        return own.entry.shard, own.entry.start, (own.slab or (0, 0))[0]

    def portable(self) -> "Task":
        """Return the task with as much of its checkpoints as it needs, to be sent elsewhere."""
        return replace(self, inputs=tuple([
            replace(
                one,
                source=self._slim(one.source),
                change=self._slim_change(one.change),
                stored=one.stored and replace(one.stored, source=self._slim(one.stored.source)),
            )
            for one in self.inputs
        ]))  # fmt: skip

    def _slim_change(self, change: Change) -> Change:
        if change is None:
            return None
        slim = replace(change, source=self._slim(change.source))
        if isinstance(slim, Remade) and slim.weight is not None:
            weight = replace(slim.weight, source=self._slim(slim.weight.source))
            return replace(slim, weight=weight)
        return slim

    def _slim(self, source: Checkpoint) -> Checkpoint:
        entries = [
            read.entry
            for one in self.inputs
            for read in one.used  # each, though two checkpoints may have one file
            if read.source.resolved == source.resolved
            and set(shards_of(read.entry)) <= source.files.keys()  # not another of the folder
        ]
        shards = sorted({shard for entry in entries for shard in shards_of(entry)})
        return Checkpoint(
            source.spec,
            source.resolved,
            {entry.name: entry for entry in entries},
            config={},
            files={shard: source.files[shard] for shard in shards},
        )

    def cost(self, analyzer: Analyzer[Any]) -> float:
        """Return about how many seconds of a reference core it takes."""
        return float(self.work(analyzer))

    def work(self, analyzer: Analyzer[Any]) -> Work:
        """Return what it takes, by kind; what did not change takes nothing."""
        changed = self._changed
        if not changed:
            return NO_WORK
        if isinstance(analyzer, Composed):
            held = {one.role: one.view for one in changed}
            parts = analyzer.parts(held)
            own = analyzer.beside(held, factors=self.by_factors)
            return sum((self.part(role).work(one) for role, one in parts), own)
        views = [one.view for one in changed] if self.about is None else [self.about]
        if self.by_factors and isinstance(analyzer, OfFactors):
            found = analyzer.cost_of_factors(*views)
        else:
            found = analyzer.cost(*views)
        return found if isinstance(found, Work) else Work(products=float(found) * DOUBLE)

    def part(self, role: str) -> "Task":
        """Return the matrix of a role as a task of its own."""
        one = next(one for one in self.inputs if one.role == role)
        return Task(one.view.place(), (replace(one, role=""),))

    def need(self, analyzer: Analyzer[Any]) -> int:
        """Return the most bytes that measuring it holds at once; what did not change is copied."""
        if not self._changed:
            return sum(0 if is_long(one.rows, one.cols) else 4 * one.rows * one.cols
                       for one in self.views)  # fmt: skip
        if self.by_factors and isinstance(analyzer, OfFactors):
            return analyzer.memory_of_factors(*self.views)
        found = analyzer.memory(*(self.views if self.about is None else (self.about,)))
        return found if knows_products(analyzer) else found + self._products

    @property
    def _changed(self) -> list[Input]:
        """What is a matrix of its own, or a pair whose sides may differ."""
        return [one for one in self.inputs if not (one.paired and one.change is None)]

    @property
    def _products(self) -> int:
        """Bytes of products that are formed for an analyzer that does not know factors."""
        alone = [one.view for one in self.inputs if not one.paired]
        return sum(4 * one.rows * one.cols for one in alone if inner_of(one.entry) is not None)

    @property
    def by_factors(self) -> bool:
        """Say whether what changed is known by an adapter's factors alone."""
        changes = [one.change for one in self.inputs if one.change is not None]
        return bool(changes) and all(isinstance(one, Updated) and not one.dense for one in changes)


def bytes_of(tasks: Iterable[Task]) -> int:
    """Return how many bytes tasks read together; what several need is read once."""
    return sum(read.nbytes for read in distinct(read for task in tasks for read in task.reads))


def together(tasks: Sequence[Task]) -> Task:
    """Return tasks as one, for what is told of them together."""
    return Task(tasks[0].place, tuple([one for task in tasks for one in task.inputs]))
