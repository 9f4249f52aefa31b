"""What will be read and measured, settled from headers before any weight is read."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from spectra.analyzers import Analyzer
from spectra.checkpoint import Adapter, Checkpoint, LoraFactors, Skipped, TensorEntry
from spectra.errors import NothingToAnalyseError, PairingError, UsageError
from spectra.matrices import Selection, View, match_names, natural, views_of

NO_COUNTERPART = "no counterpart in the base"


@dataclass(frozen=True, slots=True)
class Replaced:
    """The tensor is stored anew, in a tuned checkpoint or beside an adapter's factors."""

    source: Checkpoint
    entry: TensorEntry


@dataclass(frozen=True, slots=True)
class Updated:
    """An adapter adds `scale * B @ A`; `flipped` where that is stored transposed."""

    source: Checkpoint
    factors: LoraFactors
    flipped: bool


Change: TypeAlias = Replaced | Updated | None


@dataclass(frozen=True, slots=True)
class Step:
    """One stored tensor to read, and the matrices in it."""

    entry: TensorEntry
    views: tuple[View, ...]
    change: Change = None  # for pairs; None there means unchanged

    @property
    def nbytes(self) -> int:
        """Bytes to read."""
        if isinstance(self.change, Replaced):
            return self.entry.nbytes + self.change.entry.nbytes
        if isinstance(self.change, Updated):
            factors = self.change.factors
            return self.entry.nbytes + factors.a.nbytes + factors.b.nbytes
        return self.entry.nbytes


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that one analysis will do."""

    checkpoint: Checkpoint  # the model, or the base of a pair
    tuned: Checkpoint | Adapter | None
    steps: tuple[Step, ...]
    skipped: tuple[Skipped, ...]
    warning: str = ""  # what a reader must know before the numbers

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
            f"{model.spec} is a LoRA adapter, not a model. Give its base here, or compare: "
            f"`spectra diff BASE {model.spec}`."
        )
    views, skipped = views_of(model)
    kept, reasons = [], []
    for view in selection.apply(views):
        reason = leave_out(view)
        if reason:
            reasons.append(Skipped(view.name, reason))
        else:
            kept.append(view)
    if reasons and not kept:
        raise NothingToAnalyseError(
            f"no matrix of {model.spec} is a candidate: {reasons[0].tensor} is left out as "
            f"{reasons[0].reason}. `spectra ls` shows all; --role names others."
        )
    _require_some(kept, views, model.spec)
    steps = [Step(entry, tuple(group)) for entry, group in _by_tensor(kept)]
    return Plan(model, None, tuple(steps), tuple(skipped + reasons))


def plan_pair(
    base: Checkpoint | Adapter, tuned: Checkpoint | Adapter, selection: Selection
) -> Plan:
    """Plan the comparison of a base with what became of it.

    Raises:
        UsageError: The base is an adapter.
        PairingError: Names are ambiguous, shapes differ, or nothing matches.
        NothingToAnalyseError: No matrix is left after the selection.
    """
    if isinstance(base, Adapter):
        raise UsageError(
            f"{base.spec} is a LoRA adapter: as BASE give the model it was trained on."
        )
    views, skipped = views_of(base)
    kept = selection.apply(views)
    _require_some(kept, views, base.spec)
    warning = ""
    if isinstance(tuned, Adapter):
        changes, unmatched = _adapter_changes(base, tuned)
        lost = len({item.tensor for item in unmatched} & set(tuned.factors))
        if lost:
            warning = (
                f"{lost:,} of the adapter's {len(tuned.factors):,} modules match no tensor of the "
                "base, and what they change is not seen here."
            )
    else:
        changes, unmatched = _checkpoint_changes(base, tuned)
    steps = []
    wrong: list[str] = []
    for entry, group in _by_tensor(kept):
        if entry.name not in changes:
            skipped += [Skipped(view.name, "no counterpart in the tuned model") for view in group]
            continue
        change = changes[entry.name]
        problem = _misshapen(entry, group, change)
        if problem:
            wrong.append(problem)
        steps.append(Step(entry, tuple(group), change))
    _refuse_misshapen(wrong, base.spec, tuned.spec)
    if not steps:
        raise PairingError(
            f"no tensor of {tuned.spec} belongs to one of {base.spec}: the names share no ending. "
            "Give the base it was trained on."
        )
    return Plan(base, tuned, tuple(steps), (*skipped, *unmatched), warning)


def _checkpoint_changes(
    base: Checkpoint, tuned: Checkpoint
) -> tuple[dict[str, Change], list[Skipped]]:
    """Find each base tensor's counterpart in a tuned checkpoint."""
    found, unmatched = match_names(base.entries, tuned.entries, f"tensor of {tuned.spec}")
    changes: dict[str, Change] = {
        name: Replaced(tuned, tuned.entries[other]) for name, other in found.items()
    }
    return changes, [Skipped(name, NO_COUNTERPART) for name in unmatched]


