"""What is lost of updates of which some directions are kept: for each, and for all together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from spectra.analyzers.analyzer import Summary
from spectra.analyzers.cut import Cutting
from spectra.analyzers.row import Row, Value
from spectra.kernels.truncation import excess
from spectra.numbers import percent
from spectra.text import counted, size

EXACT = 1e-6  # of the norm: what storing float32 loses


@dataclass(frozen=True, slots=True)
class Beyond:
    """What of a matrix lies beyond the directions that were measured."""

    energy: float = 0.0  # sum of squares
    low: float = 0.0  # its spectral norm lies above
    high: float = 0.0  # and below
    coupling: float = 0.0  # by which the measured ones are no singular directions


def concluded(
    cutting: Cutting, rows: Sequence[Row], held: frozenset[int] = frozenset()
) -> tuple[list[Row], Summary]:
    """Choose the ranks, and say what they lose.

    Args:
        cutting: What is asked for.
        rows: Each with arrays `sigma`, `moved` (what rounding moves, by how many are kept) and
            perhaps `beyond`, and with the bytes of one direction as `nbytes`.
        held: Ids of those that are written whole, so that nothing of them is lost.
    """
    known = [row for row in rows if "sigma" in row.arrays]
    groups = [group_of(row) for row in known]
    counts = cutting.counts(
        [row.arrays["sigma"][: len(row.arrays["moved"]) - 1] for row in known],
        [(row.number("delta_norm") or 0.0) ** 2 for row in known],
        [int(row.number("nbytes") or 0) for row in known],
        groups,
    )
    ranks: dict[str, int] = {}
    for group, count in zip(groups, counts, strict=True):
        ranks[group] = max(ranks.get(group, 0), count)
    cut = {id(row): _cut(row, count, ranks[group])
           for row, group, count in zip(known, groups, counts, strict=True)}  # fmt: skip
    marked = [_kept(row) if id(row) in held else cut.get(id(row), row) for row in rows]
    return marked, _summed(marked)


def _kept(row: Row) -> Row:
    """Return the row of a matrix that is written whole."""
    place = row.place
    each = int(row.number("nbytes") or 0) // (place.rows + place.cols)  # of an entry
    none: dict[str, Value] = dict.fromkeys(("loss", "loss_least", "loss_spectral", "rounding"), 0.0)
    none |= {"loss_spectral_low": 0.0, "rank_kept": None, "nbytes": each * place.numel}
    return replace(row, values={**row.values, **none}, arrays={})


def group_of(row: Row) -> str:
    """Return what a matrix shares its rank in the file with: itself, or the others of a stack."""
    return row.place.tensor if row.place.expert is not None else row.matrix


def _cut(row: Row, count: int, rank: int) -> Row:
    """Return the row of a matrix of which so many directions are kept, filled up to a rank.

    What is cut off and what rounding moves are orthogonal but for a product of both roundings.
    """
    sigma, moved = row.arrays["sigma"], row.arrays["moved"]
    beyond = Beyond(*row.arrays["beyond"].tolist()) if "beyond" in row.arrays else Beyond()
    norm, largest = row.number("delta_norm") or 0.0, row.number("delta_sigma_max") or 0.0
    cut, off = float(sigma[count:].square().sum()) + beyond.energy, float(moved[count])
    first = float(sigma[count]) if count < len(sigma) else 0.0
    low = max(first, beyond.low)
    high = math.sqrt(max(first, beyond.high) ** 2 + beyond.coupling)
    high = high if beyond.energy else first
    values: dict[str, Value] = {
        "rank_kept": count,
        "loss": math.sqrt(cut + off) / norm if norm else 0.0,
        "loss_spectral": min(high / largest, 1.0) if largest else 0.0,
        "rounding": math.sqrt(off) / norm if norm else 0.0,
        "nbytes": rank * int(row.number("nbytes") or 0),
    }
    if "loss_least" in row.values:
        last = float(sigma[count - 1]) ** 2 if count else 0.0
        saved = excess(count, beyond.coupling, last, high**2)
        values["loss_least"] = math.sqrt(max(cut - saved, 0.0)) / norm if norm else 0.0
        values["loss_spectral_low"] = low / largest if largest else 0.0
    return replace(row, values={**row.values, **values}, arrays={"sigma": sigma})


def _summed(rows: Sequence[Row]) -> dict[str, object]:
    """Return what the rows come to for the whole adapter."""
    known = [row for row in rows if row.status == "ok"]
    whole = sum((row.number("delta_norm") or 0.0) ** 2 for row in known)
    lost = sum(
        ((row.number("delta_norm") or 0.0) * (row.number("loss") or 0.0)) ** 2 for row in known
    )
    ranks = [int(row.number("rank_kept") or 0) for row in known]
    loss = math.sqrt(lost / whole) if whole else 0.0
    told = {
        "matrices": len(rows),
        "non_finite": len(rows) - len(known),
        "rank_kept": sum(ranks),
        "loss": loss,
        "nbytes_before": sum(int(row.number("nbytes_before") or 0) for row in known),
        "nbytes": sum(int(row.number("nbytes") or 0) for row in known),
        "emptied": ranks.count(0),
    }
    if any("rank_before" in row.values for row in known):
        before = [int(row.number("rank_before") or 0) for row in known]
        told["rank_before"] = sum(before)
        return {"reading": _smaller(known, ranks, before, loss), **told}
    return {"reading": _made(known, ranks, loss), **told}


def _smaller(rows: Sequence[Row], ranks: Sequence[int], before: Sequence[int], loss: float) -> str:
    held = [sum(int(row.number(key) or 0) for row in rows) for key in ("nbytes_before", "nbytes")]
    sizes = f"{size(held[0])} of factors to {size(held[1])}" if held[0] else ""
    told = (
        f"{counted(len({group_of(row) for row in rows}), 'module')}: rank {_span(before)} to "
        f"{_span(ranks)}, "
        f"{sizes or f'{size(held[1])} of factors'}."
    )
    if empty := ranks.count(0):
        told += f" {empty:,} of them {'is' if empty == 1 else 'are'} left out: nothing is kept."
    return f"{told} {_lost(rows, loss)}"


def _made(rows: Sequence[Row], ranks: Sequence[int], loss: float) -> str:
    ranked: dict[str, int] = {}
    for row, rank in zip(rows, ranks, strict=True):
        group = group_of(row)
        ranked[group] = max(ranked.get(group, 0), rank)
    held = [rank for rank in ranked.values() if rank]
    whole = [row for row in rows if row.number("rank_kept") is None]
    same = sum(row.number("delta_norm") == 0.0 for row in rows)
    taken = sum(int(row.number("nbytes") or 0) for row in rows)
    beside = sum(int(row.number("nbytes") or 0) for row in whole)
    told = (
        f"{counted(len(held), 'module')} of rank {_span(held)}, {size(taken - beside)} of factors."
    )
    if whole:
        few = counted(len(whole), "matrix is", "matrices are")
        told += f" {few} of full rank and written whole, {size(beside)}."
    if same:
        told += f" {counted(same, 'matrix is', 'matrices are')} unchanged."
    if dropped := ranks.count(0) - same - len(whole):
        told += f" {dropped:,} changed and {'gets' if dropped == 1 else 'get'} no direction."
    return f"{told} {_lost(rows, loss)}"


def _lost(rows: Sequence[Row], loss: float) -> str:
    worst = max(rows, key=lambda row: row.number("loss") or 0.0, default=None)
    if worst is None or loss < EXACT:
        return "Nothing is lost but rounding." if loss else "Nothing is lost."
    most = worst.number("loss") or 0.0
    where = f", at most {percent(most)} in one ({worst.matrix})" if len(rows) > 1 else ""
    return f"The update loses {percent(loss)} of its norm{where}."


def _span(ranks: Sequence[int]) -> str:
    low, high = min(ranks, default=0), max(ranks, default=0)
    return f"{low:,}" if low == high else f"{low:,}-{high:,}"
