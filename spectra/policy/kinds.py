"""The kinds of value in a policy file: how each is read or refused, and what its schema is."""

import datetime as dt
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from operator import gt, le, lt
from pathlib import Path
from typing import Any, TypeAlias, get_args

from spectra.policy.finding import POLICY_RULES
from spectra.policy.rule import Kind, Setting
from spectra.policy.rules import RULES
from spectra.policy.spot import Spot
from spectra.text import guess, share_of
from spectra.words import SEVERITIES, FailOn

Value: TypeAlias = Any  # of a TOML document
Schema: TypeAlias = dict[str, Any]
Reader: TypeAlias = Callable[[Setting, Value, Spot], Value]

OFF = "off"
SEVERITY_WORDS = {**{str(word): word for word in SEVERITIES}, "warn": "warning", OFF: OFF}
"""How a severity may be written, and what it means."""

FAIL_ON = {word: word for word in get_args(FailOn)}
FAMILY = "SPC"

CODES = sorted({code[:end] for code in RULES for end in range(len(FAMILY), len(code) + 1)})
"""Every code and beginning of codes, from `SPC` on."""
NAMES = {rule.name: rule.code for rule in RULES.values()}

TEXT: Schema = {"type": "string", "pattern": r"\S"}
DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
PERCENT = r"[0-9]{1,9}(\.[0-9]{1,12})? ?%"
SHARE = 'a share, like 0.1 or "10%".'


def read(setting: Setting, value: Value, spot: Spot) -> Value:
    """Return what a policy sets, in the setting's own terms; None for `off`.

    Raises:
        UsageError: It is of another kind, or out of range.
    """
    if setting.can_be_off and value == OFF:
        return None
    return KINDS[setting.kind].read(setting, value, spot)


def schema_of(setting: Setting, description: str) -> Schema:
    """Return the schema of a setting's value."""
    bounds = zip(("exclusiveMinimum", "exclusiveMaximum", "maximum"), setting.range, strict=True)
    found = KINDS[setting.kind].schema | {key: one for key, one in bounds if one is not None}
    if setting.kind in {"share", "part"}:
        found = {"anyOf": [found, {"type": "string", "pattern": _percent(setting)}]}
    if setting.can_be_off:
        # A share has a list of its own, to which one more is added.
        found = {"anyOf": [*found.get("anyOf", [found]), {"const": OFF}]}
    if setting.some:
        found = {**found, "minItems": 1}
    return {**found, "description": description} if description else found


def _text(_: Setting, value: Value, spot: Spot) -> str:
    if not isinstance(value, str):
        raise spot.wrong(value, "a text in quotes.")
    if not value.strip():
        raise spot.error("is blank, expected a text.")
    return value


def _reference(setting: Setting, value: Value, spot: Spot) -> str:
    text = _text(setting, value, spot)
    inside = spot.folder / text
    try:
        local = text.startswith(("./", "../")) or inside.exists()
        here = spot.folder.resolve() == Path.cwd()
    except (OSError, ValueError):  # no name that a file could have
        return text
    return str(inside) if local and not here else text


def code_in(known: Collection[str], word: str, spot: Spot, told: str = "is") -> str:
    """Return a code from itself or the name of its rule.

    Raises:
        UsageError: It is none of those known.
    """
    code = NAMES.get(word, word)
    if code not in known:
        near = guess(word.upper(), known) or guess(word.lower(), NAMES)
        raise spot.error(f"{told} no rule.{near} `spectra rule` lists all.")
    return code


def _code(setting: Setting, value: Value, spot: Spot) -> str:
    word = _text(setting, value, spot)
    return code_in(CODES, word, spot, f"names {_quoted(word)}, which is")


def _accepted(setting: Setting, value: Value, spot: Spot) -> str:
    code = _code(setting, value, spot)
    if code.startswith(POLICY_RULES):
        raise spot.error(
            f"is {code}, but what is found in the policy itself cannot be accepted. Correct it, or "
            f'leave the rule out: ignore = ["{code}"] under [check].'
        )
    return code


def _quoted(word: str) -> str:
    return repr(word if len(word) <= 80 else f"{word[:77]}...")


def _list_of(item: Reader, expected: str) -> Reader:
    def many(setting: Setting, value: Value, spot: Spot) -> tuple[str, ...]:
        if not isinstance(value, list):
            raise spot.wrong(value, expected)
        if setting.some and not value:
            raise spot.error("is empty, expected at least one.")
        words = tuple(item(setting, word, spot) for word in value)
        for number, word in enumerate(words):
            if word in words[:number]:
                raise spot.error(f"has {_quoted(word)} twice. Remove one.")
        return words

    return many


