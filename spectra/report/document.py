"""The document of a result: described once, published as JSON Schema, checked where it is read."""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from spectra.errors import SpectraError
from spectra.matrices.place import COLUMNS
from spectra.report.keys import KEYS
from spectra.report.kind import Kind, kind_of, kinds
from spectra.report.shape import (
    COUNT,
    NUMBER,
    TEXT,
    TEXTS,
    Items,
    Object,
    Schema,
    Shape,
    Value,
    Words,
)
from spectra.text import quote, shown
from spectra.work.result import SCHEMA


class SavedError(SpectraError):
    """A file that holds no result as spectra writes it."""


class ForeignError(SavedError):
    """A file that was never a result of spectra."""


OURS = SCHEMA.split("/")[0] + "/"
"""How the schema of any of our results begins, of later ones too."""


IDENTITY = (*COLUMNS, "status", "error")
"""What every row has, whatever was measured."""

OTHER = Value(
    "a number",
    {"type": "number"},
    lambda value: isinstance(value, str | bool | list | dict) or NUMBER.holds(value),
)
"""What this version does not know, so does not show."""

ROW = Object(
    {key: KEYS[key].shape for key in IDENTITY}
    | {
        key: known.shape.sometimes if known.published else known.shape.sometimes.unpublished
        for key, known in KEYS.items()
        if key not in IDENTITY
    },
    rest=OTHER.sometimes.unpublished,
)

MODEL = Object({
    "spec": TEXT,
    "resolved": TEXT,
    "part": Words(
        ("model", "base", "tuned", "adapter", "baseline", "before", "after"), open=True
    ),
    "codecs": Object(rest=COUNT),
    "digest": TEXT.nullable.older,
})  # fmt: skip
"""One of the models; of several also its `model`, `width` or `step`."""

SKIPPED = Object({"tensor": TEXT, "reason": TEXT, "model": TEXT.sometimes}, closed=True)
"""What was not analysed, and of several models which it is from."""

UNREAD = Items(Object({"file": TEXT, "reason": TEXT, "model": TEXT}))
"""Files of weights that were not opened."""


def summary_of(kind: Kind) -> Object:
    """Return the shape of a command's summary."""
    return Object({
        "reading": TEXT, "skipped": COUNT.older, "failed": COUNT.sometimes, **kind.summary,
        "unread": UNREAD.sometimes.unpublished, "notes": TEXTS.sometimes.unpublished,
    })  # fmt: skip


def document_of(settings: Mapping[str, Shape], summary: Shape) -> Object:
    """Return the shape of a whole document; other packages bring commands of their own."""
    return Object({
        "schema": Words((SCHEMA,)),
        "spectra": TEXT,
        "date": TEXT.older,
        "command": TEXT,
        "settings": Object(settings),
        "models": Items(MODEL, least=1),
        "rows": Items(ROW),
        "skipped": Items(SKIPPED),
        "summary": summary,
    }, closed=True)  # fmt: skip


def result_schema() -> Schema:
    """Return the schema (draft 2020-12) of the JSON document of every command."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:spectra:result:1",
        "title": "Result of spectra",
        **document_of({}, Object()).schema(),
        "allOf": [
            {
                "if": {"properties": {"command": {"const": kind.command}}},
                "then": {"properties": {"summary": summary_of(kind).schema()}},
            }
            for kind in kinds()
        ],
    }


def result_schema_text() -> str:
    """Return the schema as it is published."""
    return json.dumps(result_schema(), indent=2) + "\n"


def checked(found: object, name: str) -> Mapping[str, Any]:
    """Return a document whose every part has the shape that spectra gives it.

    Args:
        found: Parsed JSON.
        name: Of the file, for the error.

    Raises:
        SavedError: It is no result, of another schema, or a part of it has another type.
    """

    def refuse(place: str, got: object, expected: str) -> NoReturn:
        told = f"{place or 'the whole'} is {_told(got)}"
        raise SavedError(_refused(name, told, expected))

    if not isinstance(found, dict):
        told = f"the whole is {_told(found)}"
        raise ForeignError(_refused(name, told, "an object"))
    command, schema = found.get("command"), found.get("schema")
    if not isinstance(schema, str) or not schema.startswith(OURS):
        raise ForeignError(_refused(name, f"schema is {_told(schema)}", repr(SCHEMA)))
    if schema != SCHEMA:
        refuse("schema", schema, repr(SCHEMA))
    if "dry_run" in found:
        told = _refused(name, "an estimate of --dry-run", "a result", "Run it without --dry-run")
        raise ForeignError(told)
    kind = kind_of(command if isinstance(command, str) else "")
    document_of(kind.settings, summary_of(kind)).check(found, "", refuse)
    return found


def _refused(name: str, told: str, expected: str, onward: str = "Write it again") -> str:
    return (
        f"{shown(name)} is no result of spectra that can be shown: {told}, expected {expected}. "
        f"{onward} with -o FILE.json."
    )


def _told(value: object) -> str:
    if value is None:
        return "missing"
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return quote(value)
