"""The safetensors header: its rules, and what it says, before any weight is read."""

import json
from dataclasses import dataclass
from typing import Any

from spectra.checkpoint.entry import BITS, MLX, TensorEntry
from spectra.checkpoint.source import Source
from spectra.checkpoint.strict import U64, check_extra, decoded, kind_of
from spectra.errors import HeaderError
from spectra.text import quote

MAX_HEADER = 100_000_000  # bytes; the format's own limit
FIELDS = ("dtype", "shape", "data_offsets")  # in the order of a tensor written as a list
COMFY = "_quantization_metadata"  # ComfyUI's, by module
AGAIN = "Fetch or write that file again."
POINTER = "is a git-LFS pointer, not the weights: run `git lfs pull`"
PAGE = (
    "is an HTML page, not weights: the download fetched a web page; fetch the file itself (its "
    "'resolve' link) again"
)
NEVER_WEIGHTS = {
    b"version https://git-lfs": POINTER,
    b"<!doctype html": PAGE,
    b"<html": PAGE,
    b"<!--": PAGE,
    b"<?xml": PAGE,
}


@dataclass(frozen=True, slots=True)
class Header:
    """What one safetensors file says of itself."""

    entries: tuple[TensorEntry, ...]  # in the order of their bytes
    metadata: dict[str, str]


def read_header(file: Source, shard: str) -> Header:
    """Read and check the header of one file.

    Args:
        file: Its size counts too: every byte of it must be a tensor's.
        shard: The name its tensors carry.

    Raises:
        HeaderError: The file is not safetensors, is cut, or breaks a rule.
    """
    raw = header_bytes(file)
    try:
        header = listed(raw, shard)
    except HeaderError as error:
        raise HeaderError(f"{file.label}{error}. {AGAIN}") from None
    wrong = misfit(header, 8 + len(raw), file.size)
    if wrong:
        raise HeaderError(f"{file.label}{wrong}. {AGAIN}")
    return header


def header_bytes(file: Source) -> bytes:
    """Return the bytes of a file's header, without its length.

    Raises:
        HeaderError: The file is not safetensors, or is cut inside its header.
    """
    path, size = file.label, file.size
    opening = file.read(0, min(size, 64))
    for prefix, meaning in NEVER_WEIGHTS.items():
        if opening.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(prefix):
            raise HeaderError(f"{path} {meaning}.")
    if size < 8:
        raise HeaderError(
            f"{path} has {size} bytes, and a safetensors file at least 8: the download was cut "
            f"or the file is something else. {AGAIN}"
        )
    length = int.from_bytes(opening[:8], "little")
    if not len("{}") <= length <= MAX_HEADER:
        if opening.lstrip().startswith(b"{"):
            raise HeaderError(
                f"{path} is JSON text, expected a safetensors file: a server's error message may "
                f"have been saved in its place. {AGAIN}"
            )
        raise HeaderError(
            f"{path} is not a safetensors file: its first 8 bytes give a header of {length:,} "
            f"bytes, expected 2 to {MAX_HEADER:,}. {AGAIN}"
        )
    if 8 + length > size:
        raise HeaderError(
            f"{path} ends at byte {size:,} inside its own header of {length:,} bytes: "
            f"the download was cut. {AGAIN}"
        )
    return file.read(8, 8 + length)


def listed(raw: bytes, shard: str) -> Header:
    """Check the header's bytes against the format, whatever the file's size.

    Args:
        raw: The header alone, without its length.
        shard: The name its tensors carry.

    Raises:
        HeaderError: A rule is broken; the text reads on from the file's name, and ends
            before the full stop.
    """
    table = decoded(raw)
    if not isinstance(table, dict):
        raise HeaderError(f": the header is a JSON {kind_of(table)}, expected an object")
    metadata = _metadata(table.pop("__metadata__", None))
    origin = 8 + len(raw)
    notes, common = _notes(metadata)
    entries = [
        _entry(name, facts, shard, origin, notes.get(name, common)) for name, facts in table.items()
    ]
    entries.sort(key=lambda entry: (entry.start, entry.stop))
    position = origin
    for entry in entries:
        if entry.start != position:
            kind = "overlaps the tensor before it" if entry.start < position else "leaves a hole"
            raise HeaderError(
                f": tensor {quote(entry.name)} {kind}: it starts at byte "
                f"{entry.start - origin:,} of the data, expected {position - origin:,}"
            )
        position = entry.stop
    return Header(tuple(entries), metadata)


