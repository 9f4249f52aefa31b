"""Files are told by their first bytes, whatever they are called."""

import shutil
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFWriter

from examples import write_model
from loopback import Loopback
from shards import A, refusal
from spectra.checkpoint import Checkpoint, open_spec
from spectra.checkpoint.damaged import open_damaged

STATE = {"epoch": 3, "state_dict": {"module.a": A}, "best": np.float64(0.5)}


def names(spec: Path | str) -> list[str]:
    """Return the tensors, after checking that a damaged opening gives the same."""
    found = open_spec(spec, allow_pickle=True)
    survey = open_damaged(spec, allow_pickle=True)
    assert isinstance(found, Checkpoint)
    assert isinstance(survey.checkpoint, Checkpoint)
    assert survey.checkpoint.entries == found.entries
    return list(found.entries)


def write_gguf(path: Path) -> None:
    writer = GGUFWriter(path, "llama")
    writer.add_tensor("output_norm.weight", np.ones(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class TestWhatIsRead:
    @pytest.mark.parametrize(
        "name",
        ["model_best.pth.tar", "x.ckpt.tar", "x.jit", "weights", "x.pkl", "X.PT", "y.model_"],
    )
    def test_pytorch(self, tmp_path: Path, name: str) -> None:
        torch.save(STATE, tmp_path / name)
        assert names(tmp_path / name) == names(tmp_path) == ["a"]

    @pytest.mark.parametrize("name", ["flux.sft", "MODEL.SAFETENSORS", "sha256-0f3c", "x.bin"])
    def test_safetensors(self, tmp_path: Path, name: str) -> None:
        write_model(tmp_path, {"a": A}, name=name)
        assert names(tmp_path / name) == names(tmp_path) == ["a"]

    @pytest.mark.parametrize("name", ["sha256-0f3c", "m.GGUF", "ggml.bin"])
    def test_gguf(self, tmp_path: Path, name: str) -> None:
        write_gguf(tmp_path / name)
        assert names(tmp_path / name) == names(tmp_path) == ["model.norm.weight"]
        found = open_spec(tmp_path)
        assert isinstance(found, Checkpoint)
        (entry,) = found.entries.values()
        assert entry.shard.endswith(".gguf")  # by which others know what wrote it
        assert torch.equal(found.read(entry), torch.ones(32))

    def test_beside_documents_of_no_known_ending(self, tmp_path: Path) -> None:
        write_gguf(tmp_path / "sha256-aa")
        (tmp_path / "sha256-bb").write_text('{"model": "x"}')
        (tmp_path / "LICENSE").write_text("All rights reserved")
        (tmp_path / "tokenizer.model").write_bytes(b"GGUF")
        assert names(tmp_path) == ["model.norm.weight"]

    def test_several_that_no_name_tells_apart(self, tmp_path: Path) -> None:
        for name in ("sha256-aa", "sha256-bb"):
            write_model(tmp_path, {"a": A}, name=name)
        assert "holds several files of weights ('sha256-aa', 'sha256-bb'): which" in refusal(
            tmp_path
        )

    def test_on_the_hub(self, hub: Loopback, tmp_path: Path) -> None:
        folder = write_model(tmp_path / "m", {"a": A}, name="flux.sft")
        torch.save(STATE, folder / "best.pth.tar")
        hub.add("org/name", folder)
        assert names("org/name") == names("org/name/flux.sft") == ["a"]
        assert names("org/name/best.pth.tar") == ["a"]


def ctranslate2() -> bytes:
    """Return the beginning of a model as CTranslate2 4 writes it."""
    name = b"TransformerDecoderSpec\x00"
    return struct.pack("<IH", 6, len(name)) + name + struct.pack("<II", 8, 120) + bytes(80)


class TestWhatIsNot:
    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (ctranslate2(), "is a CTranslate2 model, expected safetensors, GGUF or a PyTorch file"),
            (b"\x08\x07\x12\x07pytorch\x1a\x052.1.0" + bytes(60), "is an ONNX model, expected"),
            (b"\x89HDF\r\n\x1a\n" + bytes(60), "is an HDF5 file, as Keras and TensorFlow write"),
            (b"\x93NUMPY\x01\x00" + bytes(60), "is a NumPy array, expected"),
            (b"\x28\xb5\x2f\xfd" + bytes(60), "is compressed (Zstandard), expected"),
            (b"\x1f\x8b\x08" + bytes(60), "is compressed (gzip), expected"),
            (b"lmgg" + bytes(60), "is a file of ggml before GGUF, expected"),
            (b"\x1c\x00\x00\x00TFL3" + bytes(60), "is a TensorFlow Lite model, expected"),
            (b"\xba\x16\x4f\x2f" + bytes(60), "is a fastText model, expected"),
        ],
    )
    @pytest.mark.parametrize("name", ["model.bin", "model.safetensors", "x.pt.zst", "blob"])
    def test_formats_that_are_known(
        self, tmp_path: Path, name: str, content: bytes, words: str
    ) -> None:
        (tmp_path / name).write_bytes(content)
        assert f"{tmp_path / name} {words}" in refusal(tmp_path / name)
        assert f"{tmp_path / name} {words}" in refusal(tmp_path)

    def test_a_tar_archive(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"x")
        with tarfile.open(tmp_path / "m.pth.tar", "w") as archive:
            archive.add(tmp_path / "a", "a")
        text = refusal(tmp_path / "m.pth.tar")
        assert "is a tar archive, expected" in text
        assert text.endswith("Unpack it, and give what is in it.")

    def test_bytes_of_nothing_known(self, tmp_path: Path) -> None:
        (tmp_path / "x").write_bytes(b"abcdefgh" * 20)
        assert refusal(tmp_path / "x") == (
            f"{tmp_path}/x is of no format that is known: it begins with b'abcdefgh', expected "
            "safetensors, GGUF or a PyTorch file. Fetch it again, or give another."
        )

    def test_json(self, tmp_path: Path) -> None:
        write_model(tmp_path, {"a": A}, "{}")
        shutil.copy(tmp_path / "config.json", tmp_path / "x.json")
        (tmp_path / "x.json").write_text('{"a": "' + "x" * 100 + '"}')
        assert "x.json is JSON text, no file of weights. Give its folder" in refusal(
            tmp_path / "x.json"
        )

    def test_a_name_that_a_format_has_is_believed_where_bytes_tell_nothing(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "model.safetensors").write_bytes(b"x" * 80)
        assert "is not a safetensors file: its first 8 bytes" in refusal(tmp_path)
