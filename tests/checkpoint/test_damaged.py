"""Damaged checkpoints: what is whole opens as ever, what is lost is named, the rest is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from examples import write_model
from loopback import Loopback
from shards import BIG, FIRST, INDEX, SECOND, A, B, opened, refusal, write_index, write_shards
from spectra.checkpoint import Adapter, Checkpoint, Skipped
from spectra.checkpoint.damaged import Fault, Survey, open_damaged
from spectra.checkpoint.shards import ABSENT
from spectra.errors import CheckpointError

LORA = ".lora_"
THREE = {"a": A, "b": B, "c": torch.ones(2, 2)}  # in the order of their bytes, all F32


def weights(survey: Survey) -> Checkpoint:
    assert isinstance(survey.checkpoint, Checkpoint)
    return survey.checkpoint


def cut(path: Path, lost: int) -> None:
    """Take bytes off the end."""
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - lost)


def refused(spec: str | Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        open_damaged(spec)
    return str(caught.value)


def three_shards(folder: Path) -> dict[str, str]:
    """Write a, b and c to a shard each; return the index."""
    index = {name: f"model-0000{i}-of-00003.safetensors" for i, name in enumerate(THREE, 1)}
    for name, shard in index.items():
        write_model(folder, {name: THREE[name]}, name=shard)
    write_index(folder, index)
    return index


class TestWhole:
    """What is not damaged opens as `open_spec` opens it."""

    def same(self, spec: Path | str) -> Survey:
        survey, strict = open_damaged(spec), opened(spec)
        found = weights(survey)
        assert found.entries == strict.entries
        assert (found.spec, found.resolved) == (strict.spec, strict.resolved)
        assert (found.config, found.skipped) == (strict.config, strict.skipped)
        assert found.files.keys() == strict.files.keys()
        assert found.folder == strict.folder
        for entry in found.entries.values():
            assert torch.equal(found.read(entry), strict.read(entry))
        assert survey.faults == ()
        return survey

    def test_one_file(self, tmp_path: Path) -> None:
        folder = write_model(tmp_path, THREE, '{"model_type": "x"}')
        survey = self.same(folder)
        assert survey.index is None
        assert survey.held == dict.fromkeys(THREE, "model.safetensors")
        assert survey.files == ("config.json", "model.safetensors")
        self.same(folder / "model.safetensors")

    def test_shards(self, tmp_path: Path) -> None:
        survey = self.same(write_shards(tmp_path))
        assert survey.index == {"a": FIRST, "b": SECOND} == survey.held
        assert survey.files == (FIRST, SECOND, INDEX)
        self.same(tmp_path / INDEX)
        self.same(tmp_path / FIRST)

    def test_shards_and_an_index_that_disagree(self, tmp_path: Path) -> None:
        write_model(tmp_path, {"a": A, "b": torch.zeros(4), "more": B}, name=FIRST)
        write_model(tmp_path, {"b": B, "moved": A}, name=SECOND)
        write_index(tmp_path, {"a": FIRST, "b": SECOND, "moved": FIRST, "gone": SECOND})
        survey = self.same(tmp_path)
        assert survey.held == {"a": FIRST, "b": SECOND, "more": FIRST, "moved": SECOND}
        assert weights(survey).skipped == (Skipped("moved", ABSENT), Skipped("gone", ABSENT))

    def test_the_real_model_and_its_adapter(self, minilm: Path, minilm_lora: Path) -> None:
        self.same(minilm)
        survey = open_damaged(minilm_lora)
        assert isinstance(survey.checkpoint, Adapter)
        assert survey.faults == ()
        assert survey.held.keys() == survey.checkpoint.weights.entries.keys()

    def test_on_the_hub_nothing_is_fetched_twice(self, hub: Loopback, sharded: str) -> None:
        opened("org/name")
        before = len(hub.asked(".safetensors"))
        hub.forget()
        survey = open_damaged("org/name")
        assert survey.held == dict(zip(BIG, (FIRST, SECOND), strict=True))
        assert survey.files == ("config.json", FIRST, SECOND, INDEX)
        assert len(hub.asked(".safetensors")) == before

    def test_other_formats(self, tmp_path: Path) -> None:
        torch.save({"a.weight": A}, tmp_path / "pytorch_model.bin")
        survey = open_damaged(tmp_path, allow_pickle=True)
        assert survey.held == {"a.weight": "pytorch_model.bin"}
        assert survey.index is None
        assert "--allow-pickle" in refused(tmp_path)


class TestCut:
    def test_what_lies_before_the_cut_is_read(self, tmp_path: Path) -> None:
        path = write_model(tmp_path, THREE) / "model.safetensors"
        size = path.stat().st_size
        cut(path, 20)  # c has 16 bytes
        survey = open_damaged(tmp_path)
        (fault,) = survey.faults
        assert fault.file == "model.safetensors"
        assert fault.text == (
            f"ends at byte {size - 20:,} but its header needs {size:,}: the download was cut"
        )
        assert fault.tensors == ("b", "c")
        found = weights(survey)
        assert list(found.entries) == ["a"]
        assert torch.equal(found.read(found.entries["a"]), A)
        assert found.skipped == tuple(
            Skipped(name, "lost: model.safetensors is not whole") for name in "bc"
        )
        assert survey.held.keys() == THREE.keys()
        assert "the download was cut" in refusal(tmp_path)  # open_spec is as strict as ever

    def test_one_byte_loses_one_tensor(self, tmp_path: Path) -> None:
        cut(write_model(tmp_path, THREE) / "model.safetensors", 1)
        assert open_damaged(tmp_path).faults[0].tensors == ("c",)

    def test_a_shard(self, tmp_path: Path) -> None:
        cut(write_shards(tmp_path) / SECOND, 3)
        survey = open_damaged(tmp_path)
        assert [(fault.file, fault.tensors) for fault in survey.faults] == [(SECOND, ("b",))]
        assert list(weights(survey).entries) == ["a"]
        assert survey.index == {"a": FIRST, "b": SECOND}

    def test_a_tensor_whose_copy_elsewhere_counts_is_not_lost(self, tmp_path: Path) -> None:
        write_model(tmp_path, {"b": B}, name=FIRST)
        write_model(tmp_path, {"a": A, "b": B.clone()}, name=SECOND)  # b is the last
        write_index(tmp_path, {"a": SECOND, "b": FIRST})
        cut(tmp_path / SECOND, 1)
        survey = open_damaged(tmp_path)
        assert {name: entry.shard for name, entry in weights(survey).entries.items()} == {
            "a": SECOND,
            "b": FIRST,
        }
        assert [fault.tensors for fault in survey.faults] == [()]

    def test_bytes_too_many_lose_nothing(self, tmp_path: Path) -> None:
        path = write_model(tmp_path, THREE) / "model.safetensors"
        path.write_bytes(path.read_bytes() + b"xyz")
        survey = open_damaged(tmp_path)
        assert list(weights(survey).entries) == list(THREE)
        assert "has 3 bytes after the last tensor" in survey.faults[0].text
        assert survey.faults[0].tensors == ()

    def test_on_the_hub(self, hub: Loopback, tmp_path: Path) -> None:
        folder = write_shards(tmp_path / "m")
        cut(folder / SECOND, 3)
        hub.add("org/name", folder)
        survey = open_damaged("org/name")
        assert [(fault.file, fault.tensors) for fault in survey.faults] == [(SECOND, ("b",))]
        found = weights(survey)
        assert torch.equal(found.read(found.entries["a"]), A)


class TestLostShards:
    def test_missing(self, tmp_path: Path) -> None:
        index = three_shards(tmp_path)
        (tmp_path / index["b"]).unlink()
        survey = open_damaged(tmp_path)
        assert survey.faults == (Fault(index["b"], "is not in the folder", ("b",)),)
        lost = Skipped("b", f"lost: {index['b']} is not in the folder")
        assert lost in weights(survey).skipped
        assert list(weights(survey).entries) == ["a", "c"]
        assert survey.held == {name: index[name] for name in "ac"}

    @pytest.mark.parametrize(
        ("content", "text"),
        [
            (b"version https://git-lfs.github.com/spec/v1\n", "is a git-LFS pointer, not the"),
            (b"", "has 0 bytes, and a safetensors file at least 8"),
            (
                b"\x10\0\0\0\0\0\0\0not json at all!",
                "the header is not JSON: line 1",
            ),
        ],
        ids=["pointer", "empty", "garbage"],
    )
    def test_of_another_kind(self, tmp_path: Path, content: bytes, text: str) -> None:
        index = three_shards(tmp_path)
        (tmp_path / index["b"]).write_bytes(content)
        (fault,) = open_damaged(tmp_path).faults
        assert (fault.file, fault.tensors) == (index["b"], ("b",))
        assert fault.text.startswith(text)
        assert not fault.text.endswith((".", " "))

    def test_one_cut_and_one_missing(self, tmp_path: Path) -> None:
        index = three_shards(tmp_path)
        cut(tmp_path / index["a"], 1)
        (tmp_path / index["c"]).unlink()
        survey = open_damaged(tmp_path)
        assert [fault.tensors for fault in survey.faults] == [("a",), ("c",)]
        assert list(weights(survey).entries) == ["b"]


class TestNothingLeft:
    """The error is that of `open_spec`."""

    @pytest.mark.parametrize("lost", [1000, 52, 60], ids=["header", "all data", "header's end"])
    def test_of_one_file(self, tmp_path: Path, lost: int) -> None:
        path = write_model(tmp_path, {"a": torch.ones(13)}) / "model.safetensors"
        cut(path, min(lost, path.stat().st_size - 4))
        assert refused(tmp_path) == refusal(tmp_path)

    def test_of_shards(self, tmp_path: Path) -> None:
        write_shards(tmp_path)
        cut(tmp_path / FIRST, 1)
        (tmp_path / SECOND).unlink()
        assert refused(tmp_path) == refusal(tmp_path)

    def test_of_an_index_alone(self, tmp_path: Path) -> None:
        assert refused(write_index(tmp_path, {"a": FIRST})) == refusal(tmp_path)

    @pytest.mark.parametrize(
        "make",
        [
            lambda folder: folder / "nothing",
            lambda folder: write_index(folder, {"a": "../x.safetensors"}),
            lambda folder: write_index(write_model(folder, {"a": A}, "[]"), {"a": FIRST}),
        ],
        ids=["no folder", "an index that reaches out", "a config that is none"],
    )
    def test_other_errors_are_as_strict(self, tmp_path: Path, make: Callable[[Path], Path]) -> None:
        spec = make(tmp_path)
        assert refused(spec) == refusal(spec)

    def test_a_link_to_nowhere_is_a_lost_shard(self, tmp_path: Path) -> None:
        folder = write_shards(tmp_path / "m")
        (folder / SECOND).unlink()
        (folder / SECOND).symlink_to(tmp_path / "outside")
        (fault,) = open_damaged(folder).faults
        assert (fault.file, fault.text) == (SECOND, "is not in the folder")

    def test_copies_of_which_none_is_meant_are_refused(self, tmp_path: Path) -> None:
        write_model(tmp_path, {"a": A, "x": A.clone()}, name=FIRST)
        write_model(tmp_path, {"b": B, "x": A.clone()}, name=SECOND)
        write_index(tmp_path, {"a": FIRST, "b": SECOND})
        assert "which one counts is unknown" in refused(tmp_path)


class TestQuantised:
    """A weight without one of its parts would be read as something else."""

    def eight(self, folder: Path, lost: str) -> Survey:
        """Write two float8 weights with scales of blocks, and lose the shard with a tensor."""
        stored: dict[str, Tensor] = {}
        for name in ("one", "two"):
            stored[f"{name}.weight"] = torch.ones(128, 128).to(torch.float8_e4m3fn)
            stored[f"{name}.weight_scale_inv"] = torch.full((1, 1), 2.0)
        index = {}
        for number, (name, value) in enumerate(stored.items(), 1):
            index[name] = f"model-0000{number}-of-00004.safetensors"
            write_model(folder, {name: value}, name=index[name])
        config = '{"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}'
        (folder / "config.json").write_text(config)
        write_index(folder, index)
        (folder / index[lost]).unlink()
        return open_damaged(folder)

    @pytest.mark.parametrize("lost", ["two.weight", "two.weight_scale_inv"])
    def test_it_is_lost_with_either_part(self, tmp_path: Path, lost: str) -> None:
        survey = self.eight(tmp_path, lost)
        assert [fault.tensors for fault in survey.faults] == [("two.weight",)]
        assert list(weights(survey).entries) == ["one.weight"]
        entry = weights(survey).entries["one.weight"]
        assert float(weights(survey).read(entry)[0, 0]) == 2.0

    def test_a_plain_weight_is_lost_alone(self, tmp_path: Path) -> None:
        stored = {"x.scale": B, "x.weight": A, "x.weight_norm": B.clone(), "x.z": torch.ones(1)}
        path = write_model(tmp_path, stored) / "model.safetensors"
        cut(path, 1)
        survey = open_damaged(tmp_path)
        assert len(survey.faults[0].tensors) == 1
        assert len(weights(survey).entries) == len(stored) - 1


class TestAdapters:
    def test_a_module_is_lost_with_one_of_its_factors(
        self, minilm_lora: Path, tmp_path: Path
    ) -> None:
        shutil.copytree(minilm_lora, tmp_path / "lora")
        path = tmp_path / "lora" / "adapter_model.safetensors"
        whole = open_damaged(minilm_lora).checkpoint
        assert isinstance(whole, Adapter)
        last = max(entry.stop for entry in whole.weights.entries.values() if LORA in entry.name)
        cut(path, path.stat().st_size - last + 1)
        survey = open_damaged(tmp_path / "lora")
        assert isinstance(survey.checkpoint, Adapter)
        (fault,) = survey.faults
        assert sum(LORA in name for name in fault.tensors) == 2
        modules = {name.partition(LORA)[0] for name in fault.tensors if LORA in name}
        assert len(modules) == 1
        lost = whole.factors.keys() - survey.checkpoint.factors.keys()
        assert len(lost) == 1
        assert next(iter(modules)).endswith(next(iter(lost)))
        assert not set(fault.tensors) & survey.checkpoint.weights.entries.keys()

    def test_one_of_which_nothing_is_left_is_refused(
        self, minilm_lora: Path, tmp_path: Path
    ) -> None:
        shutil.copytree(minilm_lora, tmp_path / "lora")
        path = tmp_path / "lora" / "adapter_model.safetensors"
        length = 8 + int.from_bytes(path.read_bytes()[:8], "little")
        cut(path, path.stat().st_size - length)
        assert refused(tmp_path / "lora") == refusal(tmp_path / "lora")
        assert "the download was cut" in refused(tmp_path / "lora")

    def test_of_one_that_is_wrong_besides_the_cut_is_told(
        self, minilm_lora: Path, tmp_path: Path
    ) -> None:
        shutil.copytree(minilm_lora, tmp_path / "lora")
        config = tmp_path / "lora" / "adapter_config.json"
        config.write_text(config.read_text().replace('"r": 8', '"r": 4'))
        opened = open_damaged(tmp_path / "lora").checkpoint
        assert isinstance(opened, Adapter)
        assert len(opened.contradictions) == 36  # a rule tells them all
        cut(tmp_path / "lora" / "adapter_model.safetensors", 1)
        survey = open_damaged(tmp_path / "lora")
        assert isinstance(survey.checkpoint, Adapter)
        assert len(survey.checkpoint.contradictions) >= 35
        assert [fault.file for fault in survey.faults] == ["adapter_model.safetensors"]
