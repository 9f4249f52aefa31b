"""How every number is written: one spelling, in tables, sentences, findings, pages and pictures.

A measured number has four digits that matter, a share three, a count all of them. Zeros at the end
say nothing and are left out; thousands are set apart; from a million on and below a thousandth
stands a power of ten: 0.0412, 4.6, 10,890, 4.117e7, 2.5e-5. The page's `few` in `core.js` is the
same in its language.
"""

import math
from collections.abc import Callable
from decimal import ROUND_DOWN, ROUND_HALF_UP, Context, Decimal
from typing import Final, Protocol

DIGITS: Final = 4  # of a measured number
OF_SHARE: Final = 3  # of a share in percent
OF_ESTIMATE: Final = 2  # of what is known about no better
EXACT: Final = 12  # of a number that a person wrote
LEAST: Final = Decimal("0.001")
WHOLE: Final = 1e15  # from which on a number has no hundredths to round
MOST: Final = 1_000_000
KEPT: Final = 6  # that a page holds of a number, whose spelling must not differ from a table's


class Write(Protocol):
    """What spells a number, in so many digits or as many as are usual."""

    def __call__(self, value: float, digits: int = ..., /) -> str:
        """Return the spelling."""


def number(value: float, digits: int = DIGITS) -> str:
    """Return a number's one spelling; of a whole one with all its digits.

    Args:
        value: A measured number; an `int` is a count.
        digits: How many matter.
    """
    if isinstance(value, int):
        return f"{value:,}"
    return _spelled(kept(value) if digits < KEPT else value, digits)


def estimate(value: float) -> str:
    """Return a number of which two digits are known."""
    return number(value, OF_ESTIMATE)


def hundredths(value: float) -> str:
    """Return a cosine of which two decimals are known; what is less than 1 never reads as 1."""
    found = _to_hundredths(value)
    if abs(found) == 1.0 and abs(kept(value)) < 1.0:
        found = math.copysign(0.99, value)
    return number(found)


def percent(share: float, digits: int = OF_SHARE) -> str:
    """Return a share of 1 in percent; what is less than all of it never reads as all."""
    whole = 100 * (kept(share) if digits < KEPT else share)
    text = _spelled(whole, digits)
    if text == "100" and whole < 100.0:
        text = "99.9"
    return f"{text} %"


def whole(value: float, _digits: int = 0) -> str:
    """Return a count, all of it."""
    return f"{value:,.0f}"


def signed(value: float) -> str:
    """Return a slope, whose second decimal is the last that matters."""
    return f"{_to_hundredths(value) + 0.0:+.2f}"


def grown(ratio: float) -> str:
    """Return how much what became so many times as large has changed."""
    if ratio >= 10.0:
        return f"x {number(ratio)}"
    return gained(ratio - 1.0)


def at_least(value: float, digits: int = OF_SHARE) -> float:
    """Return a bound in so many digits, rounded to where it still is one: toward 0."""
    if not math.isfinite(value) or not value:
        return value
    return float(Context(prec=digits, rounding=ROUND_DOWN).create_decimal(Decimal(value)))


def gained(share: float) -> str:
    """Return a difference over what was there before, with its sign."""
    text = percent(share)
    return text if text.startswith("-") or text == "0 %" else f"+{text}"


def ranged(low: float, high: float, write: Callable[[float], str] = number) -> str:
    """Return the span of several values; of ones that read alike, one of them."""
    first, last = write(low), write(high)
    return first if first == last else f"{first} to {last}"


def apart(value: float, limit: float, write: Write = number) -> str:
    """Return a value in as many digits as tell it from a limit that it is not."""
    text, other = write(value), write(limit, EXACT)
    for digits in range(OF_SHARE, 17):
        if text != other:
            break
        text = write(value, digits)
    return text


def kept(value: float) -> float:
    """Return a number in as many digits as a page holds."""
    return float(f"{value:.{KEPT}g}")


def _to_hundredths(value: float) -> float:
    """Round to two decimals, halves away from zero, as `_spelled` does."""
    if not abs(value) < WHOLE:
        return value
    return float(Decimal(value).quantize(Decimal("0.01"), ROUND_HALF_UP))


def _spelled(value: float, digits: int) -> str:
    if not math.isfinite(value):
        return "—" if math.isnan(value) else "∞" if value > 0 else "-∞"
    # Halves go away from zero, as in JavaScript; Python's own formats take the even neighbour.
    rounded = Context(prec=digits, rounding=ROUND_HALF_UP).create_decimal(Decimal(value))
    if not rounded:
        return "0"
    if LEAST <= abs(rounded) < MOST:
        text = f"{rounded:,f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    mantissa, exponent = f"{rounded:e}".split("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}e{int(exponent)}"
