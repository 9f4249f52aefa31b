"""Selected matrices as settings of what trains them, each checked to mean exactly these."""

import re
from collections.abc import Callable, Sequence, Sized
from dataclasses import replace

from spectra.checkpoint import Checkpoint
from spectra.checkpoint.factored import factors_of
from spectra.errors import UsageError
from spectra.exports import axolotl, llamafactory, names, peft, python
from spectra.exports.export import LEAVE_OUT, Export, Job
from spectra.exports.kept import remembered
from spectra.exports.memory import Memory, memory_of
from spectra.exports.parameters import parameters_of, targets_of
from spectra.matrices import View
from spectra.text import guess, quote

__all__ = ["FORMS", "SUFFIXES", "Export", "export", "require_form"]

FORMS: dict[str, Callable[[Job], Export]] = {
    "peft": peft.write,
    "axolotl": axolotl.write,
    "llamafactory": llamafactory.write,
    "python": python.write,
    "names": names.write,
}
"""Every form of export: a file of this folder and a line here."""

SUFFIXES: dict[str, tuple[str, ...]] = {
    "peft": (".json", ".py"),
    "axolotl": (".yaml",),
    "llamafactory": (".yaml",),
    "python": (".py",),
    "names": (".txt",),
}
"""What files each form is written to; the first is printed."""

_OF_GGUF = re.compile(r"(?:\w+\.)?blk\.[0-9]+\.")


def export(
    selected: Sequence[View], checkpoint: Checkpoint, form: str, *, cached: bool = False
) -> Export:
    """Write the selected matrices in the words of what is to train them.

    Nothing but headers is read. Names are those of parameters in memory: as the installed
    transformers has them, or as the table of its version 5 that comes with this package.

    Args:
        selected: Matrices of the checkpoint, in the order of the ranking.
        checkpoint: The model that they were selected from.
        form: One of FORMS.
        cached: The store may be asked what transformers said before, and keeps it.

    Returns:
        Files, and sentences on what else is trained because it lies in the same tensor.

    Raises:
        UsageError: The form is none, nothing is selected, what the names become in memory is
            not known, or the consumer's own rule, tried on all names of the model, finds
            another set than the selected one.
    """
    require_form(form)
    require_some(selected)
    _require_own(selected, checkpoint)
    if form == "names":
        return names.write(Job(tuple(selected), checkpoint))
    foreign = next((view for view in selected if _OF_GGUF.match(view.name)), None)
    if foreign is not None:
        raise UsageError(_gguf(foreign, form))
    whole = next((view for view in selected if factors_of(view.entry)), None)
    if whole is not None:
        raise UsageError(_factored(whole, form))
    memory, troubles = remembered(checkpoint) if cached else (memory_of(checkpoint), ())
    for view in selected:
        if view.entry.name not in memory.landings:
            raise UsageError(_not_loaded(view, memory, form))
    parameters = parameters_of(checkpoint, memory)
    targets = tuple(targets_of(selected, parameters))
    made = FORMS[form](Job(tuple(selected), checkpoint, targets, parameters, memory))
    more = [memory.note] if memory.note else []
    return replace(made, notes=(*made.notes, *more, *(f"{one}." for one in troubles)))


def require_some(selected: Sized) -> None:
    """Refuse to export nothing.

    Raises:
        UsageError: Nothing is selected.
    """
    if not selected:
        raise UsageError("nothing is selected to export. Select with --select, such as 10%.")


def _require_own(selected: Sequence[View], checkpoint: Checkpoint) -> None:
    stranger = next((one for one in selected if one.entry.name not in checkpoint.entries), None)
    if stranger is not None:
        raise UsageError(
            f"the selected matrix {quote(stranger.name)} is none of this checkpoint. Export what "
            "was selected from the same one."
        )


def _not_loaded(view: View, memory: Memory, form: str) -> str:
    """Say why a selected matrix belongs to no parameter in memory."""
    name = view.entry.name
    if view.entry.shard.endswith(".gguf"):
        return _gguf(view, form)
    if "/" in name:
        where = "of a module beside the transformers model, which"
        return f"{quote(name)} is a weight {where} {form} cannot name. {LEAVE_OUT}"
    return (
        f"{quote(name)} is not loaded by {memory.name}: no parameter of the model comes of it. "
        f"{LEAVE_OUT}"
    )


def _factored(view: View, form: str) -> str:
    factors = " and ".join(quote(one.name) for one in factors_of(view.entry)[-2:])
    return (
        f"{quote(view.name)} is stored as factors ({factors}), and the model has no module of its "
        f"name that {form} could find. Give those to what trains it, or use --export names."
    )


def _gguf(view: View, form: str) -> str:
    return (
        f"{quote(view.entry.name)} is GGUF's own name, and what {form} would call it is not "
        "known. Select from the original checkpoint, or use --export names."
    )


def require_form(form: str) -> None:
    """Refuse a form of export that there is not.

    Raises:
        UsageError: It is none of FORMS.
    """
    if form not in FORMS:
        raise UsageError(
            f"--export {form!r} is no form of export.{guess(form, FORMS)} Expected "
            f"one of {', '.join(FORMS)}."
        )
