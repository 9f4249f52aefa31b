"""What adapters start from, in sentences: how near to the original, and what of it is any."""

import math
import zlib
from collections.abc import Sequence

from spectra.analyzers.analyzer import Summary
from spectra.analyzers.row import Row
from spectra.deferred import torch
from spectra.numbers import number, percent
from spectra.text import counted, size
from spectra.words import InitForm, InitMethod


def drawn(name: str, short: int, count: int, seed: int) -> list[int]:
    """Return random indices of singular values, of each matrix its own whatever others there are.

    Args:
        name: Of the matrix.
        short: How many there are.
        count: How many are drawn.
        seed: Other numbers for others.
    """
    own = torch.Generator().manual_seed(seed ^ zlib.crc32(name.encode()))
    found: list[int] = torch.randperm(short, generator=own)[:count].sort().values.tolist()
    return found


def concluded(rows: Sequence[Row], method: InitMethod, form: InitForm) -> Summary:
    """Return what the rows come to for the whole adapter.

    Args:
        rows: With the keys of `Initial`.
        method: What the adapter starts from.
        form: What is written.
    """
    known = [row for row in rows if row.status == "ok"]
    ranks = [int(row.number("rank_kept") or 0) for row in known]
    nbytes = sum(int(row.number("nbytes") or 0) for row in known)
    whole = math.hypot(*(row.number("frobenius") or 0.0 for row in known))
    held = sum(
        (row.number("chosen_share") or 0.0) * (row.number("frobenius") or 0.0) ** 2 for row in known
    )
    share = held / whole**2 if whole else 0.0
    open_ones = [row for row in known if row.values["determined"] is False]
    drowned = [row for row in known if row.number("chosen_drowned")]
    told = {
        "matrices": len(rows),
        "non_finite": len(rows) - len(known),
        "rank_kept": sum(ranks),
        "nbytes": nbytes,
        "chosen_share": share,
        "undetermined": len(open_ones),
        "drowned": len(drowned),
        **_errors(known, whole),
    }
    first = f"{counted(len(known), 'module')} of rank {_span(ranks)}, {size(nbytes)} of factors: "
    reading = [
        f"{first}{percent(share)} of Σσ².",
        _exactness(known, method, form, told["missed"]),
        _undetermined(open_ones, method),
        _drowned(drowned),
    ]
    return {"reading": " ".join(part for part in reading if part), **told}


def _errors(rows: Sequence[Row], whole: float) -> dict[str, float | None]:
    """Return how far base and adapter are from the original; None where they are not it at all."""
    if not rows or any(row.values["missed"] is None for row in rows):
        return {"missed": None, "missed_max": None}
    off = math.hypot(*(
        (row.number("missed") or 0.0) * (row.number("frobenius") or 0.0) for row in rows
    ))  # fmt: skip
    most = max(row.number("missed_max") or 0.0 for row in rows)
    return {"missed": off / whole if whole else 0.0, "missed_max": most}


def _exactness(rows: Sequence[Row], method: InitMethod, form: InitForm, error: float | None) -> str:
    if method == "mica":
        return "A is 0: the update is 0, and the base stays as it is."
    if form == "difference":
        return "Its update is B A - B A = 0: the base stays as it is."
    if error is None:
        return "The base is not changed; the adapter goes with W - s B A (--form residual)."
    worst = max(rows, key=lambda row: row.number("missed") or 0.0)
    far = max(rows, key=lambda row: row.number("missed_max") or 0.0)
    return (
        f"Residual and adapter are the original to {number(error)} of its norm, at worst "
        f"{number(worst.number('missed') or 0.0)} ({worst.matrix}); no entry is off by more than "
        f"{number(far.number('missed_max') or 0.0)} ({far.matrix})."
    )


def _undetermined(rows: Sequence[Row], method: InitMethod) -> str:
    if not rows:
        return ""
    first = rows[0].matrix
    if method == "olora":
        return (
            f"{counted(len(rows), 'choice is', 'choices are')} not determined: the first columns "
            f"depend on each other to what storing rounds off ({first})."
        )
    return (
        f"{counted(len(rows), 'choice is', 'choices are')} not determined: the next σ lies nearer "
        f"than what storing rounds off ({first})."
    )


def _drowned(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    total = sum(int(row.number("chosen_drowned") or 0) for row in rows)
    return (
        f"{total:,} chosen σ in {counted(len(rows), 'module')} lie below what storing rounds off: "
        f"their directions are rounding ({rows[0].matrix})."
    )


def _span(ranks: Sequence[int]) -> str:
    low, high = min(ranks, default=0), max(ranks, default=0)
    return f"{low:,}" if low == high else f"{low:,}-{high:,}"
