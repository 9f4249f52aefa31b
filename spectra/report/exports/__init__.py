"""Selected matrices as settings of what trains them, each checked to mean exactly these."""

import re
from collections.abc import Callable, Sequence

from spectra.checkpoint import Checkpoint
from spectra.checkpoint.quote import quote
from spectra.errors import UsageError
from spectra.matrices import View
from spectra.matrices.selection import suggestion
from spectra.report.exports import axolotl, llamafactory, names, peft, python
from spectra.report.exports.export import Export, Job
from spectra.report.exports.parameters import parameters_of, targets_of

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

_OF_GGUF = re.compile(r"(?:enc\.|dec\.)?blk\.\d+\.")


def export(selected: Sequence[View], checkpoint: Checkpoint, form: str) -> Export:
    """Write the selected matrices in the words of what is to train them.

    Nothing but headers is read. Names are those of transformers 5.

    Args:
        selected: Matrices of the checkpoint, in the order of the ranking.
        checkpoint: The model that they were selected from.
        form: One of FORMS.

    Returns:
        Files, and sentences on what else is trained because it lies in the same tensor.

    Raises:
        UsageError: The form is none, nothing is selected, or the consumer's own rule,
            tried on all names of the model, finds another set than the selected one.
    """
    require_form(form)
    parameters = parameters_of(checkpoint)
    targets = targets_of(selected, parameters)
    foreign = next((one.name for one in targets if _OF_GGUF.match(one.name)), None)
    if foreign is not None and form != "names":
        raise UsageError(
            f"{quote(foreign)} is GGUF's own name, and what {form} would call it is not known. "
            "Select from the original checkpoint, or use --export names."
        )
    job = Job(tuple(selected), tuple(targets), parameters, checkpoint.entries, checkpoint.config)
    return FORMS[form](job)


def require_form(form: str) -> None:
    """Refuse a form of export that there is not.

    Raises:
        UsageError: It is none of FORMS.
    """
    if form not in FORMS:
        raise UsageError(
            f"--export {form!r} is no form of export.{suggestion(form, tuple(FORMS))} Expected "
            f"one of {', '.join(FORMS)}."
        )
