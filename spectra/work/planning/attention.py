"""Plans of analyzers that take modules of attention, each with all that belongs to it."""

from dataclasses import replace

from spectra.checkpoint import Adapter, Checkpoint
from spectra.errors import NothingToAnalyseError
from spectra.matrices import Selection
from spectra.matrices.attention import Module, attentions
from spectra.text import counted, natural, shown
from spectra.work.planning.plan import Member, Plan, in_bytes, require_model, selected
from spectra.work.planning.unread import telling_unread
from spectra.work.task import Input, Task


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
    if not found:
        first = f"{lost[0].tensor}: {lost[0].reason}" if lost else "none is known by its names"
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


def _task(model: Checkpoint, module: Module) -> Task:
    about, parts = module.about, module.parts
    place = replace(
        parts["q"].place(), tensor=about.module, matrix=about.module, role="attn",
        rows=about.written, cols=about.memory, part="",
    )  # fmt: skip
    inputs = tuple(Input(role, model, view) for role, view in parts.items())
    return Task(place, inputs, about)
