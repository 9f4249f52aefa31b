"""PyTorch pickle files against `torch.load(weights_only=True)`: the same tensors, bit for bit."""

import argparse
import datetime as dt
import json
import subprocess
import sys
import types
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.serialization import config

import spectra
from spectra.checkpoint import Checkpoint, Skipped, open_spec
from spectra.checkpoint.damaged import open_damaged
from spectra.checkpoint.local import LocalFile
from spectra.checkpoint.pickled.archive import read_archive
from spectra.gate import plan_check
from spectra.policy import Policy

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
    torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.bool,
    torch.complex64,
]  # fmt: skip
EIGHT_BITS = [
    torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e8m0fnu, torch.float8_e4m3fnuz,
    torch.float8_e5m2fnuz,
]  # fmt: skip


def opened(path: Path) -> Checkpoint:
    found = open_spec(path, allow_pickle=True)
    assert isinstance(found, Checkpoint)
    return found


def save(path: Path, saved: object) -> Path:
    torch.save(saved, path)
    return path


def bits(values: Tensor) -> bytes:
    return bytes(values.detach().contiguous().reshape(-1).view(torch.uint8).numpy())


def same(model: Checkpoint, twin: Mapping[str, Tensor]) -> bool:
    """Compare every tensor with torch's, after checking that there are as many."""
    assert list(model.entries) == list(twin)
    for name, entry in model.entries.items():
        values = model.read(entry)
        assert (name, values.dtype, values.shape) == (name, twin[name].dtype, twin[name].shape)
        assert bits(values) == bits(twin[name]), name
        assert entry.numel == twin[name].numel()
    return True


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype(tmp_path: Path, dtype: torch.dtype, generator: torch.Generator) -> None:
    values = (100 * torch.randn(4, 6, generator=generator, dtype=torch.float64)).to(dtype)
    path = save(tmp_path / "x.bin", {"a": values, "none": values[:0], "one": values[0, 0]})
    assert same(opened(path), torch.load(path, weights_only=True))


@pytest.mark.parametrize("dtype", EIGHT_BITS, ids=str)
def test_eight_bit_floats_lie_where_they_are_said_to(tmp_path: Path, dtype: torch.dtype) -> None:
    values = torch.arange(1, 9).to(torch.float32).to(dtype)
    save(tmp_path / "x.bin", {"before": torch.ones(3), "a": values})
    entry = opened(tmp_path / "x.bin").entries["a"]
    found = (tmp_path / "x.bin").read_bytes()[entry.start : entry.stop]
    assert found == bits(values)
    save_file({"a": values}, tmp_path / "twin.safetensors")
    twin = open_spec(tmp_path / "twin.safetensors")
    assert isinstance(twin, Checkpoint)
    assert entry.dtype == twin.entries["a"].dtype


@pytest.mark.filterwarnings("ignore:ComplexHalf support")
@pytest.mark.parametrize("dtype", [torch.complex128, torch.complex32], ids=str)
def test_dtypes_that_safetensors_lacks_are_skipped(tmp_path: Path, dtype: torch.dtype) -> None:
    path = save(tmp_path / "x.bin", {"kept": torch.ones(2), "c": torch.empty(2, dtype=dtype)})
    model = opened(path)
    assert list(model.entries) == ["kept"]
    assert model.skipped == (Skipped("c", f"not floating point ({str(dtype)[6:]})"),)


def views(generator: torch.Generator) -> dict[str, Tensor]:
    table = torch.randn(12, 10, generator=generator)
    cube = torch.randn(4, 6, 5, generator=generator)
    return {
        "whole": table,
        "transposed": table.T,
        "rows": table[3:7],
        "columns": table[:, 2:5],
        "every-other": table[1::3, ::2],
        "diagonal": table.diagonal(),
        "expanded": torch.ones(3, 1).expand(3, 7),
        "expanded-rows": table[0].expand(5, 10),
        "one-row": table[2:3].T,
        "permuted": cube.permute(2, 0, 1),
        "experts": cube.transpose(1, 2),
        "windows": table.reshape(-1).unfold(0, 20, 10),
        "stepped-rows": cube[1::2],
        "scalar": table[5, 5],
        "empty": table[4:4].T,
    }


