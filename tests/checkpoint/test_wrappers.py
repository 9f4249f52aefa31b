"""Names that wrappers of training have left their parts in."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

import spectra
from examples import write_model
from shards import FIRST, INDEX, SECOND, A, B, opened, write_index, write_shards
from spectra.checkpoint import Checkpoint, open_spec
from spectra.checkpoint.damaged import open_damaged
from spectra.checkpoint.wrappers import plain_names

NAMES = ["layers.0.fc.weight", "layers.1.fc.weight", "head.weight"]


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda name: f"_orig_mod.{name}",
        lambda name: f"module.{name}",
        lambda name: f"module._orig_mod.{name}",
        lambda name: f"_orig_mod.module.{name}",
        lambda name: f"_forward_module.module.{name}",
        lambda name: re.sub(r"(layers\.\d+\.)", r"\1_fsdp_wrapped_module.", name),
        lambda name: re.sub(r"(layers\.\d+\.)", r"\1_checkpoint_wrapped_module.", name),
        lambda name: re.sub(
            r"(layers\.\d+\.)", r"\1_fsdp_wrapped_module._checkpoint_wrapped_module.", name
        ),
    ],
)
def test_the_models_own_names(wrapped: object) -> None:
    assert callable(wrapped)
    stored = [wrapped(name) for name in NAMES]
    new = plain_names(stored)
    assert [new.get(name, name) for name in stored] == NAMES


@pytest.mark.parametrize(
    "names",
    [
        NAMES,
        ["module.a", "head.b"],  # a module of that name beside others
        ["encoder.module.a", "encoder.module.b"],
        ["a", "_orig_mod.a"],  # both are there
        ["x_orig_mod.a", "not_fsdp_wrapped_module.a"],
        ["_orig_mod.", "module."],
        [],
    ],
)
def test_names_that_stay_as_they_are(names: list[str]) -> None:
    assert plain_names(names) == {}


def test_what_lies_beside_the_model_has_no_say(tmp_path: Path) -> None:
    saved = {"state_dict": {"module.a": A, "module.b": B}, "best": torch.tensor(3.0)}
    torch.save(saved, tmp_path / "best.pth.tar")
    read = open_spec(tmp_path / "best.pth.tar", allow_pickle=True)
    assert isinstance(read, Checkpoint)
    assert list(read.entries) == ["a", "b"]
    assert [item.tensor for item in read.skipped] == ["best"]


def test_what_torch_itself_saves(tmp_path: Path) -> None:
    model = nn.Sequential(checkpoint_wrapper(nn.Linear(3, 2)), nn.Linear(2, 2))
    state = nn.DataParallel(model).state_dict()
    inner = torch.compile(model, backend="eager").state_dict()  # type: ignore[attr-defined]
    for number, found in enumerate((state, inner)):
        torch.save(found, tmp_path / f"{number}.pt")
        read = open_spec(tmp_path / f"{number}.pt", allow_pickle=True)
        assert isinstance(read, Checkpoint)
        assert set(read.entries) == {"0.weight", "0.bias", "1.weight", "1.bias"}
        assert torch.equal(read.read(read.entries["1.weight"]), state["module.1.weight"])


def test_shards_agree_with_an_index_of_the_same_stored_names(tmp_path: Path) -> None:
    write_model(tmp_path, {"_orig_mod.a": A}, name=FIRST)
    write_model(tmp_path, {"_orig_mod.b": B}, name=SECOND)
    write_index(tmp_path, {"_orig_mod.a": FIRST, "_orig_mod.b": SECOND})
    survey = open_damaged(tmp_path)
    assert isinstance(survey.checkpoint, Checkpoint)
    assert list(survey.checkpoint.entries) == list(opened(tmp_path).entries) == ["a", "b"]
    assert survey.index == survey.held == {"a": FIRST, "b": SECOND}


def test_shards_that_disagree_with_their_index_still_do(tmp_path: Path) -> None:
    write_shards(tmp_path)
    write_index(tmp_path, {"_orig_mod.a": FIRST, "_orig_mod.b": SECOND}, INDEX)
    survey = open_damaged(tmp_path)
    assert survey.index == {"_orig_mod.a": FIRST, "_orig_mod.b": SECOND}
    assert survey.held == {"a": FIRST, "b": SECOND}


def test_what_is_lost_has_the_models_own_name(tmp_path: Path) -> None:
    write_model(tmp_path, {"_orig_mod.a": A}, name=FIRST)
    write_index(tmp_path, {"_orig_mod.a": FIRST, "_orig_mod.b": SECOND})
    survey = open_damaged(tmp_path)
    assert [fault.tensors for fault in survey.faults] == [("b",)]
    assert [item.tensor for item in survey.checkpoint.skipped] == ["b"]


def test_a_tuned_model_pairs_with_its_base(tmp_path: Path) -> None:
    weights = {name: torch.randn(6, 6) for name in NAMES}
    base = write_model(tmp_path / "base", weights)
    tuned = {
        re.sub(r"(layers\.\d+\.)", r"\1_fsdp_wrapped_module.", name): value + 0.1
        for name, value in weights.items()
    }
    result = spectra.diff(base, write_model(tmp_path / "tuned", tuned))
    assert result.summary["changed"] == len(NAMES)
