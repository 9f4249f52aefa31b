"""The JSON Schema of a result: what `--format json` and `-o FILE.json` write."""

import json
from dataclasses import fields
from typing import Any, get_args

from spectra.policy.finding import Finding
from spectra.words import ROLES, SEVERITIES, VECTOR, State, Status
from spectra.work.result import SCHEMA

Schema = dict[str, Any]

DRAFT = "https://json-schema.org/draft/2020-12/schema"
ID = "urn:spectra:result:1"

TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}
FLAG: Schema = {"type": "boolean"}
TEXTS: Schema = {"type": "array", "items": TEXT}
SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}

SIDE: Schema = {
    "type": "object",
    "properties": {"matrices": COUNT, "unpaired": COUNT},
    "required": ["matrices", "unpaired"],
}
MODULES: Schema = {
    "type": "object",
    "properties": {"modules": COUNT, "unpaired": COUNT},
    "required": ["modules", "unpaired"],
}
UNPAIRED: Schema = {
    "type": "object",
    "properties": {"base": SIDE, "tuned": SIDE, "adapter": MODULES},
    "required": ["base", "tuned"],
}

SUMMARIES: dict[str, Schema] = {
    "ls": {"matrices": COUNT, "parameters": COUNT, "bytes": COUNT},
    "spectrum": {"matrices": COUNT, "parameters": COUNT, "non_finite": COUNT},
    "diff": {"matrices": COUNT, "changed": COUNT, "non_finite": COUNT, "unpaired": UNPAIRED},
    "kappa": {
        "eligible": COUNT, "selected": TEXTS, "parameters_selected": COUNT, "outside": COUNT,
        "non_finite": COUNT,
    },
    "width": {"roles": {"type": "array"}, "matching": {"type": "array"},
              "advice": {"type": "array"}},
    "trend": {"steps": {"type": "array"}, "roles": {"type": "array"}, "matrices": COUNT},
}  # fmt: skip
"""What the summary of each command has beside `reading` and `skipped`; others may follow."""


def result_schema() -> Schema:
    """Return the schema (draft 2020-12) of the JSON document of every command."""
    commands = [*SUMMARIES, "check"]
    told: dict[str, Schema] = {**SUMMARIES, "check": _check()}
    return {
        "$schema": DRAFT,
        "$id": ID,
        "title": "Result of spectra",
        **_object({
            "schema": {"const": SCHEMA},
            "spectra": TEXT,
            "command": {"enum": commands},
            "settings": {"type": "object"},
            "models": {"type": "array", "minItems": 1, "items": _model()},
            "rows": {"type": "array", "items": _row()},
            "skipped": {"type": "array", "items": _skipped()},
            "summary": {"type": "object"},
        }),
        "allOf": [
            {
                "if": {"properties": {"command": {"const": command}}},
                "then": {"properties": {"summary": _open({
                    "reading": TEXT, "skipped": COUNT, **told[command],
                })}},
            }
            for command in commands
        ],
    }  # fmt: skip


def result_schema_text() -> str:
    """Return the schema as it is published."""
    return json.dumps(result_schema(), indent=2) + "\n"


def _object(properties: Schema) -> Schema:
    """Return an object of exactly these keys."""
    return {**_open(properties), "additionalProperties": False}


def _open(properties: Schema) -> Schema:
    """Return an object of at least these keys."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def _or_null(schema: Schema) -> Schema:
    """Return what may be missing."""
    return {"anyOf": [schema, {"type": "null"}]}


def _model() -> Schema:
    """Return one of the models; of several also its `model`, `width` or `step`."""
    return _open({
        "spec": TEXT,
        "resolved": TEXT,
        "part": {"enum": ["model", "base", "tuned", "baseline"]},
        "codecs": {"type": "object", "additionalProperties": COUNT},
    })  # fmt: skip


def _row() -> Schema:
    """Return one matrix; what was measured of it follows its identity."""
    layer = _or_null({"type": "integer"})
    return _open({
        "tensor": TEXT,
        "matrix": TEXT,
        "role": {"enum": [*ROLES, VECTOR]},
        "layer": layer,
        "expert": layer,
        "rows": COUNT,
        "cols": COUNT,
        "dtype": TEXT,
        "codec": _or_null(TEXT),
        "status": {"enum": list(get_args(Status))},
        "error": _or_null(TEXT),
    })  # fmt: skip


def _skipped() -> Schema:
    """Return what was not analysed, and of several models which it is from."""
    found = _object({"tensor": TEXT, "reason": TEXT})
    return {**found, "properties": {**found["properties"], "model": TEXT}}


def _check() -> Schema:
    """Return what the summary of a check holds."""
    finding = _finding()
    accepted = _object({**finding["properties"], "reason": TEXT, "until": _or_null(TEXT)})
    counts = (*SEVERITIES, "ignored", *get_args(State))
    return {
        "passed": FLAG,
        "exit_code": {"enum": [0, 1, 3]},
        "alias": TEXT,
        "policy": _or_null(TEXT),
        "findings": {"type": "array", "items": finding},
        "ignored": {"type": "array", "items": accepted},
        "counts": _object(dict.fromkeys(counts, COUNT)),
        "coverage": _object({
            "tensors": COUNT, "judged": COUNT, "share": SHARE, "missing": COUNT,
            "not_judged": {"type": "array", "items": _object({"what": TEXT, "reason": TEXT})},
        }),
        "rules": {
            "type": "array",
            "items": _object({
                "code": TEXT, "name": TEXT, "severity": {"enum": list(SEVERITIES)},
                "summary": TEXT, "findings": COUNT, "judged": FLAG, "why_not": _or_null(TEXT),
            }),
        },
        "matrices": COUNT,
    }  # fmt: skip


def _finding() -> Schema:
    """Return one finding."""
    known: dict[str, Schema] = {
        "severity": {"enum": list(SEVERITIES)},
        "fingerprint": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
        "state": _or_null({"enum": list(get_args(State))}),
        **dict.fromkeys(("rule", "name", "message", "place"), TEXT),
        **dict.fromkeys(("value", "limit", "baseline"), _or_null(NUMBER)),
        **dict.fromkeys(("layer", "line"), _or_null({"type": "integer"})),
    }
    return _object({
        field.name: known.get(field.name, _or_null(TEXT)) for field in fields(Finding)
    })  # fmt: skip
