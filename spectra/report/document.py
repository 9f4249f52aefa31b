"""The document of a result: described once, published as JSON Schema, checked where it is read."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from types import NoneType
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from spectra.errors import SpectraError
from spectra.policy.finding import Finding
from spectra.report.keys import KEYS
from spectra.report.shape import (
    COUNT,
    FLAG,
    INDEX,
    NUMBER,
    SHARE,
    TEXT,
    TEXTS,
    Items,
    Object,
    Schema,
    Shape,
    Value,
    Words,
    nullable,
    older,
    sometimes,
    unpublished,
)  # fmt: skip
from spectra.text import quote, shown
from spectra.words import SEVERITIES, State
from spectra.work.result import SCHEMA

DRAFT = "https://json-schema.org/draft/2020-12/schema"
ID = "urn:spectra:result:1"


class SavedError(SpectraError):
    """A file that holds no result as spectra writes it."""


IDENTITY = (
    "tensor", "matrix", "role", "layer", "expert", "rows", "cols", "dtype", "codec", "status",
    "error",
)  # fmt: skip
"""What every row has, whatever was measured."""

OTHER = Value(
    "a number",
    {"type": "number"},
    lambda value: isinstance(value, str | bool | list | dict) or NUMBER.holds(value),
)
"""What this version does not know, so does not show."""

ROW = Object(
    {key: KEYS[key].shape for key in IDENTITY}
    | {key: unpublished(sometimes(KEYS[key].shape)) for key in KEYS if key not in IDENTITY},
    rest=unpublished(sometimes(OTHER)),
)

MODEL = Object({
    "spec": TEXT,
    "resolved": TEXT,
    "part": Words(("model", "base", "tuned", "baseline"), open=True),
    "codecs": Object(rest=COUNT),
})  # fmt: skip
"""One of the models; of several also its `model`, `width` or `step`."""

SKIPPED = Object({"tensor": TEXT, "reason": TEXT, "model": sometimes(TEXT)}, closed=True)
"""What was not analysed, and of several models which it is from."""

FINGERPRINT = Value(
    TEXT.told, {"type": "string", "pattern": "^[0-9a-f]{16}$"}, TEXT.holds
)  # to a reader any text is one


def _of_type(hint: object) -> Shape:
    """Return the shape of a field's type."""
    words = [one for one in get_args(hint) if one is not NoneType]
    if get_origin(hint) is Literal:
        return Words(words)
    if words:  # `X | None`
        return nullable(_of_type(words[0]))
    shapes: Mapping[object, Shape] = {str: TEXT, int: INDEX, float: NUMBER, bool: FLAG}
    return shapes[hint]


def _finding() -> dict[str, Shape]:
    """Return what a finding has; of what has a default, older files do not have all."""
    hints = get_type_hints(Finding)
    found = {one.name: _of_type(hints[one.name]) for one in fields(Finding)}
    late = [one.name for one in fields(Finding) if one.default is not MISSING]
    found["fingerprint"] = FINGERPRINT
    return found | {key: older(found[key]) for key in (*late, "fingerprint")}


FINDING = _finding()
SIDE = Object({"matrices": COUNT, "unpaired": COUNT})
MODULES = Object({"modules": COUNT, "unpaired": COUNT})
SLOPE = Object({
    "role": TEXT, "counted": FLAG, "sigma": Object(rest=nullable(NUMBER)),
    **dict.fromkeys(("slope", "low", "high", "ratio"), nullable(NUMBER)), "ok": nullable(FLAG),
    **dict.fromkeys(("expected", "normalised_slope"), sometimes(NUMBER)),
    "reason": sometimes(TEXT),
})  # fmt: skip
"""How one role's largest singular values go with the width."""

RUN = Object({
    "role": TEXT, "matrices": COUNT,
    **dict.fromkeys(("sigma_max", "stable_rank", "kappa"), Items(nullable(NUMBER))),
})  # fmt: skip
"""How one role's numbers go over the steps of a run."""

SETTINGS: Mapping[str, Mapping[str, Shape]] = {
    "diff": {
        "intruders": FLAG, "epsilon": sometimes(NUMBER), "side": sometimes(TEXT),
        "k": sometimes(COUNT),
    },
    "kappa": {
        "rank_by": Words(("kappa", "kappa_excess")), "per": Words(("global", "role")),
        "by": Words(("matrices", "params")), "include_embeddings": FLAG,
    },
    "width": {
        "members": Items(Object({
            "model": TEXT, "width": NUMBER, "eta": nullable(NUMBER),
            "weight_decay": nullable(NUMBER), "proxy": FLAG,
        })),
    },
}  # fmt: skip
"""Settings that say how a result is read."""

