"""From a task to its values: reads what it names, each once, and forms what must be formed."""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

from spectra.checkpoint import TensorEntry
from spectra.checkpoint.fingerprints import Ledger
from spectra.deferred import Tensor, torch
from spectra.matrices import LowRank, Matrix, Pair
from spectra.matrices.attention import Attention
from spectra.matrices.pair import Factors, Formed, Merge, Product, Quantised, widened
from spectra.matrices.part import Part
from spectra.matrices.view import inner_of
from spectra.work.ahead import Ahead
from spectra.work.meter import Meter, Stopwatch
from spectra.work.read import Read
from spectra.work.task import MEANT, Input, Remade, Replaced, Rewritten, Shifted, Task, Updated

NAMES = {"torch.float16": "F16", "torch.bfloat16": "BF16", "torch.float64": "F64"}  # others: F32

Stored = tuple[Tensor | LowRank, Quantised | None]
"""Values, or the factors whose product they are; and of some how far each was rounded."""

ReadValues = Callable[[Read], Tensor]
Roles = Mapping[str, Matrix | Product | Pair]
Subject = Matrix | Product | Pair | Roles | tuple[Attention, Roles]


@dataclass(frozen=True, slots=True)
class Sides:
    """What one input read, as stored or decoded, before a matrix is cut out of it."""

    base: Tensor | LowRank  # factors alone where nothing became of it
    change: Tensor | LowRank | None = None  # in the layout of its own side
    tuned_dtype: str = ""
    base_codec: Quantised | None = None
    change_codec: Quantised | None = None
    formed: Formed = ""  # by what the change was computed from the base
    factors: Factors | None = None  # where they are asked for as they are stored
    product: LowRank | None = None  # that the base of a pair is
    merges: tuple[Merge, ...] = ()  # of a method, where they are asked for

    def subject(self, one: Input, device: str, *, products: bool) -> Matrix | Product | Pair:
        """Cut one matrix, or pair, out of what was read: rows = outputs, cols = inputs."""
        part = one.view.part
        if isinstance(self.base, LowRank):
            whole = self.base.of(replace(part, block=None))  # only its slab is there
            product = LowRank(whole.left.to(device), whole.right.to(device))
            return Product(one.view, product) if products else Matrix(one.view, product.formed())
        base = part.within(self.base.to(device))
        if not one.paired:
            return Matrix(one.view, base)
        other = one.change.part if isinstance(one.change, Replaced) else part
        inside = isinstance(one.change, Updated) and one.change.inside
        change = self.change
        if isinstance(change, LowRank):
            update = change if inside else change.of(part)
            change = LowRank(update.left.to(device), update.right.to(device))
        elif change is not None:
            change = other.within(change.to(device))
        codecs = _cut(self.base_codec, part, device), _cut(self.change_codec, other, device)
        factors = self.factors and self.factors.of(Part() if inside else part, device)
        made = self.product
        if made is not None:
            cut = made.of(replace(part, block=None))
            made = LowRank(cut.left.to(device), cut.right.to(device))
        merges = tuple(own.within(other, device) for own in self.merges)
        return Pair(
            one.view, base, change, self.tuned_dtype, *codecs, self.formed, factors, made, merges
        )


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
        return _formed_values(self._read(read)[0])

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


def form(one: Input, read: ReadValues, stored: Callable[[Read], Stored]) -> Sides:
    """Return the values of an input, those of a pair's other side formed where none are stored.

    Args:
        one: What is wanted.
        read: Returns stored values.
        stored: Likewise, with how far those that are `coded` were rounded.

    Raises:
        CheckpointError: A file ended early or cannot be read.
    """
    (base, codec), change, dtype = stored(one.own), one.change, one.view.entry.dtype
    product = base if isinstance(base, LowRank) else None
    base = _formed_values(base) if one.paired else base
    if isinstance(change, Replaced):
        tuned, other = stored(change.reads[0])
        made = isinstance(tuned, LowRank)
        tuned = _formed_values(tuned)
        kind = NAMES.get(str(tuned.dtype), "F32") if made else change.entry.dtype
        return Sides(base, tuned, kind, codec, other)
    if isinstance(change, Updated) and isinstance(base, Tensor):
        update = _update(change, read)
        factors = _stored_factors(change, read) if one.role == MEANT else None
        if not change.dense or _only_updates(one, change, base, read):
            return Sides(base, update, dtype, factors=factors, product=product)
        formed = _formed(one, change, update, read)
        named = NAMES.get(str(formed.dtype), "F32")
        return Sides(base, formed, named, formed="lengths", factors=factors)
    if isinstance(change, Shifted):
        return _shifted(base, change, dtype, read)
    return _computed(one, base, read) or Sides(
        base, None, dtype, product=product if one.paired else None
    )


def _computed(one: Input, base: Tensor | LowRank, read: ReadValues) -> Sides | None:
    """Return new values that are computed from the base's; None where none are."""
    change = one.change
    if isinstance(change, Rewritten):
        return Sides(base, _rewritten(one, change, read), change.rows.entry.dtype, formed="rows")
    if isinstance(change, Remade):
        values, merges = _remade(one, change, read)
        return Sides(base, values, "F64", formed="method", merges=merges)
    return None


def _formed_values(values: Tensor | LowRank) -> Tensor:
    return values.formed() if isinstance(values, LowRank) else values


def _update(change: Updated, read: ReadValues) -> LowRank:
    a, b = (read(one) for one in change.reads[:2])
    if change.ranks is None:
        a, b = a.flatten(1), b.flatten(1)
    else:  # A's rows go expert by expert, B's columns rank by rank
        b = b[:, change.expert :: change.factors.count]
    return _product(change, a, b, change.factors.scale)


