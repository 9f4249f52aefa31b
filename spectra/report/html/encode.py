"""Rows as compact columns: what a page holds of a large model must stay small."""

import base64
import json
import math
import re
import struct
from collections.abc import Sequence
from typing import Any

from spectra.text import printable

NUMBER = re.compile(r"(?<![^.\[=,])[0-9]{1,9}(?![^.\],])")
FULL = 65534
HOLE = "#"
LONGEST = 200  # characters of a name


def shortened(name: str) -> str:
    """Return a name on one line, the middle of one that no reader would read cut out."""
    plain = printable(name)
    return plain if len(plain) <= LONGEST else f"{plain[: LONGEST // 2]}…{plain[-LONGEST // 2 :]}"


class Names:
    """Every name once, those that differ in numbers alone as one template."""

    def __init__(self) -> None:
        self._templates: dict[str, int] = {}
        self._places: dict[str, int] = {}
        self._coded: list[list[int | str]] = []

    def place(self, name: str) -> int:
        """Return a name's number on the page."""
        found = self._places.get(name)
        if found is None:
            found = self._places[name] = len(self._coded)
            self._coded.append(self._code(shortened(name)))
        return found

    def plain(self) -> dict[str, Any]:
        """Return templates, and for each name its template and numbers."""
        return {"templates": list(self._templates), "names": self._coded}

    def _code(self, name: str) -> list[int | str]:
        """Return a template's place and what fills its holes."""
        numbers = NUMBER.findall(name)
        # A number written as 007 would come back as 7, and a `#` would be taken for a hole.
        plain = HOLE not in name and all(str(int(digits)) == digits for digits in numbers)
        template = NUMBER.sub(HOLE, name) if plain else ""
        place = self._templates.setdefault(template, len(self._templates))
        return [place, *map(int, numbers)] if plain else [place, name]


def words(values: Sequence[object]) -> dict[str, Any]:
    """Return texts that repeat as places in a list of them; -1 for none."""
    known: dict[str, int] = {}
    places = [
        -1 if value is None else known.setdefault(printable(str(value)), len(known))
        for value in values
    ]
    return {"words": list(known), "data": places}


def profiles(found: Sequence[Sequence[float] | None], most: int) -> dict[str, Any]:
    """Return singular values at even ranks, their logarithms in 16 bits each.

    Of many, each keeps every second rank, or fourth, or eighth.

    Args:
        found: Descending values of each row, none where it was not measured.
        most: Values that there is room for.

    Returns:
        `counts` and the ends `low` and `high` of log10 by row, `values` in base64: 0 is a zero,
        1 the lowest, 65535 the highest.
    """
    total = sum(len(one) for one in found if one)
    stride = 1
    while total / stride > most and stride < 16:
        stride *= 2
    counts, lows, highs, coded = [], [], [], bytearray()
    for one in found:
        kept = _thinned(one or (), stride)
        logs = [math.log10(value) for value in kept if value > 0.0]
        low, high = (min(logs), max(logs)) if logs else (0.0, 0.0)
        counts.append(len(kept))
        lows.append(round(low, 5))
        highs.append(round(high, 5))
        for value in kept:
            level = 0
            if value > 0.0:
                share = (math.log10(value) - low) / (high - low) if high > low else 1.0
                level = 1 + round(FULL * share)
            coded += struct.pack(">H", level)
    text = base64.b64encode(bytes(coded)).decode("ascii")
    return {"counts": counts, "low": lows, "high": highs, "values": text}


def embedded(data: object) -> str:
    """Return JSON that stands inside `<script>` whatever the names in it are."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _thinned(values: Sequence[float], stride: int) -> Sequence[float]:
    return values[::stride] if (len(values) - 1) % stride == 0 else values
