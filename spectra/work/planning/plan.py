"""What will be read and measured, settled from headers before any weight is read."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from spectra.analyzers.analyzer import OfPieces, Particular
from spectra.checkpoint import Adapter, Checkpoint, Skipped
from spectra.checkpoint.adapter.biases import moved_biases
from spectra.checkpoint.adapter.factors import DROPPED
from spectra.checkpoint.adapter.settings import CONFIG
from spectra.errors import NothingToAnalyseError, PairingError, UsageError
from spectra.matrices import Selection, View, match_names, views_of
from spectra.matrices.apart import adapter_views, with_pieces
from spectra.matrices.layers import layers_of
from spectra.matrices.unmatched import unfit, why_none
from spectra.numbers import percent
from spectra.text import counted, natural, quote, shown
from spectra.work.executor import in_order
from spectra.work.planning.adapted import adapter_changes
from spectra.work.planning.by_head import split_by_head
from spectra.work.planning.changes import Asked, Unpaired, checkpoint_changes
from spectra.work.planning.unread import telling_unread
from spectra.work.task import Change, Input, Task, bytes_of

Labels: TypeAlias = Mapping[str, str | int]

REASONS = 3  # that an error names, the most frequent ones


@dataclass(frozen=True, slots=True)
class Member:
    """One opened model of a plan, and what tells it from the others."""

    opened: Checkpoint | Adapter
    part: str = "model"  # or base, tuned
    labels: Labels = field(default_factory=dict)  # `model`, its name, and its `width` or `step`


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that one analysis will do."""

    members: tuple[Member, ...]
    tasks: tuple[Task, ...]  # in the order of their bytes
    skipped: tuple[Skipped, ...] = ()
    warning: str = ""  # what a reader must know before the numbers
    unpaired: Unpaired | None = None  # of a pair of models
    notes: tuple[str, ...] = ()  # on filters that fit nothing, as errors tell it

    @property
    def checkpoint(self) -> Checkpoint:
        """The model, or the base of a pair."""
        return weights_of(self.members[0].opened)

    @property
    def views(self) -> list[View]:
        """The matrix of every row, the first where there are several; natural order of names."""
        return [task.views[0] for task in in_order(self.tasks)]

    @property
    def nbytes(self) -> int:
        """Bytes that will be read."""
        return bytes_of(self.tasks)

    def labelled(self, labels: Labels) -> "Plan":
        """Return the plan of a model that is one of several."""
        members = tuple(replace(member, labels=labels) for member in self.members)
        tasks = tuple(
            replace(task, place=replace(task.place, labels=labels)) for task in self.tasks
        )
        return replace(self, members=members, tasks=tasks)


def weights_of(opened: Checkpoint | Adapter) -> Checkpoint:
    """Return a checkpoint, or the tensors of an adapter as one."""
    return opened.weights if isinstance(opened, Adapter) else opened


def several(plans: Sequence[Plan], warning: str = "") -> Plan:
    """Return one plan of several models, each with a name among its labels."""
    return Plan(
        tuple(member for plan in plans for member in plan.members),
        tuple(task for plan in plans for task in plan.tasks),
        tuple(
            replace(item, model=str(plan.members[0].labels["model"]))
            for plan in plans
            for item in plan.skipped
        ),
        warning,
        notes=_notes_of(plans),
    )


def _notes_of(plans: Sequence[Plan]) -> tuple[str, ...]:
    """Return the notes on several models, those that are not on all with the model's name."""
    every = dict.fromkeys(note for plan in plans for note in plan.notes)
    found = []
    for note in every:
        names = [str(plan.members[0].labels["model"]) for plan in plans if note in plan.notes]
        found.append(note if len(names) == len(plans) else f"{', '.join(names)}: {note}")
    return tuple(found)


def selected(
    model: Checkpoint, selection: Selection, factors: bool | None = None
) -> tuple[list[View], list[Skipped], tuple[str, ...]]:
    """Return what a selection keeps, in natural order: matrices, and what is none; and its notes.

    Args:
        model: The opened checkpoint.
        selection: Filters from the user.
        factors: Also what matrices are sums of, and where true their stored factors.

    Raises:
        NothingToAnalyseError: No matrix is left.
    """
    views, skipped = views_of(model)
    if factors is not None:
        views = with_pieces(views, factors=factors)
    kept = selection.apply(views)
    _require_some(kept, views, skipped, shown(model.spec), selection)
    return kept, _asked_for(model, selection, skipped), unfit(selection, views, skipped)


