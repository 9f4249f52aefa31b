"""Every family of transformers: each tensor is a row or a skip, and each row as its module has it.

The models are on no device: names, shapes and modules are all that is asked for.
"""

import warnings
from functools import cache
from math import prod
from typing import Any

import pytest
import torch
from torch import nn
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.pytorch_utils import Conv1D

from benchmarks.families.page import PATH
from families import class_for, class_of, config_of, model_types
from spectra.checkpoint import Checkpoint, TensorEntry
from spectra.matrices import View, views_of

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)

UNLIKE_THEIR_NAMES = {"eomt", "eomt_dinov3", "videomt"}  # `query` is a table, as the code tells
GROUPS_UNTOLD = {"zaya"}  # of a grouped convolution; it is one matrix
FLOATING = {torch.float32: "F32", torch.float64: "F64", torch.bfloat16: "BF16"}


@cache
def one_of_each_module() -> list[str]:
    """Return one family of each of transformers' modules: the whole, not its towers.

    Those that docs/families.md says cannot be built are left out; all others must be.
    """
    unbuilt = {line.split("`")[1] for line in PATH.read_text("utf-8").partition("## Not built")[2]
               .splitlines() if line.startswith("| `")}  # fmt: skip
    found: dict[str, str] = {}
    for family in model_types():
        home = CONFIG_MAPPING[family].__module__
        if len(family) < len(found.get(home, family + " ")):
            found[home] = family
    return sorted(set(found.values()) - unbuilt)


def on_no_device(family: str) -> Any:  # noqa: ANN401 - a PreTrainedModel
    name = class_for(family)
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = config_of(family)
        return class_of(name, config)(config)


@pytest.mark.parametrize("family", one_of_each_module())
def test_every_tensor_is_read_as_its_module_has_it(family: str) -> None:
    model = on_no_device(family)
    tensors = model.state_dict()
    entries = {
        name: TensorEntry(name, FLOATING.get(value.dtype, "I64"), tuple(value.shape), "x", 0, 1)
        for name, value in tensors.items()
    }
    views, skipped = views_of(Checkpoint("x", "x", entries, model.config.to_dict()))
    rows: dict[str, list[View]] = {}
    for view in views:
        rows.setdefault(view.entry.name, []).append(view)
    reasons = {item.tensor: item.reason for item in skipped}
    modules = dict(model.named_modules())
    for name, entry in entries.items():
        assert (name in rows) != (name in reasons), name
        if name in rows:
            parts = rows[name]
            assert sum(view.rows * view.cols for view in parts) == entry.numel, name
        owner, _, leaf = name.rpartition(".")
        counted = entry.numel and len(entry.shape) > 1 and entry.shape[:2] != (1, 1)
        if leaf == "weight" and counted:
            check(family, modules[owner], rows.get(name, []), name, reasons.get(name, ""))


def check(family: str, module: nn.Module, parts: list[View], name: str, reason: str) -> None:
    """Compare the matrices of a module's weight with what the module does with it."""
    told = f"{family}: {name}: {[(v.name, v.rows, v.cols, v.role.kind) for v in parts]} {reason}"
    kinds = {view.role.kind for view in parts}
    turned = {view.part.transposed for view in parts}
    shape = tuple(module.weight.shape) if isinstance(module.weight, torch.Tensor) else ()
    if isinstance(module, nn.Linear):
        assert sum(view.rows for view in parts) == shape[0], told
        assert turned == {False}, told
        assert {view.cols for view in parts} == {shape[1]}, told
        assert not kinds & {"embed", "conv"}, told
    elif isinstance(module, Conv1D):
        assert turned == {True}, told
        assert {view.cols for view in parts} == {shape[0]}, told
    elif isinstance(module, nn.Embedding):
        assert kinds == {"embed"} or family in UNLIKE_THEIR_NAMES, told
    elif isinstance(module, CONVOLUTIONS):
        assert kinds, told
        assert not kinds & {"embed", "other"}, told
        assert sum(view.rows for view in parts) == module.out_channels, told
        assert turned == {False}, told
        depthwise = module.groups in (1, module.in_channels) or shape[1] == 1
        assert depthwise or len(parts) == module.groups or family in GROUPS_UNTOLD, told
    elif isinstance(module, TRANSPOSED) and (module.groups == 1 or shape[1] > 1):
        assert turned == {True}, told
        assert {view.cols for view in parts} == {shape[0] // module.groups}, told
        assert {view.rows for view in parts} == {prod(shape[1:])}, told
