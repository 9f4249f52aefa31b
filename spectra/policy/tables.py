"""From the tables of a policy file to a policy: settings of rules, overrides, ignores."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from spectra.policy.kinds import CODES, NAMES, Value, code_in, read
from spectra.policy.policy import Ignore, Override, Policy
from spectra.policy.rule import Rule, Setting
from spectra.policy.rules import RULES
from spectra.policy.spot import Spot
from spectra.policy.table import CHECK, IGNORE, OVERRIDE, SEVERITY, TOP

SCHEMA = 1
ABSOLUTE = ("max", "min", "warn", "error")
"""Limits whose defaults hold together: a table that sets one sets aside those of the others."""

Rules: TypeAlias = dict[str, dict[str, Any]]


def read_tables(document: Value, spot: Spot) -> Policy:
    """Return the policy that a TOML document is.

    Args:
        document: All of it, or of a pyproject.toml its `[tool.spectra]`.
        spot: The top of it.

    Raises:
        UsageError: Something cannot be meant.
    """
    check = spot.at("check")
    for key in document:
        if key in CHECK and key not in TOP:
            raise spot.at(key).error(f"stands at the top, but belongs under [{check.name}].")
    spot.table(document, TOP)
    schema = document.get("schema", SCHEMA)
    if schema != SCHEMA or isinstance(schema, bool):
        raise spot.at("schema").wrong(
            schema, f"{SCHEMA}: the only one that this version of spectra knows."
        )
    rules = _rules(document.get("rules", {}), spot.at("rules"))
    overrides = _entries(document, "override", spot)
    ignoring = _entries(document, "ignore", spot)
    ignores = tuple(
        Ignore(**_fields(IGNORE, _keys(IGNORE, value, place), place), line=place.line)
        for value, place in ignoring
    )
    _require_distinct(ignores, [place for _, place in ignoring])
    lines = {NAMES.get(key, key): spot.at("rules", key).line for key in document.get("rules", {})}
    return Policy(
        rules=rules,
        overrides=tuple(_override(value, place, rules) for value, place in overrides),
        ignores=ignores,
        lines={code: line for code, line in lines.items() if code in rules and line is not None},
        **_fields(CHECK, check.table(document.get("check", {}), CHECK), check),
    )


def _keys(known: Mapping[str, Setting], value: Value, spot: Spot, *others: str) -> dict[str, Value]:
    """Return a table that has all that it must have, and nothing unknown."""
    table = spot.table(value, (*known, *others))
    for key, one in known.items():
        if one.missing and key not in table:
            raise spot.error(f"has no {key}. Add {one.missing}.")
    return table


def _fields(known: Mapping[str, Setting], table: Mapping[str, Value], spot: Spot) -> dict[str, Any]:
    """Return what the keys of a table set, by the names of the fields."""
    return {
        known[key].field: read(known[key], value, spot.at(key))
        for key, value in table.items()
        if key in known
    }


def _entries(document: Mapping[str, Value], key: str, spot: Spot) -> list[tuple[Value, Spot]]:
    place = spot.at(key)
    found = document.get(key, [])
    if not isinstance(found, list):
        raise place.wrong(found, f"tables of a list: write [[{place.name}]].")
    for number, value in enumerate(found):
        if key in CHECK and isinstance(value, str):
            told = f"a table, [[{place.name}]]. Rules are left out under [{spot.at('check').name}]."
            raise place.at(number).wrong(value, told)
    return [(value, place.at(number)) for number, value in enumerate(found)]


def _override(value: Value, spot: Spot, general: Rules) -> Override:
    table = _keys(OVERRIDE, value, spot, "rules")
    if not table.get("off") and not table.get("rules"):
        raise spot.error('changes nothing. Add off = ["SPC2"], or [override.rules.SPC202].')
    rules = _rules(table.get("rules", {}), spot.at("rules"), general)
    return Override(**_fields(OVERRIDE, table, spot), rules=rules, line=spot.line)


def _require_distinct(ignores: tuple[Ignore, ...], spots: list[Spot]) -> None:
    seen: set[tuple[str, tuple[str, ...]]] = set()
    for ignore, spot in zip(ignores, spots, strict=True):
        what = ignore.code, tuple(sorted(ignore.tensors))
        if what in seen:
            raise spot.error(f"accepts {ignore.code} on the same tensors twice. Remove one.")
        seen.add(what)


def _rules(value: Value, spot: Spot, general: Rules | None = None) -> Rules:
    """Return settings by the codes of their rules; for an override, beside the whole policy's."""
    if not isinstance(value, dict):
        raise spot.wrong(value, "a table of rules, like [rules.SPC101].")
    severities: dict[str, str] = {}
    single: Rules = {}
    for key in sorted(value, key=len):
        place = spot.at(key)
        if general is not None and value[key] == {}:
            raise place.error("is empty and changes nothing. Remove it, or add a setting.")
        if key in CODES and key not in RULES:
            severities.update(_of_many(key, value[key], place))
            continue
        rule = RULES[code_in(RULES, key, place)]
        if rule.code in single:
            raise place.error(f"means {rule.code}, which has a table already. Keep one.")
        single[rule.code] = _settings(rule, value[key], place, general)
    found: Rules = {}
    for code in RULES:  # an order of its own, whatever that of the file
        chosen = {"severity": severities[code]} if code in severities else {}
        chosen |= single.get(code, {})
        if chosen:
            found[code] = chosen
    return found


def _of_many(beginning: str, value: Value, spot: Spot) -> dict[str, str]:
    """Return the severity that a table gives to all rules of one beginning."""
    codes = [code for code in RULES if code.startswith(beginning)]
    others = [key for key in value if key != SEVERITY.key] if isinstance(value, dict) else []
    if others:
        raise spot.at(others[0]).error(
            f"stands for several rules, which have severity alone in common. Set {others[0]} rule "
            f"by rule, like [rules.{codes[0]}]."
        )
    known = {SEVERITY.key: SEVERITY}
    found = _fields(known, spot.table(value, known), spot)
    return dict.fromkeys(codes, found[SEVERITY.key]) if found else {}


def _settings(rule: Rule, value: Value, spot: Spot, general: Rules | None) -> dict[str, Any]:
    known = {one.key: one for one in (SEVERITY, *rule.settings)}
    found: dict[str, Any] = {}
    for key, given in spot.table(value, known).items():
        place = spot.at(key)
        if general is not None and known[key].whole:
            raise place.error(
                f"is read once for the whole model. Set it under [rules.{rule.code}]."
            )
        found[key] = read(known[key], given, place)
    outer = {} if general is None else general.get(rule.code, {})
    if any(key in found for key in ABSOLUTE):
        found |= {
            key: None
            for key in ABSOLUTE
            if key not in found and key not in outer and rule.defaults.get(key) is not None
        }
    _require_order(rule, {**rule.defaults, **outer, **found}, spot)
    return found


def _require_order(rule: Rule, settings: Mapping[str, Any], spot: Spot) -> None:
    """Refuse limits of which one leaves another nothing to find."""
    least, most = settings.get("min"), settings.get("max")
    if least is not None and most is not None and least > most:
        raise spot.error(f"has min {least:g} and max {most:g}: every value is outside.")
    above = "max" in rule.defaults
    warn = settings.get("warn")
    for key in ("error", "max" if above else "min"):
        limit = settings.get(key)
        if warn is None or limit is None:
            continue
        if warn > limit if above else warn < limit:
            raise spot.error(
                f"has warn {warn:g} beyond {key} {limit:g}, so that it would never warn. Expected "
                f"warn {'below' if above else 'above'} {key}."
            )
