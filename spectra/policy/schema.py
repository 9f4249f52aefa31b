"""The JSON Schema of a policy file, made from its table of keys, the rules and their settings."""

import json
from collections.abc import Mapping
from typing import Any

from spectra.policy.kinds import CODES, DEFS, Schema, schema_of
from spectra.policy.rule import Rule, Setting
from spectra.policy.rules import RULES
from spectra.policy.table import CHECK, IGNORE, OVERRIDE, SEVERITY, TOP

DRAFT = "https://json-schema.org/draft/2020-12/schema"
OF_OVERRIDE = "-override"
ID = "urn:spectra:policy:1"


def schema() -> Schema:
    """Return the schema (draft 2020-12) of a policy file, dates as text.

    It knows all keys and the range of every value, but not what two values are to each other
    (`min` over `max`); `spectra check --show-settings` refuses that too.
    """
    changing = [
        {"required": ["off"], "properties": {"off": {"minItems": 1}}},
        {"required": ["rules"], "properties": {"rules": {"minProperties": 1}}},
    ]
    other = {"rules": _rules("Other settings there.", whole=False)}
    top = {
        "schema": {"type": "integer", "const": 1, "description": TOP["schema"]},
        "check": _table(CHECK, TOP["check"]),
        "rules": _rules(TOP["rules"], whole=True),
        "override": _list(_table(OVERRIDE, "", other, anyOf=changing), TOP["override"]),
        "ignore": _list(_table(IGNORE), TOP["ignore"]),
    }
    return {
        "$schema": DRAFT,
        "$id": ID,
        "title": "Policy of spectra check",
        "description": "spectra.toml, .spectra.toml, or [tool.spectra] of pyproject.toml.",
        **_object(top),
        "$defs": {
            **DEFS,
            **{rule.code: _rule(rule, whole=True) for rule in RULES.values()},
            **{f"{rule.code}{OF_OVERRIDE}": _rule(rule, whole=False) for rule in RULES.values()},
        },
    }


def schema_text() -> str:
    """Return the schema as it is published in `docs/policy.schema.json`."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _object(properties: Schema, description: str = "", **more: Any) -> Schema:  # noqa: ANN401
    found = {"type": "object", "properties": properties, "additionalProperties": False, **more}
    return {**({"description": description} if description else {}), **found}


def _list(items: Schema, description: str) -> Schema:
    return {"type": "array", "items": items, "description": description}


def _table(
    keys: Mapping[str, Setting],
    description: str = "",
    others: Schema | None = None,
    **more: Any,  # noqa: ANN401 - any JSON
) -> Schema:
    required = [one.key for one in keys.values() if one.missing]
    properties = {key: schema_of(one, one.help) for key, one in keys.items()}
    needed = {"required": required} if required else {}
    return _object({**properties, **(others or {})}, description, **needed, **more)


def _rules(description: str, *, whole: bool) -> Schema:
    """Return the schema of a table of rules; an override's are not `whole`, and never empty."""
    suffix = "" if whole else OF_OVERRIDE
    some = {} if whole else {"minProperties": 1}
    single = {code: {"$ref": f"#/$defs/{code}{suffix}"} for code in RULES}
    named = {rule.name: single[rule.code] for rule in RULES.values()}
    severity = {"severity": schema_of(SEVERITY, "")}
    many = {
        word: _object(severity, f"All rules {word}*.", **some)
        for word in CODES
        if word not in RULES
    }
    return {
        **_object({**single, **named, **many}, description),
        "allOf": [{"not": {"required": [rule.code, rule.name]}} for rule in RULES.values()],
    }


def _rule(rule: Rule, *, whole: bool) -> Schema:
    """Return the schema of a rule's table; `whole`: with what holds for the model as a whole."""
    settings = [one for one in rule.settings if whole or not one.whole]
    told = {one.key: schema_of(one, one.about) for one in settings}
    about = f"{rule.name}: {rule.summary} ({rule.severity} by default)."
    some = {} if whole else {"minProperties": 1}
    return _object({"severity": schema_of(SEVERITY, ""), **told}, about, **some)