def _word_of(words: Mapping[str, str]) -> Reader:
    """Return a reader of one of some words, as what it means."""

    def word(_: Setting, value: Value, spot: Spot) -> str:
        if not isinstance(value, str) or value not in words:
            near = guess(value.lower(), words) if isinstance(value, str) else ""
            raise spot.wrong(value, f"one of {', '.join(words)}.{near}")
        return words[value]

    return word


def _flag(_: Setting, value: Value, spot: Spot) -> bool:
    if not isinstance(value, bool):
        raise spot.wrong(value, "true or false.")
    return value


def _date(_: Setting, value: Value, spot: Spot) -> dt.date:
    """TOML's own date, or the same in quotes."""
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value
    try:
        if isinstance(value, str) and re.fullmatch(DATE, value):
            return dt.date.fromisoformat(value)
    except ValueError:
        pass
    raise spot.wrong(value, "a day, like 2027-03-01.")


def _number(setting: Setting, value: Value, spot: Spot) -> float:
    expected = f'a number, or "{OFF}".' if setting.can_be_off else "a number."
    return _ranged(setting, _finite(value, spot, expected), value, spot)


def _share(setting: Setting, value: Value, spot: Spot) -> float:
    if not isinstance(value, str):
        found = _finite(value, spot, SHARE)
    elif re.fullmatch(PERCENT, value):
        found = share_of(value)
    else:
        raise spot.wrong(value, SHARE)
    if found < 0.0:
        raise spot.wrong(value, f"0 or more: {SHARE}")
    if setting.kind == "part" and found > 1.0:
        raise spot.wrong(value, f"at most 1: {SHARE}")
    return _ranged(setting, found, value, spot)


def _count(setting: Setting, value: Value, spot: Spot) -> int:
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole or value < 0:
        raise spot.wrong(value, "a whole number, 0 or more.")
    return int(_ranged(setting, int(value), value, spot))


def _finite(value: Value, spot: Spot, expected: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise spot.wrong(value, expected)
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise spot.wrong(value, f"finite: {expected}")
    return found


def _ranged(setting: Setting, found: float, value: Value, spot: Spot) -> float:
    """Return a number within a setting's range; `value` is how it is written."""
    tests = (("more than", gt), ("less than", lt), ("at most", le))
    for limit, (words, holds) in zip(setting.range, tests, strict=True):
        if limit is not None and not holds(found, limit):
            raise spot.wrong(value, f"{words} {limit:g}.")
    return found


def _percent(setting: Setting) -> str:
    """Return the pattern of a percentage in quotes; of bounds it knows 0 and 1 alone."""
    above, below, most = setting.range
    some = "" if above is None else r"(?!0+(\.0+)? ?%$)"
    if below is None and most is None:
        return f"^{some}{PERCENT}$"
    full = r"|100(\.0{1,12})?" if below is None else ""
    return rf"^{some}([0-9]{{1,2}}(\.[0-9]{{1,12}})?{full}) ?%$"


def _known(*, policy: bool) -> list[str]:
    found = [code for code in CODES if not policy or code.startswith(POLICY_RULES)]
    return found + [name for name, code in NAMES.items() if not policy or code in found]


def _words(items: Schema) -> Schema:
    return {"type": "array", "items": items, "uniqueItems": True}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


DEFS: Schema = {
    "severity": {"enum": list(SEVERITY_WORDS), "description": "How bad a finding is; off: none."},
    "code": {"enum": _known(policy=False), "description": "A rule, or several."},
    "codes": _words(_ref("code")),
    "texts": _words(TEXT),
}
"""Schemas that others refer to."""


@dataclass(frozen=True, slots=True)
class Form:
    """How a kind of value is read, and described to an editor."""

    read: Reader  # or refuses
    schema: Schema  # but for a setting's range


_NUMBER: Schema = {"type": "number"}
_CODE: Schema = {**_ref("code"), "not": {"enum": _known(policy=True)}}

KINDS: Mapping[Kind, Form] = {
    "number": Form(_number, _NUMBER),
    "count": Form(_count, {"type": "integer", "minimum": 0}),
    "share": Form(_share, {**_NUMBER, "minimum": 0}),
    "part": Form(_share, {**_NUMBER, "minimum": 0}),
    "texts": Form(_list_of(_text, 'a list of texts, like ["*.weight"].'), _ref("texts")),
    "codes": Form(_list_of(_code, 'a list, like ["SPC1"].'), _ref("codes")),
    "text": Form(_reference, TEXT),
    "name": Form(_text, TEXT),
    "code": Form(_accepted, _CODE),
    "severity": Form(_word_of(SEVERITY_WORDS), _ref("severity")),
    "fail-on": Form(_word_of(FAIL_ON), {"enum": list(FAIL_ON)}),
    "flag": Form(_flag, {"type": "boolean"}),
    "date": Form(_date, {"type": "string", "format": "date", "pattern": DATE}),
}
