"""Spectrum's choice: of each type of layer the share with the highest signal to noise."""

from collections import defaultdict
from collections.abc import Sequence
from decimal import ROUND_FLOOR, Decimal, localcontext
from typing import Final

from spectra.analyzers.choice import amount
from spectra.analyzers.row import Row
from spectra.numbers import percent
from spectra.text import counted
from spectra.words import VOCABULARY

METRICS: Final = "snr"
DIFFERENCES: Final = (
    "Ranked and cut as Spectrum's spectrum.py does, but: norms, embeddings and the output head are "
    "neither ranked nor listed, where it always lists lm_head and model.embed_tokens; names are "
    "anchored, and ties go by name; what has nothing but zeros for noise is not ranked (there "
    "first)."
)


def type_of(matrix: str) -> str:
    """Return Spectrum's type: the module's name after the number of its layer, or all of it."""
    parts = matrix.removesuffix(".weight").split(".")
    number = next((at for at, part in enumerate(parts) if part.isdigit()), -1)
    return ".".join(parts[number + 1 :])


def chosen(rows: Sequence[Row], select: str) -> list[Row]:
    """Return the rows of each type with the highest `snr`, so many of it, types in order of rows.

    Args:
        rows: All; those without an `snr`, with one row or column, and of the vocabulary are of no
            type.
        select: `50%` of a type, rounded down, or how many.
    """
    found = []
    for alike in _types(rows).values():
        ranked = sorted(alike, key=lambda row: (-(_snr(row) or 0.0), row.matrix))
        found += ranked[: count_of(select, len(ranked))]
    return found


def _types(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows that are ranked, by their type."""
    types: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if (
            row.place.role not in VOCABULARY
            and min(row.place.rows, row.place.cols) > 1
            and _snr(row) is not None
        ):
            types[type_of(row.matrix)].append(row)
    return types


def count_of(select: str, total: int) -> int:
    """Return how many of a type are taken: a share is rounded down, to none too.

    Raises:
        UsageError: It is neither a share nor a number.
    """
    most = amount(select, total)
    text = select.strip()
    if not text.endswith("%"):
        return most
    with localcontext(rounding=ROUND_FLOOR):
        return int(total * Decimal(text[:-1].strip()) / 100)


def reading_of(found: Sequence[Row], rows: Sequence[Row], select: str) -> str:
    """Return what was chosen, as a sentence."""
    whole = sum(row.place.numel for row in rows)
    share = sum(row.place.numel for row in found) / whole if whole else 0.0
    types = _types(rows)
    none = sum(not count_of(select, len(alike)) for alike in types.values())
    told = (
        f"{len(found):,} of {counted(len(rows), 'matrix', 'matrices')} selected ({select} of each "
        f"of {counted(len(types), 'type')}, highest SNR first), {percent(share)} of their "
        "parameters."
    )
    if not none:
        return told
    few = "it has too few matrices" if none == 1 else "they have too few matrices"
    return f"{told} Of {counted(none, 'type')} nothing: {few} for {select}, rounded down."


def _snr(row: Row) -> float | None:
    value = row.values.get("snr")
    return value if isinstance(value, float) else None
