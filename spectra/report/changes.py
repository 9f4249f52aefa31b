"""How a change between two results is written: values, their difference, the least it can be."""

import math
from collections.abc import Mapping
from typing import Any

from spectra.numbers import EXACT, OF_SHARE, at_least, gained, number, percent, whole
from spectra.report import cells
from spectra.report.keys import key_of
from spectra.text import printable

TWICE = 2.0  # from which on a change is a factor, not per cent
MOST_DIGITS = 12
SLACK = 1e-6  # of a count, for what arithmetic rounds
SINGULAR = ("from singular", "to singular")
SIGNED = frozenset({
    "lognormal_ratio", "lognormal_p", "exponential_ratio", "exponential_p", "truncated_ratio",
    "truncated_p", "log_alpha_norm", "log_abs_det", "sharing", "shared_gain", "task_cosine",
})  # fmt: skip
"""What passes through 0, or means the same near it: no share of it tells how far it moved."""
PLAIN = {"non-finite": "NaN or Inf", "failed": "not measured", "ok": "numbers"}
"""What a status is called where it is all that is told."""


def value_text(move: Mapping[str, Any], side: str) -> str:
    """Write what a quantity was or is: a number, a bound, or a word.

    Args:
        move: Of a comparison's document.
        side: `before` or `after`.
    """
    value = move[side]
    if value is None:
        word = str(move["was" if side == "before" else "now"] or cells.NONE)
        return printable(PLAIN.get(word, word) if move["key"] == "status" else word)
    other = move["after" if side == "before" else "before"]
    text = number_text(move["key"], value)
    if other is None or text != number_text(move["key"], other):
        return text
    return _told_apart(value, other, 100.0 if _is(move["key"], "percent") else 1.0)


def number_text(key: str, value: float) -> str:
    """Write a number as its key is written."""
    if _is(key, "percent"):
        return percent(value)
    return whole(value) if _is(key, "whole") else number(value)


def change_text(move: Mapping[str, Any]) -> str:
    """Write a difference: `+2`, `+4.1 %`, `× 12`; a dash where no two numbers are known."""
    before, after = move["before"], move["after"]
    if before is None or after is None:
        ends = (("from", move["was"]), ("to", move["now"]))
        return next((f"{way} {word}" for way, word in ends if word == "singular"), cells.NONE)
    return _difference(move["key"], before, after)


def beyond_text(move: Mapping[str, Any]) -> str:
    """Write the least that a quantity moved, errors of both sides taken off, never rounded up."""
    before, after, beyond = move["before"], move["after"], move["beyond"]
    if beyond is None:
        return cells.NONE
    if _is(move["key"], "whole"):  # counts move by whole ones
        beyond = math.copysign(math.ceil(abs(beyond) - SLACK), beyond)
        return _difference(move["key"], 0, beyond, beyond)
    if before is None:  # what was is known from the side that faces what is
        before = (after or 0.0) - beyond
        return _difference(move["key"], before, after or 0.0, after or 0.0)
    reached = before + beyond
    return _difference(move["key"], before, reached, reached if after is None else after)


def sentence(move: Mapping[str, Any]) -> str:
    """Write `kappa 3,260 → 81,800 (× 25)`."""
    named = "" if move["key"] == "sigma_profile" else f"{quantity_text(move)} "
    return f"{named}{values_text(move)}"


def values_text(move: Mapping[str, Any]) -> str:
    """Write `3,260 → 81,800 (× 25)`, where the quantity is named beside it."""
    change = change_text(move)
    told = "" if change in (cells.NONE, "from 0", "to 0", *SINGULAR) else f" ({change})"
    at = f"{quantity_text(move)} " if move["key"] == "sigma_profile" else ""
    return f"{at}{value_text(move, 'before')} → {value_text(move, 'after')}{told}"


def quantity_text(move: Mapping[str, Any]) -> str:
    """Write the name of a quantity; of one singular value also which."""
    if move["key"] == "sigma_profile":
        return f"sigma_{move['index'] + 1:,}"
    return printable(str(move["key"]))


def _plain_difference(key: str, moved: float) -> str:
    if _is(key, "percent"):
        text = f"{number(100.0 * moved, OF_SHARE)} points"
    else:
        text = number(moved, EXACT) if _is(key, "whole") else number(moved)
    return text if text.startswith("-") else f"+{text}"


def by_difference(key: str) -> bool:
    """Say whether two values are held against each other by their difference, not by a share."""
    return key in SIGNED or key_of(key).kind in ("cosine", "slope")


def _told_apart(value: float, other: float, scale: float) -> str:
    """Write a number in as many digits as it takes to tell it from another."""
    digits = next(
        (some for some in range(4, MOST_DIGITS) if f"{value:.{some}g}" != f"{other:.{some}g}"),
        MOST_DIGITS,
    )
    return f"{scale * value:,.{digits}g}" + (" %" if scale > 1.0 else "")


def _difference(key: str, before: float, after: float, whole: float | None = None) -> str:
    """Write a difference; a part of a whole one in its form, and as the least that it is."""
    reached, write = after if whole is None else whole, float if whole is None else at_least
    if _is(key, "whole") or by_difference(key):
        return _plain_difference(key, write(after - before))
    if not before:
        return "from 0"
    if not reached:
        return "to 0" if whole is None else gained(write((after - before) / abs(before)))
    if reached / before >= TWICE:
        return f"× {number(write(after / before))}"
    if 0.0 < reached / before <= 1.0 / TWICE:
        return f"÷ {number(write(before / after))}"
    return gained(write((after - before) / abs(before)))


def _is(key: str, kind: str) -> bool:
    return key_of(key).kind == kind
