"""Condition numbers, and which matrices they choose for training."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from spectra.analyzers.analyzer import Round, Summary, counted
from spectra.analyzers.row import Measurement, Row, Value
from spectra.errors import UsageError
from spectra.kernels.extremes import (
    condition_floor,
    exact_extremes,
    extreme_singular_values,
    extremes_cost,
    extremes_memory,
    has_bounds,
)
from spectra.kernels.singular import singular_values_cost, singular_values_memory
from spectra.matrices import Matrix, View

NOT_CANDIDATES = ("embed", "lm_head", "router")
"""Roles that are not for training by condition number."""

KEYS = ("kappa", "kappa_low", "kappa_high", "sigma_max", "sigma_min", "decided_by", "selected")
SCREEN_COST = 0.15  # of a measurement


@dataclass(frozen=True, slots=True)
class Kappa:
    """Condition number of each matrix; the lowest chosen first.

    Source:
        KappaTune, arXiv:2506.16289: well-conditioned matrices carry little of what a
        model has learnt and may be trained with the least forgetting.
    """

    name: ClassVar[str] = "kappa"
    keys: ClassVar[tuple[str, ...]] = KEYS

    select: str | None = None  # `10%` of the candidates, or how many
    exact: bool = False  # all singular values of every matrix

    def __post_init__(self) -> None:
        """Refuse a share that cannot be meant."""
        if self.select is not None:
            selected_count(self.select, 1)

    def cost(self, view: View) -> float:
        """Both ends of the spectrum, or all of it."""
        rows, cols = view.rows, view.cols
        return singular_values_cost(rows, cols) if self.exact else extremes_cost(rows, cols)

    def memory(self, view: View) -> int:
        """The values and what their factors need."""
        rows, cols = view.rows, view.cols
        return singular_values_memory(rows, cols) if self.exact else extremes_memory(rows, cols)

    def measure(self, matrix: Matrix) -> Measurement:
        """Return kappa, the two singular values it is the ratio of, and what is proven."""
        extremes = exact_extremes if self.exact else extreme_singular_values
        found = extremes(matrix.values)
        singular = found.sigma_min == 0.0
        largest, smallest = found.largest, found.smallest
        return Measurement(
            {
                "kappa": None if singular else found.sigma_max / found.sigma_min,
                "kappa_low": None if singular else largest.low / smallest.high,
                "kappa_high": None if singular else largest.high / smallest.low,
                "sigma_max": found.sigma_max,
                "sigma_min": found.sigma_min,
                "decided_by": found.decided_by,
                "selected": None,
            },
            "singular" if singular else "ok",
        )

    def following(self, rows: Sequence[Row], candidates: int) -> Round | None:
        """Return what to measure next, so that no more is than the selection needs.

        A lower bound of every kappa comes first. The matrices with the lowest bounds are
        measured; those whose bound exceeds enough kappas then proven stay as they are. Where
        what is proven of two matrices leaves open which one the cut leaves out, both are
        decomposed in full. Nothing depends on the order in which matrices finish.

        Args:
            rows: Of all matrices, as measured so far; none at first.
            candidates: How many there are. Where more than half are to be selected, too few
                could stop early, and all are measured.
        """
        full = replace(self, select=None)
        if not rows:
            few = 2 * selected_count(self.select or "100%", candidates) <= candidates
            return Round(Floor() if few else full)
        eligible = sorted((row for row in rows if row.status != "non-finite"), key=rank_key)
        count = selected_count(self.select or "100%", len(eligible))
        if not count:
            return None
        waiting = [row for row in eligible if row.status == "outside"]
        known = [row for row in eligible if row.status != "outside"]
        if len(known) < count:
            needed = waiting[: count - len(known)]
        else:
            cut = sorted(_high(row) for row in known)[count - 1]
            needed = [row for row in waiting if _low(row) <= cut]
        if needed:
            return Round(full, _names(needed))
        return self._undecided(eligible[:count], eligible[count:])

    def _undecided(self, chosen: Sequence[Row], others: Sequence[Row]) -> Round | None:
        """Return who decides on which side of the cut a matrix belongs, where that is open."""
        highest = max((_high(row) for row in chosen), default=0.0)
        lowest = min((_low(row) for row in others), default=math.inf)
        near = [row for row in chosen if _high(row) >= lowest]
        near += [row for row in others if _low(row) <= highest]
        loose = [row for row in near if row.values["decided_by"] == "bound"]
        return Round(replace(self, select=None, exact=True), _names(loose)) if loose else None

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Select the lowest kappa first, ties by name; a singular matrix comes last."""
        eligible = [row for row in rows if row.status != "non-finite"]
        ranked = sorted(eligible, key=rank_key)
        count = selected_count(self.select, len(ranked)) if self.select else 0
        chosen = {row.matrix for row in ranked[:count]}
        marked = [
            replace(row, values={**row.values, "selected": row.matrix in chosen})
            if self.select and row.status != "non-finite"
            else row
            for row in rows
        ]
        selected = sum(row.view.rows * row.view.cols for row in ranked[:count])
        total = sum(row.view.rows * row.view.cols for row in ranked)
        summary = {
            "reading": self._reading(ranked, count, selected, total),
            "eligible": len(eligible),
            "selected": [row.matrix for row in ranked[:count]],
            "parameters_selected": selected,
            "cut": ranked[count - 1].number("kappa") if count else None,
            "outside": sum(row.status == "outside" for row in eligible),
            "non_finite": len(rows) - len(eligible),
        }
        return marked, summary

    def _reading(self, ranked: Sequence[Row], count: int, selected: int, total: int) -> str:
        """Return the sentence on top."""
        if not ranked:
            return "No matrix could be measured."
        if self.select:
            share = 100.0 * selected / total if total else 0.0
            text = (
                f"{count:,} of {counted(len(ranked), 'matrix', 'matrices')} selected "
                f"(lowest kappa first), {share:.1f} % of their parameters."
            )
        else:
            low, high = ranked[0], ranked[-1]
            text = (
                f"kappa of {counted(len(ranked), 'matrix', 'matrices')}: from {_word(low)} in "
                f"{low.matrix} to {_word(high)} in {high.matrix}."
            )
        singular = sum(row.status == "singular" for row in ranked)
        if singular:
            text += f" {counted(singular, 'matrix is', 'matrices are')} singular."
        outside = sum(row.status == "outside" for row in ranked)
        if outside:
            text += f" {counted(outside, 'matrix', 'matrices')} outside the cut stopped at a bound."
        return text


