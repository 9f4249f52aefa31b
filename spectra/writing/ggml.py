"""A GGUF file, written tensor by tensor: its header is made from shapes alone."""

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from spectra.errors import OutputError
from spectra.text import quote
from spectra.writing.tensors import Slot

MAGIC, VERSION, ALIGNED = b"GGUF", 3, 32
TYPES = {"F32": 0, "F16": 1, "BF16": 30}
TEXT, FLOAT = 8, 6  # the types of metadata that are written


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def _padded(size: int) -> int:
    return size + -size % ALIGNED


def header_of(slots: Mapping[str, Slot], metadata: Mapping[str, str | float]) -> bytes:
    """Return all of a file that comes before the tensors, which lie in the order of the slots.

    Source:
        ggml, `docs/gguf.md`: version 3, little-endian; sizes of axes from the innermost on.
    """
    parts = [MAGIC, struct.pack("<IQQ", VERSION, len(slots), len(metadata))]
    for key, value in metadata.items():
        if isinstance(value, str):
            parts.append(_text(key) + struct.pack("<I", TEXT) + _text(value))
        else:
            parts.append(_text(key) + struct.pack("<If", FLOAT, value))
    start = 0
    for name, slot in slots.items():
        axes = slot.shape[::-1]
        parts.append(_text(name) + struct.pack(f"<I{len(axes)}Q", len(axes), *axes))
        parts.append(struct.pack("<IQ", TYPES[slot.dtype], start))
        start += _padded(slot.nbytes)
    found = b"".join(parts)
    return found + bytes(-len(found) % ALIGNED)


def write_ggml(path: Path, slots: Mapping[str, Slot], metadata: Mapping[str, str | float]) -> int:
    """Write a file, one tensor in memory at a time, and return its size in bytes.

    Raises:
        OSError: The system refuses.
        OutputError: A tensor gives other bytes than its header says.
    """
    with path.open("wb") as file:
        file.write(header_of(slots, metadata))
        for chunk in _tensors(slots):
            file.write(chunk)
        return file.tell()


def _tensors(slots: Mapping[str, Slot]) -> Iterator[bytes | bytearray | memoryview]:
    for name, slot in slots.items():
        given = 0
        for chunk in slot.chunks():
            given += len(chunk)
            yield chunk
        if given != slot.nbytes:
            raise OutputError(
                f"tensor {quote(name)} gave {given:,} bytes, expected {slot.nbytes:,}. A file "
                "that is read may have changed: run it again."
            )
        yield bytes(_padded(given) - given)
