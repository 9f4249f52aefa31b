"""Which tensors of several models a check reads together, so that each is read once."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from spectra.analyzers import Row
from spectra.checkpoint import Adapter, Checkpoint, TensorEntry
from spectra.checkpoint.adapter.biases import OF_WEIGHT, Shift, moved_biases
from spectra.checkpoint.adapter.updates.update import Update
from spectra.gate.reading import Reading
from spectra.matrices import Selection, match_names
from spectra.matrices.part import Part
from spectra.policy.facts import is_buffer
from spectra.text import natural, shown
from spectra.words import FAILED, VECTOR
from spectra.work import Plan, plan_pair
from spectra.work.executor import key_of
from spectra.work.planning.plan import Member, in_bytes
from spectra.work.read import Read
from spectra.work.task import Change, Input, Remade, Replaced, Shifted, Task

ORDER = ("model", "base", "baseline", "proxy", "change", "earlier", "meant")
"""Of the inputs of a task: whole tensors before what may need a part of them."""

WHOSE = {"change": "model", "earlier": "baseline"}
"""The model that a comparison with the base is of."""

Key = tuple[str, str]  # a side, and a matrix of it


@dataclass(slots=True)
class Sides:
    """Matrices that are one task: the model's, its base's, and what others made of that."""

    groups: dict[Key, dict[str, Input]] = field(default_factory=lambda: defaultdict(dict))
    homes: dict[Key, Key] = field(default_factory=dict)  # the group that a matrix belongs to

    def compare(self, side: str, base: Reading, tuned: Reading) -> Plan:
        """Join to each matrix of the base what became of it; before either is added.

        Raises:
            PairingError: Nothing of one belongs to the other.
        """
        plan = plan_pair(base.weights, tuned.survey.checkpoint, Selection(), lenient=True)
        tied = base.weights.config.get("tie_word_embeddings") is not False
        opened = tuned.survey.checkpoint
        unread = _unread(base.weights, opened) if isinstance(opened, Adapter) else set()
        for task in plan.tasks:
            (one,) = task.inputs
            head = one.view.role.kind == "lm_head" and tied  # what the adapter makes of embeddings
            buffer = is_buffer(one.view.entry.name, one.view.entry.shape)
            left = head or buffer or one.view.entry.name in unread
            if side == "meant" and not one.change and left:
                continue
            key = base.part, one.view.name
            self.groups[key][side] = Input(side, one.source, one.view, True, one.change)
            if isinstance(one.change, Replaced) and side in WHOSE:
                name = one.change.entry.name + one.change.part.suffix
                self.homes[WHOSE[side], name] = key
        return plan

    def compare_vectors(self, base: Reading, model: Reading, adapter: Reading) -> list[str]:
        """Join to each vector of the base what a merge made of it, and what an adapter would.

        Returns:
            The biases that the adapter moves, and that base and model do not both have in its size.
        """
        opened = adapter.survey.checkpoint
        if not isinstance(opened, Adapter):
            return []
        own = {view.name: view for view in base.views if view.role.kind == VECTOR}
        theirs = {view.name: view for view in model.views if view.role.kind == VECTOR}
        found, _ = match_names(base.weights.entries, model.weights.entries, "tensor")
        saved, _ = match_names(base.weights.entries, opened.saved, "tensor")
        ways = moved_biases(opened)
        moved, lost = match_names(own, ways, "bias")
        lost = [name for name in lost if isinstance(ways[name], Shift)]  # others move what is there
        for name, view in own.items():
            other, whole = theirs.get(found.get(name, "")), opened.saved.get(saved.get(name, ""))
            way, size = ways.get(moved.get(name, "")), view.entry.shape
            beside = [whole, other.entry if other else None,
                      way.entry if isinstance(way, Shift) else None]  # fmt: skip
            shapes = {size, *(one.shape for one in beside if one is not None)}
            fits = not isinstance(way, Update) or (whole is None and way.shape[0] in (0, *size))
            if other is None or len(shapes) > 1 or not fits or is_buffer(name, size):
                lost += [name] if way is not None else []
                continue
            key = base.part, name
            self.homes[model.part, other.name] = key
            change = Replaced(model.weights, other.entry, None, Part())
            self.groups[key]["change"] = Input("change", base.weights, view, True, change)
            meant = _vector(base.weights, adapter.weights, name, whole, way)
            self.groups[key]["meant"] = Input("meant", base.weights, view, True, meant)
        return lost

    def add(self, reading: Reading) -> None:
        """Add every tensor of a model."""
        for view in reading.views:
            key = reading.part, view.name
            one = Input(reading.part, reading.weights, view)
            self.groups[self.homes.get(key, key)][reading.part] = one

    def add_proxy(self, widths: Plan) -> None:
        """Add the matrices of the other model of two whose widths are compared."""
        proxy = widths.members[-1].opened
        for task in widths.tasks:
            (one,) = task.inputs
            if one.source is proxy:
                self.groups["proxy", one.view.name]["proxy"] = Input("proxy", proxy, one.view)

    def plan(self, reading: Reading) -> Plan:
        """Return everything that is read."""
        tasks = []
        for group in self.groups.values():
            inputs = sorted(group.values(), key=lambda one: ORDER.index(one.role))
            lead = inputs[0]
            tasks.append(Task(lead.view.place({"model": lead.role}), tuple(inputs)))
        return Plan((Member(reading.weights),), in_bytes(tasks), reading.left)


def rows_by_side(tasks: Iterable[Task], rows: Sequence[Row]) -> dict[str, dict[str, Row]]:
    """Return what was measured on each side, by the matrix's name there, in natural order.

    What a comparison tells of a matrix of the model stands in the model's row, as does what an
    adapter tells; of matrices that the model lacks it is a row of its own.
    """
    known = {key_of(task.place): task for task in tasks}
    found: dict[str, dict[str, Row]] = defaultdict(dict)
    for row in rows:
        inputs = {one.role: one for one in known[key_of(row.place)].inputs}
        told: dict[str, Any] = dict(row.values)
        if row.status == FAILED:  # of all that was read with it nothing is known
            lost = {"status": FAILED, "error": row.error, "values": row.values}
            told = dict.fromkeys([*inputs, *(["width"] if "model" in inputs else [])], lost)
        for side, whose in (*WHOSE.items(), ("meant", "model")):
            if whose in told and side in told:
                found[side][inputs[whose].view.name] = _row(inputs[whose], told.pop(side))
        for side, one in told.items():
            source = inputs.get(side, inputs.get("model"))
            if source is not None:
                found[side][source.view.name] = _row(source, one)
    return {
        side: dict(sorted(named.items(), key=lambda item: natural(item[0])))
        for side, named in found.items()
    }


def _unread(base: Checkpoint, adapter: Adapter) -> set[str]:
    """Return the weights that an adapter changes in a way that is not read."""
    names = [f"{item.tensor}.weight" for item in adapter.untold]
    return set(match_names(base.entries, names, f"module of {shown(adapter.spec)}")[0])


def _vector(
    base: Checkpoint,
    adapter: Checkpoint,
    name: str,
    whole: TensorEntry | None,
    way: Shift | Update | None,
) -> Change:
    """Return what an adapter makes of a vector of the base.

    Args:
        base: The model it was trained on.
        adapter: Where its tensors lie.
        name: Of the vector.
        whole: What it stores in its place.
        way: How else it moves it.
    """
    if isinstance(way, Shift):
        return Shifted(adapter, way.entry, way.scale, way.rank, whole)
    if isinstance(way, Update):
        weight = base.entries.get(f"{name.removesuffix('bias')}weight")
        asked = weight is not None and way.method == OF_WEIGHT
        return Remade(adapter, way, False, Read(base, weight) if weight and asked else None)
    return None if whole is None else Replaced(adapter, whole, None, Part())


def _row(one: Input, told: Mapping[str, Any]) -> Row:
    return Row(one.view.place(), told["status"], told["error"], told["values"])
