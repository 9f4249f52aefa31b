"""The safetensors header: its rules, and what it says, before any weight is read."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Any

from spectra.checkpoint.documents import MAX_VALUES, count_values
from spectra.checkpoint.entry import BITS, MLX, TensorEntry
from spectra.errors import HeaderError
from spectra.text import quote

MAX_HEADER = 100_000_000  # bytes; the format's own limit
MAX_DEPTH = 127  # nested arrays and objects; the limit of the reference parser
U64 = 1 << 64
FLOAT_END = (1 << 1024) - (1 << 970)  # from here on integers round to infinity
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


def read_header(read: Callable[[int, int], bytes], size: int, path: str, shard: str) -> Header:
    """Read and check the header of one file.

    Args:
        read: Returns the bytes from start to stop of the file.
        size: The file's size in bytes.
        path: How messages name the file.
        shard: The name its tensors carry.

    Returns:
        The header, every rule of the format checked against `size`.

    Raises:
        HeaderError: The file is not safetensors, is cut, or breaks a rule.
    """
    raw = header_bytes(read, size, path)
    try:
        return parse_header(raw, size, shard)
    except HeaderError as error:
        raise HeaderError(f"{path}{error}. {AGAIN}") from None


def header_bytes(read: Callable[[int, int], bytes], size: int, path: str) -> bytes:
    """Return the bytes of a file's header, without its length.

    Args:
        read: Returns the bytes from start to stop of the file.
        size: The file's size in bytes.
        path: How messages name the file.

    Raises:
        HeaderError: The file is not safetensors, or is cut inside its header.
    """
    opening = read(0, min(size, 64))
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
    return read(8, 8 + length)


def parse_header(raw: bytes, size: int, shard: str) -> Header:
    """Check the header's bytes against the format and the file's size.

    Args:
        raw: The header alone, without its length.
        size: The whole file's size in bytes.
        shard: The name its tensors carry.

    Returns:
        The entries, offsets counted from the start of the file.

    Raises:
        HeaderError: A rule is broken; the text reads on from the file's name, and ends
            before the full stop.
    """
    header = listed(raw, shard)
    wrong = misfit(header, 8 + len(raw), size)
    if wrong:
        raise HeaderError(wrong)
    return header


def listed(raw: bytes, shard: str) -> Header:
    """Check the header's bytes against the format, whatever the file's size.

    Args:
        raw: The header alone, without its length.
        shard: The name its tensors carry.

    Raises:
        HeaderError: A rule is broken; the text as that of `parse_header`.
    """
    table = _decode(raw)
    if not isinstance(table, dict):
        raise HeaderError(f": the header is a JSON {_kind(table)}, expected an object")
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


def _decode(raw: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Parse JSON as strictly as the format's reference parser; refuse duplicates and bombs."""
    values = count_values(raw)
    if values > MAX_VALUES:
        raise HeaderError(
            f": the header holds {values:,} values, and at most {MAX_VALUES:,} are read"
        )
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise HeaderError(": the header is not UTF-8 text: not a safetensors file") from None
    try:
        return json.loads(
            text,
            object_pairs_hook=_unique,
            parse_int=_integer if b"-" in raw else None,  # minus zero is odd; plainly is quicker
            parse_float=_finite,
            parse_constant=_finite,
        )
    except RecursionError:
        raise HeaderError(f": the header nests deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:
        if isinstance(error, json.JSONDecodeError):
            raise HeaderError(
                f": the header is not JSON ({error.msg}, character {error.pos:,}): "
                "not a safetensors file, or a damaged one"
            ) from None
        raise HeaderError(f": the header holds {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object; the library lets the last of two equal keys win, we refuse."""
    table: dict[str, Any] = {}
    for key, value in pairs:
        if key in table:
            raise ValueError(f"the key {quote(key)} twice")
        _encodable(key)
        if isinstance(value, str):
            _encodable(value)
        table[key] = value
    return table


def _encodable(text: str) -> None:
    """Refuse lone surrogates, which JSON escapes can spell and UTF-8 cannot hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{quote(text)}, which is not Unicode text") from None


def _check_extra(value: Any, subject: str, depth: int = 2) -> None:  # noqa: ANN401 - any JSON
    """Refuse, in fields nobody reads, what the reference parser would not parse."""
    if isinstance(value, str):
        try:
            _encodable(value)
        except ValueError as error:
            raise HeaderError(f"{subject} holds {error}") from None
    elif isinstance(value, int) and value >= FLOAT_END:
        raise HeaderError(
            f"{subject} holds a number of {len(str(value)):,} digits, which is out of range"
        )
    elif isinstance(value, dict | list):
        if depth > MAX_DEPTH:
            raise HeaderError(f"{subject} nests deeper than {MAX_DEPTH} levels")
        for inner in value.values() if isinstance(value, dict) else value:
            _check_extra(inner, subject, depth + 1)


def _integer(text: str) -> int | float:
    """Return the integer; minus zero and what leaves 64 bits are no integers there."""
    if text == "-0" or len(text) > len(str(U64)):
        return _finite(text)
    value = int(text)
    return value if -U64 // 2 <= value < U64 else float(value)


def _finite(text: str) -> float:
    """Return the float; NaN, Infinity and overflow are refused."""
    value = float(text)
    if not isfinite(value):
        raise ValueError(f"the number {quote(text)[1:-1]}, which is out of range")
    return value


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
        raise HeaderError(f"{subject} is a JSON {_kind(facts)}, expected an object")
    missing = [key for key in FIELDS if key not in facts]
    if missing:
        raise HeaderError(f"{subject} has no {' and no '.join(missing)}")
    if len(facts) > len(FIELDS):
        _check_extra(facts, subject)
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


def _kind(value: Any) -> str:  # noqa: ANN401 - any JSON value
    names = {list: "list", str: "string", bool: "boolean", type(None): "null", dict: "object"}
    return names.get(type(value), "number")
