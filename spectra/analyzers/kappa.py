"""Condition numbers, and which matrices they choose for training."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from spectra.analyzers.analyzer import Summary, counted
from spectra.analyzers.row import Measurement, Row
from spectra.errors import UsageError
from spectra.kernels.singular import (
    singular_values,
    singular_values_cost,
    singular_values_memory,
)
from spectra.kernels.summary import condition_number
from spectra.matrices import Matrix, View

NOT_CANDIDATES = ("embed", "lm_head", "router")
"""Roles that are not for training by condition number."""


@dataclass(frozen=True, slots=True)
class Kappa:
    """Condition number of each matrix; the lowest chosen first.

    Source:
        KappaTune, arXiv:2506.16289: well-conditioned matrices carry little of what a
        model has learnt and may be trained with the least forgetting.
    """

    name: ClassVar[str] = "kappa"
    keys: ClassVar[tuple[str, ...]] = ("kappa", "sigma_max", "sigma_min", "selected")

    select: str | None = None  # `10%` of the candidates, or how many

    def __post_init__(self) -> None:
        """Refuse a share that cannot be meant."""
        if self.select is not None:
            selected_count(self.select, 1)

    def cost(self, view: View) -> float:
        """All singular values."""
        return singular_values_cost(view.rows, view.cols)

    def memory(self, view: View) -> int:
        """The values and what their decomposition needs."""
        return singular_values_memory(view.rows, view.cols)

    def measure(self, matrix: Matrix) -> Measurement:
        """Return kappa and the two singular values it is the ratio of."""
        sigma = singular_values(matrix.values)
        kappa = condition_number(sigma)
        finite = math.isfinite(kappa)
        return Measurement(
            {
                "kappa": kappa if finite else None,
                "sigma_max": float(sigma[0]),
                "sigma_min": float(sigma[-1]),
                "selected": None,
            },
            "ok" if finite else "singular",
        )

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
        return text


def rank_key(row: Row) -> tuple[float, str]:
    """Return what orders matrices for selection."""
    kappa = row.number("kappa")
    return (math.inf if kappa is None else kappa, row.matrix)


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