def misfit(header: Header, origin: int, size: int) -> str:
    """Return how a file's size differs from what its header needs; empty where it does not.

    Args:
        header: What the file says of itself.
        origin: Where its data begins, in bytes.
        size: The file's, in bytes.
    """
    needed = header.entries[-1].stop if header.entries else origin
    if size < needed:
        return f" ends at byte {size:,} but its header needs {needed:,}: the download was cut"
    if size > needed:
        return (
            f" has {size - needed:,} bytes after the last tensor, which the format forbids: "
            "two files may have been joined"
        )
    return ""


def _metadata(found: Any) -> dict[str, str]:  # noqa: ANN401 - any JSON value
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise HeaderError(": __metadata__ does not map text to text")
    return found


def _notes(metadata: dict[str, str]) -> tuple[dict[str, str], str]:
    """Return what the metadata says of single tensors' values, and of all.

    ComfyUI's is a JSON object for each module; what is none is left to whoever reads a
    tensor that it may be about.
    """
    common = MLX if metadata.get("format") == MLX else ""
    text = metadata.get(COMFY, "")
    if not text:
        return {}, common
    try:
        layers = json.loads(text)["layers"]
        told = {f"{name}.weight": json.dumps(layer) for name, layer in layers.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}, f"{COMFY} that is no table of layers"
    return told, common


def _entry(name: str, facts: Any, shard: str, origin: int, note: str) -> TensorEntry:  # noqa: ANN401
    subject = f": tensor {quote(name)}"
    dtype, shape, offsets = _fields(facts, subject)
    if isinstance(dtype, dict) and list(dtype.values()) == [None]:  # {"F32": null} is taken too
        (dtype,) = dtype
    if not isinstance(dtype, str) or dtype not in BITS:
        raise HeaderError(f"{subject} has dtype {quote(dtype)}, expected one of {' '.join(BITS)}")
    if not _counts(shape):
        raise HeaderError(f"{subject} has shape {quote(shape)}, expected a list of counts")
    if not _counts(offsets) or len(offsets) != 2:
        raise HeaderError(f"{subject} has data_offsets {quote(offsets)}, expected [begin, end]")
    begin, end = offsets
    if end < begin:
        raise HeaderError(f"{subject} ends at byte {end:,} before it begins at {begin:,}")
    bits = _bits(dtype, shape)
    if bits >= U64:
        raise HeaderError(f"{subject} has shape {quote(shape)}: its size overflows 64 bits")
    if bits % 8:
        raise HeaderError(f"{subject} is {dtype} {quote(shape)}: {bits:,} bits are no whole bytes")
    if bits // 8 != end - begin:
        raise HeaderError(
            f"{subject} is {dtype} {quote(shape)}, {bits // 8:,} bytes, but its offsets hold "
            f"{end - begin:,}"
        )
    place = origin + begin, origin + end
    return TensorEntry(name, dtype, tuple(shape), shard, *place, note=note)


def _fields(facts: Any, subject: str) -> tuple[Any, Any, Any]:  # noqa: ANN401 - any JSON value
    """Return dtype, shape and offsets of an object, or of a list in that order."""
    if isinstance(facts, list) and len(facts) == len(FIELDS):  # the reference parser takes both
        facts = dict(zip(FIELDS, facts, strict=True))
    if not isinstance(facts, dict):
        raise HeaderError(f"{subject} is a JSON {kind_of(facts)}, expected an object")
    missing = [key for key in FIELDS if key not in facts]
    if missing:
        raise HeaderError(f"{subject} has no {' and no '.join(missing)}")
    if len(facts) > len(FIELDS):
        check_extra(facts, subject)
    return facts["dtype"], facts["shape"], facts["data_offsets"]


def _bits(dtype: str, shape: list[int]) -> int:
    """Return the size in bits; 2^64 or more where a product on the way leaves 64 bits."""
    count = 1
    for extent in shape:
        count *= extent
        if count >= U64:  # even if a zero follows: the order counts in the reference parser
            break
    return count * BITS[dtype]


def _counts(found: Any) -> bool:  # noqa: ANN401 - any JSON value
    """Say whether this is a list of integers in 0 .. 2^64 - 1."""
    return isinstance(found, list) and all(type(v) is int and 0 <= v < U64 for v in found)
