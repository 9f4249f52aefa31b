"""Plans of analyzers that take the matrices of one role in layers that follow each other."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from spectra.checkpoint import Adapter, Checkpoint, Skipped
from spectra.errors import NothingToAnalyseError
from spectra.matrices import Selection, View
from spectra.matrices.layers import LayerName, place_in
from spectra.text import natural, shown
from spectra.work.planning.plan import Member, Plan, in_bytes, require_model, selected
from spectra.work.planning.unread import telling_unread
from spectra.work.task import Input, Task

Placed = tuple[LayerName, View]
ALONE = "no other layer beside it has a matrix of this name and as many inputs"


@telling_unread
def plan_neighbours(model: Checkpoint | Adapter, selection: Selection, size: int) -> Plan:
    """Plan the analysis of matrices of one role, so many layers at a time.

    Matrices go together that have the same name but for the layer, and as many inputs.

    Args:
        model: The opened checkpoint.
        selection: Filters on the matrices.
        size: Layers at a time.

    Raises:
        UsageError: The model is an adapter.
        NothingToAnalyseError: No two layers have a matrix in common.
    """
    checkpoint = require_model(model)
    views, skipped, notes = selected(checkpoint, selection)
    stacks: dict[tuple[object, ...], list[Placed]] = defaultdict(list)
    for view in views:
        place = place_in(view.entry.name)
        if view.role.expert is not None:
            told = "an expert: that of the same number in another layer has nothing to do with it"
            skipped.append(Skipped(view.name, told))
        elif place is None:
            skipped.append(Skipped(view.name, "it lies in no layer"))
        else:
            key = place.prefix, place.rest, view.part.suffix, view.cols
            stacks[key].append((place, view))
    tasks = []
    for held in stacks.values():
        held.sort(key=lambda one: one[0].numbers)
        for start in range(0, len(held), size):
            some = held[start : start + size]
            if len(some) > 1:
                tasks.append(_of(checkpoint, some))
            else:
                skipped.append(Skipped(some[0][1].name, ALONE if len(held) == 1 else _last(size)))
    if not tasks:
        raise NothingToAnalyseError(
            f"no two layers of {shown(checkpoint.spec)} have a matrix in common: "
            f"{skipped[-1].tensor}: {skipped[-1].reason}. "
            f"`spectra ls {shown(checkpoint.spec)}` shows names and roles."
        )
    skipped.sort(key=lambda item: natural(item.tensor))
    return Plan((Member(model),), in_bytes(tasks), tuple(skipped), notes=notes)


def _last(size: int) -> str:
    return f"the last layer of its stack, which groups of {size:,} leave alone"


def _of(model: Checkpoint, some: Sequence[Placed]) -> Task:
    (first, view), (last, _) = some[0], some[-1]
    name = f"{first.prefix}{first.numbers[-1]}-{last.numbers[-1]}.{first.rest}{view.part.suffix}"
    rows = sum(view.rows for _, view in some)
    place = replace(view.place(), tensor=name, matrix=name, rows=rows)
    inputs = (Input(str(place.numbers[-1]), model, view) for place, view in some)
    return Task(place, tuple(inputs))
