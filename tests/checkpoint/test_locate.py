"""What a folder, file or word opens, and what is said where there are no safetensors weights."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from examples import write_model
from shards import FIRST, INDEX, SECOND, A, B, opened, refusal, write_index, write_shards
from spectra.checkpoint import Adapter, open_spec
from spectra.errors import HeaderError


class TestWhatOpens:
    def test_a_file(self, tmp_path: Path) -> None:
        path = write_model(tmp_path, {"a": A, "b": B}, name="any.safetensors") / "any.safetensors"
        model = opened(str(path))
        assert (model.spec, model.resolved) == (str(path), str(path))
        assert list(model.entries) == ["a", "b"]
        assert model.entries["a"].shape == (2, 3)
        assert model.nbytes == 40
        assert model.config == {}
        assert model.skipped == ()
        assert torch.equal(model.read(model.entries["a"]), A)

    def test_a_folder_with_its_config(self, tmp_path: Path) -> None:
        write_model(tmp_path, {"a": A}, config='{"model_type": "bert"}')
        assert opened(tmp_path).config == {"model_type": "bert"}
        assert opened(tmp_path / "model.safetensors").config == {"model_type": "bert"}

    def test_a_folder_whose_one_file_has_another_name(self, tmp_path: Path) -> None:
        write_model(tmp_path, {"a": A}, name="diffusion_pytorch_model.safetensors")
        assert list(opened(tmp_path).entries) == ["a"]

    def test_a_home_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        write_model(tmp_path / "model", {"a": A})
        assert opened("~/model").spec == "~/model"

    def test_the_real_model(self, minilm: Path) -> None:
        model = opened(minilm)
        assert len(model.entries) == 104
        assert model.config["model_type"] == "bert"
        twin = load_file(minilm / "model.safetensors")
        for name, entry in model.entries.items():
            if entry.dtype == "F32":
                assert torch.equal(model.read(entry), twin[name])

    @pytest.mark.parametrize("given", ["", INDEX])
    def test_shards(self, tmp_path: Path, given: str) -> None:
        write_shards(tmp_path)
        model = opened(tmp_path / given)
        assert model.resolved == str(tmp_path)
        assert {name: entry.shard for name, entry in model.entries.items()} == {
            "a": FIRST,
            "b": SECOND,
        }
        assert torch.equal(model.read(model.entries["b"]), B)
        assert model.skipped == ()

    def test_shards_with_an_index_of_another_name(self, tmp_path: Path) -> None:
        write_model(tmp_path, {"a": A}, name="unet.fp16.safetensors")
        write_index(tmp_path, {"a": "unet.fp16.safetensors"}, "unet.fp16.safetensors.index.json")
        assert list(opened(tmp_path).entries) == ["a"]

    def test_model_safetensors_goes_before_an_index(self, tmp_path: Path) -> None:
        write_shards(tmp_path)
        write_model(tmp_path, {"whole": A})
        assert list(opened(tmp_path).entries) == ["whole"]

    def test_an_adapter_by_each_of_its_files(self, minilm_lora: Path) -> None:
        for name in ("", "adapter_config.json", "adapter_model.safetensors"):
            found = open_spec(minilm_lora / name)
            assert isinstance(found, Adapter)
            assert found.resolved == str(minilm_lora)

    def test_adapter_weights_without_a_config_are_a_file(self, tmp_path: Path) -> None:
        write_model(tmp_path, {"a": A}, name="adapter_model.safetensors")
        assert list(opened(tmp_path / "adapter_model.safetensors").entries) == ["a"]


class TestNoWeights:
    def test_nothing_there(self, tmp_path: Path) -> None:
        assert refusal(tmp_path / "none") == (
            f"{tmp_path}/none does not exist. Expected a folder or file with weights, or a "
            "repository of the Hub as org/name or hf://name."
        )

    def test_the_address_of_a_hub_page(self) -> None:
        text = refusal("https://huggingface.co/org/name/tree/main")
        assert text.endswith("A page of the Hub is given as org/name.")

    @pytest.mark.parametrize(
        ("spec", "words"),
        [
            ("", "'' does not exist"),
            ("~no-such-user-here/x", "~no-such-user-here/x does not exist"),
            ("a\x00b", r"'a\x00b' does not exist"),
            ("\x1b[2J/x/y", r"'\x1b[2J/x/y' does not exist"),
            ("x" * 300, "cannot be read: File name too long"),
        ],
        ids=["empty", "unknown-user", "nul", "escape", "too-long"],
    )
    def test_odd_words(self, spec: str, words: str) -> None:
        assert words in refusal(spec)

    def test_an_empty_folder(self, tmp_path: Path) -> None:
        assert f"{tmp_path} holds no weights. Expected model.safetensors" in refusal(tmp_path)

    @pytest.mark.parametrize("name", ["__0_0.distcp", ".metadata"])
    def test_a_distributed_checkpoint(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes(b"PK\x03\x04" * 16)
        for spec in (tmp_path, tmp_path / name):
            assert (
                f"{tmp_path} holds a torch distributed checkpoint ({name!r}), expected "
                "safetensors. Convert it first: `python -m torch.distributed." in refusal(spec)
            )

    @pytest.mark.parametrize(
        ("name", "what"),
        [
            ("flax_model.msgpack", "Flax weights"),
            ("tf_model.h5", "TensorFlow weights"),
            ("model.keras", "a Keras model"),
            ("model.onnx", "an ONNX model"),
            ("model.tflite", "a TensorFlow Lite model"),
            ("weights.npz", "NumPy arrays"),
            ("openvino_model.bin", "OpenVINO weights"),
        ],
    )
    def test_other_formats(self, tmp_path: Path, name: str, what: str) -> None:
        (tmp_path / name).write_bytes(b"x" * 16)
        rest = "expected safetensors. Save the model as"
        assert f"{tmp_path} holds {what} ({name!r}), {rest}" in refusal(tmp_path)
        assert f"{tmp_path / name} is {what}, {rest}" in refusal(tmp_path / name)

    @pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pth", "model.pt", "epoch=1.ckpt"])
    def test_pickles_that_nobody_allowed_are_not_followed(
        self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        torch.save({"a": A}, tmp_path / name)
        monkeypatch.delattr("spectra.checkpoint.pickled.opening.follow")
        for spec in (tmp_path, tmp_path / name):
            text = refusal(spec)
            assert f"{name} holds PyTorch pickle weights, which are opened only with " in text
            assert "--allow-pickle (`allow_pickle=True`)" in text
            assert "Or: save the model as safetensors" in text

    def test_an_index_of_pickles_that_nobody_allowed(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "x.bin.index.json")  # whoever opens it waits for ever
        for spec in (tmp_path, tmp_path / "x.bin.index.json"):
            assert "x.bin.index.json holds PyTorch pickle weights" in refusal(spec)

    def test_a_pipe(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "model.pt")
        for spec in (tmp_path, tmp_path / "model.pt"):
            assert "model.pt is no regular file, expected weights on disk" in refusal(spec)

    def test_what_a_trainer_leaves_beside_the_weights_is_none(self, tmp_path: Path) -> None:
        for name in ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state_0.pth"):
            (tmp_path / name).write_bytes(b"")
        assert "holds no weights. Expected model.safetensors" in refusal(tmp_path)
        write_model(tmp_path, {"a": A})
        assert list(opened(tmp_path).entries) == ["a"]

    def test_a_named_adapter_inside_is_pointed_to(self, tmp_path: Path, minilm_lora: Path) -> None:
        (tmp_path / "mine").symlink_to(minilm_lora)
        assert refusal(tmp_path) == (
            f"{tmp_path} holds no weights of its own; folders in it do. Give one: {tmp_path}/mine."
        )

    def test_several_files_without_an_index(self, tmp_path: Path) -> None:
        for name in ("one", "two"):
            write_model(tmp_path, {"a": A}, name=f"{name}.safetensors")
        assert (
            "holds several safetensors files and no index ('one.safetensors', 'two.safetensors'): "
            f"which one is meant? Give one of them: {tmp_path}/FILE." in refusal(tmp_path)
        )

    def test_many_files_are_not_all_listed(self, tmp_path: Path) -> None:
        for name in "abcde":
            write_model(tmp_path, {"a": A}, name=f"{name}\x1b.safetensors")
        text = refusal(tmp_path)
        assert r"'d\x1b.safetensors', ...)" in text
        assert "e\\x1b" not in text

    def test_several_indexes(self, tmp_path: Path) -> None:
        for name in ("one", "two"):
            write_index(tmp_path, {"a": "x"}, f"{name}.safetensors.index.json")
        assert "holds several indexes ('one.safetensors.index.json'," in refusal(tmp_path)

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
            (b"<!doctype html><html></html>", "is an HTML page, not weights"),
            (b"", "has 0 bytes"),
        ],
        ids=["git-lfs", "html", "empty"],
    )
    def test_something_else_in_place_of_weights(
        self, tmp_path: Path, content: bytes, words: str
    ) -> None:
        (tmp_path / "model.safetensors").write_bytes(content)
        with pytest.raises(HeaderError, match=words):
            open_spec(tmp_path)
