"""Plans of what became of one base in several models: each of its matrices with all of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from spectra.checkpoint import Adapter, Checkpoint, Skipped
from spectra.errors import UsageError
from spectra.matrices import Selection
from spectra.text import counted, natural, shown
from spectra.work.planning.plan import Labels, Member, Plan, in_bytes, plan_pair
from spectra.work.planning.unread import telling_unread
from spectra.work.task import Input, Replaced, Task


@dataclass(slots=True)
class _Found:
    tasks: dict[str, list[Input]] = field(default_factory=dict)  # by matrix
    skipped: list[tuple[Skipped, str]] = field(default_factory=list)  # and in which model
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@telling_unread
def plan_updates(
    base: Checkpoint | Adapter,
    tuned: Sequence[Checkpoint | Adapter],
    labels: Sequence[Labels],
    selection: Selection,
) -> Plan:
    """Plan the comparison of what several models made of one base.

    A task has one matrix of the base, and what each model that has it made of it, by the model's
    number, from 0. A matrix that one lacks is compared between the others.

    Args:
        base: The model before.
        tuned: The models after, checkpoints and adapters as they come; two or more.
        labels: Of each, its name as `model` among them.
        selection: Filters from the user.

    Raises:
        UsageError: There are too few, or the base is an adapter.
        PairingError: One does not fit the base.
        NothingToAnalyseError: No matrix is left after the selection.
    """
    if len(tuned) < 2:
        raise UsageError(f"{counted(len(tuned), 'model')} after the base, expected two or more.")
    found = _Found()
    for number, (model, own) in enumerate(zip(tuned, labels, strict=True)):
        _add(found, plan_pair(base, model, selection), str(number), str(own["model"]))
    tasks = []
    for inputs in found.tasks.values():
        alike = _of_one_size(inputs)
        tasks.append(Task(alike[0].view.place(), alike))
    members = (
        Member(base, "base"),
        *(Member(model, "tuned", own) for model, own in zip(tuned, labels, strict=True)),
    )
    return Plan(
        members, in_bytes(tasks), _told(found.skipped, len(tuned)),
        " ".join(dict.fromkeys(found.warnings)), notes=tuple(dict.fromkeys(found.notes)),
    )  # fmt: skip


def _add(found: _Found, plan: Plan, number: str, name: str) -> None:
    """Note what one model made of the base's matrices."""
    for task in plan.tasks:
        (one,) = task.inputs
        found.tasks.setdefault(task.place.matrix, []).append(replace(one, role=number))
    found.skipped += [(item, name) for item in plan.skipped]
    found.notes += plan.notes
    if plan.warning:
        found.warnings.append(plan.warning)
    if plan.unpaired is not None and (told := plan.unpaired.text()):
        found.notes.append(f"{shown(name)}: {told.removesuffix('.')}")


def _of_one_size(inputs: Sequence[Input]) -> tuple[Input, ...]:
    """Return inputs of one number of rows: vocabularies are compared where all have them."""
    least = min(one.view.rows for one in inputs)
    return tuple([one if one.view.rows == least else _cut(one, least) for one in inputs])


def _cut(one: Input, rows: int) -> Input:
    """Return the first rows of an input; a vocabulary's lie together, as it was cut before."""
    part, change = replace(one.view.part, block=(0, rows)), one.change
    if isinstance(change, Replaced):
        there = replace(change.part, block=(0, rows))
        change = replace(change, slab=there.slab, part=there)
    return replace(one, view=replace(one.view, part=part, rows=rows), change=change)


def _told(skipped: Sequence[tuple[Skipped, str]], count: int) -> tuple[Skipped, ...]:
    """Return skips in order, those of every model once and the others with the model's name."""
    models: dict[Skipped, list[str]] = {}
    for item, name in skipped:
        models.setdefault(item, []).append(name)
    told = [
        one
        for item, names in models.items()
        for one in ([item] if len(names) == count else [replace(item, model=x) for x in names])
    ]
    return tuple(sorted(told, key=lambda item: natural(item.tensor)))
