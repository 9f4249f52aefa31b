"""Words and numbers in sentences, and what a file says on one line: cut short, escaped."""

import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_SHORT = reprlib.Repr()
_SHORT.maxstring = 160
_SHORT.maxlist = _SHORT.maxdict = 8
_SHORT.maxlevel = 3


def quote(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return a value from a file as Python would write it, long ones with their middle cut."""
    if type(value) is str and len(value) <= _SHORT.maxstring:  # names, quickly
        whole = repr(value)
        if len(whole) <= _SHORT.maxstring:
            return whole
    return _SHORT.repr(value)


def shown(path: str | Path) -> str:
    """Return a path as it is, or escaped where it would not print as one plain line."""
    text = str(path)
    return text if text and text.isprintable() else repr(text)


def counted(number: int, one: str, many: str | None = None) -> str:
    """Write a count with its noun."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def listed(words: Sequence[str]) -> str:
    """Write words one after the other: `a, b and c`."""
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def printable(text: str) -> str:
    """Return text that cannot move the cursor or colour the screen."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )
