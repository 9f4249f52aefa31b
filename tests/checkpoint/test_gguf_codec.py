"""Values of GGUF tensors, against the library that owns the format."""

import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray
from torch import Tensor

from shards import opened, refusal
from spectra.checkpoint.fingerprints import MemoryLedger, fingerprint_of
from spectra.checkpoint.gguf.codec import DECODED, Order
from spectra.checkpoint.reading import read_entry
from spectra.matrices import views_of

Array: TypeAlias = NDArray[Any]


def write(
    path: Path,
    tensors: Mapping[str, tuple[Array, Kind]],
    architecture: str = "none",
    numbers: Mapping[str, int] | None = None,
) -> Path:
    """Write tensors with the library, values or packed bytes as their type asks."""
    writer = gguf.GGUFWriter(path, architecture)
    for key, number in (numbers or {}).items():
        writer.add_uint32(f"{architecture}.{key}", number)
    for name, (values, kind) in tensors.items():
        writer.add_tensor(name, values, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def packed(kind: Kind, *shape: int) -> Array:
    """Return random values of a shape, quantised where the library can, random bytes else."""
    random = np.random.default_rng(int(kind))
    block, size = gguf.GGML_QUANT_SIZES[kind]
    values = random.standard_normal(shape).astype(np.float32)
    try:
        return gguf.quants.quantize(values, kind)
    except NotImplementedError:
        return random.integers(0, 256, (*shape[:-1], shape[-1] // block * size), np.uint8)


def same(ours: Tensor, theirs: Array) -> bool:
    """Compare bit for bit, NaN included."""
    left = ours.numpy()
    return left.dtype == theirs.dtype and left.shape == theirs.shape and bool(
        np.array_equal(left.view(np.uint8), np.ascontiguousarray(theirs).view(np.uint8))
    )  # fmt: skip


def decoded(raw: Array, kind: Kind) -> Array:
    with np.errstate(all="ignore"):
        return gguf.quants.dequantize(raw, kind)


@pytest.mark.parametrize("word", sorted(DECODED))
def test_every_type_is_decoded_as_the_library_does(tmp_path: Path, word: str) -> None:
    kind = Kind[word]
    raw = packed(kind, 37, 512)
    checkpoint = opened(write(tmp_path / "m.gguf", {"w": (raw, kind)}))
    entry = checkpoint.entries["w"]
    theirs = decoded(raw, kind)
    assert (entry.dtype, entry.shape, entry.nbytes) == (word, (37, 512), raw.nbytes)
    assert entry.codec is not None
    assert entry.codec.name == f"gguf-{word.lower()}"
    sent, ledger = pickle.loads(pickle.dumps(checkpoint)), MemoryLedger()
    there = read_entry(sent.files, sent.entries["w"], ledger=ledger)
    assert same(there, checkpoint.read(entry).numpy())
    assert fingerprint_of(entry, None, checkpoint.files, ledger) is not None
    assert same(checkpoint.read(entry), theirs)
    assert same(checkpoint.read(entry, (5, 21)), theirs[5:21])


@pytest.mark.parametrize("word", sorted(DECODED))
def test_pieces_are_decoded_as_the_whole(
    tmp_path: Path, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spectra.checkpoint.gguf.codec.BLOCK", 1500)  # two rows at a time
    kind = Kind[word]
    raw = packed(kind, 37, 512)
    checkpoint = opened(write(tmp_path / "m.gguf", {"w": (raw, kind)}))
    assert same(checkpoint.read(checkpoint.entries["w"]), decoded(raw, kind))


@pytest.mark.parametrize("word", ["F32", "F16", "BF16", "F64"])
def test_plain_types_are_read_as_they_lie(tmp_path: Path, word: str) -> None:
    values = torch.randn(6, 10, dtype=torch.float64)
    dtype = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
             "F64": torch.float64}[word]  # fmt: skip
    stored = values.to(dtype)
    raw = stored.view(torch.uint8).numpy() if word == "BF16" else stored.numpy()
    checkpoint = opened(write(tmp_path / "m.gguf", {"w": (raw, Kind[word])}))
    entry = checkpoint.entries["w"]
    assert (entry.dtype, entry.codec) == (word, None)
    assert torch.equal(checkpoint.read(entry), stored)


def test_integers_are_no_weights(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.int32).reshape(2, 3)
    checkpoint = opened(write(tmp_path / "m.gguf", {"w": (values, Kind.I32)}))
    assert torch.equal(checkpoint.read(checkpoint.entries["w"]), torch.from_numpy(values))
    assert views_of(checkpoint)[1][0].reason == "not floating point (I32)"


def test_a_type_that_nobody_decodes_is_left_out_by_its_name(tmp_path: Path) -> None:
    raw = np.zeros((2, 292), np.uint8)
    checkpoint = opened(write(tmp_path / "m.gguf", {"w": (raw, Kind.Q8_K)}))
    assert not checkpoint.entries
    (skipped,) = checkpoint.skipped
    assert skipped.tensor == "w"
    assert skipped.reason == "GGUF type Q8_K, which the package gguf cannot decode"


def test_without_the_library_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "m.gguf", {"w": (packed(Kind.Q4_0, 2, 32), Kind.Q4_0)})
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert "pip install gguf" in refusal(path)


def rotated(values: Array, heads: int) -> Array:
    """Return q or k rows as the converter writes them: each row beside its partner."""
    rows = []
    size = len(values) // heads
    for head in range(heads):
        for pair in range(size // 2):
            rows += [head * size + pair, head * size + pair + size // 2]
    return values[rows]


@pytest.mark.parametrize("word", ["Q4_K", "Q8_0", "F16", "F32"])
def test_rotary_rows_are_put_back_whatever_their_type(tmp_path: Path, word: str) -> None:
    kind = Kind[word]
    q, k = packed(kind, 48, 256), packed(kind, 16, 256)
    tensors = {
        "blk.3.attn_q.weight": (rotated(q, 6), kind),
        "blk.3.attn_k.weight": (rotated(k, 2), kind),
    }
    numbers = {"attention.head_count": 6, "attention.head_count_kv": 2}
    checkpoint = opened(write(tmp_path / "m.gguf", tensors, "llama", numbers))
    for name, raw in (("q", q), ("k", k)):
        entry = checkpoint.entries[f"model.layers.3.self_attn.{name}_proj.weight"]
        theirs = raw if word in {"F16", "F32"} else decoded(raw, kind)
        assert entry.codec is not None
        assert entry.codec.name == f"gguf-{word.lower()}"
        assert same(checkpoint.read(entry), theirs)
        assert same(checkpoint.read(entry, (3, 14)), theirs[3:14])


def test_a_row_order_that_cannot_be_undone_is_told(tmp_path: Path) -> None:
    raw = packed(Kind.F32, 10, 32)
    tensors = {"blk.0.attn_q.weight": (raw, Kind.F32)}
    for numbers, told in (({}, "0 and 0 heads"), ({"attention.head_count": 4}, "4 and 4 heads")):
        path = write(tmp_path / f"m{len(numbers)}.gguf", tensors, "llama", numbers)
        (skipped,) = opened(path).skipped
        assert skipped.tensor == "model.layers.0.self_attn.q_proj.weight"
        assert skipped.reason == (
            f"the order of its rows cannot be undone: llama with {told} does not fit [10, 32]"
        )


def test_experts_are_read_one_at_a_time(tmp_path: Path) -> None:
    raw = packed(Kind.Q5_K, 3, 8, 256)
    tensors = {"blk.1.ffn_down_exps.weight": (raw, Kind.Q5_K)}
    checkpoint = opened(write(tmp_path / "m.gguf", tensors, "llama"))
    theirs = decoded(raw, Kind.Q5_K)
    assert len(checkpoint.entries) == 3
    for number in range(3):
        entry = checkpoint.entries[
            f"model.layers.1.block_sparse_moe.experts.{number}.w2.weight"
        ]  # fmt: skip
        assert entry.nbytes == raw[number].nbytes
        assert same(checkpoint.read(entry), theirs[number])


def test_stacks_without_a_known_name_are_read_expert_by_expert(tmp_path: Path) -> None:
    raw = packed(Kind.Q4_0, 3, 8, 64)
    tensors = {"blk.1.ffn_down_exps.weight": (raw, Kind.Q4_0)}
    checkpoint = opened(write(tmp_path / "m.gguf", tensors, "unheard-of"))
    entry = checkpoint.entries["blk.1.ffn_down_exps.weight"]
    theirs = decoded(raw, Kind.Q4_0)
    assert same(checkpoint.read(entry), theirs)
    assert same(checkpoint.read(entry, (1, 2)), theirs[1:2])
    views, _ = views_of(checkpoint)
    assert [view.role.expert for view in views] == [0, 1, 2]
    assert same(views[2].of(checkpoint.read(entry)), theirs[2])


@pytest.mark.parametrize("experts", [0, 3])
def test_the_factor_beside_nvfp4_is_multiplied(tmp_path: Path, experts: int) -> None:
    shape = (experts, 4, 64) if experts else (4, 64)
    raw, factor = packed(Kind.NVFP4, *shape), np.array([0.5, 2.0, 0.25][: experts or 1], np.float32)
    stem = "blk.0.ffn_up_exps" if experts else "blk.0.ffn_up"
    tensors = {f"{stem}.weight": (raw, Kind.NVFP4), f"{stem}.scale": (factor, Kind.F32)}
    checkpoint = opened(write(tmp_path / "m.gguf", tensors, "qwen3moe"))
    theirs = decoded(raw, Kind.NVFP4) * factor.reshape(-1, 1, 1)[: experts or 1]
    found = [entry for entry in checkpoint.entries.values() if entry.dtype == "NVFP4"]
    assert len(found) == (experts or 1)
    for number, entry in enumerate(found):
        assert same(checkpoint.read(entry), theirs[number] if experts else theirs[0])


def test_a_quantised_vector_is_read(tmp_path: Path) -> None:
    raw = packed(Kind.Q8_0, 64)
    checkpoint = opened(write(tmp_path / "m.gguf", {"v": (raw, Kind.Q8_0)}))
    assert same(checkpoint.read(checkpoint.entries["v"]), decoded(raw, Kind.Q8_0))


def test_a_turned_matrix_is_read_whole_or_in_part(tmp_path: Path) -> None:
    raw = packed(Kind.Q8_0, 96, 32)
    tensors = {"blk.0.attn_qkv.weight": (raw, Kind.Q8_0)}
    checkpoint = opened(write(tmp_path / "m.gguf", tensors, "gpt2"))
    entry = checkpoint.entries["transformer.h.0.attn.c_attn.weight"]
    theirs = decoded(raw, Kind.Q8_0).T
    assert entry.shape == (32, 96)
    assert same(checkpoint.read(entry).contiguous(), theirs)
    assert same(checkpoint.read(entry, (3, 9)).contiguous(), theirs[3:9])


def test_an_order_is_one_place_for_each_place() -> None:
    order = Order(2, 1, 7, 2, (1, 2))
    assert order.fits(16)
    assert order.index(16).tolist() == [0, 1, 3, 4, 2, 5, 6, 7, 8, 9, 11, 12, 10, 13, 14, 15]
    assert not order.fits(15)
    assert not Order(2, 1, 7, 2, (1, 1)).fits(16)
    assert not Order(0, 0, 0, 1, (1,)).fits(16)
    assert not Order(1, 0, 0, 1, ()).fits(16)
    assert not Order(1, 10, 20, 5, (2,)).fits(16)
