"""Saved results: documents that a command wrote, read back."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from spectra.analyzers import Row
from spectra.checkpoint import Skipped, TensorEntry
from spectra.matrices import Role, View
from spectra.matrices.part import Part
from spectra.report.document import IDENTITY, SavedError, checked
from spectra.text import quote, shown
from spectra.work import Model, Result

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
    except OSError as error:
        raise SavedError(
            f"{shown(str(path))} cannot be read: {error.strerror or error}. Expected a file that "
            "another command wrote with -o FILE.json."
        ) from None
    return Saved(path, checked(_parsed(raw, str(path)), str(path)))


def restored(document: Mapping[str, Any]) -> Result:
    """Return a checked document as the result it was written from, without arrays or headers."""
    return Result(
        command=document["command"],
        version=document["spectra"],
        settings=document["settings"],
        models=[
            Model(
                model["spec"],
                model["resolved"],
                model["part"],
                model.get("codecs", {}),
                {k: v for k, v in model.items() if k not in ("spec", "resolved", "part", "codecs")},
            )
            for model in document["models"]
        ],
        rows=[_row(row) for row in document["rows"]],
        skipped=[
            Skipped(item["tensor"], item["reason"], str(item.get("model", "")))
            for item in document["skipped"]
        ],
        summary=document["summary"],
        seconds=0.0,
    )


@dataclass(frozen=True, slots=True)
class _Decoded:
    """The scheme that a saved row names; its values are not here to decode."""

    name: str
    parts: Sequence[TensorEntry] = ()

    def decode(self, _read: object, _slab: object) -> NoReturn:
        """Refuse.

        Raises:
            SavedError: Always.
        """
        raise SavedError("a saved result has no weights. Open the model itself.")

    def nudge(self, _main: object) -> None:
        """Return nothing: there are no values."""


def _row(found: Mapping[str, Any]) -> Row:
    """Return one row as it was."""
    codec = _Decoded(found["codec"]) if found["codec"] else None
    shape = (found["rows"], found["cols"])
    entry = TensorEntry(found["tensor"], found["dtype"], shape, "", 0, 0, codec)
    role = Role(found["role"], found["layer"], found["expert"])
    keys = list(found)
    return Row(
        View(found["matrix"], role, entry, Part(), *shape),
        found["status"],
        found["error"],
        {key: found[key] for key in keys if key not in IDENTITY and not _is_label(key)},
        labels={key: found[key] for key in keys if _is_label(key)},
    )


def _is_label(key: str) -> bool:
    """Say whether a key tells one of several models."""
    return key in ("model", "width", "step")


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
        reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise SavedError(
            f"{shown(name)} is not JSON: {quote(reason)}. Expected a file that another command "
            "wrote with -o FILE.json."
        ) from None
