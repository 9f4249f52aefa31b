"""Plans of analyzers that take several matrices at once, of a layer or of several models."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from spectra.checkpoint import Adapter, Checkpoint, Skipped
from spectra.errors import NothingToAnalyseError, UsageError
from spectra.matrices import Role, Selection, View, match_names, views_of
from spectra.matrices.layers import place_in
from spectra.matrices.part import Part
from spectra.text import natural, shown
from spectra.work.planning.plan import Member, Plan, in_bytes, require_model, selected
from spectra.work.planning.unread import telling_unread
from spectra.work.task import Input, Task

Roles = Mapping[str, View]


@telling_unread
def plan_layers(model: Checkpoint | Adapter, selection: Selection, roles: Sequence[str]) -> Plan:
    """Plan the analysis of matrices of one layer together, one of each role.

    Where a layer has several of a role, as with attention beside attention or experts, each
    module of it that has one of each is a layer of its own.

    Args:
        model: The opened checkpoint.
        selection: Filters on the matrices.
        roles: Of `words.ROLES`.

    Raises:
        UsageError: The model is an adapter.
        NothingToAnalyseError: No layer has all roles.
    """
    checkpoint = require_model(model)
    views, skipped, notes = selected(checkpoint, selection)
    layers: dict[str, list[View]] = defaultdict(list)
    for view in views:
        place = place_in(view.entry.name)
        if place is not None and view.role.kind in roles:
            layers[view.entry.name.removesuffix(f".{place.rest}")].append(view)
    tasks = []
    for name, held in layers.items():
        found = complete(name, held, roles)
        tasks += [_of_layer(checkpoint, one, own) for one, own in found.items()]
        if not found:
            skipped.append(Skipped(name, _why_not(held, roles)))
    if not tasks:
        told = skipped[-1].reason if layers else "none of these that is asked for lies in a layer"
        raise NothingToAnalyseError(
            f"no layer of {shown(checkpoint.spec)} has {', '.join(roles)}: {told}. "
            f"`spectra ls {shown(checkpoint.spec)}` shows names and roles."
        )
    skipped.sort(key=lambda item: natural(item.tensor))
    return Plan((Member(model),), in_bytes(tasks), tuple(skipped), notes=notes)


def complete(name: str, held: Iterable[View], roles: Sequence[str]) -> dict[str, Roles]:
    """Return the layer, or those modules of it, that have one matrix of each role."""
    modules: dict[str, list[View]] = defaultdict(list)
    for view in held:
        modules[name].append(view)
        inner, expert = view.entry.name[len(name) + 1 :].split("."), view.role.expert
        steps = 2 if inner[0].isdecimal() or (inner[1:2] and inner[1].isdecimal()) else 1
        if expert is None:
            modules[".".join([name, *inner[:steps]])].append(view)
        else:
            modules[f"{name}[expert={expert}]"].append(view)
    found: dict[str, Roles] = {
        module: {role: next(view for view in own if view.role.kind == role) for role in roles}
        for module, own in modules.items()
        if sorted(view.role.kind for view in own) == sorted(roles)
    }
    return {name: found[name]} if name in found else found


def _why_not(held: Sequence[View], roles: Sequence[str]) -> str:
    kinds = [view.role.kind for view in held]
    lacking = [role for role in roles if role not in kinds]
    if lacking:
        return f"no {', '.join(lacking)} in this layer"
    many = next(role for role in roles if kinds.count(role) > 1)
    return f"{kinds.count(many)} matrices are {many} in this layer: which go together is not known"


def _of_layer(model: Checkpoint, name: str, found: Roles) -> Task:
    first, groups = next(iter(found.values())).place(), {kind.split(".")[0] for kind in found}
    role = groups.pop() if len(groups) == 1 else "other"
    place = replace(first, tensor=name, matrix=name, role=role, part="")
    return Task(place, tuple(Input(kind, model, view) for kind, view in found.items()))


@telling_unread
def plan_moments(
    model: Checkpoint | Adapter, statistics: Checkpoint | Adapter, selection: Selection
) -> Plan:
    """Plan the analysis of every matrix beside the second moments of its inputs.

    Args:
        model: The opened checkpoint.
        statistics: The opened file of moments: tensors of shape [inputs] or [inputs, inputs]
            that have the names of the weights, or of their modules.
        selection: Filters on the matrices.

    Raises:
        UsageError: Either is an adapter.
        NothingToAnalyseError: There are moments of no matrix.
    """
    checkpoint, moments = require_model(model), require_model(statistics)
    views, skipped, notes = selected(checkpoint, selection)
    tasks = []
    for view in views:
        name = view.entry.name
        entry = moments.entries.get(name) or moments.entries.get(name.removesuffix(".weight"))
        if entry is None:
            skipped.append(Skipped(view.name, "no moments of its inputs are given"))
        elif entry.shape not in ((view.cols,), (view.cols, view.cols)):
            told = f"moments of shape {list(entry.shape)} for {view.cols:,} inputs"
            skipped.append(Skipped(view.name, told))
        else:
            rows, cols = (*entry.shape, 1)[:2]
            of_inputs = View(entry.name, Role("other"), entry, Part(), rows, cols)
            inputs = Input("weight", checkpoint, view), Input("moments", moments, of_inputs)
            tasks.append(Task(view.place(), inputs))
    if not tasks:
        raise NothingToAnalyseError(
            f"{shown(moments.spec)} holds moments for no matrix of {shown(checkpoint.spec)}: "
            f"{skipped[-1].tensor}: {skipped[-1].reason}."
        )
    members = Member(model), Member(statistics, "statistics")
    return Plan(members, in_bytes(tasks), tuple(skipped), notes=notes)


@telling_unread
def plan_across(
    models: Sequence[Checkpoint | Adapter], names: Sequence[str], selection: Selection
) -> Plan:
    """Plan the analysis of every matrix of the first model with those of the others.

    Args:
        models: The opened checkpoints, two or more.
        names: A name of each, which its matrices go by.
        selection: Filters on the matrices of the first.

    Raises:
        UsageError: One is an adapter, or there is but one.
        PairingError: A name matches several others equally well.
        NothingToAnalyseError: No matrix is in all of them with one shape.
    """
    opened = [require_model(model) for model in models]
    if len(opened) < 2:
        raise UsageError(f"{len(opened)} model has no others. Give two or more.")
    views, skipped, notes = selected(opened[0], selection)
    twins = []
    for other in opened[1:]:
        pairs, _ = match_names(opened[0].entries, other.entries, f"tensor of {shown(other.spec)}")
        ours = {twin: name for name, twin in pairs.items()}
        twins.append({
            (ours[view.entry.name], view.part.suffix): view
            for view in views_of(other)[0] if view.entry.name in ours
        })  # fmt: skip
    tasks = []
    for view in views:
        own = view.entry.name, view.part.suffix
        found = [view, *(twin[own] for twin in twins if own in twin)]
        sizes = {(one.rows, one.cols) for one in found}
        if len(found) < len(opened) or len(sizes) > 1:
            what = "of another shape" if len(sizes) > 1 else "missing"
            skipped.append(Skipped(view.name, f"{what} in one of the models"))
            continue
        inputs = (Input(*one) for one in zip(names, opened, found, strict=True))
        tasks.append(Task(view.place(), tuple(inputs)))
    if not tasks:
        raise NothingToAnalyseError(
            f"no matrix is in all of {', '.join(shown(one.spec) for one in opened)}: "
            f"{skipped[-1].tensor} is {skipped[-1].reason}."
        )
    members = tuple(
        Member(model, labels={"model": name}) for model, name in zip(models, names, strict=True)
    )
    return Plan(members, in_bytes(tasks), tuple(skipped), notes=notes)
