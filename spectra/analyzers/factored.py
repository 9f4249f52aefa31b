"""Low-rank updates cut to fewer directions: of one adapter, or of a weighted sum of several."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from spectra.analyzers.analyzer import Factors, Summary, Takes
from spectra.analyzers.cut import DTYPES, Cutting, stored_factors
from spectra.analyzers.row import Measurement, Row
from spectra.kernels.cores import core_cost, core_of
from spectra.matrices import Matrix, View
from spectra.numbers import percent
from spectra.text import counted, size

LEFT, RIGHT = "B", "A"  # roles of the factors in a task, each with its adapter's number after it

KEYS = (
    "rank_before", "rank_true", "rank_kept", "loss", "loss_spectral", "rounding", "delta_norm",
    "delta_sigma_max", "nbytes_before", "nbytes",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Resized(Cutting):
    """The update s B A of every module, with its leading singular directions alone.

    Source:
        Hu et al. 2021, arXiv:2106.09685, for the update; Eckart and Young 1936.
    """

    name: ClassVar[str] = "lowrank_resize"
    version: ClassVar[int] = 1
    takes: ClassVar[Takes] = Factors()
    keys: ClassVar[tuple[str, ...]] = KEYS

    def cost(self, *views: View) -> float:
        """Triangles of both sides, and the decomposition of their product."""
        rows, inner, cols = _shape(views)
        return core_cost(rows, inner, cols)

    def memory(self, *views: View) -> int:
        """Both sides as read, in float64, and what is made of them."""
        rows, inner, cols = _shape(views)
        return 40 * (rows + cols) * inner + 100 * inner**2

    def measure(self, subject: Mapping[str, Matrix]) -> Measurement:
        """Return the keys that no other module decides, and the directions that may be kept."""
        lefts = [one for role, one in subject.items() if role.startswith(LEFT)]
        rights = [one for role, one in subject.items() if role.startswith(RIGHT)]
        left, right = _stacked(lefts, 1), _stacked(rights, 0)
        found = core_of(left, right)
        dtype = self.stored(*(one.view.entry.dtype for one in subject.values()))
        kept = found.balanced(self.most(found.sigma, found.energy))
        tensors, moved = stored_factors(*kept, dtype)
        largest = float(found.sigma[0]) if len(found.sigma) else 0.0
        width = DTYPES[dtype].itemsize
        values = dict.fromkeys(KEYS) | {
            "rank_before": left.shape[1],
            "rank_true": len(found.sigma),
            "delta_norm": math.sqrt(found.energy),
            "delta_sigma_max": largest,
            "nbytes_before": sum(one.view.entry.nbytes for one in subject.values()),
            "nbytes": width * (left.shape[0] + right.shape[1]),  # of one direction, so far
        }
        return Measurement(values, arrays={"sigma": found.sigma, "moved": moved}, tensors=tensors)

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Choose the ranks, and say what they lose."""
        known = [row for row in rows if row.status == "ok"]
        counts = self.counts(
            [row.arrays["sigma"][: len(row.arrays["moved"]) - 1] for row in known],
            [(row.number("delta_norm") or 0.0) ** 2 for row in known],
            [int(row.number("nbytes") or 0) for row in known],
        )
        cut = {id(row): concluded(row, count) for row, count in zip(known, counts, strict=True)}
        marked = [cut.get(id(row), row) for row in rows]
        return marked, summed(marked)


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged(Resized):
    """The weighted sum of several adapters' updates, with its leading directions alone."""

    name: ClassVar[str] = "lowrank_merge"

    weights: tuple[float, ...] = ()  # of each adapter's update


def _stacked(factors: Sequence[Matrix], axis: int) -> Tensor:
    values = [one.values.double() for one in factors]
    return values[0] if len(values) == 1 else torch.cat(values, dim=axis)


def _shape(views: Sequence[View]) -> tuple[int, int, int]:
    """Return outputs, stacked rank and inputs; factors come A and B by turns."""
    inner = sum(view.rows for view in views[::2])
    return views[1].rows, inner, views[0].cols


def concluded(row: Row, count: int) -> Row:
    """Return the row of a matrix of which so many directions are kept.

    What is cut off and what rounding moves are orthogonal but for a product of both roundings.
    """
    sigma, moved = row.arrays["sigma"], row.arrays["moved"]
    norm, largest = row.number("delta_norm") or 0.0, row.number("delta_sigma_max") or 0.0
    cut, off = float(sigma[count:].square().sum()), float(moved[count])
    next_one = float(sigma[count]) if count < len(sigma) else 0.0
    values = {
        **row.values,
        "rank_kept": count,
        "loss": math.sqrt(cut + off) / norm if norm else 0.0,
        "loss_spectral": next_one / largest if largest else 0.0,
        "rounding": math.sqrt(off) / norm if norm else 0.0,
        "nbytes": count * int(row.number("nbytes") or 0),
    }
    return replace(row, values=values, arrays={"sigma": sigma})


def summed(rows: Sequence[Row]) -> dict[str, object]:
    """Return what the rows come to for the whole adapter."""
    known = [row for row in rows if row.status == "ok"]
    whole = sum((row.number("delta_norm") or 0.0) ** 2 for row in known)
    lost = sum(
        ((row.number("delta_norm") or 0.0) * (row.number("loss") or 0.0)) ** 2 for row in known
    )
    ranks = [int(row.number("rank_kept") or 0) for row in known]
    before = [int(row.number("rank_before") or 0) for row in known]
    loss = math.sqrt(lost / whole) if whole else 0.0
    worst = max(known, key=lambda row: row.number("loss") or 0.0, default=None)
    return {
        "reading": _reading(known, ranks, before, loss, worst),
        "matrices": len(rows),
        "non_finite": len(rows) - len(known),
        "rank_before": sum(before),
        "rank_kept": sum(ranks),
        "loss": loss,
        "nbytes_before": sum(int(row.number("nbytes_before") or 0) for row in known),
        "nbytes": sum(int(row.number("nbytes") or 0) for row in known),
        "emptied": ranks.count(0),
    }


def _reading(
    rows: Sequence[Row], ranks: Sequence[int], before: Sequence[int], loss: float, worst: Row | None
) -> str:
    held = [sum(int(row.number(key) or 0) for row in rows) for key in ("nbytes_before", "nbytes")]
    told = (
        f"{counted(len(rows), 'module')}: rank {_span(before)} to {_span(ranks)}, "
        f"{size(held[0])} of factors to {size(held[1])}."
    )
    if empty := ranks.count(0):
        told += f" {empty:,} of them {'is' if empty == 1 else 'are'} left out: nothing is kept."
    if worst is None or loss < EXACT:
        return f"{told} Nothing is lost but rounding."
    most = worst.number("loss") or 0.0
    where = f", at most {percent(most)} in one module ({worst.matrix})" if len(rows) > 1 else ""
    return f"{told} The update loses {percent(loss)} of its norm{where}."


EXACT = 1e-6  # of the norm: what storing float32 loses


def _span(ranks: Sequence[int]) -> str:
    low, high = min(ranks, default=0), max(ranks, default=0)
    return f"{low:,}" if low == high else f"{low:,}-{high:,}"