def _asked_for(model: Checkpoint, selection: Selection, skipped: list[Skipped]) -> list[Skipped]:
    """Return what is no matrix and passes the filters on names and layers."""
    if selection == Selection():
        return skipped
    layers = layers_of([*model.entries, *(item.tensor for item in skipped)])
    return [item for item in skipped if selection.names(item.tensor, layers[item.tensor])]


@telling_unread
def plan_model(
    model: Checkpoint | Adapter,
    selection: Selection,
    analyzer: object = None,
) -> Plan:
    """Plan the analysis of one checkpoint.

    Args:
        model: The opened checkpoint.
        selection: Filters from the user.
        analyzer: One that is not about every matrix says which it leaves out.

    Raises:
        UsageError: The model is an adapter, which has no spectrum without its base.
        NothingToAnalyseError: No matrix is left.
    """
    if isinstance(analyzer, OfPieces) and isinstance(model, Adapter):
        return _plan_adapter(model, selection)
    model = require_model(model)
    pieces = analyzer.factors if isinstance(analyzer, OfPieces) else None
    kept, skipped, notes = selected(model, selection, pieces)
    reasons: list[Skipped] = []
    if isinstance(analyzer, Particular):
        told = {view.name: analyzer.why_not(view, selection.roles) for view in kept}
        reasons = [Skipped(name, reason) for name, reason in told.items() if reason]
        kept = [view for view in kept if not told[view.name]]
    if reasons and not kept:
        raise NothingToAnalyseError(
            f"no matrix of {shown(model.spec)} is a candidate: {reasons[0].tensor} is left out as "
            f"{reasons[0].reason}. `spectra ls {shown(model.spec)}` shows all; --role names others."
        )
    return Plan((Member(model),), tasks_of(model, kept), tuple(skipped + reasons), notes=notes)


def _plan_adapter(adapter: Adapter, selection: Selection) -> Plan:
    """Plan the analysis of an adapter's own matrices and of their products."""
    views, skipped = adapter_views(adapter)
    kept, model = selection.apply(views), adapter.weights
    _require_some(kept, views, skipped, shown(adapter.spec), selection)
    notes = [*unfit(selection, views, skipped)]
    if any(own.magnitude is not None for own in adapter.factors.values()):
        notes.append(
            "DoRA's lengths of outputs are in no update: what both make of a matrix, --base tells"
        )
    told = _asked_for(model, selection, skipped)
    return Plan((Member(adapter),), tasks_of(model, kept), tuple(told), notes=tuple(notes))


def require_model(opened: Checkpoint | Adapter) -> Checkpoint:
    """Return a model.

    Raises:
        UsageError: It is an adapter, whose factors are no matrices of one.
    """
    if isinstance(opened, Adapter):
        raise UsageError(
            f"{shown(opened.spec)} is a LoRA adapter, not a model. Give its base here, or compare: "
            f"`spectra diff BASE {shown(opened.spec)}`; its spectra: `spectra spectrum "
            f"{shown(opened.spec)} --base BASE`."
        )
    return opened


def tasks_of(model: Checkpoint, views: Iterable[View]) -> tuple[Task, ...]:
    """Return a task for each of a checkpoint's matrices."""
    return in_bytes(Task(view.place(), (Input("", model, view),)) for view in views)


def in_bytes(tasks: Iterable[Task]) -> tuple[Task, ...]:
    """Return tasks in the order in which their bytes lie."""
    return tuple(sorted(tasks, key=lambda task: task.start))


def require_base(
    base: Checkpoint | Adapter, tuned: Checkpoint | Adapter, asking: str = "diff"
) -> Checkpoint:
    """Return the model before, where it is one.

    Args:
        base: What was given as it.
        tuned: What was given as the model after.
        asking: The command, for whoever took the one for the other.

    Raises:
        UsageError: It is an adapter.
    """
    if not isinstance(base, Adapter):
        return base
    turned = f"`spectra {asking} {shown(tuned.spec)} {shown(base.spec)}`"
    other = f" The other way round: {turned}." if isinstance(tuned, Checkpoint) else ""
    raise UsageError(
        f"{shown(base.spec)} is {base.noun}: as BASE give the model it was trained on.{other}"
    )


