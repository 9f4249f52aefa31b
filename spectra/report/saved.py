"""Saved results: documents that a command wrote, read back."""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from spectra.report.document import OURS, ForeignError, SavedError, checked
from spectra.text import guess_path, json_trouble, printable, quote, shown

HEAD = 200  # bytes in which a result of ours names its schema
MAX_BYTES = 512_000_000  # a matrix takes about 4,000, with all of its vectors


@dataclass(frozen=True, slots=True)
class Saved:
    """One result read back from its file."""

    path: Path
    document: Mapping[str, Any]


def read_saved(path: Path) -> Saved:
    """Read a result that a command wrote with `-o FILE.json`.

    Raises:
        SavedError: It cannot be read, is too large, is no JSON, or is no result of spectra.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise SavedError(
                f"{shown(str(path))} has {size:,} bytes, expected at most {MAX_BYTES:,}. Write the "
                "result of fewer matrices: --include, --role or --layers."
            )
        raw = path.read_bytes()
    except IsADirectoryError as error:
        raise SavedError(
            f"{shown(str(path))} is a folder. Expected a result, the file that an analysis writes "
            "with -o FILE.json."
        ) from error
    except OSError as error:
        raise SavedError(
            f"{shown(str(path))} cannot be read: {error.strerror or error}."
            f"{'' if path.exists() else guess_path(path, ('.json',))} Expected a file that another "
            "command wrote with -o FILE.json."
        ) from None
    return Saved(path, checked(_parsed(raw, str(path)), str(path)))


@contextmanager
def intact(path: Path) -> Iterator[None]:
    """Tell what a writer stumbles over in a checked document as damage to its file.

    Some of it no shape tells: of what status a row is says which of its numbers are there.

    Raises:
        SavedError: A part that the writer needs is missing or has another type.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise SavedError(
            f"{shown(path)} is damaged ({type(error).__name__}: {quote(str(error))}). Write it "
            "again with -o FILE.json."
        ) from None


def _parsed(raw: bytes, name: str) -> object:
    """Return JSON without what JSON does not have: NaN, infinity, numbers too large."""

    def number(text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            raise ValueError(f"{text[:40]} is no number that a double holds")
        return value

    def constant(text: str) -> NoReturn:
        raise ValueError(f"{text} is no JSON")

    try:
        return json.loads(raw, parse_float=number, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        wrong = SavedError if OURS.encode() in raw[:HEAD] else ForeignError
        raise wrong(
            f"{shown(name)} is not JSON: {printable(json_trouble(error))}. Expected a file that "
            "another command wrote with -o FILE.json."
        ) from None
