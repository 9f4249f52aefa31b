"""What else lies in a folder of weights, and why it was not opened."""

import re
import shutil
from pathlib import Path

import pytest
import torch

import spectra
from examples import write_model
from shards import FIRST, INDEX, SECOND, A, B, opened, refusal, write_index, write_shards
from spectra.checkpoint import Adapter, Checkpoint, open_spec
from spectra.checkpoint.damaged import open_damaged
from spectra.errors import CheckpointError
from spectra.report.screens import screen_of


def unread(folder: Path) -> dict[str, str]:
    """Return the reasons by file, after checking that a damaged opening says the same."""
    found = opened(folder).unread
    survey = open_damaged(folder)
    assert isinstance(survey.checkpoint, Checkpoint)
    assert survey.checkpoint.unread == found
    return {item.tensor: item.reason for item in found}


class TestOneFile:
    def test_nothing_else(self, tmp_path: Path) -> None:
        for name in ("optimizer.pt", "training_args.bin", "scheduler.pt", "tokenizer.json"):
            (tmp_path / name).write_bytes(b"x")
        assert unread(write_model(tmp_path, {"a": A})) == {}

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("pytorch_model.bin", "another format of weights (PyTorch pickle)"),
            ("model.onnx", "another format of weights (an ONNX model)"),
            ("tf_model.h5", "another format of weights (TensorFlow weights)"),
            ("model.gguf", "another format of weights (GGUF)"),
            ("model.fp16.safetensors", "a variant (fp16)"),
            ("consolidated.safetensors", "Mistral's own form of the weights"),
            ("other.safetensors", "another file of weights"),
        ],
    )
    def test_another(self, tmp_path: Path, name: str, reason: str) -> None:
        write_model(tmp_path, {"a": A})
        (tmp_path / name).write_bytes(b"x")
        assert unread(tmp_path) == {name: f"{reason}; model.safetensors is read"}

    def test_a_file_that_was_named_is_all_that_was_asked_for(self, tmp_path: Path) -> None:
        write_model(tmp_path, {"a": A})
        (tmp_path / "pytorch_model.bin").write_bytes(b"x")
        assert opened(tmp_path / "model.safetensors").unread == ()
        named = open_damaged(tmp_path / "model.safetensors").checkpoint
        assert isinstance(named, Checkpoint)
        assert named.unread == ()


class TestAnIndex:
    def test_a_shard_that_it_does_not_name(self, tmp_path: Path) -> None:
        write_shards(tmp_path)
        write_model(tmp_path, {"c": A}, name="model-00003-of-00003.safetensors")
        said = {"model-00003-of-00003.safetensors": "not named by the index"}
        assert unread(tmp_path) == said
        assert {item.tensor: item.reason for item in opened(tmp_path / INDEX).unread} == said

    def test_shards_of_one_beside_a_whole_file(self, tmp_path: Path) -> None:
        write_model(tmp_path, {"a": A, "b": B})
        write_shards(tmp_path)
        said = "named by an index; model.safetensors is read"
        assert unread(tmp_path) == {FIRST: said, SECOND: said}
        survey = open_damaged(tmp_path)
        assert survey.index == {"a": FIRST, "b": SECOND}
        assert survey.index_name == INDEX
        assert survey.held == dict.fromkeys("ab", "model.safetensors")

    def test_more_in_it_than_in_the_whole_file(self, tmp_path: Path) -> None:
        write_model(tmp_path, {"a": A})
        write_index(tmp_path, {"_orig_mod.a": FIRST, "_orig_mod.b": SECOND, "_orig_mod.c": SECOND})
        assert unread(tmp_path) == {
            INDEX: "2 of its 3 tensors are not in model.safetensors, which is read"
        }

    @pytest.mark.parametrize("text", ["{", "{}", '{"weight_map": {"a": "../x.safetensors"}}'])
    def test_one_that_is_malformed_is_refused_by_name(self, tmp_path: Path, text: str) -> None:
        write_model(tmp_path, {"a": A})
        (tmp_path / INDEX).write_text(text)
        assert f"{tmp_path / INDEX} " in refusal(tmp_path)
        with pytest.raises(CheckpointError, match=re.escape(f"{tmp_path / INDEX} ")):
            open_damaged(tmp_path)

    def test_of_a_variant_it_says_nothing(self, tmp_path: Path) -> None:
        write_model(tmp_path, {"a": A})
        write_model(tmp_path, {"a": A}, name="model.fp16-00001-of-00001.safetensors")
        only = {"a": "model.fp16-00001-of-00001.safetensors"}
        write_index(tmp_path, only, "model.safetensors.index.fp16.json")
        said = {only["a"]: "a variant (fp16); model.safetensors is read"}
        assert unread(tmp_path) == said
        assert open_damaged(tmp_path).index is None


class TestOthers:
    def test_beside_an_adapter(self, tmp_path: Path, minilm_lora: Path) -> None:
        shutil.copytree(minilm_lora, tmp_path / "a")
        for name in ("model.safetensors", "adapter_model.bin"):
            write_model(tmp_path / "a", {"a": A}, name=name)
        said = {
            "model.safetensors": "another file of weights; adapter_model.safetensors is read",
            "adapter_model.bin": "another format of weights (PyTorch pickle); "
            "adapter_model.safetensors is read",
        }
        for found in (open_spec(tmp_path / "a"), open_damaged(tmp_path / "a").checkpoint):
            assert isinstance(found, Adapter)
            assert {item.tensor: item.reason for item in found.weights.unread} == said

    def test_a_single_file_at_the_root_of_a_pipeline(self, tmp_path: Path) -> None:
        write_model(tmp_path, {"a": A}, name="sd.safetensors")
        write_model(tmp_path / "unet", {"a": A}, name="diffusion_pytorch_model.safetensors")
        (tmp_path / "model_index.json").write_text("{}")
        assert unread(tmp_path) == {
            "unet/diffusion_pytorch_model.safetensors": "of the pipeline of model_index.json; "
            "sd.safetensors is read"
        }


class TestWhereItIsShown:
    def test_in_every_summary_and_on_screens(self, tmp_path: Path) -> None:
        base = write_model(tmp_path / "base", {"a.weight": torch.randn(4, 4)})
        tuned = write_model(tmp_path / "tuned", {"a.weight": torch.randn(4, 4)})
        (tuned / "pytorch_model.bin").write_bytes(b"x")
        reason = "another format of weights (PyTorch pickle); model.safetensors is read"
        told = {"file": "pytorch_model.bin", "reason": reason, "model": str(tuned)}
        assert "unread" not in spectra.ls(base).summary
        for result in (spectra.ls(tuned), spectra.spectrum(tuned), spectra.diff(base, tuned)):
            assert result.summary["unread"] == [told]
            whose = f" ({tuned})" if result.command == "diff" else ""
            line = f"not read{whose}: pytorch_model.bin: {reason}"
            assert line in screen_of(result.document(), full=True).facts
            assert (line in screen_of(result.document()).facts) == (result.command == "ls")
