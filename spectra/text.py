"""Words and numbers in sentences, and what a file says on one line: cut short, escaped."""

import difflib
import json
import math
import re
import reprlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from decimal import Decimal, InvalidOperation
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


def non_finite(nan: int, inf: int, place: object) -> str:
    """Say what of a tensor is no number, and where it begins: `2 NaN, the first at [0, 7]`."""
    told = [f"{count:,} {word}" for count, word in ((nan, "NaN"), (inf, "Inf")) if count]
    return f"{' and '.join(told)}, the first at {place}"


def some(names: Collection[str], most: int) -> str:
    """Write the first few of several names from files."""
    first = ", ".join(quote(name) for name in list(names)[:most])
    return f"{first}, ..." if len(names) > most else first


def listed(words: Sequence[str]) -> str:
    """Write words one after the other: `a, b and c`."""
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def pieces(texts: Iterable[str]) -> tuple[str, ...]:
    """Return words that were given one by one, or several with commas between them."""
    return tuple(piece.strip() for text in texts for piece in text.split(","))


def printable(text: str) -> str:
    """Return text that cannot move the cursor or colour the screen."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def nearest(word: str, known: Iterable[str], least: float = 0.6) -> str:
    """Return the known word that is most like one; empty where none is like enough.

    Args:
        word: As it was written.
        known: What may have been meant.
        least: How alike, from 0 to 1, by the letters in common.
    """
    return next(iter(difflib.get_close_matches(word, list(known), 1, least)), "")


def guess(word: str, known: Iterable[str], least: float = 0.6) -> str:
    """Return ` Did you mean 'x'?` for the nearest known word, or nothing."""
    found = nearest(word, known, least)
    return f" Did you mean {found!r}?" if found else ""


def guess_path(path: str | Path, suffixes: Collection[str] = (), least: float = 0.6) -> str:
    """Return ` Did you mean 'x'?` for what lies where a path has a wrong letter, or nothing.

    Args:
        path: Names nothing that is there.
        suffixes: Of files that may be meant; all where there are none.
        least: How alike each part must be, from 0 to 1.
    """
    here = Path()
    for part in Path(path).parts:
        name = part
        try:
            if not (here / part).exists():
                names = [one.name for one in here.iterdir() if one.name != part]
                hidden = part.startswith(".")
                name = nearest(part, (n for n in names if n.startswith(".") == hidden), least)
        except (OSError, ValueError):
            return ""
        if not name:
            return ""
        here /= name
    fits = here.is_dir() or not suffixes or here.suffix.lower() in suffixes
    return f" Did you mean {str(here)!r}?" if here.parts and fits else ""


def json_trouble(error: ValueError | RecursionError) -> str:
    """Say what is wrong with a text that is no JSON, as its reader does not."""
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    if isinstance(error, UnicodeDecodeError):
        return "it is no text"
    if not isinstance(error, json.JSONDecodeError):
        return "a number in it has too many digits" if "digits" in str(error) else str(error)
    if not error.doc.strip():
        return "it is empty"
    if error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated"):
        return f"it ends in the middle, after {len(error.doc):,} characters: it was cut"
    return f"line {error.lineno:,} is wrong at column {error.colno:,}"


def share_of(text: str) -> float:
    """Return what `10%` or `0.1` means; NaN where it is no number."""
    number = text.strip()
    try:
        # Of the decimal digits as written: 0.7 % is 0.007, which 0.7 / 100 is not.
        return float(Decimal(number[:-1]).scaleb(-2)) if number.endswith("%") else float(number)
    except (ValueError, InvalidOperation):
        return math.nan


def size(nbytes: float) -> str:
    """Write a number of bytes."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if nbytes < 1024 or unit == "TiB":
            break
        nbytes /= 1024
    return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"


def sizes(part: float, whole: float) -> str:
    """Write how many bytes of others, in one unit: `1.2 of 4.1 GiB`."""
    number, unit = size(whole).split()
    scale = whole / float(number) if float(number) else 1.0
    return f"{part / scale:.{0 if unit == 'B' else 1}f} of {number} {unit}"


def nbytes_of(text: str) -> int | None:
    """Return what `2GB` or `512 KiB` means; None where it is no size."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]I?B|B?)", text.strip().upper())
    return int(float(found[1]) * UNITS[found[2]]) if found else None


UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
         "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}  # fmt: skip


def exact_size(nbytes: int) -> str:
    """Write a number of bytes as options take it, whole, in the largest unit that leaves it so."""
    units = "TB", "GB", "MB", "KB", "TiB", "GiB", "MiB", "KiB", "B"
    found = next(unit for unit in units if nbytes % UNITS[unit.upper()] == 0)
    return f"{nbytes // UNITS[found.upper()]}{found}"


def duration(seconds: float) -> str:
    """Write a time span."""
    if seconds < 90:
        return f"{max(seconds, 0.1):.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def endings(name: str) -> Iterator[str]:
    """Yield a dotted name and its proper endings, longest first; none of one without measure."""
    if name.count(".") <= MOST_DOTS:
        yield name
        while "." in name:
            name = name.split(".", 1)[1]
            yield name


MOST_DOTS = 100  # real names have a dozen


def natural(name: str) -> list[str | tuple[int, str]]:
    """Return a sort key in which numbers inside a name count as numbers."""
    pieces: list[str | tuple[int, str]] = [*_NUMBER.split(name)]  # text and digits in turn
    for index in range(1, len(pieces), 2):
        digits = str(pieces[index]).lstrip("0")
        pieces[index] = (len(digits), digits)  # the longer number is the larger one
    return pieces


_NUMBER = re.compile(r"([0-9]+)")


def numberless(name: str) -> str:
    """Return a name with the numbers of its layers and experts made equal.

    Rules that read names ask for a number, never for a certain one; one of ten digits or more
    counts nothing.
    """
    words = name.split(".")  # quicker than a pattern's `sub`
    return ".".join([
        "0" if word.isdigit() and word.isascii() and len(word) < 10 else word for word in words
    ])  # fmt: skip
