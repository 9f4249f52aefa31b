"""The JSON Schema of a policy file, made from the rules and their settings."""

import json
from typing import Any

from spectra.policy.rule import Rule, Setting
from spectra.policy.rules import RULES
from spectra.policy.values import (
    DATE,
    FAIL_ON,
    OFF,
    POLICY_RULES,
    SEVERITY_WORDS,
    codes,
    names,
    percent,
)
from spectra.policy.writing import CHECK

DRAFT = "https://json-schema.org/draft/2020-12/schema"
OVERRIDE = "-override"
ID = "urn:spectra:policy:1"

Schema = dict[str, Any]

TEXT: Schema = {"type": "string", "pattern": r"\S"}
SEVERITY: Schema = {"enum": list(SEVERITY_WORDS), "description": "How bad a finding is; off: none."}


def schema() -> Schema:
    """Return the schema (draft 2020-12) of a policy file, dates as text.

    It knows all keys and the range of every value, but not what two values are to each other
    (`min` over `max`); `spectra check --show-settings` refuses that too.
    """
    return {
        "$schema": DRAFT,
        "$id": ID,
        "title": "Policy of spectra check",
        "description": "spectra.toml, .spectra.toml, or [tool.spectra] of pyproject.toml.",
        **_object({
            "schema": {"type": "integer", "const": 1, "description": "Version of this format."},
            "check": _object(_check(), "What concerns the whole check."),
            "rules": _rules("Severity and settings of rules, by code or name.", whole=True),
            "override": _list(_override(), "Other settings for some tensors; the last that fits "
                              "counts."),
            "ignore": _list(_ignore(), "Findings that are known and accepted, for a reason."),
        }),
        "$defs": {
            "severity": SEVERITY,
            "code": {"enum": [*codes(), *names()], "description": "A rule, or several."},
            "codes": _words({"$ref": "#/$defs/code"}),
            "texts": _words(TEXT),
            **{rule.code: _rule(rule, whole=True) for rule in RULES.values()},
            **{f"{rule.code}{OVERRIDE}": _rule(rule, whole=False) for rule in RULES.values()},
        },
    }  # fmt: skip


def schema_text() -> str:
    """Return the schema as it is published in `docs/policy.schema.json`."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _object(properties: Schema, description: str = "", **more: Any) -> Schema:  # noqa: ANN401
    """Return the schema of a table that has no other keys."""
    found = {"type": "object", "properties": properties, "additionalProperties": False, **more}
    return {**({"description": description} if description else {}), **found}


def _list(items: Schema, description: str) -> Schema:
    """Return the schema of an array of tables."""
    return {"type": "array", "items": items, "description": description}


def _words(items: Schema) -> Schema:
    """Return the schema of a list in which nothing stands twice."""
    return {"type": "array", "items": items, "uniqueItems": True}


def _check() -> Schema:
    """Return the keys of `[check]`."""
    kinds: Schema = {
        "select": {"$ref": "#/$defs/codes", "minItems": 1},
        "ignore": {"$ref": "#/$defs/codes"},
        "fail-on": {"enum": list(FAIL_ON)},
        "fail-unchanged": {"type": "boolean"},
        "min-coverage": _share(most=1.0),
        "tolerance": _share(),
    }
    return {key: {**kinds.get(key, TEXT), "description": what} for key, what in CHECK.values()}


def _rules(description: str, *, whole: bool) -> Schema:
    """Return the schema of a table of rules; an override's are not `whole`, and never empty."""
    suffix = "" if whole else OVERRIDE
    some = {} if whole else {"minProperties": 1}
    single = {rule.code: {"$ref": f"#/$defs/{rule.code}{suffix}"} for rule in RULES.values()}
    named = {rule.name: single[rule.code] for rule in RULES.values()}
    many = {
        word: _object({"severity": {"$ref": "#/$defs/severity"}}, f"All rules {word}*.", **some)
        for word in codes()
        if word not in RULES
    }
    return {
        **_object({**single, **named, **many}, description),
        "allOf": [{"not": {"required": [rule.code, rule.name]}} for rule in RULES.values()],
    }


