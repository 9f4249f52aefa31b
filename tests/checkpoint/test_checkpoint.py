"""Shards, links, broken documents and reading: what is refused, and what the error says."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from examples import write_model
from shards import FIRST, INDEX, SECOND, A, B, opened, refusal, write_index, write_shards
from spectra.checkpoint import Skipped
from spectra.checkpoint.documents import MAX_CONFIG
from spectra.checkpoint.local import LocalFile
from spectra.errors import CheckpointError


class TestIndexAndHeadersDisagree:
    def test_a_tensor_its_shard_lacks_is_skipped(self, tmp_path: Path) -> None:
        write_shards(tmp_path)
        write_index(tmp_path, {"a": FIRST, "b": SECOND, "gone": SECOND})
        model = opened(tmp_path)
        assert list(model.entries) == ["a", "b"]
        assert model.skipped == (Skipped("gone", "named by the index, missing from its shard"),)

    def test_a_tensor_the_index_does_not_name_is_read(self, tmp_path: Path) -> None:
        write_shards(tmp_path)
        write_model(tmp_path, {"a": A, "extra": B}, name=FIRST)
        assert sorted(opened(tmp_path).entries) == ["a", "b", "extra"]

    def test_a_stale_copy_gives_way_to_the_shard_the_index_names(self, tmp_path: Path) -> None:
        write_shards(tmp_path)
        write_model(tmp_path, {"a": A, "b": torch.zeros(4)}, name=FIRST)
        model = opened(tmp_path)
        assert model.entries["b"].shard == SECOND
        assert torch.equal(model.read(model.entries["b"]), B)

    def test_two_copies_that_the_index_does_not_name_are_refused(self, tmp_path: Path) -> None:
        write_shards(tmp_path)
        write_model(tmp_path, {"a": A, "x\x1b": A.clone()}, name=FIRST)
        write_model(tmp_path, {"b": B, "x\x1b": A.clone()}, name=SECOND)
        text = refusal(tmp_path)
        assert r"tensor 'x\x1b' stands both in" in text
        assert "which one counts is unknown" in text

    def test_a_missing_shard(self, tmp_path: Path) -> None:
        write_shards(tmp_path)
        (tmp_path / SECOND).unlink()
        assert f"names '{SECOND}', which is not in its folder. Fetch that shard" in refusal(
            tmp_path
        )

    def test_a_truncated_shard(self, tmp_path: Path) -> None:
        write_shards(tmp_path)
        whole = (tmp_path / SECOND).read_bytes()
        (tmp_path / SECOND).write_bytes(whole[:-3])
        text = refusal(tmp_path)
        assert f"{SECOND} ends at byte {len(whole) - 3} but its header needs {len(whole)}" in text

    def test_a_folder_in_place_of_a_shard(self, tmp_path: Path) -> None:
        write_shards(tmp_path)
        (tmp_path / SECOND).unlink()
        (tmp_path / SECOND).mkdir()
        assert f"{SECOND} is no regular file, expected weights" in refusal(tmp_path)


class TestIndexReachesElsewhere:
    @pytest.mark.parametrize(
        "shard",
        [
            *("../outside.safetensors", "/etc/outside.safetensors", "sub/x.safetensors", "..", "."),
            *(
                "..\\x.safetensors",
                "",
                "x\x00.safetensors",
                "x\x1b[2J.safetensors",
                "a\n.safetensors",
            ),
            *(3, None, ["x.safetensors"]),
        ],
        ids=repr,
    )
    def test_shard_names_that_are_no_file_names(self, tmp_path: Path, shard: object) -> None:
        write_model(tmp_path, {"a": A}, name="outside.safetensors")
        folder = tmp_path / "model"
        folder.mkdir()
        write_index(folder, {"a": shard})
        text = refusal(folder)
        assert f"puts tensor 'a' in {shard!r}, which is no file name" in text
        assert "an index must not reach elsewhere" in text

    def test_a_shard_of_another_format(self, tmp_path: Path) -> None:
        write_index(tmp_path, {"a": "pytorch_model.bin"})
        assert "'pytorch_model.bin', expected a .safetensors file" in refusal(tmp_path)

    def test_a_shard_name_that_no_system_takes(self, tmp_path: Path) -> None:
        write_index(tmp_path, {"a": "x" * 300 + ".safetensors"})
        assert "cannot be read: File name too long" in refusal(tmp_path)

    def test_a_link_out_of_the_folder_is_its_owners(self, tmp_path: Path) -> None:
        folder = write_shards(tmp_path / "model")
        for name in (FIRST, SECOND, INDEX):
            (folder / name).rename(tmp_path / name)
            (folder / name).symlink_to(tmp_path / name)
        model = opened(folder)
        assert model.resolved == str(folder)
        assert torch.equal(model.read(model.entries["b"]), B)

    def test_a_link_inside_the_folder(self, tmp_path: Path) -> None:
        folder = write_shards(tmp_path)
        (folder / "store").mkdir()
        (folder / SECOND).rename(folder / "store" / "two")
        (folder / SECOND).symlink_to("store/two")
        assert sorted(opened(folder).entries) == ["a", "b"]

    @pytest.mark.parametrize("subfolder", ["", "text_encoder"])
    def test_links_into_the_hub_cache(self, tmp_path: Path, subfolder: str) -> None:
        folder = write_shards(tmp_path / "models--o--n" / "snapshots" / "0123" / subfolder)
        blobs = tmp_path / "models--o--n" / "blobs"
        blobs.mkdir()
        for name in (FIRST, SECOND, INDEX):
            (folder / name).rename(blobs / f"blob-{name}")
            (folder / name).symlink_to(blobs / f"blob-{name}")
        model = opened(folder)
        assert torch.equal(model.read(model.entries["b"]), B)


class TestBrokenDocuments:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("{", "is not JSON: it ends in the middle, after 1 characters: it was cut"),
            ("", "is not JSON: it is empty"),
            ("[" * 100_000, "is not JSON: it is nested too deep"),
            ("1" * 5000, "is not JSON: a number in it has too many digits"),
            ("[1, 2]", "holds [1, 2], expected a JSON object"),
            ("null", "holds None, expected a JSON object"),
        ],
        ids=["cut", "empty", "deep", "huge-number", "list", "null"],
    )
    @pytest.mark.parametrize("name", ["config.json", INDEX])
    def test_text(self, tmp_path: Path, name: str, text: str, words: str) -> None:
        if name == "config.json":
            write_model(tmp_path, {"a": A})
        (tmp_path / name).write_text(text)
        assert f"{name} {words}" in refusal(tmp_path)

    def test_not_utf_8(self, tmp_path: Path) -> None:
        write_model(tmp_path, {"a": A})
        (tmp_path / "config.json").write_bytes(b'{"a": "\xff"}')
        assert "config.json is not JSON: it is no text" in refusal(tmp_path)

    def test_huge(self, tmp_path: Path) -> None:
        write_model(tmp_path, {"a": A})
        with (tmp_path / "config.json").open("wb") as file:
            file.truncate(MAX_CONFIG + 1)
        assert "has 10,000,001 bytes, and at most 10,000,000 are read" in refusal(tmp_path)

    @pytest.mark.parametrize("content", ["{}", '{"weight_map": {}}', '{"weight_map": ["a"]}'])
    def test_index_without_a_map(self, tmp_path: Path, content: str) -> None:
        (tmp_path / INDEX).write_text(content)
        assert f"{INDEX} has no weight_map from tensor to file. Fetch" in refusal(tmp_path)


class TestReading:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    def test_bits_agree_with_the_library(
        self, tmp_path: Path, dtype: torch.dtype, generator: torch.Generator
    ) -> None:
        special = [0.0, -0.0, float("inf"), -float("inf"), float("nan"), 1e-300, 65504.0]
        tensors = {
            "matrix": torch.randn(5, 7, generator=generator).to(dtype),
            "special": torch.tensor(special, dtype=torch.float64).to(dtype),
            "cube": torch.randn(2, 3, 4, generator=generator).to(dtype),
            "scalar": torch.tensor(3.5, dtype=dtype),
            "none": torch.empty(0, 4, dtype=dtype),
        }
        path = write_model(tmp_path, tensors) / "model.safetensors"
        model, twin = opened(path), load_file(path)
        assert set(model.entries) == set(twin)
        for name, entry in model.entries.items():
            values = model.read(entry)
            assert values.dtype == dtype
            assert values.shape == twin[name].shape
            assert bits(values) == bits(twin[name])

    def test_reading_gives_memory_of_its_own(self, tmp_path: Path) -> None:
        model = opened(write_model(tmp_path, {"a": A}))
        model.read(model.entries["a"]).zero_()
        assert torch.equal(model.read(model.entries["a"]), A)

    @pytest.mark.parametrize(
        "dtype",
        [torch.int8, torch.uint16, torch.int64, torch.bool, torch.complex64],
        ids=str,
    )
    def test_other_dtypes_come_as_they_are_stored(
        self, tmp_path: Path, dtype: torch.dtype, generator: torch.Generator
    ) -> None:
        values = torch.randint(0, 2, (3, 4), generator=generator).to(dtype)
        model = opened(write_model(tmp_path, {"a": values}))
        found = model.read(model.entries["a"])
        assert found.dtype == dtype
        assert torch.equal(found, values)

    def test_dtypes_that_torch_lacks_come_as_bytes(self, tmp_path: Path) -> None:
        raw = b'{"a":{"dtype":"F6_E2M3","shape":[2,4],"data_offsets":[0,6]}}'
        path = tmp_path / "model.safetensors"
        path.write_bytes(struct.pack("<Q", len(raw)) + raw + b"abcdef")
        model = opened(path)
        assert bytes(model.read(model.entries["a"]).numpy()) == b"abcdef"

    @pytest.mark.parametrize("slab", [(0, 0), (0, 2), (1, 3), (4, 5), (0, 5)], ids=str)
    def test_a_slab_is_that_part_of_the_first_axis(
        self, tmp_path: Path, slab: tuple[int, int], generator: torch.Generator
    ) -> None:
        values = torch.randn(5, 3, 2, generator=generator)
        model = opened(write_model(tmp_path, {"first": A, "a": values}))
        assert torch.equal(model.read(model.entries["a"], slab), values[slab[0] : slab[1]])

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (
                lambda path: path.write_bytes(path.read_bytes()[:-5]),
                "ended inside tensor 'a', 5 byt",
            ),
            (lambda path: path.write_bytes(b""), "ended inside tensor 'a', 24 bytes early"),
            (Path.unlink, "cannot be read: No such file or directory"),
        ],
        ids=["cut", "emptied", "deleted"],
    )
    def test_a_file_changed_after_opening(
        self, tmp_path: Path, change: Callable[[Path], object], words: str
    ) -> None:
        model = opened(write_model(tmp_path, {"a": A}))
        change(tmp_path / "model.safetensors")
        with pytest.raises(CheckpointError, match=words):
            model.read(model.entries["a"])

    def test_a_file_deleted_between_looking_and_reading(self, tmp_path: Path) -> None:
        path = write_model(tmp_path, {"a": A}) / "model.safetensors"
        model = opened(path)
        path.unlink()
        with pytest.raises(CheckpointError, match="cannot be read: No such file or directory"):
            model.files[path.name].read(0, 8)

    def test_files_that_vanish_before_opening(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="none cannot be read: No such file"):
            LocalFile(tmp_path / "none")

    def test_an_axis_that_no_tensor_can_have(self, tmp_path: Path) -> None:
        raw = b'{"a":{"dtype":"F32","shape":[0,18446744073709551615],"data_offsets":[0,0]}}'
        path = tmp_path / "model.safetensors"
        path.write_bytes(struct.pack("<Q", len(raw)) + raw)
        model = opened(path)
        with pytest.raises(CheckpointError, match=r"expected axes below 2\^63"):
            model.read(model.entries["a"])


def bits(values: Tensor) -> bytes:
    return bytes(values.contiguous().reshape(-1).view(torch.uint8).numpy())