@dataclass(frozen=True, slots=True)
class Floor:
    """A lower bound of each condition number, where that is cheaper than the number."""

    name: ClassVar[str] = "kappa"
    keys: ClassVar[tuple[str, ...]] = KEYS

    def cost(self, view: View) -> float:
        """A few products; a small matrix is measured at once."""
        share = SCREEN_COST if has_bounds(view.rows, view.cols) else 1.0
        return share * extremes_cost(view.rows, view.cols)

    def memory(self, view: View) -> int:
        """As much as measuring, at most."""
        return extremes_memory(view.rows, view.cols)

    def measure(self, matrix: Matrix) -> Measurement:
        """Return the bound alone."""
        if not has_bounds(*matrix.values.shape):
            return Kappa().measure(matrix)
        values: dict[str, Value] = dict.fromkeys(KEYS)
        low = condition_floor(matrix.values)
        return Measurement({**values, "kappa_low": low, "decided_by": "outside"}, "outside")

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Nothing: `Kappa` concludes."""
        return rows, {}


def rank_key(row: Row) -> tuple[float, str]:
    """Return what orders matrices for selection: kappa, or what it is known to exceed."""
    kappa = row.number("kappa")
    return (_low(row) if kappa is None else kappa, row.matrix)


def _low(row: Row) -> float:
    """Return what kappa is at least."""
    low = row.number("kappa_low")
    return math.inf if low is None else low


def _high(row: Row) -> float:
    """Return what kappa is at most."""
    high = row.number("kappa_high")
    return math.inf if high is None else high


def _names(rows: Sequence[Row]) -> frozenset[str]:
    """Return the matrices' names."""
    return frozenset(row.matrix for row in rows)


def selected_count(select: str, candidates: int) -> int:
    """Return how many of the candidates `10%` or `22` means.

    A share is rounded down, but selects at least one; a number selects that many.

    Raises:
        UsageError: It is neither.
    """
    text = select.strip().replace("_", "?")  # Python would read 1_0 as 10
    try:
        if text.endswith("%"):
            share = float(text[:-1])
            if 0.0 < share <= 100.0:
                # What binary fractions lose must not lose a matrix: 100 * (29 / 100) is 28.99...
                return min(max(int(candidates * share / 100.0 + 1e-9), 1), candidates)
        elif int(text) > 0:
            return min(int(text), candidates)
    except ValueError:
        pass
    raise UsageError(
        f"--select {select!r} is no share. Expected a percentage like 10% or a number like 22."
    )


def _word(row: Row) -> str:
    """Write a kappa, which a singular matrix has none of."""
    kappa = row.number("kappa")
    return "infinity" if kappa is None else f"{kappa:.3g}"