def _rule(rule: Rule, *, whole: bool) -> Schema:
    """Return the schema of a rule's table.

    Args:
        rule: It.
        whole: With the settings that hold for the model as a whole.
    """
    settings = {
        one.key: {**_setting(one), "description": _about(one)}
        for one in rule.settings
        if whole or not one.whole
    }
    about = f"{rule.name}: {rule.summary} ({rule.severity} by default)."
    some = {} if whole else {"minProperties": 1}
    return _object({"severity": {"$ref": "#/$defs/severity"}, **settings}, about, **some)


def _about(setting: Setting) -> str:
    """Return what a setting is for, and its default."""
    default = "not set" if setting.default is None else setting.default
    return f"{setting.help} (default: {default})"


def _setting(setting: Setting) -> Schema:
    """Return the schema of a setting's value."""
    found: Schema
    match setting.kind:
        case "text":
            found = TEXT
        case "texts":
            found = {"$ref": "#/$defs/texts"}
        case "count":
            found = {"type": "integer", "minimum": 0, **_range(setting)}
        case "share":
            found = _share(setting.above, setting.below, setting.most)
        case "number":
            found = {"type": "number", **_range(setting)}
    if not setting.can_be_off:
        return found
    # A share has a list of its own, to which one more is added.
    choices = found.get("anyOf", [found])
    return {"anyOf": [*choices, {"const": OFF}]}


def _range(setting: Setting) -> Schema:
    """Return the bounds of a number."""
    return _bounds(setting.above, setting.below, setting.most)


def _bounds(above: float | None, below: float | None, most: float | None) -> Schema:
    """Return bounds as a schema has them."""
    found = {"exclusiveMinimum": above, "exclusiveMaximum": below, "maximum": most}
    return {key: value for key, value in found.items() if value is not None}


def _share(
    above: float | None = None, below: float | None = None, most: float | None = None
) -> Schema:
    """Return the schema of a share: a number, or a percentage in quotes.

    Args:
        above: It must be greater; 0 or None.
        below: It must be less; 1 or None.
        most: It must not be greater; 1 or None.
    """
    pattern = percent(zero=above is None, whole=below is None, more=below is None and most is None)
    number = {"type": "number", "minimum": 0, **_bounds(above, below, most)}
    return {"anyOf": [number, {"type": "string", "pattern": pattern}]}


def _override() -> Schema:
    """Return the schema of an `[[override]]`."""
    properties = {
        "tensors": {"$ref": "#/$defs/texts", "minItems": 1,
                    "description": "Globs of names; * and ? are wild."},
        "off": {"$ref": "#/$defs/codes", "description": "Rules that do not count there."},
        "rules": _rules("Other settings there.", whole=False),
    }  # fmt: skip
    some = [
        {"required": ["off"], "properties": {"off": {"minItems": 1}}},
        {"required": ["rules"], "properties": {"rules": {"minProperties": 1}}},
    ]
    return _object(properties, required=["tensors"], anyOf=some)


def _ignore() -> Schema:
    """Return the schema of an `[[ignore]]`."""
    about_policy = [code for code in codes() if code.startswith(POLICY_RULES)]
    about_policy += [name for name, code in names().items() if code.startswith(POLICY_RULES)]
    properties = {
        "code": {"$ref": "#/$defs/code", "not": {"enum": about_policy}},
        "tensors": {"$ref": "#/$defs/texts", "minItems": 1,
                    "description": "Globs of names; none: wherever it is found."},
        "reason": {**TEXT, "description": "Why it may stay."},
        "until": {"type": "string", "format": "date", "pattern": DATE,
                  "description": "The last day on which it counts."},
    }  # fmt: skip
    return _object(properties, required=["code", "reason"])
