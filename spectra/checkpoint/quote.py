"""How messages show what a file says: on one line, cut short, control characters escaped."""

import reprlib
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
