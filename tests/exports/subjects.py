"""Models as their users have them, what was selected from them, and what training changed."""

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from peft.tuners.lora.layer import LoraLayer, ParamWrapper
from torch import nn

from matrices.saved import save
from matrices.tiny import build
from spectra.checkpoint import Checkpoint, TensorEntry, open_spec
from spectra.matrices import View, views_of


@dataclass
class Subject:
    """A model in memory, and the checkpoint that it was loaded from."""

    model: Any
    checkpoint: Checkpoint
    views: dict[str, View]

    def pick(self, *names: str) -> list[View]:
        return [self.views[name] for name in names]

    def sample(self, seed: int, share: int = 6) -> list[View]:
        """Return a random selection such as a ranking could give."""
        eligible = [v for v in self.views.values() if v.role.kind not in {"embed", "lm_head"}]
        return random.Random(seed).sample(eligible, max(2, len(eligible) // share))  # noqa: S311

    def changed_by(self, rows: dict[str, list[int]], folder: Path) -> set[str]:
        """Add 1 to some rows of some parameters, save, and return the matrices that differ.

        None may differ in part: that would be a matrix half trained.
        """
        parameters = dict(self.model.named_parameters(remove_duplicate=False))
        with torch.no_grad():
            for name, some in rows.items():
                parameters[name][some] += 1.0
        self.model.save_pretrained(folder)
        with torch.no_grad():
            for name, some in rows.items():
                parameters[name][some] -= 1.0
        after = open_spec(folder)
        assert isinstance(after, Checkpoint)
        changed = set()
        for name, view in self.views.items():
            before_values = view.of(self.checkpoint.read(view.entry))
            after_values = view.of(after.read(after.entries[view.entry.name]))
            differs = (before_values - after_values).abs() > 0.5
            assert differs.all() or not differs.any(), f"{name} changed in part"
            if differs.all():
                changed.add(name)
        return changed


def tiny(family: str, folder: Path) -> Subject:
    """Save a tiny model as such models are published, and open the file."""
    saved = save(build(family), folder, original=True)
    return Subject(saved.model, saved.checkpoint, {view.name: view for view in saved.views})


def opened(folder: Path, model: nn.Module) -> Subject:
    checkpoint = open_spec(folder)
    assert isinstance(checkpoint, Checkpoint)
    return Subject(model, checkpoint, {view.name: view for view in views_of(checkpoint)[0]})


def named(
    *tensors: str,
    shape: tuple[int, ...] = (4, 4),
    **config: Any,  # noqa: ANN401 - JSON
) -> Checkpoint:
    """Return a checkpoint of headers alone."""
    entries = {name: TensorEntry(name, "F32", shape, "x.safetensors", 0, 64) for name in tensors}
    return Checkpoint("x", "x", entries, config)


def view(checkpoint: Checkpoint, name: str) -> View:
    return next(one for one in views_of(checkpoint)[0] if one.name == name)


def wrapped(tuned: Any) -> set[str]:  # noqa: ANN401 - a PeftModel
    """Return the weights that PEFT has put a LoRA on, by their names in the model."""
    found = set()
    for name, module in tuned.base_model.model.named_modules():
        own = name.replace(".base_layer", "")
        if isinstance(module, ParamWrapper):
            found.add(f"{own}.{module.parameter_name}")
        elif isinstance(module, LoraLayer):
            found.add(f"{own}.weight")
    return found


def trainable(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def rows_unfrozen(model: nn.Module, patterns: Sequence[str]) -> dict[str, list[int]]:
    """Return the rows that axolotl trains: its documentation, read word by word."""
    rows: dict[str, set[int]] = {}
    for name, parameter in model.named_parameters():
        for pattern in patterns:
            cut = re.search(r"\[(\d+):(\d+)\]$", pattern)
            regex = (pattern[: cut.start()] if cut else pattern).replace(".", r"\.")
            if re.match(regex, name):
                first, last = (int(cut[1]), int(cut[2])) if cut else (0, len(parameter))
                rows.setdefault(name, set()).update(range(first, last))
    return {name: sorted(some) for name, some in rows.items()}


def all_rows(model: nn.Module, names: Iterable[str]) -> dict[str, list[int]]:
    parameters = dict(model.named_parameters(remove_duplicate=False))
    return {name: list(range(len(parameters[name]))) for name in names}


def run(text: str) -> dict[str, Any]:
    """Execute an exported Python file."""
    space: dict[str, Any] = {}
    exec(compile(text, "export.py", "exec"), space)  # noqa: S102 - that is what it is for
    return space


hf.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
