"""What will be read and measured, settled from headers before any weight is read."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from spectra.analyzers import Analyzer
from spectra.checkpoint import Adapter, Checkpoint, Skipped, TensorEntry
from spectra.checkpoint.entry import Slab
from spectra.errors import NothingToAnalyseError, PairingError, UsageError
from spectra.matrices import Selection, View, views_of
from spectra.text import counted, natural, quote, shown
from spectra.work.planning.adapted import adapter_changes
from spectra.work.planning.changes import (
    Asked,
    Change,
    Replaced,
    Unpaired,
    Updated,
    checkpoint_changes,
)

REASONS = 3  # that an error names, the most frequent ones


@dataclass(frozen=True, slots=True)
class Step:
    """One stored tensor to read, or a slab of it such as one expert, and the matrices in it."""

    entry: TensorEntry
    views: tuple[View, ...]
    change: Change = None  # for pairs; None there means unchanged

    @property
    def slab(self) -> Slab:
        """What to read of the first axis; None: all."""
        return self.views[0].part.slab

    @property
    def nbytes(self) -> int:
        """Bytes to read."""
        own = self.entry.slab_bytes(self.slab)
        return own if self.change is None else own + self.change.nbytes

    @property
    def memory(self) -> int:
        """Bytes that what was read takes, quantised values as float32 beside what they were."""
        change = self.change
        formed = not isinstance(change, Replaced | None)
        if isinstance(change, Updated):
            formed = change.dense
        coded = isinstance(change, Replaced) and change.entry.codec is not None
        plain = self.entry.codec is None and not self.entry.strides
        if plain and not coded and not formed:
            return self.nbytes
        sides = 1 if change is None else 2
        if isinstance(change, Replaced):  # and how far each value may have been rounded
            sides += (self.entry.codec is not None) + coded
        values = 4 * sides * sum(view.rows * view.cols for view in self.views)
        return self.nbytes + values + (4 * self.entry.numel if formed else 0)


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that one analysis will do."""

    checkpoint: Checkpoint  # the model, or the base of a pair
    tuned: Checkpoint | Adapter | None
    steps: tuple[Step, ...]
    skipped: tuple[Skipped, ...]
    warning: str = ""  # what a reader must know before the numbers
    unpaired: Unpaired | None = None  # of a pair of models

    @property
    def views(self) -> list[View]:
        """Every matrix, in natural order of names."""
        views = [view for step in self.steps for view in step.views]
        return sorted(views, key=lambda view: natural(view.name))

    @property
    def nbytes(self) -> int:
        """Bytes that will be read."""
        return sum(step.nbytes for step in self.steps)

    def only(self, names: Collection[str]) -> "Plan":
        """Return the plan of some of the matrices."""
        parts = [
            replace(step, views=tuple(view for view in step.views if view.name in names))
            for step in self.steps
        ]
        return replace(self, steps=tuple(step for step in parts if step.views))

    def cost(self, analyzer: Analyzer[Any]) -> float:
        """Return about how many operations the analysis takes."""
        return sum(step_cost(step, view, analyzer, self) for step in self.steps
                   for view in step.views)  # fmt: skip


def step_cost(step: Step, view: View, analyzer: Analyzer[Any], plan: Plan) -> float:
    """Return about the operations of one matrix; what did not change costs nothing."""
    return 0.0 if plan.tuned is not None and step.change is None else analyzer.cost(view)


def selected(model: Checkpoint, selection: Selection) -> tuple[list[View], list[Skipped]]:
    """Return the matrices that a selection keeps, in natural order, and what is none.

    Raises:
        NothingToAnalyseError: No matrix is left.
    """
    views, skipped = views_of(model)
    kept = selection.apply(views)
    _require_some(kept, views, skipped, shown(model.spec))
    return kept, skipped


def plan_model(
    model: Checkpoint | Adapter,
    selection: Selection,
    leave_out: Callable[[View], str | None] = lambda _view: None,
) -> Plan:
    """Plan the analysis of one checkpoint.

    Args:
        model: The opened checkpoint.
        selection: Filters from the user.
        leave_out: Returns a reason for a matrix that the analysis is not about.

    Raises:
        UsageError: The model is an adapter, which has no spectrum without its base.
        NothingToAnalyseError: No matrix is left.
    """
    if isinstance(model, Adapter):
        raise UsageError(
            f"{shown(model.spec)} is a LoRA adapter, not a model. Give its base here, or compare: "
            f"`spectra diff BASE {shown(model.spec)}`."
        )
    chosen, skipped = selected(model, selection)
    kept, reasons = [], []
    for view in chosen:
        reason = leave_out(view)
        if reason:
            reasons.append(Skipped(view.name, reason))
        else:
            kept.append(view)
    if reasons and not kept:
        raise NothingToAnalyseError(
            f"no matrix of {shown(model.spec)} is a candidate: {reasons[0].tensor} is left out as "
            f"{reasons[0].reason}. `spectra ls` shows all; --role names others."
        )
    return plan_views(model, kept, skipped + reasons)


