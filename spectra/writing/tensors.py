"""A safetensors file, written tensor by tensor: its header is made from shapes alone."""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from spectra.errors import OutputError
from spectra.text import quote

ALIGNED = 8  # bytes that a header's length is a multiple of

Bytes = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Slot:
    """One tensor of a file to be."""

    dtype: str  # safetensors' word
    shape: tuple[int, ...]
    nbytes: int
    chunks: Callable[[], Iterable[Bytes]] = tuple  # its bytes, row after row, when they are due


def header_of(slots: Mapping[str, Slot], metadata: Mapping[str, str]) -> bytes:
    """Return the header of a file, its length in front; tensors lie in the order of the slots."""
    told: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    start = 0
    for name, slot in slots.items():
        stop = start + slot.nbytes
        told[name] = {"dtype": slot.dtype, "shape": list(slot.shape), "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % ALIGNED)
    return len(text).to_bytes(8, "little") + text


def write_tensors(path: Path, slots: Mapping[str, Slot], metadata: Mapping[str, str]) -> int:
    """Write a file, one tensor in memory at a time, and return its size in bytes.

    Wider dtypes come first, as the format's own library has it, so that all are aligned.

    Raises:
        OSError: The system refuses.
        OutputError: A tensor gives other bytes than its header says.
    """
    ordered = dict(sorted(slots.items(), key=lambda item: (-_width(item[1]), item[0])))
    with path.open("wb") as file:
        file.write(header_of(ordered, metadata))
        for name, slot in ordered.items():
            given = sum(file.write(chunk) for chunk in slot.chunks())
            if given != slot.nbytes:
                raise OutputError(
                    f"tensor {quote(name)} gave {given:,} bytes, expected {slot.nbytes:,}. "
                    "A file that is read may have changed: run it again."
                )
        return file.tell()


def _width(slot: Slot) -> int:
    return slot.nbytes // (math.prod(slot.shape) or 1)
