"""From a task to its values: reads what it names, each once, and has formed what must be."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from spectra.checkpoint.fingerprints import Ledger
from spectra.deferred import Tensor
from spectra.matrices import LowRank, Matrix, Pair
from spectra.matrices.attention import Attention
from spectra.matrices.pair import Product, Quantised
from spectra.matrices.view import inner_of
from spectra.work.ahead import Ahead
from spectra.work.meter import Meter, Stopwatch
from spectra.work.read import Read
from spectra.work.sides import Sides, Stored, dense, form
from spectra.work.task import Input, Task

Roles = Mapping[str, Matrix | Product | Pair]
Subject = Matrix | Product | Pair | Roles | tuple[Attention, Roles]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a task read."""

    task: Task
    sides: Sequence[Sides]  # of its inputs

    def subject(self, device: str, *, products: bool = False) -> Subject:
        """Return what the analyzer takes: a matrix or pair, or several by their roles.

        Args:
            device: Where it is to be.
            products: Whether what is stored as factors comes as they are, or formed.
        """
        inputs = self.task.inputs
        if not inputs[0].role:
            return self.sides[0].subject(inputs[0], device, products=products)
        held = {
            one.role: sides.subject(one, device, products=products)
            for one, sides in zip(inputs, self.sides, strict=True)
        }
        return held if self.task.about is None else (self.task.about, held)


class Loader:
    """Loads tasks one by one; what a later one needs too is held until then.

    What comes from another machine is asked for before its task's turn, several ranges at once.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        ledger: Ledger | None = None,
        room: int | None = None,
        meter: Meter | None = None,
    ) -> None:
        """Count how often each tensor is needed; nothing is read yet.

        Args:
            tasks: In the order in which they are loaded.
            ledger: Is told the digests of what is read; called by several threads.
            room: Bytes that may be read before their tasks' turn; None: as `Ahead` has it.
            meter: Is told what reading takes; called by several threads.
        """
        self._ledger, self._meter = ledger, meter
        inputs = [one for task in tasks for one in task.inputs]
        self._wanted = Counter(one.key for one in inputs)
        different = {one.key: one for one in inputs}.values()
        reads = [read for one in different for read in one.reads]
        self._whole = {read.key for read in reads if read.slab is None}
        self._wanted.update(self._from(read).key for read in reads)
        self._coded = {self._from(read).key for one in different for read in one.coded}
        self._held: dict[Hashable, Stored | Sides] = {}
        first = {self._from(read).key: self._from(read) for one in inputs for read in one.reads}
        self._ahead = Ahead([*first.values()], self._anew, room)

    def close(self) -> None:
        """Ask for nothing more; what is on its way is dropped when it comes."""
        self._ahead.close()

    def load(self, task: Task) -> Loaded:
        """Read what a task needs.

        Raises:
            CheckpointError: A file ended early or cannot be read.
        """
        done: list[Hashable] = []
        sides = [self._sides(one, done) for one in task.inputs]
        for key in done:
            self._wanted[key] -= 1
            if self._wanted[key] <= 0:
                self._held.pop(key, None)
                self._ahead.drop(key)
        return Loaded(task, sides)

    def _sides(self, one: Input, done: list[Hashable]) -> Sides:
        found = self._held.get(one.key)
        if not isinstance(found, Sides):
            found = self._held[one.key] = form(one, self._values, self._read)
            done += [self._from(read).key for read in one.reads]
        done.append(one.key)
        return found

    def _values(self, read: Read) -> Tensor:
        return dense(self._read(read)[0])

    def _read(self, read: Read) -> Stored:
        source = self._from(read)
        found = self._held.get(source.key)
        if not isinstance(found, tuple):
            found = self._held[source.key] = self._ahead.take(source)
        if source is read:
            return found
        values, codec = found
        inside = slice(*(read.slab or ()))
        if isinstance(values, LowRank):
            return LowRank(values.left[inside], values.right), codec
        return values[inside], codec and Quantised(codec.name, codec.steps[inside])

    def _anew(self, read: Read) -> Stored:
        with Stopwatch() as watch:
            found = self._from_file(read)
        if self._meter is not None:
            self._meter.read(read, watch.took)
        return found

    def _from_file(self, read: Read) -> Stored:
        if inner_of(read.entry) is not None:
            return LowRank(*read.factors(self._ledger)), None
        if read.key not in self._coded or read.entry.codec is None:
            return read.values(self._ledger), None
        values, steps = read.rounded(self._ledger)
        return values, None if steps is None else Quantised(read.entry.codec.name, steps)

    def _from(self, read: Read) -> Read:
        """Return the whole tensor where some task needs that, else the read itself."""
        return read.all if read.slab is not None and read.all.key in self._whole else read