@telling_unread
def plan_pair(
    base: Checkpoint | Adapter,
    tuned: Checkpoint | Adapter,
    selection: Selection,
    *,
    lenient: bool = False,
    by_head: bool = False,
) -> Plan:
    """Plan the comparison of a base with what became of it.

    Args:
        base: The model before.
        tuned: The model after, or an adapter.
        selection: Filters from the user.
        lenient: Skip matrices of another shape, where otherwise they are refused.
        by_head: Take those of attention head by head.

    Raises:
        UsageError: The base is an adapter, or no heads are known.
        PairingError: Names are ambiguous, shapes differ, or nothing matches.
        NothingToAnalyseError: No matrix is left after the selection.
    """
    base = require_base(base, tuned)
    views, skipped = views_of(base)
    kept = selection.apply(views)
    _require_some(kept, views, skipped, shown(base.spec), selection)
    notes = unfit(selection, views, skipped)
    skipped = _asked_for(base, selection, skipped)
    if isinstance(tuned, Adapter):
        turned = {view.entry.name for view in views if view.part.transposed}
        changes = adapter_changes(base, kept, tuned, turned=turned)
        notes = (*notes, *_method_of(tuned, changes.pairs))
        notes = (*notes, *_vectors_of(base, tuned, changes.pairs))
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
    pairs, more = split_by_head(base, changes.pairs) if by_head else (changes.pairs, ())
    tasks = in_bytes(
        Task(view.place(), (Input("", base, view, True, change),)) for view, change in pairs
    )
    skipped += changes.skipped + changes.misshapen
    unpaired = changes.unpaired
    if isinstance(tuned, Checkpoint):
        unpaired = unpaired.without(changes.misshapen)
    members = Member(base, "base"), Member(tuned, "tuned")
    return Plan(members, tasks, tuple(skipped), changes.warning, unpaired, (*notes, *more))


def _vectors_of(
    base: Checkpoint, tuned: Adapter, pairs: Iterable[tuple[View, Change]]
) -> Iterable[str]:
    """Say of an adapter that changes matrices that it brings norms and biases too."""
    if dropped := [item.tensor for item in tuned.skipped if item.reason == DROPPED]:
        biases = counted(len(dropped), "bias", "biases")
        yield (f"{shown(tuned.spec)} holds {biases} of lora_B, such as {quote(dropped[0])}, which "
               f"PEFT drops: {CONFIG} does not set lora_bias")  # fmt: skip
    stored = [name for name, entry in tuned.saved.items() if len(entry.shape) == 1]
    names = dict.fromkeys([*moved_biases(tuned), *stored])
    try:
        found, _ = match_names(base.entries, names, f"bias of {shown(tuned.spec)}")
    except PairingError:  # which of several is meant is for who compares them
        return
    if found and any(change is not None for _, change in pairs):
        first = min(found, key=natural)
        whole = counted(len(found), "norm or bias", "norms and biases")
        such = f"{quote(first)}" if len(found) == 1 else f"such as {quote(first)}"
        yield f"{shown(tuned.spec)} also brings {whole}, {such}: matrices alone are measured"


def _method_of(tuned: Adapter, pairs: Iterable[tuple[View, Change]]) -> Iterable[str]:
    """Say of an adapter that is no LoRA what the change is, which may look like something else."""
    if not tuned.updates:
        return
    more = ""
    stored = [dict(own.parts)["shira_weight"].numel
              for own in tuned.updates.values() if own.method == "shira"]  # fmt: skip
    sizes = [view.rows * view.cols for view, change in pairs if change is not None]
    if stored and len(sizes) == len(stored) == len(tuned.updates):
        more += f"; it holds {percent(sum(stored) / sum(sizes))} of the entries of its matrices"
    yield f"{shown(tuned.spec)} is {tuned.noun}: the change is what it makes of the base{more}"


def _refuse_misshapen(wrong: Sequence[str], base: str, tuned: str) -> None:
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise PairingError(
            f"{base} and {tuned} do not fit: {wrong[0]}{more}. Give the base it was trained on, "
            "or --exclude what was resized."
        )


def _require_some(
    kept: Sequence[View],
    views: Sequence[View],
    skipped: Sequence[Skipped],
    spec: str,
    selection: Selection | None = None,
) -> None:
    if kept:
        return
    if not views:
        reasons = Counter(item.reason for item in skipped).most_common(REASONS)
        told = ", ".join(f"{counted(count, 'tensor')} ({reason})" for reason, count in reasons)
        raise NothingToAnalyseError(
            f"{spec} holds no matrix that can be analysed: {told or 'it is empty'}."
        )
    why = why_none(selection or Selection(), views, skipped)
    raise NothingToAnalyseError(
        f"none of the {len(views):,} matrices of {spec} passes the selection. {why} "
        f"`spectra ls {spec}` shows their names and roles."
    )
