"""Plans of analyzers that take modules of attention, each with all that belongs to it."""

from collections.abc import Sequence
from dataclasses import replace

from spectra.checkpoint import Adapter, Checkpoint, Skipped
from spectra.errors import NothingToAnalyseError
from spectra.matrices import Selection
from spectra.matrices.attention import Module, attentions
from spectra.matrices.view import View, views_of
from spectra.text import counted, listed, natural, shown
from spectra.work.planning.plan import Member, Plan, in_bytes, require_model, selected
from spectra.work.planning.unread import telling_unread
from spectra.work.task import Input, Task

LEAVES = "the selection leaves"  # begins what is lost of a module that the model has whole


@telling_unread
def plan_attention(model: Checkpoint | Adapter, selection: Selection) -> Plan:
    """Plan the analysis of every module of attention, its biases and the norms around it included.

    Args:
        model: The opened checkpoint.
        selection: Filters on the matrices; a module of which it takes some is not complete.

    Raises:
        UsageError: The model is an adapter.
        NothingToAnalyseError: No module of attention is known.
    """
    checkpoint = require_model(model)
    views, skipped, notes = selected(checkpoint, selection)
    found, lost, unknown = attentions(checkpoint, views)
    if selection != Selection():
        lost = _by_selection(checkpoint, views, lost, found)
    if not found:
        first = f"{lost[0].tensor}: {lost[0].reason}" if lost else "none is known by its names"
        if any(one.reason.startswith(LEAVES) for one in lost):
            raise NothingToAnalyseError(
                f"the selection leaves no whole module of attention of {shown(checkpoint.spec)}: "
                f"{first}. Select whole ones, as --role attn and --layers do."
            )
        raise NothingToAnalyseError(
            f"no heads of attention are known in {shown(checkpoint.spec)}: {first}. "
            f"`spectra ls {shown(checkpoint.spec)}` shows names and roles."
        )
    if lost:
        told = counted(len(lost), "module of attention is", "modules of attention are")
        unknown.append(f"{told} left out, such as {lost[0].tensor}: {lost[0].reason}.")
    skipped = sorted([*skipped, *lost], key=lambda item: natural(item.tensor))
    tasks = in_bytes(_task(checkpoint, one) for one in found)
    return Plan((Member(model),), tasks, tuple(skipped), notes=(*notes, *unknown))


def _by_selection(
    checkpoint: Checkpoint, kept: Sequence[View], lost: Sequence[Skipped], found: Sequence[Module]
) -> list[Skipped]:
    """Return what is lost of modules: by the selection, where the model has them whole.

    Those of which a part is selected come first; where nothing is found, all others follow.
    """
    whole, broken, _ = attentions(checkpoint, views_of(checkpoint)[0])
    reasons = {one.tensor: one.reason for one in broken}
    told = [Skipped(one.tensor, reasons[one.tensor]) for one in lost if one.tensor in reasons]
    names, there = {view.name for view in kept}, {one.about.module for one in found}
    parts: list[Skipped] = []
    others: list[Skipped] = []
    for one in whole:
        own = [view.name for role, view in one.parts.items() if "." not in role]
        some = [name for name in own if name in names]
        reason = f"{LEAVES} {listed(some) if some else 'none'} of its {len(own)} matrices"
        if one.about.module not in there:
            (parts if some else others).append(Skipped(one.about.module, reason))
    return [*parts, *told, *([] if found else others)]


def _task(model: Checkpoint, module: Module) -> Task:
    about, parts = module.about, module.parts
    place = replace(
        parts["q"].place(), tensor=about.module, matrix=about.module, role="attn",
        rows=about.written, cols=about.memory, part="",
    )  # fmt: skip
    inputs = tuple(Input(role, model, view) for role, view in parts.items())
    return Task(place, inputs, about)