def plan_views(model: Checkpoint, views: Sequence[View], skipped: Sequence[Skipped] = ()) -> Plan:
    """Plan the analysis of given matrices of one checkpoint."""
    return Plan(model, None, tuple(_steps((view, None) for view in views)), tuple(skipped))


def plan_pair(
    base: Checkpoint | Adapter,
    tuned: Checkpoint | Adapter,
    selection: Selection,
    *,
    lenient: bool = False,
) -> Plan:
    """Plan the comparison of a base with what became of it.

    Args:
        base: The model before.
        tuned: The model after, or an adapter.
        selection: Filters from the user.
        lenient: Skip matrices of another shape, where otherwise they are refused.

    Raises:
        UsageError: The base is an adapter.
        PairingError: Names are ambiguous, shapes differ, or nothing matches.
        NothingToAnalyseError: No matrix is left after the selection.
    """
    if isinstance(base, Adapter):
        raise UsageError(
            f"{shown(base.spec)} is a LoRA adapter: as BASE give the model it was trained on."
        )
    views, skipped = views_of(base)
    kept = selection.apply(views)
    _require_some(kept, views, skipped, shown(base.spec))
    if isinstance(tuned, Adapter):
        turns = any(view.part.transposed for view in views)
        changes = adapter_changes(base, kept, tuned, turns=turns)
        if selection != Selection():  # what the base lacks has no role to be selected by
            changes.unpaired = Unpaired(0, len(kept), 0, 0)
    else:
        changes = checkpoint_changes(base, Asked(kept, views, selection), tuned)
    if not lenient or not changes.pairs:
        _refuse_misshapen(changes.wrong, shown(base.spec), shown(tuned.spec))
    if not changes.pairs:
        if isinstance(tuned, Checkpoint):
            theirs, lost = views_of(tuned)
            _require_some(theirs, theirs, lost, shown(tuned.spec))
        first = changes.skipped[0]
        raise PairingError(
            f"no tensor of {shown(tuned.spec)} belongs to one of {shown(base.spec)} that can be "
            f"compared: {quote(first.tensor)}: {first.reason}. Give the base it was trained on."
        )
    steps = tuple(_steps(changes.pairs))
    skipped += changes.skipped + changes.misshapen
    unpaired = changes.unpaired
    if isinstance(tuned, Checkpoint):
        unpaired = unpaired.without(changes.misshapen)
    return Plan(base, tuned, steps, tuple(skipped), changes.warning, unpaired)


def _steps(pairs: Iterable[tuple[View, Change]]) -> Iterable[Step]:
    """Group pairs by what is read at once on either side, in the order of the base's bytes."""
    groups: dict[tuple[str, Slab, str, Slab], list[tuple[View, Change]]] = {}
    for view, change in pairs:
        place = (change.entry.name, change.slab) if isinstance(change, Replaced) else ("", None)
        groups.setdefault((view.entry.name, view.part.slab, *place), []).append((view, change))
    steps = [_step(group) for group in groups.values()]
    return sorted(steps, key=lambda step: _place(step.entry, step.slab))


def _step(group: Sequence[tuple[View, Change]]) -> Step:
    """Return the step of matrices that are read at once."""
    views, changes = zip(*group, strict=True)
    first = changes[0]
    if isinstance(first, Replaced):
        parts = [one.parts for one in changes if isinstance(one, Replaced)]
        first = replace(first, parts={name: part for own in parts for name, part in own.items()})
    return Step(views[0].entry, views, first)


def _refuse_misshapen(wrong: Sequence[str], base: str, tuned: str) -> None:
    """Raise one line for all shapes that differ."""
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise PairingError(
            f"{base} and {tuned} do not fit: {wrong[0]}{more}. Give the base it was trained on, "
            "or --exclude what was resized."
        )


def _require_some(
    kept: Sequence[View], views: Sequence[View], skipped: Sequence[Skipped], spec: str
) -> None:
    """Raise where the selection leaves nothing."""
    if kept:
        return
    if not views:
        reasons = Counter(item.reason for item in skipped).most_common(REASONS)
        told = ", ".join(f"{counted(count, 'tensor')} ({reason})" for reason, count in reasons)
        raise NothingToAnalyseError(
            f"{spec} holds no matrix that can be analysed: {told or 'it is empty'}."
        )
    raise NothingToAnalyseError(
        f"none of the {len(views):,} matrices of {spec} passes the selection; "
        "`spectra ls` shows their names and roles."
    )


def _place(entry: TensorEntry, slab: Slab) -> tuple[str, int, int]:
    """Return where the bytes begin."""
    return entry.shard, entry.start, (slab or (0, 0))[0]
