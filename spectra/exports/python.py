"""Python: a function that freezes a model but for the parameters that were selected."""

import ast
from collections.abc import Iterable, Sequence

from spectra.exports.export import Export, Job, notes_on, notes_on_quantised, require_exact
from spectra.exports.text import comments, python_list

_PYTHON = '''"""Trains exactly what `spectra kappa` selected: {count} of a model's parameters."""

{notes}NAMES = {names}


def train_only(model):
    """Freeze a torch module but for NAMES; return these as the model calls them.

    A model that puts one prefix before all names, such as `bert.`, is understood.

    Raises:
        ValueError: The model lacks one of them; nothing was changed.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    first = "." + NAMES[0]
    prefixes = [""] + [n[: -len(NAMES[0])] for n in parameters if n.endswith(first)]
    fitting = [p for p in prefixes if all(p + name in parameters for name in NAMES)]
    if not fitting:
        missing = [name for name in NAMES if name not in parameters]
        raise ValueError(
            f"the model has no parameter {{missing[0]!r}} ({{len(missing)}} of {{len(NAMES)}} are "
            "missing). Load it with the class that its config.json names."
        )
    if fitting[0] and len(fitting) > 1:
        raise ValueError(f"the model has these parameters more than once: under {{fitting}}.")
    chosen = [fitting[0] + name for name in NAMES]
    for parameter in parameters.values():
        parameter.requires_grad_(False)
    for name in chosen:
        parameters[name].requires_grad_(True)
    return chosen
'''


def write(job: Job) -> Export:
    """Return the export.

    Raises:
        UsageError: The file does not name exactly the selected parameters.
    """
    wanted = [target.name for target in job.targets]
    text = _PYTHON.format(
        count=len(wanted),
        notes=comments(target.told() for target in job.targets),
        names=python_list(wanted),
    )
    require_exact("python", wanted, hit_by_names(named_in(text), job.parameters))
    return Export("python", {".py": text}, (*notes_on(job.targets), *notes_on_quantised(job)))


def named_in(text: str) -> list[str]:
    """Return the list NAMES of the file as Python reads it."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "NAMES":
            return [str(name) for name in ast.literal_eval(node.value)]
    return []


def hit_by_names(names: Sequence[str], parameters: Iterable[str]) -> list[str]:
    """Return the parameters that the function unfreezes in the model of the checkpoint."""
    known = set(names)
    return [name for name in parameters if name in known]