SUMMARIES: Mapping[str, Mapping[str, Shape]] = {
    "ls": {"matrices": older(COUNT), "parameters": COUNT, "bytes": older(COUNT)},
    "spectrum": {"matrices": older(COUNT), "parameters": COUNT, "non_finite": older(COUNT)},
    "diff": {
        "matrices": older(COUNT), "changed": COUNT, "non_finite": older(COUNT),
        "unpaired": older(Object({"base": SIDE, "tuned": SIDE, "adapter": sometimes(MODULES)})),
        "intruders": unpublished(sometimes(COUNT)), "certified": unpublished(sometimes(FLAG)),
    },
    "kappa": {
        "eligible": COUNT, "selected": TEXTS, "parameters_selected": older(COUNT),
        "outside": older(COUNT), "non_finite": older(COUNT), "cut": unpublished(nullable(NUMBER)),
    },
    "width": {
        "roles": Items(unpublished(SLOPE)), "matching": older(Items()),
        "advice": Items(unpublished(TEXT)), "overall": unpublished(sometimes(SLOPE)),
    },
    "trend": {
        "steps": Items(unpublished(NUMBER)), "roles": Items(unpublished(RUN)),
        "matrices": older(COUNT),
    },
    "check": {
        "passed": FLAG,
        "exit_code": older(Words((0, 1, 3))),
        "alias": older(TEXT),
        "policy": older(nullable(TEXT)),
        "findings": Items(Object(FINDING, closed=True)),
        "ignored": Items(Object(
            FINDING | {"reason": older(TEXT), "until": older(nullable(TEXT))}, closed=True
        )),
        "counts": Object(
            dict.fromkeys((*SEVERITIES, "ignored", *get_args(State)), older(COUNT)), closed=True
        ),
        "coverage": Object(closed=True, keys={
            "tensors": older(COUNT), "judged": older(COUNT), "share": older(SHARE),
            "missing": older(COUNT),
            "not_judged": older(Items(Object({"what": TEXT, "reason": TEXT}, closed=True))),
        }),
        "rules": Items(Object(closed=True, keys={
            "code": TEXT, "name": TEXT, "severity": Words(SEVERITIES), "summary": TEXT,
            "findings": COUNT, "judged": FLAG, "why_not": older(nullable(TEXT)),
        })),
        "matrices": older(COUNT),
    },
}  # fmt: skip
"""What the summary of each command has beside `reading` and `skipped`; others may follow."""

UNREAD = Items(Object({"file": TEXT, "reason": TEXT, "model": TEXT}))
"""Files of weights that were not opened."""


def summary_of(command: str) -> Object:
    """Return the shape of a command's summary."""
    return Object({
        "reading": TEXT, "skipped": older(COUNT), **SUMMARIES.get(command, {}),
        "unread": unpublished(sometimes(UNREAD)),
    })  # fmt: skip


def document_of(settings: Mapping[str, Shape], summary: Shape) -> Object:
    """Return the shape of a whole document."""
    return Object({
        "schema": Words((SCHEMA,)),
        "spectra": TEXT,
        "command": Words(tuple(SUMMARIES), open=True),
        "settings": Object(settings),
        "models": Items(MODEL, least=1),
        "rows": Items(ROW),
        "skipped": Items(SKIPPED),
        "summary": summary,
    }, closed=True)  # fmt: skip


def result_schema() -> Schema:
    """Return the schema (draft 2020-12) of the JSON document of every command."""
    return {
        "$schema": DRAFT,
        "$id": ID,
        "title": "Result of spectra",
        **document_of({}, Object()).schema(),
        "allOf": [
            {
                "if": {"properties": {"command": {"const": command}}},
                "then": {"properties": {"summary": summary_of(command).schema()}},
            }
            for command in SUMMARIES
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
        refuse("", found, "an object")
    command, schema = found.get("command"), found.get("schema")
    if schema != SCHEMA:
        refuse("schema", schema, repr(SCHEMA))
    if "dry_run" in found:
        told = _refused(name, "an estimate of --dry-run", "a result", "Run it without --dry-run")
        raise SavedError(told)
    known = command if isinstance(command, str) else ""
    document_of(SETTINGS.get(known, {}), summary_of(known)).check(found, "", refuse)
    return found


def _refused(name: str, told: str, expected: str, onward: str = "Write it again") -> str:
    """Return the whole sentence."""
    return (
        f"{shown(name)} is no result of spectra that can be shown: {told}, expected {expected}. "
        f"{onward} with -o FILE.json."
    )


def _told(value: object) -> str:
    """Write what was got, in few characters."""
    if value is None:
        return "missing"
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return quote(value)