class TestViews:
    def test_they_agree_with_torch(self, tmp_path: Path, generator: torch.Generator) -> None:
        path = save(tmp_path / "x.pt", views(generator))
        assert same(opened(path), torch.load(path, weights_only=True))

    def test_a_slab_is_that_part_of_the_first_axis(
        self, tmp_path: Path, generator: torch.Generator
    ) -> None:
        tensors = views(generator)
        model = opened(save(tmp_path / "x.pt", tensors))
        compared = 0
        for name, entry in model.entries.items():
            for start in range(len(tensors[name]) if tensors[name].ndim else 0):
                for stop in range(start, len(tensors[name]) + 1):
                    found = model.read(entry, (start, stop))
                    assert torch.equal(found, tensors[name][start:stop]), (name, start, stop)
                    compared += 1
        assert compared > 200

    def test_a_slab_reads_its_own_bytes_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        experts = torch.zeros(8, 64, 32).transpose(1, 2)
        model = opened(save(tmp_path / "x.pt", {"experts": experts}))
        entry, file = model.entries["experts"], model.files["x.pt"]
        read: list[int] = []

        def counted(start: int, buffer: memoryview) -> int:
            assert start == entry.start + 4 * 3 * 32 * 64
            read.append(len(buffer))
            return LocalFile.fill(file, start, buffer)  # type: ignore[arg-type]

        monkeypatch.setattr(file, "fill", counted)
        assert model.read(entry, (3, 4)).shape == (1, 32, 64)
        assert read == [4 * 32 * 64]

    def test_a_view_is_no_codec(self, tmp_path: Path) -> None:
        table = torch.tensor([[65504.0, 1.0, 2.0], [3.0, -65504.0, 5.0]], dtype=torch.float16)
        path = save(tmp_path / "x.pt", {"a.weight": table.T, "b": torch.ones(2, 2).expand(3, 2, 2)})
        entry = opened(path).entries["a.weight"]
        assert (entry.codec, entry.dtype, entry.strides) == (None, "F16", (1, 3))
        assert opened(path).entries["b"].codec is None
        allowed = partial(open_damaged, allow_pickle=True)
        result = plan_check(str(path), Policy(), allowed).run()
        (row,) = [row for row in result.rows if row.matrix == "a.weight"]
        assert row.values["saturated"] == 2

    def test_views_of_other_dtypes_are_read(self, tmp_path: Path) -> None:
        ids = torch.arange(6).reshape(2, 3).T
        path = save(tmp_path / "x.pt", {"ids": ids, "kept": torch.ones(2)})
        assert opened(path).skipped == ()
        assert same(opened(path), {"ids": ids, "kept": torch.ones(2)})

    def test_conjugated_and_negated_views_are_skipped(self, tmp_path: Path) -> None:
        turned = torch.ones(2, dtype=torch.complex64).conj()
        saved = {
            "kept": torch.ones(2),
            "conj": turned,
            "neg": torch.ones(2, dtype=torch.complex64).conj().imag,
        }
        model = opened(save(tmp_path / "x.pt", saved))
        reason = "a view that negates or conjugates what is stored"
        assert model.skipped == (Skipped("conj", reason), Skipped("neg", reason))

    def test_few_values_repeated_without_end_are_skipped(self, tmp_path: Path) -> None:
        saved = {"kept": torch.ones(2), "huge": torch.ones(1).expand(1 << 20, 1 << 20)}
        model = opened(save(tmp_path / "x.pt", saved))
        reason = "a view of 1,099,511,627,776 values that repeats 1"
        assert model.skipped == (Skipped("huge", reason),)

    def test_tied_weights_are_two_names_of_the_same_bytes(self, tmp_path: Path) -> None:
        table = torch.arange(6.0).reshape(2, 3)
        model = opened(save(tmp_path / "x.pt", {"embed": table, "head": table, "odd": table[1:]}))
        embed, head, odd = model.entries.values()
        assert (embed.start, embed.stop) == (head.start, head.stop)
        assert (odd.start, odd.stop) == (embed.start + 12, embed.stop)


