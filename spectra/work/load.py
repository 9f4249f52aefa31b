"""From a step of a plan to its values: reads both sides, and forms what must be formed."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from spectra.checkpoint import Checkpoint, LoraFactors, TensorEntry
from spectra.checkpoint.entry import Slab
from spectra.matrices import LowRank, Matrix, Pair, View
from spectra.matrices.pair import Quantised, widened
from spectra.matrices.part import Part
from spectra.work.planning.changes import Replaced, Rewritten, Updated
from spectra.work.planning.plan import Plan, Step

NAMES = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64"}  # others: F32


@dataclass(frozen=True, slots=True)
class Loaded:
    """What one step read, as stored or decoded."""

    base: Tensor
    paired: bool
    change: Tensor | LowRank | None  # in the layout of its own side
    tuned_dtype: str
    parts: Mapping[str, Part] = field(default_factory=dict)  # by matrix, where not the base's
    base_codec: Quantised | None = None
    change_codec: Quantised | None = None
    formed: bool = False  # the change was computed from the base

    def subject(self, view: View, device: str) -> Matrix | Pair:
        """Cut one matrix, or pair, out of what was read: rows = outputs, cols = inputs."""
        base = view.part.within(self.base.to(device))
        if not self.paired:
            return Matrix(view, base)
        change = self.change
        if isinstance(change, LowRank):
            part = change.of(view.part)
            change = LowRank(part.left.to(device), part.right.to(device))
        elif change is not None:
            change = self.parts.get(view.name, view.part).within(change.to(device))
        return Pair(
            view,
            base,
            change,
            self.tuned_dtype,
            _codec_of(self.base_codec, view.part, device),
            _codec_of(self.change_codec, self.parts.get(view.name, view.part), device),
            self.formed,
        )


class Loader:
    """Reads a plan's steps one by one; the factors of a stack of experts are held between."""

    def __init__(self, plan: Plan) -> None:
        """Remember the plan."""
        self.plan = plan
        self._held: tuple[TensorEntry, Tensor] | None = None

    def load(self, step: Step) -> Loaded:
        """Read one step from disk.

        Raises:
            CheckpointError: A file ended early or cannot be read.
        """
        base = self.plan.checkpoint.read(step.entry, step.slab)
        change = step.change
        dtype = step.entry.dtype
        if isinstance(change, Replaced):
            tuned = change.source.read(change.entry, change.slab)
            codecs = (
                _quantised(self.plan.checkpoint, step.entry, base, step.slab),
                _quantised(change.source, change.entry, tuned, change.slab),
            )
            return Loaded(base, True, tuned, change.entry.dtype, change.parts, *codecs)
        if isinstance(change, Updated):
            update = self._update(change)
            if not change.dense or self._only_updates(step, change, base):
                return Loaded(base, True, update, dtype)
            formed = self._formed(step, change, update)
            return Loaded(base, True, formed, NAMES.get(formed.dtype, "F32"), formed=True)
        if isinstance(change, Rewritten):
            rows = self._rewritten(step, change)
            return Loaded(base, True, rows, change.rows.entry.dtype, formed=True)
        return Loaded(base, self.plan.tuned is not None, None, dtype)

    def _update(self, change: Updated) -> LowRank:
        """Read an update's factors for the stored tensor, or for one expert of a stack."""
        factors, source = change.factors, change.source
        if factors.count > 1 and change.expert is not None:
            ranks = change.expert * factors.rank, (change.expert + 1) * factors.rank
            a = source.read(factors.a, ranks)
            # A's rows go expert by expert, B's columns rank by rank.
            b = self._hold(source, factors)[:, change.expert :: factors.count]
        else:
            a, b = (source.read(entry).flatten(1) for entry in (factors.a, factors.b))
        a, b = widened(a), widened(b)
        if change.turned or factors.kind == "embedding":
            update = LowRank(a.mT * factors.scale, b.mT)
        else:
            update = LowRank(b * factors.scale, a)
        if change.rows is None:
            return update
        return LowRank(update.left[slice(*change.rows)], update.right)

    def _hold(self, source: Checkpoint, factors: LoraFactors) -> Tensor:
        """Return B of a whole stack, read once for all its experts in a row."""
        if self._held is None or self._held[0] is not factors.b:
            self._held = factors.b, source.read(factors.b)
        return self._held[1]

    def _only_updates(self, step: Step, change: Updated, base: Tensor) -> bool:
        """Say whether what the adapter stores of the base is the base."""
        if change.start is None or change.factors.magnitude is not None:
            return False
        stored = change.source.read(change.start, step.slab)
        return stored.dtype == base.dtype and torch.equal(stored, base)

    def _whole(self, step: Step, source: Checkpoint, start: TensorEntry | None) -> Tensor:
        """Return the values that a change starts from, not a slab of them."""
        if start is not None:
            return source.read(start)
        return self.plan.checkpoint.read(step.entry)

    def _formed(self, step: Step, change: Updated, update: LowRank) -> Tensor:
        """Return the tuned values of a dense update, in float32 or wider, for the step's slab.

        Source:
            Liu et al. 2024, arXiv:2402.09353 (DoRA): W' = (m / ||V||) V, V = W + s B A, the
            norm over the inputs of each output.
        """
        values = widened(self._whole(step, change.source, change.start)).flatten(1)
        tuned = torch.addmm(values, *_alike(update, values.dtype))
        factors = change.factors
        if factors.magnitude is not None:
            along = 1 if change.turned or factors.kind == "embedding" else 0  # m's axis
            magnitude = widened(change.source.read(factors.magnitude)).flatten()
            scale = magnitude.to(tuned.dtype) / torch.linalg.vector_norm(tuned, dim=1 - along)
            tuned *= scale.unsqueeze(1 - along)
        return tuned if step.slab is None else tuned[slice(*step.slab)]

    def _rewritten(self, step: Step, change: Rewritten) -> Tensor:
        """Return an embedding with its new rows, for the step's slab."""
        values = self._whole(step, change.source, change.start)
        rows = change.source.read(change.rows.entry)
        wide = torch.promote_types(values.dtype, rows.dtype)
        tuned = values.to(wide, copy=True)
        tuned[torch.tensor(change.rows.indices, dtype=torch.long)] = rows.to(wide)
        return tuned if step.slab is None else tuned[slice(*step.slab)]


def _quantised(
    source: Checkpoint, entry: TensorEntry, values: Tensor, slab: Slab
) -> Quantised | None:
    """Return how far quantising may have moved each value, where it is told."""
    steps = source.rounding(entry, values, slab)
    if steps is None or entry.codec is None:
        return None
    return Quantised(entry.codec.name, steps)


def _codec_of(whole: Quantised | None, part: Part, device: str) -> Quantised | None:
    """Return that of one matrix of a tensor."""
    return whole and Quantised(whole.name, part.within(whole.steps.to(device)))


def _alike(update: LowRank, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return an update's factors in the dtype of what they are added to."""
    return update.left.to(dtype), update.right.to(dtype)
