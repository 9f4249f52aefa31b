"""Both sides of a matrix as stored, and how what is not stored is formed of what is."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from spectra.checkpoint import TensorEntry
from spectra.deferred import Tensor, torch
from spectra.matrices import LowRank, Matrix, Pair
from spectra.matrices.pair import Factors, Formed, Merge, Product, Quantised, widened
from spectra.matrices.part import Part
from spectra.work.read import Read
from spectra.work.task import MEANT, Input, Remade, Replaced, Rewritten, Shifted, Updated

NAMES = {"torch.float16": "F16", "torch.bfloat16": "BF16", "torch.float64": "F64"}  # others: F32

Stored = tuple[Tensor | LowRank, Quantised | None]
"""Values, or the factors whose product they are; and of some how far each was rounded."""

ReadValues = Callable[[Read], Tensor]


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
    base = dense(base) if one.paired else base
    if isinstance(change, Replaced):
        tuned, other = stored(change.reads[0])
        made = isinstance(tuned, LowRank)
        tuned = dense(tuned)
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


def dense(values: Tensor | LowRank) -> Tensor:
    """Return the entries, of factors those of their product."""
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