class TestWhatIsSaved:
    def test_the_state_dict_of_a_module(self, tmp_path: Path) -> None:
        module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Embedding(5, 4))
        state = module.state_dict()
        assert state._metadata  # type: ignore[attr-defined]
        path = save(tmp_path / "x.pth", state)
        assert same(opened(path), torch.load(path, weights_only=True))

    def test_parameters_and_tensors_with_attributes(self, tmp_path: Path) -> None:
        marked = torch.ones(2, 2)
        marked.note = "x"  # type: ignore[attr-defined]
        parameter = nn.Parameter(torch.ones(3))
        parameter.shard = {"axis": 0}  # type: ignore[attr-defined]
        saved = OrderedDict(a=nn.Parameter(torch.arange(4.0)), b=marked, c=parameter)
        path = save(tmp_path / "x.bin", saved)
        assert same(opened(path), torch.load(path, weights_only=True))

    @pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model", "module"])
    def test_a_training_checkpoint_gives_its_model(self, tmp_path: Path, wrapper: str) -> None:
        layer = nn.Linear(3, 2)
        optimizer = torch.optim.AdamW(layer.parameters())
        layer(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        saved = {
            "epoch": 3,
            "lr": 1e-4,
            "big": 1 << 200,
            "negative": -(1 << 40),
            "names": ["a", ("b", None, True, False)],
            "optimizer": optimizer.state_dict(),
            wrapper: layer.state_dict(),
            "rng": torch.get_rng_state(),
            "raw": b"bytes",
            "more": bytearray(b"x"),
            "kinds": {1, 2},
            "device": torch.device("cpu"),
            "dtype": torch.float32,
            "shape": torch.Size([2, 3]),
            "z": 1j,
        }
        path = save(tmp_path / "last.ckpt", saved)
        model = opened(path)
        assert same(model, torch.load(path, weights_only=True)[wrapper])
        assert model.skipped == (
            Skipped("optimizer", f"beside the model's {wrapper!r}: 6 tensors"),
            Skipped("rng", f"beside the model's {wrapper!r}: 1 tensors"),
        )

    def test_nested_dicts_give_dotted_names(self, tmp_path: Path) -> None:
        inner = {"word": {"weight": torch.ones(2, 2)}, "layers": [torch.zeros(1), torch.ones(1)]}
        model = opened(save(tmp_path / "x.pt", {"model": {"encoder": inner, 7: torch.ones(3)}}))
        assert list(model.entries) == [
            "encoder.word.weight",
            "encoder.layers.0",
            "encoder.layers.1",
            "7",
        ]

    def test_what_no_tensor_of_its_own_kind_is_read_is_skipped(self, tmp_path: Path) -> None:
        saved = {
            "kept": torch.ones(2),
            "sparse": torch.eye(3).to_sparse(),
            "meta": torch.ones(2, device="meta"),
        }
        model = opened(save(tmp_path / "x.pt", saved))
        assert list(model.entries) == ["kept"]
        assert model.skipped == (
            Skipped("sparse", "a sparse tensor"),
            Skipped("meta", "saved without values, on the meta device"),
        )

    def test_names_that_could_move_the_cursor_are_kept(self, tmp_path: Path) -> None:
        model = opened(save(tmp_path / "x.pt", {"\x1b[2J\n.weight": torch.ones(2, 2)}))
        assert list(model.entries) == ["\x1b[2J\n.weight"]
        assert spectra.ls(model).rows[0].matrix == "\x1b[2J\n.weight"


class TestArchives:
    """Where records begin: worked out from the directory, or read from their own headers."""

    @staticmethod
    def starts_agree(path: Path) -> int:
        reader: Any = torch._C.PyTorchFileReader(str(path))
        records = read_archive(LocalFile(path)).records
        names = [name for name in reader.get_all_records() if records[name][0] < records[name][1]]
        for name in names:
            assert records[name][0] == reader.get_record_offset(name), name
        return len(names)

    @pytest.mark.parametrize("sizes", [[1], [16, 64, 48, 0, 1000], list(range(100))], ids=len)
    def test_as_torch_writes_them(self, tmp_path: Path, sizes: list[int]) -> None:
        saved = {str(n): torch.ones(n, dtype=torch.uint8) for n in sizes}
        path = save(tmp_path / ("long-name-" * 9 + ".bin"), saved)
        assert self.starts_agree(path) >= len(sizes)
        assert same(opened(path), saved)

    @pytest.mark.parametrize("alignment", [8, 64, 4096])
    def test_with_another_alignment(self, tmp_path: Path, alignment: int) -> None:
        with config.patch("save.storage_alignment", alignment):  # type: ignore[attr-defined]
            path = save(tmp_path / "x.bin", {"a": torch.ones(5), "b": torch.zeros(7)})
        assert self.starts_agree(path) == 8
        assert same(opened(path), torch.load(path, weights_only=True))

    @pytest.mark.parametrize(
        "extra", [b"", b"UT\x09\x00" + bytes(9), b"XX" + bytes([60, 0]) + bytes(60)]
    )
    def test_packed_again_by_another_program(self, tmp_path: Path, extra: bytes) -> None:
        saved = {"a": torch.ones(5), "b": torch.arange(70.0)}
        with (
            zipfile.ZipFile(save(tmp_path / "x.bin", saved)) as first,
            zipfile.ZipFile(tmp_path / "y.bin", "w") as second,
        ):
            for name in first.namelist():
                info = zipfile.ZipInfo(name)
                info.extra = extra
                second.writestr(info, first.read(name))
        assert self.starts_agree(tmp_path / "y.bin") == 8
        assert same(opened(tmp_path / "y.bin"), torch.load(tmp_path / "y.bin", weights_only=True))

    def test_opening_takes_few_reads(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = save(tmp_path / "x.bin", {str(n): torch.ones(9) for n in range(2000)})
        reads: list[tuple[int, int]] = []
        whole = LocalFile.read

        def counted(file: LocalFile, start: int, stop: int) -> bytes:
            reads.append((start, stop))
            return whole(file, start, stop)

        monkeypatch.setattr(LocalFile, "read", counted)
        assert len(opened(path).entries) == 2000
        assert len(reads) <= 6, "on the Hub each is a request"


class TestShards:
    @staticmethod
    def written(folder: Path, names: Mapping[str, str] | None = None) -> dict[str, Tensor]:
        tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4), "c": torch.zeros(2)}
        files = {"a": "pytorch_model-1.bin", "b": "pytorch_model-2.bin", "c": "pytorch_model-2.bin"}
        for file in set(files.values()):
            save(folder / file, {key: tensors[key] for key in files if files[key] == file})
        index = folder / "pytorch_model.bin.index.json"
        index.write_text(json.dumps({"weight_map": {**files, **(names or {})}}))
        return tensors

    def test_they_are_opened_through_their_index(self, tmp_path: Path) -> None:
        tensors = self.written(tmp_path)
        assert same(opened(tmp_path), tensors)
        assert same(opened(tmp_path / "pytorch_model.bin.index.json"), tensors)

    def test_what_is_skipped_in_a_shard_is_told_with_its_reason(self, tmp_path: Path) -> None:
        self.written(tmp_path, {"gone": "pytorch_model-1.bin", "s": "pytorch_model-1.bin"})
        save(
            tmp_path / "pytorch_model-1.bin",
            {"a": torch.ones(2, 3), "s": torch.eye(2).to_sparse()},
        )
        assert opened(tmp_path).skipped == (
            Skipped("gone", "named by the index, missing from its shard"),
            Skipped("s", "a sparse tensor"),
        )

    def test_transformers_weights(self, tmp_path: Path, minilm: Path) -> None:
        tensors = load_file(minilm / "model.safetensors")
        half = len(tensors) // 2
        weight_map: dict[str, str] = {}
        for number, names in enumerate((list(tensors)[:half], list(tensors)[half:])):
            file = f"pytorch_model-{number + 1:05}-of-00002.bin"
            save(tmp_path / file, {name: tensors[name] for name in names})
            weight_map |= dict.fromkeys(names, file)
        index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
        assert same(opened(tmp_path), {name: tensors[name] for name in opened(tmp_path).entries})
        assert len(opened(tmp_path).entries) == len(tensors)