def _product(change: Updated, a: Tensor, b: Tensor, scale: float = 1.0) -> LowRank:
    """Return `scale * B @ A` in the layout of the stored tensor, the rows that are its own."""
    a, b = widened(a), widened(b)
    if change.turned or change.factors.kind == "embedding":
        update = LowRank(a.mT * scale, b.mT)
    else:
        update = LowRank(b * scale, a)
    if change.rows is None:
        return update
    return LowRank(update.left[slice(*change.rows)], update.right)


def _stored_factors(change: Updated, read: ReadValues) -> Factors:
    """Return what merges may make of the factors; nothing more is read for it."""
    factors, rank = change.factors, change.factors.rank
    a, b = (read(stored).flatten(1) for stored in change.reads[:2])
    other = None
    if change.ranks is not None and change.expert is not None:
        first = change.expert * rank
        if rank > 1:
            other = _product(change, a, b[:, first : first + rank])
        b = b[:, change.expert :: factors.count]
    product = _product(change, a, b)
    square = len(product.left) == product.right.shape[1] and change.rows is None
    return Factors(
        product,
        factors.scale,
        rank,
        min((a.dtype, b.dtype), key=lambda dtype: dtype.itemsize),
        LowRank(product.right.mT, product.left.mT)
        if square and factors.kind != "embedding"
        else None,
        other,
        _lengths(change, product, read),
    )


def _lengths(change: Updated, product: LowRank, read: ReadValues) -> LowRank | None:
    """Return DoRA's lengths of the stored tensor."""
    factors, (left, right) = change.factors, (product.left, product.right)
    if factors.magnitude is None:
        return None
    values = widened(read(Read(change.source, factors.magnitude))).flatten()
    if change.turned or factors.kind == "embedding":
        return LowRank(left.new_ones(len(left), 1), values.unsqueeze(0))
    values = values if change.rows is None else values[slice(*change.rows)]
    return LowRank(values.unsqueeze(1), right.new_ones(1, right.shape[1]))


def _only_updates(one: Input, change: Updated, base: Tensor, read: ReadValues) -> bool:
    """Say whether what the adapter stores of the base is the base."""
    if change.start is None or change.factors.magnitude is not None:
        return False
    stored = read(Read(change.source, change.start, one.own.slab))
    return stored.dtype == base.dtype and torch.equal(stored, base)


def _formed(one: Input, change: Updated, update: LowRank, read: ReadValues) -> Tensor:
    """Return the tuned values of a dense update, in float32 or wider, for the input's slab.

    Source:
        Liu et al. 2024, arXiv:2402.09353 (DoRA): W' = (m / ||V||) V, V = W + s B A, the
        norm over the inputs of each output.
    """
    values = widened(read(one.whole)).flatten(1)
    tuned = torch.addmm(values, update.left.to(values.dtype), update.right.to(values.dtype))
    factors = change.factors
    if factors.magnitude is not None:
        along = 1 if change.turned or factors.kind == "embedding" else 0  # m's axis
        magnitude = widened(read(Read(change.source, factors.magnitude))).flatten()
        scale = magnitude.to(tuned.dtype) / torch.linalg.vector_norm(tuned, dim=1 - along)
        tuned *= scale.unsqueeze(1 - along)
    return tuned if one.own.slab is None else tuned[slice(*one.own.slab)]


def _shifted(base: Tensor | LowRank, change: Shifted, dtype: str, read: ReadValues) -> Sides:
    """Return a bias to which `scale * b` is added, as an update of rank 1 where it can be."""
    stored = read(change.reads[0])
    values = widened(stored).reshape(-1, 1)
    one = values.new_ones(1, 1)
    if change.start is not None:
        start = widened(read(change.reads[1]))
        return Sides(base, start + change.scale * values.reshape(start.shape), "F32")
    factors = Factors(LowRank(values, one), change.scale, change.rank, stored.dtype)
    return Sides(base, LowRank(values * change.scale, one), dtype, factors=factors)


def _remade(one: Input, change: Remade, read: ReadValues) -> tuple[Tensor, tuple[Merge, ...]]:
    """Return the values that a method makes of the base's, in float64, for the input's slab.

    And where they are looked for in a merged model what its own merge makes of them.
    """
    whole = read(one.whole)
    values = Part().within(whole)  # a bias: one column
    values = values.mT if change.turned else values
    beside = {} if change.weight is None else {"weight": read(change.weight)}

    def stored(entry: TensorEntry) -> Tensor:
        return read(Read(change.source, entry))

    def laid(made: Tensor) -> Tensor:
        made = (made.mT if change.turned else made).reshape(whole.shape).contiguous()
        return made if one.own.slab is None else made[slice(*one.own.slab)]

    wide = {name: value.double() for name, value in beside.items()}
    made = laid(change.update.turned(values.double(), stored, wide))
    asked = one.role == MEANT and values.is_floating_point() and values.element_size() > 1
    found = change.update.merged(values.contiguous(), stored, beside) if asked else []
    return made, tuple(Merge(own.dtype, laid(own.values), laid(own.slack)) for own in found)


def _rewritten(one: Input, change: Rewritten, read: ReadValues) -> Tensor:
    values, rows = read(one.whole), read(change.reads[0])
    wide = torch.promote_types(values.dtype, rows.dtype)
    tuned = values.to(wide, copy=True)
    tuned[torch.tensor(change.rows.indices, dtype=torch.long)] = rows.to(wide)
    return tuned if one.own.slab is None else tuned[slice(*one.own.slab)]


def _cut(whole: Quantised | None, part: Part, device: str) -> Quantised | None:
    return whole and Quantised(whole.name, part.within(whole.steps.to(device)))