def _adapter_changes(base: Checkpoint, tuned: Adapter) -> tuple[dict[str, Change], list[Skipped]]:
    """Find the base tensor that each of an adapter's modules changes; the rest stays."""
    changes: dict[str, Change] = dict.fromkeys(base.entries)
    names = _weight_names(tuned.factors, base)
    found, unmatched = match_names(base.entries, list(names), f"module of {tuned.spec}")
    saved, strangers = match_names(base.entries, tuned.saved, f"tensor of {tuned.spec}")
    if not found and not saved:
        raise PairingError(
            f"no module of {tuned.spec} belongs to a tensor of {base.spec}, e.g. "
            f"{next(iter(names.values()))!r}. Give the base it was trained on."
        )
    for name, other in saved.items():
        changes[name] = Replaced(tuned.weights, tuned.saved[other])
    for name, other in found.items():
        factors = tuned.factors[names[other]]
        stored = base.entries[name].shape
        turned = bool(tuned.config.get("fan_in_fan_out"))
        # PEFT corrects a wrong flag; only a shape that fits one way alone decides.
        if turned and stored[0] == factors.shape[0] != stored[-1]:
            turned = False
        changes[name] = Updated(tuned.weights, factors, turned)
    skipped = [Skipped(names[name], NO_COUNTERPART) for name in unmatched]
    skipped += [Skipped(name, NO_COUNTERPART) for name in strangers]
    return changes, [*tuned.skipped, *skipped]


def _weight_names(factors: Mapping[str, LoraFactors], base: Checkpoint) -> dict[str, str]:
    """Return the weight name of each module: `.weight`, or none for bare parameters."""
    bare = {name for name in base.entries if not name.endswith(".weight")}
    return {module if module in bare else f"{module}.weight": module for module in factors}


def _misshapen(entry: TensorEntry, views: Sequence[View], change: Change) -> str:
    """Say how a change does not fit its tensor; empty where it does."""
    if isinstance(change, Replaced) and change.entry.shape != entry.shape:
        return (
            f"tensor {entry.name!r} is {_shape(entry.shape)} there and "
            f"{_shape(change.entry.shape)} here"
        )
    if isinstance(change, Updated):
        view, update = views[0], change.factors.shape
        # A fused tensor counts whole, whatever parts of it are selected.
        rows = entry.shape[-1] if view.part.transposed else entry.shape[0]
        if change.flipped and not view.part.transposed:
            update = (update[1], update[0])
        if (rows, view.cols) != update:
            return (
                f"tensor {entry.name!r} is {_shape(entry.shape)} there and the update "
                f"{_shape(change.factors.shape)} here"
            )
    return ""


def _refuse_misshapen(wrong: Sequence[str], base: str, tuned: str) -> None:
    """Raise one line for all shapes that differ."""
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise PairingError(
            f"{base} and {tuned} do not fit: {wrong[0]}{more}. Give the base it was trained on, "
            "or --exclude what was resized."
        )


def _require_some(kept: Sequence[View], views: Sequence[View], spec: str) -> None:
    """Raise where the selection leaves nothing."""
    if kept:
        return
    if not views:
        raise NothingToAnalyseError(
            f"{spec} holds no matrix that can be analysed; `spectra ls` gives the reasons."
        )
    raise NothingToAnalyseError(
        f"none of the {len(views):,} matrices of {spec} passes the selection; "
        "`spectra ls` shows their names and roles."
    )


def _by_tensor(views: Sequence[View]) -> list[tuple[TensorEntry, list[View]]]:
    """Group matrices by the tensor that holds them, in the order of the bytes on disk."""
    groups: dict[str, tuple[TensorEntry, list[View]]] = {}
    for view in views:
        groups.setdefault(view.entry.name, (view.entry, []))[1].append(view)
    return sorted(groups.values(), key=lambda group: (group[0].shard, group[0].start))


def _shape(shape: tuple[int, ...]) -> str:
    """Write a shape."""
    return " x ".join(f"{extent:,}" for extent in shape)