def test_the_real_model_gives_the_rows_of_its_safetensors(tmp_path: Path, minilm: Path) -> None:
    tensors = load_file(minilm / "model.safetensors")
    save(tmp_path / "pytorch_model.bin", OrderedDict(tensors))
    (tmp_path / "config.json").write_text((minilm / "config.json").read_text())
    chosen = spectra.Selection(layers="0")
    expected = spectra.spectrum(minilm, selection=chosen)
    found = spectra.spectrum(spectra.open(tmp_path, allow_pickle=True), selection=chosen)
    assert len(found.rows) == 6
    assert [(row.matrix, row.values) for row in found.rows] == [
        (row.matrix, row.values) for row in expected.rows
    ]
    listed, twin = spectra.ls(spectra.open(tmp_path, allow_pickle=True)), spectra.ls(minilm)
    assert [row.matrix for row in listed.rows] == [row.matrix for row in twin.rows]
    assert listed.skipped == twin.skipped


READ_ALL = """
import resource, sys
import torch
from spectra.checkpoint import open_spec
torch.ones(10).sum()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model = open_spec(sys.argv[1], allow_pickle=True)
for entry in model.entries.values():
    model.read(entry)
print(len(model.entries), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_holds_one_tensor_not_the_file(tmp_path: Path) -> None:
    tensors = {f"layers.{n}.weight": torch.zeros(2560, 1024) for n in range(20)}  # 10 MB each
    tensors["layers.19.weight"] = tensors["layers.19.weight"].T
    path = save(tmp_path / "pytorch_model.bin", tensors)
    run = subprocess.run(
        [sys.executable, "-c", READ_ALL, str(path)], capture_output=True, text=True, check=True
    )
    count, growth = map(int, run.stdout.split())
    assert count == 20
    assert growth < 50_000, "KiB: a tensor, one in order, and what the allocator keeps"


def test_opening_needs_no_torch(tmp_path: Path) -> None:
    path = save(tmp_path / "x.bin", {"a": torch.ones(2, 2)})
    code = (
        "import sys, spectra; found = spectra.ls(spectra.open(sys.argv[1], allow_pickle=True));"
        "assert len(found.rows) == 1; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)


def pickled_as_torch(saved: object, path: Path, kinds: tuple[type, ...]) -> Path:
    """Save with classes of packages that are not here, which pickle would look for."""
    with pytest.MonkeyPatch.context() as patch:
        for kind in kinds:
            patch.setitem(sys.modules, kind.__module__, types.ModuleType(kind.__module__))
            patch.setattr(sys.modules[kind.__module__], kind.__name__, kind, raising=False)
        torch.save(saved, path)
    return path


class TestBesideTheWeights:
    def test_plain_data_is_passed_over(self, tmp_path: Path) -> None:
        saved = {
            "state_dict": {"a": torch.arange(3.0)},
            "best": np.float64(0.5),
            "loss": np.float32(1),
            "when": dt.datetime(2026, 1, 2, tzinfo=dt.UTC).replace(tzinfo=None),
            "out": Path("runs/1"),
            "args": argparse.Namespace(lr=np.float16(0.1), seeds=[1, 2]),
            "counts": defaultdict(list, a=[1]),
            "kind": np.dtype("float32"),
        }
        model = opened(save(tmp_path / "x.ckpt", saved))
        assert model.skipped == ()
        assert same(model, {"a": torch.arange(3.0)})

    def test_arrays_are_named(self, tmp_path: Path) -> None:
        saved = {"a": torch.ones(2), "b": np.ones((2, 2)), "c": {"d": np.zeros(3, np.int64)}}
        model = opened(save(tmp_path / "x.pt", saved))
        assert list(model.entries) == ["a"]
        assert model.skipped == (Skipped("b", "a NumPy array"), Skipped("c.d", "a NumPy array"))

    def test_a_default_dict_of_weights(self, tmp_path: Path) -> None:
        saved: dict[str, object] = defaultdict(dict)
        saved["a"] = torch.ones(2)
        model = opened(save(tmp_path / "x.pt", saved))
        assert list(model.entries) == ["a"]

    def test_settings_and_callbacks_of_trainers(self, tmp_path: Path) -> None:
        """As Lightning and transformers save them; the packages need not be installed."""
        callback = type("ModelCheckpoint", (), {"__module__": "pytorch_lightning"})
        kept = type("DictConfig", (), {"__module__": "omegaconf"})()
        kept.__dict__.update(_content={"lr": 0.1}, _type=Any)
        Strategy = Enum("Strategy", {"EPOCH": "epoch"}, module="accelerate")
        saved = {
            "state_dict": {"a": torch.arange(3.0)},
            "callbacks": {callback: {"best": np.float64(1.0)}},
            "hyper_parameters": kept,
            "args": Strategy.EPOCH,
        }
        raw = pickled_as_torch(saved, tmp_path / "x.ckpt", (callback, type(kept), Strategy))
        model = opened(raw)
        assert same(model, {"a": torch.arange(3.0)})
        assert model.skipped == ()
        assert "pytorch_lightning" not in sys.modules
