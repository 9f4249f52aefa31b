"""Plans of two models, module by module: what may stand in another order goes together."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from spectra.checkpoint import Adapter, Checkpoint, Skipped
from spectra.errors import NothingToAnalyseError
from spectra.matrices import Selection, View, match_names, views_of
from spectra.matrices.attention import Attention, attentions
from spectra.matrices.layers import place_in
from spectra.text import natural, shown
from spectra.work.planning.changes import Unpaired
from spectra.work.planning.groups import complete
from spectra.work.planning.plan import Member, Plan, in_bytes, require_model, selected
from spectra.work.planning.unread import telling_unread
from spectra.work.task import Input, Task

MLP = ("mlp.gate", "mlp.up", "mlp.down")
ATTENTION = ("q", "k", "v", "o")
Module = tuple[str, Mapping[str, View], Attention | None]


@telling_unread
def plan_twins(
    first: Checkpoint | Adapter, second: Checkpoint | Adapter, selection: Selection
) -> Plan:
    """Plan the comparison of two models whose units may stand in another order.

    Args:
        first: The model that stays as it is.
        second: The one whose units may move.
        selection: Filters on the matrices; a module of which it takes some stays as it is.

    Raises:
        UsageError: One is an adapter.
        PairingError: A name matches several others equally well.
        NothingToAnalyseError: No matrix is in both with one shape.
    """
    one, other = require_model(first), require_model(second)
    views, skipped, notes = selected(one, selection)
    pairs, _ = match_names(one.entries, other.entries, f"tensor of {shown(other.spec)}")
    ours = {twin: name for name, twin in pairs.items()}
    twins = {(ours[view.entry.name], view.part.suffix): view
             for view in views_of(other)[0] if view.entry.name in ours}  # fmt: skip
    kept: dict[str, View] = {}
    both: list[View] = []
    alone: list[Skipped] = []
    for view in views:
        twin = twins.get((view.entry.name, view.part.suffix))
        if twin is None or (twin.rows, twin.cols) != (view.rows, view.cols):
            what = "missing" if twin is None else f"{twin.rows} x {twin.cols}"
            alone.append(Skipped(view.name, f"{what} in {shown(other.spec)}"))
        else:
            kept[view.name] = twin
            both.append(view)
    if not both:
        raise NothingToAnalyseError(
            f"no matrix is in both of {shown(one.spec)} and {shown(other.spec)}: "
            f"{alone[-1].tensor} is {alone[-1].reason}. Expected two models of one architecture, "
            f"with the same names; `spectra ls {shown(one.spec)} {shown(other.spec)}` shows them."
        )
    paired, theirs = {twin.name for twin in kept.values()}, selected(other, selection)[0]
    strange = [
        Skipped(view.name, f"missing in {shown(one.spec)}", shown(other.spec))
        for view in theirs
        if view.name not in paired and view.name not in {each.tensor for each in alone}
    ]
    unpaired = Unpaired(
        len(alone), len(views), sum(view.name not in paired for view in theirs), len(theirs),
        next(iter((*alone, *strange)), None), "of the second model", "of the first model",
    )  # fmt: skip
    skipped += [*alone, *strange]
    modules, more = _modules(one, both)
    tasks = in_bytes(_task(one, other, module, kept) for module in modules)
    skipped.sort(key=lambda item: natural(item.tensor))
    members = Member(first, "base"), Member(second, "tuned")
    return Plan(members, tasks, tuple(skipped), unpaired=unpaired, notes=(*notes, *more))


def _modules(model: Checkpoint, views: Sequence[View]) -> tuple[list[Module], list[str]]:
    """Return attention, MLPs and experts, then every matrix that is in none."""
    found: list[Module] = []
    heads, lost, _ = attentions(model, views)
    for module in heads:
        parts = {role: module.parts[role] for role in ATTENTION}
        found.append((module.about.module, parts, module.about))
    found += _mlps(views)
    inside = {view.name for _, parts, _ in found for view in parts.values()}
    found += [(view.name, {"whole": view}, None) for view in views if view.name not in inside]
    told = []
    if lost:
        told.append(
            f"The heads of {lost[0].tensor}{' and others' * (len(lost) > 1)} are not known "
            f"({lost[0].reason}): they stay in their order."
        )
    return found, told


def _mlps(views: Sequence[View]) -> Iterator[Module]:
    """Yield what has one up, one down and perhaps one gate, with as many units in each."""
    layers: dict[str, list[View]] = defaultdict(list)
    for view in views:
        place = place_in(view.entry.name)
        if place is not None and view.role.kind in MLP:
            layers[view.entry.name.removesuffix(f".{place.rest}")].append(view)
    for name, held in layers.items():
        left = list(held)
        for roles in (MLP, MLP[1:]):
            for module, parts in complete(name, left, roles).items():
                units = {parts[role].rows for role in roles[:-1]} | {parts[roles[-1]].cols}
                if len(units) == 1:
                    own = {role.split(".")[1]: view for role, view in parts.items()}
                    yield module if module != name else f"{name}.mlp", own, None
                    left = [view for view in left if view not in parts.values()]


def _task(one: Checkpoint, other: Checkpoint, module: Module, twins: Mapping[str, View]) -> Task:
    name, parts, about = module
    first = next(iter(parts.values()))
    place = first.place()
    if len(parts) > 1:
        role = first.role.kind.split(".")[0]
        place = replace(place, tensor=name, matrix=name, role=role, part="")
    mine = [Input(f"a.{role}", one, view) for role, view in parts.items()]
    theirs = [Input(f"b.{role}", other, twins[view.name]) for role, view in parts.items()]
    return Task(place, (*mine, *theirs), about)
