"""The values of a policy file: numbers, shares, texts, codes, dates, each read or refused."""

import datetime as dt
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from spectra.policy.rule import Setting
from spectra.policy.rules import RULES
from spectra.policy.spot import Spot, near
from spectra.words import SEVERITIES

Value = Any  # of a TOML document

OFF = "off"
SEVERITY_WORDS: dict[str, str] = {
    **{str(word): word for word in SEVERITIES},
    "warn": "warning",
    OFF: OFF,
}
"""How a severity may be written, and what it means."""

FAIL_ON = (*SEVERITIES, "never")
FAMILY = "SPC"
POLICY_RULES = "SPC9"  # about the policy itself

DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"


def codes() -> list[str]:
    """Return every code and beginning of codes, from `SPC` on."""
    found = {code[:end] for code in RULES for end in range(len(FAMILY), len(code) + 1)}
    return sorted(found)


def names() -> dict[str, str]:
    """Return the code of every rule's name."""
    return {rule.name: rule.code for rule in RULES.values()}


def read_code(value: Value, spot: Spot) -> str:
    """Return a code or the beginning of codes; a rule's name becomes its code.

    Raises:
        UsageError: No rule is meant.
    """
    word = read_text(value, spot)
    known, named = codes(), names()
    if word in known:
        return word
    if word in named:
        return named[word]
    guess = near(word.upper(), known) or near(word.lower(), named)
    raise spot.error(f"names {spot_word(word)}, which is no rule.{guess} `spectra rule` lists all.")


def spot_word(word: str) -> str:
    """Return a word from a file in quotes, on one line and not too long."""
    return repr(word if len(word) <= 80 else f"{word[:77]}...")


def read_codes(value: Value, spot: Spot, *, some: bool = False) -> tuple[str, ...]:
    """Return a list of codes, beginnings of codes or names.

    Raises:
        UsageError: It is none; or it is empty where there must be `some`.
    """
    words = _list(value, spot, 'a list, like ["SPC1"].', some=some)
    found = tuple(read_code(word, spot) for word in words)
    _require_once(found, spot)
    return found


def read_texts(value: Value, spot: Spot, *, some: bool = False) -> tuple[str, ...]:
    """Return a list of texts that are not empty.

    Raises:
        UsageError: It is none; or it is empty where there must be `some`.
    """
    words = _list(value, spot, 'a list of texts, like ["*.weight"].', some=some)
    found = tuple(read_text(word, spot) for word in words)
    _require_once(found, spot)
    return found


def _list(value: Value, spot: Spot, expected: str, *, some: bool) -> list[Value]:
    """Return a list.

    Raises:
        UsageError: It is none, or empty where there must be `some`.
    """
    if not isinstance(value, list):
        raise spot.wrong(value, expected)
    if some and not value:
        raise spot.error("is empty, expected at least one.")
    return value


def _require_once(words: Sequence[str], spot: Spot) -> None:
    """Refuse what stands twice.

    Raises:
        UsageError: Something does.
    """
    for number, word in enumerate(words):
        if word in words[:number]:
            raise spot.error(f"has {spot_word(word)} twice. Remove one.")


def read_text(value: Value, spot: Spot) -> str:
    """Return a text that is not blank.

    Raises:
        UsageError: It is none.
    """
    if not isinstance(value, str):
        raise spot.wrong(value, "a text in quotes.")
    if not value.strip():
        raise spot.error("is blank, expected a text.")
    return value


def read_flag(value: Value, spot: Spot) -> bool:
    """Return true or false.

    Raises:
        UsageError: It is neither.
    """
    if not isinstance(value, bool):
        raise spot.wrong(value, "true or false.")
    return value


def read_word(value: Value, spot: Spot, words: Iterable[str]) -> str:
    """Return one of several words.

    Raises:
        UsageError: It is none of them.
    """
    known = list(words)
    if not isinstance(value, str) or value not in known:
        guess = near(value.lower(), known) if isinstance(value, str) else ""
        raise spot.wrong(value, f"one of {', '.join(known)}.{guess}")
    return str(value)


