"""The tables of a policy file: settings of rules, overrides, ignores."""

from collections.abc import Mapping
from typing import Any

from spectra.policy.policy import Ignore, Override
from spectra.policy.rule import Rule
from spectra.policy.rules import RULES
from spectra.policy.spot import Spot, near
from spectra.policy.values import (
    POLICY_RULES,
    Value,
    codes,
    names,
    read_code,
    read_codes,
    read_date,
    read_setting,
    read_severity,
    read_text,
    read_texts,
)

OVERRIDE_KEYS = ("tensors", "off", "rules")
IGNORE_KEYS = ("code", "tensors", "reason", "until")
ABSOLUTE = ("max", "min", "warn", "error")
"""Limits whose defaults hold together: a table that sets one sets aside those of the others."""

Rules = dict[str, dict[str, Any]]


def read_rules(value: Value, spot: Spot, general: Mapping[str, Any] | None = None) -> Rules:
    """Return the settings of rules by their codes.

    Args:
        value: The table.
        spot: Where it stands.
        general: For an override's: the settings of the whole policy.

    Raises:
        UsageError: A rule, key or value cannot be meant.
    """
    if not isinstance(value, dict):
        raise spot.wrong(value, "a table of rules, like [rules.SPC101].")
    severities: dict[str, str] = {}
    single: Rules = {}
    for key in sorted(value, key=len):
        place = spot.at(key)
        if general is not None and value[key] == {}:
            raise place.error("is empty and changes nothing. Remove it, or add a setting.")
        if key in codes() and key not in RULES:
            severities.update(_of_many(key, value[key], place))
            continue
        rule = RULES[_code(key, place)]
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


def _code(key: str, spot: Spot) -> str:
    """Return the code of a rule that a table is named after.

    Raises:
        UsageError: There is none.
    """
    if key in RULES:
        return key
    named = names()
    if key in named:
        return named[key]
    guess = near(key.upper(), RULES) or near(key.lower(), named)
    raise spot.error(f"is no rule.{guess} `spectra rule` lists all.")


def _of_many(beginning: str, value: Value, spot: Spot) -> dict[str, str]:
    """Return the severity that a table gives to all rules of one beginning.

    Raises:
        UsageError: It sets more than that.
    """
    if isinstance(value, dict) and value.keys() - {"severity"}:
        key = next(iter(value.keys() - {"severity"}))
        raise spot.at(key).error(
            f"stands for several rules, which have severity alone in common. Set {key} rule by "
            f"rule, like [rules.{next(code for code in RULES if code.startswith(beginning))}]."
        )
    table = spot.table(value, ["severity"])
    if not table:
        return {}
    severity = read_severity(table["severity"], spot.at("severity"))
    return {code: severity for code in RULES if code.startswith(beginning)}


def _settings(
    rule: Rule, value: Value, spot: Spot, general: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the settings that one rule's table changes.

    Raises:
        UsageError: One is unknown, of another kind, out of range, or against another.
    """
    known = {setting.key: setting for setting in rule.settings}
    table = spot.table(value, ["severity", *known])
    found: dict[str, Any] = {}
    for key, given in table.items():
        place = spot.at(key)
        if key == "severity":
            found[key] = read_severity(given, place)
            continue
        if general is not None and known[key].whole:
            raise place.error(
                f"is read once for the whole model. Set it under [rules.{rule.code}]."
            )
        found[key] = read_setting(known[key], given, place)
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
    """Refuse limits of which one leaves another nothing to find.

    Raises:
        UsageError: There is such a pair.
    """
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


def read_override(value: Value, spot: Spot, general: Mapping[str, Any]) -> Override:
    """Return one `[[override]]`.

    Args:
        value: The table.
        spot: Where it stands.
        general: The settings of the whole policy.

    Raises:
        UsageError: It cannot be meant.
    """
    table = spot.table(value, OVERRIDE_KEYS)
    if "tensors" not in table:
        raise spot.error('has no tensors. Add which ones, like tensors = ["*.embed_*"].')
    if not table.get("off") and not table.get("rules"):
        raise spot.error('changes nothing. Add off = ["SPC2"], or [override.rules.SPC202].')
    return Override(
        tensors=read_texts(table["tensors"], spot.at("tensors"), some=True),
        off=read_codes(table.get("off", []), spot.at("off")),
        rules=read_rules(table.get("rules", {}), spot.at("rules"), general),
        line=spot.line,
    )


def read_ignore(value: Value, spot: Spot) -> Ignore:
    """Return one `[[ignore]]`.

    Raises:
        UsageError: It cannot be meant.
    """
    table = spot.table(value, IGNORE_KEYS)
    if "code" not in table:
        raise spot.error('has no code. Add the rule, like code = "SPC101".')
    if "reason" not in table:
        raise spot.error('has no reason. Add why it may stay, like reason = "issue 42".')
    code = read_code(table["code"], spot.at("code"))
    if code.startswith(POLICY_RULES):
        raise spot.at("code").error(
            f"is {code}, but what is found in the policy itself cannot be accepted. Correct it, or "
            f'leave the rule out: ignore = ["{code}"] under [check].'
        )
    until = table.get("until")
    return Ignore(
        code=code,
        reason=read_text(table["reason"], spot.at("reason")),
        tensors=read_texts(table["tensors"], spot.at("tensors"), some=True)
        if "tensors" in table
        else (),
        until=None if until is None else read_date(until, spot.at("until")),
        line=spot.line,
    )


def require_distinct(ignores: list[Ignore], spots: list[Spot]) -> None:
    """Refuse an ignore that stands twice.

    Raises:
        UsageError: One does.
    """
    seen: set[tuple[str, tuple[str, ...]]] = set()
    for ignore, spot in zip(ignores, spots, strict=True):
        what = ignore.code, tuple(sorted(ignore.tensors))
        if what in seen:
            raise spot.error(f"accepts {ignore.code} on the same tensors twice. Remove one.")
        seen.add(what)
