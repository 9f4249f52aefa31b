"""The GGUF header: what is refused, how, and that nothing else can happen."""

import struct
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards import opened, refusal
from spectra.checkpoint.gguf.codec import DECODED
from spectra.checkpoint.gguf.header import KEPT_PAIRS, SHAPES, TYPES, read_gguf_header
from spectra.checkpoint.gguf.opening import open_gguf
from spectra.checkpoint.gguf.reader import MAX_HEADER, MAX_NESTING
from spectra.errors import CheckpointError
from spectra.matrices import views_of

U32, F32, BOOL, TEXT, ARRAY, U64 = 4, 6, 7, 8, 9, 10


class Memory:
    """A file in memory, that counts how it is read."""

    label, concurrency, spec, resolved = "m.gguf", 1, "m", "/m"
    chunk, ranges, prefix = 1 << 20, 1, ""

    def __init__(self, raw: bytes, size: int = 0) -> None:
        self.raw, self.size, self.reads = raw, size or len(raw), 0

    def read(self, start: int, stop: int) -> bytes:
        self.reads += 1
        return self.raw[start:stop]

    def fill(self, start: int, buffer: memoryview) -> int:
        part = self.raw[start : start + len(buffer)]
        buffer[: len(part)] = part
        return len(part)

    def fingerprint(self, start: int, stop: int) -> None:
        """Unknown."""

    def span(self, start: int, stop: int, how: str = "") -> None:
        """Never kept."""

    def folders(self) -> Sequence[str]:
        return ()

    def inside(self, path: str, prefix: str = "") -> "Memory":
        return Memory(b"")

    def names(self) -> Sequence[str]:
        return ["m.gguf"]

    def has(self, name: str) -> bool:
        return name == "m.gguf"

    def file(self, name: str) -> "Memory":
        return self


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def pair(key: str | bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def number(key: str, value: int) -> bytes:
    return pair(key, U32, struct.pack("<I", value))


def array(kind: int, count: int, items: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, count) + items


def info(name: str | bytes, shape: Sequence[int], kind: int = 0, offset: int = 0) -> bytes:
    """Return a tensor's line; the shape as in the file, innermost axis first."""
    axes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + axes + struct.pack("<IQ", kind, offset)


def file(
    pairs: Sequence[bytes] = (),
    infos: Sequence[bytes] = (),
    data: int = 4096,
    version: int = 3,
    counts: tuple[int, int] | None = None,
) -> bytes:
    """Return a file as its parts say, right or wrong."""
    tensors, keys = counts or (len(infos), len(pairs))
    head = b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + b"".join([*pairs, *infos])
    return head + bytes(-len(head) % 32) + bytes(data)


ARCHITECTURE = pair("general.architecture", TEXT, text("llama"))
WRONG = {
    "empty": (b"", "not a GGUF file"),
    "magic": (b"GGML" + bytes(60), "it begins with b'GGML'"),
    "forerunner": (b"tjgg" + bytes(60), "of ggml before GGUF"),
    "forerunner's adapter": (b"algg" + bytes(60), "of ggml before GGUF"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "page": (b"<!DOCTYPE html><html>", "HTML page"),
    "short": (b"GGUF\x03\0\0\0\0\0", "inside its own header"),
    "version 1": (file(version=1), "version 1, expected 2 or 3"),
    "version 0": (file(version=0), "version 0, expected 2 or 3"),
    "version 4": (file(version=4), "version 4, expected 2 or 3"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "many pairs": (file(counts=(0, 1 << 63)), "9,223,372,036,854,775,808 key-value pairs"),
    "more pairs than fit": (file(counts=(0, 9000)), "9,000 key-value pairs of 13 bytes"),
    "many tensors": (file(counts=(1 << 62, 0)), "tensors, expected at most"),
    "more tensors than fit": (file(counts=(60000, 0)), "60,000 tensors of 33 bytes"),
    "key twice": (file([ARCHITECTURE, ARCHITECTURE]), "'general.architecture' twice"),
    "key empty": (file([number("", 1)]), "a key of 0 bytes"),
    "key long": (file([number("k" * 70000, 1)]), "a key of 70,000 bytes"),
    "key not text": (file([pair(b"\xff\xfe", BOOL, b"\0")]), "not UTF-8"),
    "kind": (file([pair("k", 13, bytes(8))]), "a value of kind 13"),
    "array kind": (file([pair("k", ARRAY, array(99, 1))]), "an array of kind 99"),
    "array long": (file([pair("k", ARRAY, array(U32, 1 << 60))]), "array entries"),
    "texts many": (file([pair("k", ARRAY, array(TEXT, 90_000))]), "90,000 texts of 8 bytes"),
    "text long": (file([pair("k", TEXT, struct.pack("<Q", 1 << 60))]), "inside its own header"),
    "text in array long": (
        file([pair("k", ARRAY, array(TEXT, 1, struct.pack("<Q", 1 << 63)))]),
        "inside its own header",
    ),
    "nested": (
        file([pair("k", ARRAY, array(ARRAY, 1) * MAX_NESTING + array(U32, 0))]),
        "arrays in arrays",
    ),
    "alignment 0": (file([number("general.alignment", 0)]), "alignment 0"),
    "alignment 48": (file([number("general.alignment", 48)]), "expected a power of two"),
    "alignment kind": (
        file([pair("general.alignment", U64, struct.pack("<Q", 32))]), "expected 4 (uint32)"),
    "name empty": (file(infos=[info("", [4])]), "name of 0 bytes"),
    "name long": (file(infos=[info("n" * 2000, [4])]), "name of 2,000 bytes"),
    "name twice": (file(infos=[info("w", [4]), info("w", [4], 0, 32)]), "tensor 'w' twice"),
    "no axes": (file(infos=[info("w", [])]), "0 dimensions, expected 1 to 5"),
    "six axes": (file(infos=[info("w", [1] * 6)]), "6 dimensions"),
    "many axes": (file(infos=[text("w") + struct.pack("<I", 1 << 31)]), "dimensions"),
    "axis negative": (file(infos=[info("w", [(1 << 64) - 1])]), "beyond 63 bits"),
    "overflow": (file(infos=[info("w", [1 << 33, 1 << 33])]), "beyond 63 bits"),
    "axis negative beside none": (file(infos=[info("w", [(1 << 64) - 1, 0])]), "beyond 63 bits"),
    "type": (file(infos=[info("w", [4], 77)]), "type 77, which is not known"),
    "type dropped": (file(infos=[info("w", [32], 31)]), "Q4_0_4_4, which the format dropped"),
    "row": (file(infos=[info("w", [100, 2], 12)]), "100 inputs, and Q4_K packs 256"),
    "offset": (file(infos=[info("w", [4], 0, 8)]), "offset 8, no multiple of 32"),
    "outside": (file(infos=[info("w", [4], 0, 8192)]), "the download was cut"),
    "cut": (file(infos=[info("w", [64, 64])], data=100), "the download was cut"),
    "overlap": (file(infos=[info("v", [64]), info("w", [4], 0, 32)]), "'w' overlap"),
}  # fmt: skip


@pytest.mark.parametrize("fault", WRONG)
def test_a_broken_rule_is_refused_in_one_line(tmp_path: Path, fault: str) -> None:
    raw, expected = WRONG[fault]
    (tmp_path / "m.gguf").write_bytes(raw)
    tracemalloc.start()
    try:
        message = refusal(tmp_path / "m.gguf")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert expected in message
    assert "m.gguf" in message
    assert peak < 2_000_000  # never what a count claims


@pytest.mark.parametrize("version", [2, 3])
def test_both_versions_are_read(version: int) -> None:
    header = read_gguf_header(Memory(file([number("a", 7)], [info("w", [8, 4])], 4096, version)))
    assert header.metadata == {"a": 7}
    assert [(t.name, t.kind, t.shape) for t in header.tensors] == [("w", "F32", (4, 8))]


def test_every_kind_of_value_is_kept_or_skipped() -> None:
    pairs = [
        pair("yes", BOOL, b"\1"),
        pair("half", F32, struct.pack("<f", 0.5)),
        pair("word", TEXT, text("é")),
        pair("long", TEXT, text("x" * 5000)),
        pair("layers", ARRAY, array(U32, 3, struct.pack("<3I", 1, 2, 3))),
        pair("table", ARRAY, array(F32, 5000, bytes(20000))),
        pair("words", ARRAY, array(TEXT, 2, text("a") + text(""))),
        pair("nested", ARRAY, array(ARRAY, 2, array(U32, 1, bytes(4)) + array(TEXT, 1, text("b")))),
        number("tokenizer.ggml.eos_token_id", 2),
        pair("tokenizer.ggml.model", TEXT, text("bert")),
        number("last", 9),
    ]  # fmt: skip
    assert read_gguf_header(Memory(file(pairs))).metadata == {
        "yes": True, "half": 0.5, "word": "é", "layers": (1, 2, 3),
        "tokenizer.ggml.model": "bert", "last": 9,
    }  # fmt: skip


def test_of_many_pairs_the_first_are_kept_and_every_shape() -> None:
    shape = pair(f"{SHAPES}w", ARRAY, array(U32, 2, struct.pack("<2I", 4, 8)))
    pairs = [number(f"k{i}", i) for i in range(KEPT_PAIRS + 5)]
    metadata = read_gguf_header(Memory(file([*pairs, shape]))).metadata
    assert [*metadata] == [*(f"k{i}" for i in range(KEPT_PAIRS)), f"{SHAPES}w"]


def test_an_alignment_of_its_own_moves_the_data() -> None:
    raw = file([number("general.alignment", 256)], [info("w", [4])])
    (tensor,) = read_gguf_header(Memory(raw)).tensors
    assert tensor.start == 256


def test_types_are_those_of_the_library() -> None:
    theirs = {int(kind): (kind.name, *gguf.GGML_QUANT_SIZES[kind]) for kind in
              gguf.GGMLQuantizationType}  # fmt: skip
    assert theirs == TYPES


def test_types_that_are_decoded_are_those_that_the_library_decodes() -> None:
    decoded = set()
    for number_, (word, _, size) in TYPES.items():
        kind = gguf.GGMLQuantizationType(number_)
        try:
            gguf.quants.dequantize(np.zeros((1, size), np.uint8), kind)
        except NotImplementedError:
            continue
        decoded.add(word)
    assert decoded - {"F32", "F16", "BF16"} == DECODED


def test_a_large_vocabulary_is_skipped_in_few_reads_and_kept_nowhere() -> None:
    tokens = b"".join(text(f"token{i}") for i in range(150_000))
    source = Memory(file([pair("tokenizer.ggml.tokens", ARRAY, array(TEXT, 150_000, tokens)),
                          number("a", 1)], [info("w", [4])]))  # fmt: skip
    header = read_gguf_header(source)
    assert header.metadata == {"a": 1}
    assert source.reads < 8


def test_a_header_without_end_is_not_read_to_its_end() -> None:
    tokens = pair("tokenizer.ggml.tokens", ARRAY, array(TEXT, 1, struct.pack("<Q", 1 << 40)))
    source = Memory(file([tokens]), size=1 << 42)
    with pytest.raises(CheckpointError, match=f"over {MAX_HEADER:,} bytes"):
        read_gguf_header(source)
    assert source.reads == 1


def write_real(path: Path) -> None:
    """Write a small model with the library: metadata of every kind, types of several."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(2)
    writer.add_head_count(4)
    writer.add_head_count_kv([2, 2])
    writer.add_token_list([f"t{i}" for i in range(20)])
    writer.add_token_scores([0.5] * 20)
    values = np.random.default_rng(0).standard_normal((32, 64)).astype(np.float32)
    for layer in range(2):
        q8 = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
        writer.add_tensor(f"blk.{layer}.attn_q.weight", q8,
                          raw_dtype=gguf.GGMLQuantizationType.Q8_0)  # fmt: skip
        writer.add_tensor(f"blk.{layer}.attn_k.weight", values[:16].astype(np.float16))
        writer.add_tensor(f"blk.{layer}.ffn_up_exps.weight", values.reshape(4, 8, 64))
        writer.add_tensor(f"blk.{layer}.attn_norm.weight", values[0])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Memory:
    path = tmp_path_factory.mktemp("gguf") / "m.gguf"
    write_real(path)
    assert len(opened(path).entries) == 2 * (2 + 4 + 1)
    return Memory(path.read_bytes())


NUMBERS = st.sampled_from(
    [0, 1, 2, 5, 255, 1 << 16, (1 << 31) - 1, 1 << 32, 1 << 62, (1 << 64) - 1]
)


DAMAGE = st.one_of(
    st.integers(0, 255).map(lambda byte: bytes([byte])),
    NUMBERS.map(lambda number: struct.pack("<Q", number)),
)


@settings(max_examples=150)
@given(
    damage=st.lists(st.tuples(st.integers(0, 1400), DAMAGE), min_size=1, max_size=4),
    end=st.sampled_from([1 << 20, 1 << 20, 1500, 700, 90, 20]),
)
def test_a_damaged_file_opens_or_is_refused_and_nothing_else(
    real: Memory, damage: list[tuple[int, bytes]], end: int
) -> None:
    raw = bytearray(real.raw)
    for place, what in damage:
        raw[place : place + len(what)] = what
    source = Memory(bytes(raw[:end]))
    try:
        checkpoint = open_gguf(source, "m.gguf")
    except CheckpointError as error:
        assert str(error).isprintable()  # noqa: PT017 - opening is as good
        return
    views, _ = views_of(checkpoint)
    for entry in checkpoint.entries.values():
        assert 0 <= entry.start <= entry.stop <= source.size
        if entry.is_weights and max(entry.shape) < 1 << 60:
            assert tuple(checkpoint.read(entry).shape) == entry.shape
    for view in views:
        assert view.of(checkpoint.read(view.entry)).shape == (view.rows, view.cols)


def test_stacks_of_nothing_are_not_taken_apart() -> None:
    infos = [info(f"blk.{i}.ffn_up_exps.weight", [1, 0, 1 << 40]) for i in range(2000)]
    assert len(open_gguf(Memory(file([ARCHITECTURE], infos)), "m.gguf").entries) == 2000


def test_more_experts_than_any_model_has_stay_in_their_stack() -> None:
    shape = [1, 1, 200_000]
    infos = [info("blk.0.ffn_up_exps.weight", shape), info("blk.1.ffn_up_exps.weight", shape,
             offset=800_000)]  # fmt: skip
    checkpoint = open_gguf(Memory(file([ARCHITECTURE], infos, 1_600_000)), "m.gguf")
    assert len(checkpoint.entries) == 200_001
    assert checkpoint.entries["blk.1.ffn_up_exps.weight"].shape == (200_000, 1, 1)


def test_nested_arrays_that_hold_nothing_are_passed_over() -> None:
    claims = pair("k", ARRAY, array(ARRAY, 50_000, array(U32, 0) * 50_000))
    assert read_gguf_header(Memory(file([claims, number("a", 1)]))).metadata == {"a": 1}
