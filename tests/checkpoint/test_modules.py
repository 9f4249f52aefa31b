"""Folders of sentence-transformers: all modules are one model."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from examples import write_model
from loopback import Loopback
from shards import A, B, opened, refusal, write_shards
from spectra.checkpoint import Checkpoint, Skipped, open_spec
from spectra.checkpoint.damaged import Survey, open_damaged
from spectra.errors import CheckpointError

DENSE = {"linear.weight": torch.arange(8.0).reshape(2, 4), "linear.bias": torch.ones(2)}
KINDS = ("Transformer", "Pooling", "Dense")


def write_modules(folder: Path, paths: Sequence[object] = ("", "1_Pooling", "2_Dense")) -> Path:
    listed = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (path, kind) in enumerate(zip(paths, KINDS, strict=False))
    ]
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "modules.json").write_text(json.dumps(listed))
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = write_model(write_modules(tmp_path / "model"), {"a": A}, '{"model_type": "bert"}')
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text("{}")
    write_model(folder / "2_Dense", DENSE, '{"in_features": 4}')
    return folder


def survey(folder: Path, *, allow_pickle: bool = False) -> Survey:
    """Open with what may be lost, after checking that what is whole opens alike."""
    found = open_damaged(folder, allow_pickle=allow_pickle)
    assert isinstance(found.checkpoint, Checkpoint)
    if not found.faults:
        other = open_spec(folder, allow_pickle=allow_pickle)
        assert isinstance(other, Checkpoint)
        assert found.checkpoint.entries == other.entries
        assert found.checkpoint.unread == other.unread
        assert list(found.checkpoint.files) == list(other.files)
    return found


class TestAllModules:
    def test_those_after_the_first_have_their_folder_in_their_names(self, model: Path) -> None:
        found = opened(model)
        assert list(found.entries) == ["a", "2_Dense/linear.bias", "2_Dense/linear.weight"]
        assert (found.spec, found.resolved) == (str(model), str(model))
        assert found.config == {"model_type": "bert"}
        assert set(found.files) == {"model.safetensors", "2_Dense/model.safetensors"}
        entry = found.entries["2_Dense/linear.weight"]
        assert torch.equal(found.read(entry), DENSE["linear.weight"])
        assert found.unread == ()
        assert survey(model).faults == ()

    def test_a_first_module_in_a_folder_of_its_own(self, model: Path) -> None:
        (model / "0_Transformer").mkdir()
        for name in ("model.safetensors", "config.json"):
            (model / name).rename(model / "0_Transformer" / name)
        write_modules(model, ("0_Transformer", "1_Pooling", "2_Dense"))
        found = opened(model)
        assert list(found.entries) == ["a", "2_Dense/linear.bias", "2_Dense/linear.weight"]
        assert found.config == {"model_type": "bert"}
        assert torch.equal(found.read(found.entries["a"]), A)
        assert survey(model).faults == ()

    def test_a_first_module_in_shards(self, model: Path) -> None:
        (model / "model.safetensors").unlink()
        write_shards(model)
        found = survey(model)
        held = {"2_Dense/linear.weight", "2_Dense/linear.bias"}
        assert set(opened(model).entries) == {"a", "b", *held}
        assert found.index == found.held
        assert found.index is not None
        assert set(found.index) == {"a", "b", *held}

    def test_pickles_where_they_are_allowed(self, model: Path) -> None:
        (model / "2_Dense" / "model.safetensors").unlink()
        torch.save(DENSE, model / "2_Dense" / "pytorch_model.bin")
        said = Skipped("2_Dense/pytorch_model.bin", "PyTorch pickle, opened only with "
                       "--allow-pickle")  # fmt: skip
        assert opened(model).unread == (said,)
        assert survey(model).checkpoint.unread == (said,)  # type: ignore[union-attr]
        found = survey(model, allow_pickle=True).checkpoint
        assert isinstance(found, Checkpoint)
        values = found.read(found.entries["2_Dense/linear.weight"])
        assert torch.equal(values, DENSE["linear.weight"])

    def test_other_files_of_a_module(self, model: Path) -> None:
        torch.save(DENSE, model / "2_Dense" / "pytorch_model.bin")
        assert opened(model).unread == (
            Skipped(
                "2_Dense/pytorch_model.bin",
                "another format of weights (PyTorch pickle); model.safetensors is read",
            ),
        )

    def test_modules_inside_a_module(self, model: Path) -> None:
        write_model(model / "1_Pooling" / "query_Dense", DENSE)
        said = Skipped(
            "1_Pooling/query_Dense/model.safetensors", "a module inside the module 1_Pooling"
        )
        assert opened(model).unread == (said,)
        assert survey(model).checkpoint.unread == (said,)  # type: ignore[union-attr]

    def test_a_module_that_needs_no_folder(self, model: Path) -> None:
        shutil.rmtree(model / "1_Pooling")
        assert len(opened(model).entries) == 3

    def test_one_file_is_one_file(self, model: Path) -> None:
        assert list(opened(model / "model.safetensors").entries) == ["a"]
        assert list(opened(model / "2_Dense").entries) == ["linear.bias", "linear.weight"]

    def test_from_the_hub(self, hub: Loopback, model: Path) -> None:
        hub.add("org/name", model)
        found = opened("org/name")
        assert list(found.entries) == ["a", "2_Dense/linear.bias", "2_Dense/linear.weight"]
        entry = found.entries["2_Dense/linear.weight"]
        assert torch.equal(found.read(entry), DENSE["linear.weight"])
        assert found.resolved.startswith("hf://org/name@")
        assert found.spec == "org/name"


class TestDamaged:
    def test_a_module_that_is_cut(self, model: Path) -> None:
        path = model / "2_Dense" / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-4])
        found = survey(model)
        (fault,) = found.faults
        assert fault.file == "2_Dense/model.safetensors"
        assert fault.tensors == ("2_Dense/linear.weight",)
        assert "the download was cut" in fault.text
        assert f"{path} ends at byte" in refusal(model)

    def test_a_module_that_is_cut_in_its_header(self, model: Path) -> None:
        path = model / "2_Dense" / "model.safetensors"
        path.write_bytes(path.read_bytes()[:20])
        (fault,) = survey(model).faults
        assert fault.file == "2_Dense/model.safetensors"
        assert fault.text.startswith("ends at byte 20 inside its own header")

    def test_a_module_whose_weights_are_not_there(self, model: Path) -> None:
        (model / "2_Dense" / "model.safetensors").unlink()
        said = "is not in the folder, and a module Dense has weights"
        (fault,) = survey(model).faults
        assert (fault.file, fault.text) == ("2_Dense/model.safetensors", said)
        assert opened(model).unread == (Skipped("2_Dense/model.safetensors", said),)


class TestMalformed:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("{", "modules.json is not JSON"),
            ("{}", "modules.json holds {}, expected a list of modules"),
            ("[]", "modules.json holds [], expected a list of modules"),
            ("[1]", "modules.json holds 1, expected a module with its path"),
            ('[{"path": 3}]', "modules.json holds {'path': 3}, expected a module with its path"),
            ('[{"path": ""}, {"path": ""}]', "modules.json puts two modules in one folder"),
            ('[{"path": "0_X"}]', "names the module '0_X', which is not in its folder"),
        ],
    )
    def test_text(self, model: Path, text: str, words: str) -> None:
        (model / "modules.json").write_text(text)
        assert words in refusal(model)

    @pytest.mark.parametrize("path", ["..", "../x", "/etc", "a/../../b", "a//b", "./a"])
    def test_a_path_that_climbs_out(self, model: Path, path: str) -> None:
        write_model(model.parent / "x", {"b": B})
        write_modules(model, ("", path))
        text = refusal(model)
        assert f"puts a module in {path!r}, which is no place inside its folder. Refused" in text
        with pytest.raises(CheckpointError, match="Refused"):
            open_damaged(model)