def read_severity(value: Value, spot: Spot) -> str:
    """Return a severity, or `off`; `warn` means `warning`.

    Raises:
        UsageError: It is none.
    """
    return SEVERITY_WORDS[read_word(value, spot, SEVERITY_WORDS)]


def read_date(value: Value, spot: Spot) -> dt.date:
    """Return a day: TOML's own date, or the same in quotes.

    Raises:
        UsageError: It is none.
    """
    expected = "a day, like 2027-03-01."
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value
    if not isinstance(value, str) or not re.fullmatch(DATE, value):
        raise spot.wrong(value, expected)
    try:
        return dt.date.fromisoformat(value)
    except ValueError:
        raise spot.wrong(value, expected) from None


def read_setting(setting: Setting, value: Value, spot: Spot) -> Value:
    """Return what a policy sets, in the rule's own terms; None for `off`.

    Raises:
        UsageError: It is of another kind, or out of range.
    """
    if setting.can_be_off and value == OFF:
        return None
    if setting.kind == "text":
        return read_text(value, spot)
    if setting.kind == "texts":
        return read_texts(value, spot)
    if setting.kind == "count":
        found: float = _whole(value, spot)
    elif setting.kind == "share":
        found = read_share(value, spot)
    else:
        found = _number(value, spot, "a number.", off=setting.can_be_off)
    _require_range(setting, found, value, spot)
    return found


def read_share(value: Value, spot: Spot, most: float | None = None) -> float:
    """Return a share, 0 or more: 0.1 or "10%".

    Args:
        value: As written.
        spot: Where it stands.
        most: The largest that can be meant.

    Raises:
        UsageError: It is none.
    """
    expected = 'a share, like 0.1 or "10%".'
    if isinstance(value, str):
        if not re.fullmatch(percent(), value):
            raise spot.wrong(value, expected)
        # Of the decimal digits as written: 7 % is 0.07, which 7 / 100 need not be.
        found = float(f"{value.rstrip('% ')}e-2")
    else:
        found = _number(value, spot, expected)
    if found < 0.0:
        raise spot.wrong(value, f"0 or more: {expected}")
    if most is not None and found > most:
        raise spot.wrong(value, f"at most {most:g}: {expected}")
    return found


def percent(*, zero: bool = True, whole: bool = True, more: bool = True) -> str:
    """Return the pattern of a percentage in quotes.

    Args:
        zero: It may be 0 %.
        whole: It may be 100 %.
        more: It may be over 100 %.
    """
    some = "" if zero else r"(?!0+(\.0+)? ?%$)"
    if more:
        return rf"^{some}[0-9]{{1,9}}(\.[0-9]{{1,12}})? ?%$"
    full = r"|100(\.0{1,12})?" if whole else ""
    return rf"^{some}([0-9]{{1,2}}(\.[0-9]{{1,12}})?{full}) ?%$"


def _whole(value: Value, spot: Spot) -> int:
    """Return a whole number, 0 or more.

    Raises:
        UsageError: It is none.
    """
    expected = "a whole number, 0 or more."
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise spot.wrong(value, expected)
    if isinstance(value, float) and not value.is_integer():
        raise spot.wrong(value, expected)
    return int(value)


def _number(value: Value, spot: Spot, expected: str, *, off: bool = False) -> float:
    """Return a finite number.

    Raises:
        UsageError: It is none.
    """
    if off:
        expected = f'{expected[:-1]}, or "{OFF}".'
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise spot.wrong(value, expected)
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise spot.wrong(value, f"finite: {expected}")
    return found


def _require_range(setting: Setting, found: float, value: Value, spot: Spot) -> None:
    """Refuse a number that a setting cannot have; `value` is how it is written.

    Raises:
        UsageError: It is too small or too large.
    """
    if setting.above is not None and not found > setting.above:
        raise spot.wrong(value, f"more than {setting.above:g}.")
    if setting.below is not None and not found < setting.below:
        raise spot.wrong(value, f"less than {setting.below:g}.")
    if setting.most is not None and not found <= setting.most:
        raise spot.wrong(value, f"at most {setting.most:g}.")
