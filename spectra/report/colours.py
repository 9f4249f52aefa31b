"""The colours of numbers, on pages and in pictures alike: red is bad, blue only means much."""

from typing import Literal, TypeAlias

Ramp: TypeAlias = Literal["bad", "amount"]
Worst: TypeAlias = Literal["high", "low"]

RAMPS: dict[Ramp, tuple[str, ...]] = {
    "bad": ("#eceef1", "#f6cfa8", "#ec9a68", "#d4603f", "#a52d20", "#67101a"),
    "amount": ("#e4ecf4", "#c6d5e6", "#98b5d3", "#6590bb", "#3a6a9b", "#1b4674", "#10294a"),
}
"""From light to dark: from good, which is grey, to bad; and from little to much."""

SIGNED = (*RAMPS["bad"][:0:-1], "#f4f5f7", *RAMPS["amount"][1:])
"""Of numbers that lie on both sides of 0, which is grey."""

BAD = "#a52d20"


def ramp_of(worst: Worst | None) -> Ramp:
    """Return the colours of a quantity by which of its ends is bad, if any."""
    return "amount" if worst is None else "bad"
