"""The GGUF header: its rules, and what it says, before any weight is read."""

from dataclasses import dataclass
from math import prod
from typing import Final

from spectra.checkpoint.gguf.reader import U32, GgufReader, Value
from spectra.checkpoint.header import NEVER_WEIGHTS
from spectra.checkpoint.source import Source
from spectra.errors import CheckpointError
from spectra.text import quote

MAX_NAME = 1024  # bytes of a tensor's name; the format asks for 64, some writers exceed it
MAX_AXES = 5  # four in llama.cpp; ComfyUI's files of video models hold convolutions of five
MAX_PAIRS = MAX_TENSORS = 65_536  # real files have some dozens, and some thousands
KEPT_PAIRS = 1_024
I64 = 1 << 63
ALIGNMENT = "general.alignment"
SHAPES = "comfy.gguf.orig_shape."  # one for each tensor that was laid out anew
TOKENIZER, TOKENIZER_KIND = "tokenizer.", "tokenizer.ggml.model"

TYPES: Final = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1), 25: ("I16", 1, 2),
    26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8), 29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18),
}  # fmt: skip
"""Every type of tensor: its word, entries in a block, bytes of a block."""

REMOVED: Final = {
    4: "Q4_2", 5: "Q4_3", 31: "Q4_0_4_4", 32: "Q4_0_4_8", 33: "Q4_0_8_8",
    36: "IQ4_NL_4_4", 37: "IQ4_NL_4_8", 38: "IQ4_NL_8_8",
}  # fmt: skip
"""Types that the format had and dropped."""


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One tensor as the header describes it."""

    name: str
    kind: str  # the format's own word, such as Q4_K
    shape: tuple[int, ...]  # first axis outermost: of a matrix [out, in]
    block: int  # entries of the last axis that are packed together
    start: int  # bytes from the start of the file
    stop: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one run along the last axis."""
        return self.shape[-1] // self.block * BLOCK_BYTES[self.kind]


BLOCK_BYTES = {word: size for word, _, size in TYPES.values()}


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What one GGUF file says of itself."""

    metadata: dict[str, Value]  # numbers, short texts, short arrays of numbers
    tensors: tuple[GgufTensor, ...]  # in the order of their bytes


def read_gguf_header(source: Source) -> GgufHeader:
    """Read and check the header of one file, versions 2 and 3.

    Nothing is allocated by what a count or length claims: each is first held against the
    bytes that the file has left.

    Args:
        source: The file; read by range, in chunks that grow.

    Raises:
        CheckpointError: The file is not GGUF, is cut, or breaks a rule.
    """
    reader = GgufReader(source)
    check_opening(reader, source)
    tensors, pairs = reader.count("<Q"), reader.count("<Q")
    reader.must_hold(pairs, 13, "key-value pairs", MAX_PAIRS)
    metadata: dict[str, Value] = {}
    seen: set[str] = set()
    for _ in range(pairs):
        key = reader.key()
        if key in seen:
            reader.refuse(f"has the key {quote(key)} twice")
        seen.add(key)
        kind = reader.count("<I")
        if key == ALIGNMENT and kind != U32:
            reader.refuse(f"gives {ALIGNMENT} in kind {kind}, expected {U32} (uint32)")
        room = len(metadata) < KEPT_PAIRS or key.startswith(SHAPES)
        value = reader.value(kind, keep=room and _wanted(key))
        if value is not None:
            metadata[key] = value
    reader.must_hold(tensors, 33, "tensors", MAX_TENSORS)
    listed = [_read_tensor(reader) for _ in range(tensors)]
    alignment = metadata.get(ALIGNMENT, 32)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        reader.refuse(f"has alignment {alignment}, expected a power of two")
    origin = -(-reader.position // alignment) * alignment
    return GgufHeader(metadata, _placed(reader, listed, origin, alignment))


def _wanted(key: str) -> bool:
    """Say whether a key is about the model: a vocabulary is not."""
    return not key.startswith(TOKENIZER) or key == TOKENIZER_KIND


def check_opening(reader: GgufReader, source: Source) -> None:
    """Read past the mark and the version of a file, or refuse it."""
    opening = reader.opening()
    for prefix, meaning in NEVER_WEIGHTS.items():
        if opening.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(prefix):
            raise CheckpointError(f"{source.label} {meaning}.")
    if opening[:4] != b"GGUF":
        reader.refuse(f"is not a GGUF file: it begins with {quote(opening[:4])}, not b'GGUF'")
    reader.skip(4)
    version = reader.count("<I")
    if version and not version & 0xFFFF:
        raise CheckpointError(
            f"{source.label} is big-endian GGUF, expected little-endian. Convert it with "
            "`gguf-convert-endian FILE little`, of the Python package gguf."
        )
    if version not in {2, 3}:
        raise CheckpointError(
            f"{source.label} is GGUF of version {version}, expected 2 or 3. Convert the model to "
            "GGUF again with today's llama.cpp."
        )


def _read_tensor(reader: GgufReader) -> tuple[str, int, tuple[int, ...], int]:
    """Return one tensor's name, type, shape (first axis outermost) and offset."""
    name = reader.text(MAX_NAME, "a tensor's name")
    axes = reader.count("<I")
    if not 1 <= axes <= MAX_AXES:
        reader.refuse(f"gives tensor {quote(name)} {axes:,} dimensions, expected 1 to {MAX_AXES}")
    shape = tuple(reader.count("<Q") for _ in range(axes))[::-1]
    if max(shape) >= I64 or prod(shape) >= I64:
        reader.refuse(f"gives tensor {quote(name)} shape {list(shape)}, beyond 63 bits")
    return name, reader.count("<I"), shape, reader.count("<Q")


def _placed(
    reader: GgufReader,
    listed: list[tuple[str, int, tuple[int, ...], int]],
    origin: int,
    alignment: int,
) -> tuple[GgufTensor, ...]:
    size = reader.source.size
    names: set[str] = set()
    found = []
    for name, number, shape, offset in listed:
        subject = f"tensor {quote(name)}"
        if name in names:
            reader.refuse(f"has {subject} twice")
        names.add(name)
        if number in REMOVED:
            reader.refuse(f"has {subject} in type {REMOVED[number]}, which the format dropped")
        if number not in TYPES:
            raise CheckpointError(
                f"{reader.source.label} has {subject} in type {number}, which is not known: it is "
                "of a newer llama.cpp, or damaged. Quantise the model to a known type, such as "
                "Q8_0, or update spectra."
            )
        word, block, packed = TYPES[number]
        if shape[-1] % block:
            reader.refuse(
                f"has {subject} with {shape[-1]:,} inputs, and {word} packs {block} at a time"
            )
        if offset % alignment:
            reader.refuse(f"has {subject} at offset {offset:,}, no multiple of {alignment}")
        start = origin + offset
        stop = start + prod(shape) // block * packed
        if stop > size:
            reader.refuse(
                f"ends at byte {size:,}, and {subject} reaches to {stop:,}: the download was cut"
            )
        found.append(GgufTensor(name, word, shape, block, start, stop))
    found.sort(key=lambda tensor: (tensor.start, tensor.stop))
    end = 0
    for tensor in found:
        if tensor.start < end:
            reader.refuse(f"has tensor {quote(tensor.name)} overlap the one before it")
        end = max(end, tensor.stop)
    return tuple(found)
