"""Names in less room than they take: no two of a table read alike."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

LEAST = 6  # characters of a name's end, beside the numbers kept of what was cut
HANGING = "  "  # before what of a name goes on in the next line
_NUMBERED = re.compile(r"[^./]*\d[^./]*")
"""A part of a name that counts: a layer, an expert."""


def shorten(text: str, width: int) -> str:
    """Fit a name: its end, which tells more, after the layers and experts that are cut off it."""
    if len(text) <= width:
        return text
    plain = start = len(text) - width + 1
    head = ""
    for part in _NUMBERED.finditer(text):
        if part.start() < start:
            head += f"…{part[0]}"
            start = plain + len(head)
    if len(text) - start < LEAST:
        head, start = "", plain
    return f"{head}…{text[start:]}"


def fitted(names: Iterable[str], width: int) -> Mapping[str, Sequence[str]]:
    """Return how each name is told: shortened, or where two would read alike on several lines."""
    short = {name: shorten(name, width) for name in names}
    alike = Counter(short.values())
    return {
        name: [text] if alike[text] == 1 else _broken(name, width) for name, text in short.items()
    }


def _broken(name: str, width: int) -> Sequence[str]:
    """Return all of a name on lines that fit, broken before its dots where they allow."""
    lines, room = [""], width
    for part in re.findall(r"[./]?[^./]*", name):
        left = part
        if len(lines[-1]) + len(left) > room and lines[-1].strip():
            lines.append(HANGING)
        while len(lines[-1]) + len(left) > room:
            cut = room - len(lines[-1])
            lines[-1] += left[:cut]
            left = left[cut:]
            lines.append(HANGING)
        lines[-1] += left
    return lines
