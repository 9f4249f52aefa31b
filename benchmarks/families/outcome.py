"""What an export of one family selects, held against the model that transformers loads.

Which parameters a selected matrix becomes is found without any table: the matrix is changed in
the file, the file is loaded again, and the parameters that differ are those.
"""

import copy
import json
import re
import shutil
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora.layer import LoraLayer, ParamWrapper
from safetensors.torch import load_file, save_file

import spectra
from spectra.checkpoint import Checkpoint, open_spec
from spectra.errors import SpectraError
from spectra.matrices import View, views_of

FORMS = ("peft", "axolotl", "python")
EXACT = "exact"
Rows = dict[str, torch.Tensor]
"""Which rows of each parameter, as a mask over its first axis."""


@dataclass(frozen=True)
class Outcome:
    """What became of one family."""

    family: str
    model: str  # the class
    accounted: str  # of the tensors of two dimensions and more: how many are matrices or named
    forms: dict[str, str]  # `exact`, `refused: ...` or `WRONG: ...` by form

    @property
    def wrong(self) -> bool:
        """Say whether a form selects anything else than was selected."""
        return any(told.startswith("WRONG") for told in self.forms.values())


def outcome(family: str, model: Any, folder: Path, share: str = "40%") -> Outcome:  # noqa: ANN401
    """Save a model, select from it, export the selection in every form, and judge each.

    Args:
        family: Its model_type.
        model: A tiny PreTrainedModel.
        folder: Where to save it.
        share: What `--select` is given.
    """
    model.save_pretrained(folder)
    name = type(model).__name__
    checkpoint = open_spec(folder)
    assert isinstance(checkpoint, Checkpoint)
    told = accounted(checkpoint)
    try:
        result = spectra.kappa(folder, select=share, cache=False)
    except SpectraError as error:
        why = str(error).replace(str(folder), folder.name)
        return Outcome(family, name, told, dict.fromkeys(FORMS, f"refused: {why}"))
    every = {view.name: view for view in views_of(checkpoint)[0]}
    views = [every[name] for name in result.summary["selected"]]
    load = loader(type(model))
    before, after = load(folder), load(changed(folder, views))
    truth = differing(before, after)
    forms = {}
    for form in FORMS:
        try:
            made = result.export(form)
        except SpectraError as error:
            forms[form] = f"refused: {error}"
            continue
        forms[form] = judged(form, made.text, before, truth)
    return Outcome(family, name, told, forms)


def loader(cls: Any) -> Callable[[Path], Any]:  # noqa: ANN401 - a class of models
    """Return what loads a folder as this class, in silence."""

    def load(folder: Path) -> Any:  # noqa: ANN401 - a model
        torch.manual_seed(0)  # what a file lacks is made up alike both times
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return cls.from_pretrained(folder)

    return load


def accounted(checkpoint: Checkpoint) -> str:
    """Say how many tensors of two dimensions and more are matrices, and how many are not."""
    views, skipped = views_of(checkpoint)
    wide = {name for name, one in checkpoint.entries.items() if len(one.shape) > 1}
    read = {view.entry.name for view in views} & wide
    named = {item.tensor for item in skipped} & wide - read
    lost = len(wide) - len(read) - len(named)
    return (
        f"{len(read)}"
        + (f", {len(named)} by name" if named else "")
        + (f", {lost} LOST" if lost else "")
    )


def changed(folder: Path, views: Iterable[View]) -> Path:
    """Return a copy of a folder in which the entries of some matrices are other ones."""
    other = folder.with_name(f"{folder.name}-changed")
    shutil.copytree(folder, other)
    wanted: dict[str, list[View]] = {}
    for view in views:
        wanted.setdefault(view.entry.name, []).append(view)
    for file in other.glob("*.safetensors"):
        tensors = load_file(file)
        for name in wanted.keys() & tensors.keys():
            places = torch.arange(tensors[name].numel()).view(tensors[name].shape)
            for view in wanted[name]:
                tensors[name].view(-1)[view.of(places).reshape(-1)] += 1.0
        save_file(tensors, file, metadata={"format": "pt"})
    return other


def differing(before: Any, after: Any) -> Rows:  # noqa: ANN401 - models
    """Return the rows of parameters that two models do not have alike."""
    others = dict(after.named_parameters())
    found = {}
    for name, parameter in before.named_parameters():
        differs = (parameter != others[name]) & ~(parameter.isnan() & others[name].isnan())
        rows = differs.flatten(1).any(1) if differs.ndim > 1 else differs.reshape(-1)
        if rows.any():
            found[name] = rows
    return found


def judged(form: str, text: str, model: Any, truth: Rows) -> str:  # noqa: ANN401 - a model
    """Return what a form's consumer makes of an export."""
    try:
        hit = {"peft": wrapped, "axolotl": unfrozen, "python": trained}[form](text, model)
    except Exception as error:  # noqa: BLE001 - whatever a consumer raises is a wrong export
        return f"WRONG: {type(error).__name__}: {' '.join(str(error).split())[:160]}"
    missed, more = sorted(truth.keys() - hit.keys()), sorted(hit.keys() - truth.keys())
    if missed or more:
        return f"WRONG: misses {len(missed)} {missed[:2]}, takes {len(more)} others {more[:2]}"
    short = [name for name, rows in truth.items() if (rows & ~hit[name]).any()]
    return f"WRONG: misses rows of {short[:2]}" if short else EXACT


def wrapped(text: str, model: Any) -> Rows:  # noqa: ANN401 - a model
    """Return the parameters that PEFT puts a LoRA beside."""
    own = dict(model.named_parameters(remove_duplicate=False))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tuned: Any = get_peft_model(copy.deepcopy(model), LoraConfig(r=4, **json.loads(text)))
    found = set()
    for name, module in tuned.base_model.model.named_modules():
        plain = name.replace(".base_layer", "")
        if isinstance(module, ParamWrapper):
            found.add(f"{plain}.{module.parameter_name}")
        elif isinstance(module, LoraLayer):
            found.add(f"{plain}.weight")
    return whole({names[id(own[name])] for name in found}, model)


def unfrozen(text: str, model: Any) -> Rows:  # noqa: ANN401 - a model
    """Return the rows that axolotl trains: its documentation, read word by word."""
    patterns = [json.loads(one) for one in re.findall(r'^  - (".*")$', text, re.MULTILINE)]
    found: Rows = {}
    for name, parameter in model.named_parameters():
        for pattern in patterns:
            cut = re.search(r"\[(\d+):(\d+)\]$", pattern)
            regex = (pattern[: cut.start()] if cut else pattern).replace(".", r"\.")
            if re.match(regex, name):
                rows = found.setdefault(name, torch.zeros(len(parameter), dtype=torch.bool))
                rows[slice(int(cut[1]), int(cut[2])) if cut else slice(None)] = True
    return found


def trained(text: str, model: Any) -> Rows:  # noqa: ANN401 - a model
    """Return the parameters that the exported function leaves trainable."""
    space: dict[str, Any] = {}
    exec(compile(text, "export.py", "exec"), space)  # noqa: S102 - that is what it is for
    tuned = copy.deepcopy(model)
    space["train_only"](tuned)
    return whole([name for name, one in tuned.named_parameters() if one.requires_grad], model)


def whole(names: Sequence[str] | set[str], model: Any) -> Rows:  # noqa: ANN401 - a model
    """Return all rows of some parameters."""
    own = dict(model.named_parameters())
    return {name: torch.ones(max(1, len(own[name])), dtype=torch.bool) for name in names}
