"""Condition numbers, and which matrices they choose for training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from spectra.analyzers.analyzer import Each, Round, Summary, Takes
from spectra.analyzers.choice import Choice, amount, rank_key, require_word
from spectra.analyzers.products import (
    product_floor,
    product_memory,
    product_work,
    products_told,
)
from spectra.analyzers.row import Measurement, Row, Value
from spectra.analyzers.shapes import dominant_shape
from spectra.analyzers.storage import stands_clear
from spectra.errors import UsageError
from spectra.kernels.entries import entry_norm
from spectra.kernels.extremes import (
    condition_floor,
    exact_extremes,
    extreme_singular_values,
)
from spectra.kernels.gaussian import kappa_null
from spectra.kernels.singular import product_singular_values
from spectra.kernels.work import (
    Work,
    extremes_memory,
    extremes_work,
    floor_work,
    has_bounds,
    singular_values_memory,
    singular_values_work,
)
from spectra.matrices import Matrix, Place, View
from spectra.matrices.pair import Product
from spectra.matrices.unread import lies_bare
from spectra.numbers import number, percent
from spectra.text import counted
from spectra.words import UNMEASURED, VOCABULARY, By, Per, RankBy

NOT_CANDIDATES = (*VOCABULARY, "router", "conv")
"""Roles that are not for training by condition number, unless asked for: KappaTune and PEFT
look at linear layers, and a kernel's kappa hangs on its shape: depthwise ones would come first."""

KEYS = (
    "kappa", "kappa_low", "kappa_high", "kappa_null", "kappa_excess", "kappa_resolved",
    "sigma_max", "sigma_min", "decided_by", "selected",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kappa:
    """Condition number of each matrix, beside what its shape alone would give; lowest first.

    Source:
        KappaTune, arXiv:2506.16289: well-conditioned matrices carry little of what a
        model has learnt and may be trained with the least forgetting.
    """

    name: ClassVar[str] = "kappa"
    version: ClassVar[int] = 1
    takes: ClassVar[Takes] = Each()
    products: ClassVar[bool] = True
    keys: ClassVar[tuple[str, ...]] = KEYS
    concluding: ClassVar[frozenset[str]] = frozenset(
        {"select", "by", "per", "rank_by", "include_embeddings"}
    )

    select: str | None = None  # `10%` of the candidates, or how many
    by: By = "matrices"  # what a share is of and a number counts: `matrices` or `params`
    per: Per = "global"  # of all candidates, or with `role` of each role's
    rank_by: RankBy = "kappa"  # or `kappa_excess`
    include_embeddings: bool = False  # embeddings and output heads are candidates too
    exact: bool = False  # all singular values of every matrix

    def __post_init__(self) -> None:
        for option, word in (("by", self.by), ("per", self.per), ("rank-by", self.rank_by)):
            require_word(option, word)
        if self.select is not None:
            amount(self.select, 1)
        elif self.by != "matrices" or self.per != "global":
            told = f"--by {self.by}" if self.by != "matrices" else f"--per {self.per}"
            raise UsageError(f"{told} says how to select. Give a share too: --select 10%.")

    def why_not(self, view: View, roles: Sequence[str]) -> str | None:
        """Return why a matrix is no candidate; what the user named by `--role` is one."""
        kind = view.role.kind
        if min(view.rows, view.cols) == 1:
            return "a single row or column, whose kappa is always 1"
        if kind == "other" and not view.part.suffix and lies_bare(view.entry.name):
            return "a bare parameter, of no layer that is known"
        wanted = {*roles, *(VOCABULARY if self.include_embeddings else ())}
        if kind in NOT_CANDIDATES and kind not in wanted:
            return f"{kind} is no candidate for training"
        return None

    def cost(self, view: View) -> Work:
        """Both ends of the spectrum, or all of it."""
        rows, cols = view.rows, view.cols
        if (of_core := product_work(view)) is not None:
            return of_core
        return singular_values_work(rows, cols) if self.exact else extremes_work(rows, cols)

    def memory(self, view: View) -> int:
        """The values and what their factors need."""
        rows, cols = view.rows, view.cols
        if (of_core := product_memory(view)) is not None:
            return of_core
        if self.exact:
            return singular_values_memory(rows, cols, stored=True)
        return extremes_memory(rows, cols)

    def measure(self, matrix: Matrix | Product) -> Measurement:
        """Return kappa, what it is made of, what is proven, and what it is compared with."""
        if isinstance(matrix, Product):
            return _of_product(matrix)
        extremes = exact_extremes if self.exact else extreme_singular_values
        found = extremes(matrix.values)
        singular = found.sigma_min == 0.0
        largest, smallest = found.largest, found.smallest
        kappa = None if singular else found.sigma_max / found.sigma_min
        null = kappa_null(*matrix.values.shape)
        return Measurement(
            {
                "kappa": kappa,
                "kappa_low": None if singular else max(largest.low / smallest.high, 1.0),
                "kappa_high": None if singular else largest.high / smallest.low,
                "kappa_null": null,
                "kappa_excess": None if kappa is None else kappa / null,
                "kappa_resolved": stands_clear(matrix, entry_norm(matrix.values), found.sigma_min),
                "sigma_max": found.sigma_max,
                "sigma_min": found.sigma_min,
                "decided_by": found.decided_by,
                "selected": None,
            },
            "singular" if singular else "ok",
        )

    def following(self, rows: Sequence[Row], places: Sequence[Place]) -> Round | None:
        """Return what to measure next, so that no more is than the selection needs.

        A lower bound of every kappa comes first. The matrices with the lowest bounds are
        measured; those whose bound exceeds what is then proven of enough others stay as they
        are. Where what is proven of two matrices leaves open which one the cut leaves out,
        both are decomposed in full. Nothing depends on the order in which matrices finish.

        Args:
            rows: Of all matrices, as measured so far; none at first.
            places: All candidates. Where so many are to be selected that too few could stop
                early for all their bounds, all are measured at once.
        """
        choice = self._choice()
        if choice is None or self.exact:
            return None if rows else Round(self)
        if not rows:
            return Round(Floor() if _bounds_pay(choice, places) else Kappa())
        measure, decompose = choice.unsettled(rows)
        if measure:
            return Round(Kappa(), _names(measure))
        return Round(Kappa(exact=True), _names(decompose)) if decompose else None

    def likely(self, part: Round, places: Sequence[Place]) -> Mapping[str, float]:
        """Return how likely each matrix is measured after a round of bounds."""
        choice = self._choice()
        return choice.likely(places) if choice and isinstance(part.analyzer, Floor) else {}

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Select the lowest first, ties by name; a singular matrix comes last."""
        eligible = [row for row in rows if row.status not in UNMEASURED]
        ranked = sorted(eligible, key=lambda row: rank_key(row.flat(), self.rank_by))
        choice = self._choice()
        chosen = choice.chosen(eligible) if choice else []
        names = _names(chosen)
        marked = [
            replace(row, values={**row.values, "selected": row.matrix in names})
            if choice and row.status not in UNMEASURED
            else row
            for row in rows
        ]
        summary = {
            "reading": self._reading(ranked, chosen, rows),
            "eligible": len(eligible),
            "selected": [row.matrix for row in chosen],
            "parameters_selected": _parameters(chosen),
            "cut": chosen[-1].number(self.rank_by) if chosen and self.per == "global" else None,
            "outside": sum(row.status == "outside" for row in eligible),
            "non_finite": sum(row.status == "non-finite" for row in rows),
        }
        if choice and (notes := choice.notes(eligible)):
            summary["notes"] = notes
        return marked, summary

    def _choice(self) -> Choice | None:
        return Choice(self.select, self.by, self.per, self.rank_by) if self.select else None

    def _reading(self, ranked: Sequence[Row], chosen: Sequence[Row], rows: Sequence[Row]) -> str:
        if not ranked:
            return "No matrix could be measured."
        matrices = counted(len(rows), "matrix", "matrices")
        if choice := self._choice():
            share = _parameters(chosen) / _parameters(rows)
            how = f"lowest {self.rank_by} first"
            if self.per == "role":
                how += f" in each of {counted(len({r.place.role for r in ranked}), 'role')}"
            if self.by == "params":
                how += ", by parameters"
            count = f"{len(chosen):,} of {matrices}"
            told = [f"{count} selected ({how}), {percent(share)} of their parameters."]
            if untold := choice.untold(ranked):
                told.append(
                    f"{untold:,} more {'is' if untold == 1 else 'are'} asked for and not selected: "
                    "all that are left are singular, and of infinities none is lower."
                )
            if self.rank_by == "kappa" and self.per == "global":
                told.append(dominant_shape(chosen, ranked))
        else:
            low, high = (f"{_word(row, self.rank_by)} in {row.matrix}"
                         for row in (ranked[0], ranked[-1]))  # fmt: skip
            told = [f"{self.rank_by} of {matrices}: from {low} to {high}."]
        singular = sum(row.status == "singular" for row in ranked)
        told += products_told(ranked)
        if singular:
            told.append(f"{counted(singular, 'matrix is', 'matrices are')} singular.")
        stored = [row for row in ranked if row.values.get("kappa_resolved") is False
                  and row.status == "ok"]  # fmt: skip
        if stored:
            many = counted(len(stored), "matrix", "matrices")
            told.append(f"In {many} it measures the rounding of what is stored.")
        outside = sum(row.status == "outside" for row in ranked)
        if outside:
            stopped = counted(outside, "matrix", "matrices")
            told.append(f"{stopped} outside the cut stopped at a bound.")
        return " ".join(text for text in told if text)


@dataclass(frozen=True, slots=True)
class Floor:
    """A lower bound of each condition number, where that is cheaper than the number."""

    name: ClassVar[str] = "kappa"
    version: ClassVar[int] = 1
    takes: ClassVar[Takes] = Each()
    products: ClassVar[bool] = True
    keys: ClassVar[tuple[str, ...]] = KEYS

    def answered_by(self) -> Sequence[Kappa]:
        """Return what tells kappa itself: it is bounded by that."""
        return [Kappa(), Kappa(exact=True)]

    def cost(self, view: View) -> Work:
        """A few products; a small matrix is measured at once, and one of two factors."""
        if (of_core := product_work(view)) is not None:
            return of_core
        return floor_work(view.rows, view.cols)

    def memory(self, view: View) -> int:
        """As much as measuring, at most."""
        return Kappa().memory(view)

    def measure(self, matrix: Matrix | Product) -> Measurement:
        """Return the bound, and what the shape tells."""
        if isinstance(matrix, Product):
            return Kappa().measure(matrix)
        shape = matrix.values.shape
        if not has_bounds(*shape):
            return Kappa().measure(matrix)
        values: dict[str, Value] = dict.fromkeys(KEYS)
        known = {"kappa_low": condition_floor(matrix.values), "kappa_null": kappa_null(*shape)}
        return Measurement({**values, **known, "decided_by": "outside"}, "outside")

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Nothing: `Kappa` concludes."""
        return rows, {}


def _of_product(matrix: Product) -> Measurement:
    """Return kappa over the singular values that two factors leave room for.

    All others are 0 by construction, whatever the weights are: sigma_1 / sigma_r is what their
    product does to what it does not lose, ||W|| ||W^+||. No Gaussian matrix of its shape is like
    it, so that there is nothing to compare it with.
    """
    sigma = product_singular_values(matrix.factors.left, matrix.factors.right)
    largest, smallest = float(sigma[0]), float(sigma[-1])
    kappa = largest / smallest if smallest else None
    values: dict[str, Value] = dict.fromkeys(KEYS) | {
        "kappa": kappa, "kappa_low": kappa, "kappa_high": kappa,
        "kappa_resolved": smallest > product_floor(matrix),
        "sigma_max": largest, "sigma_min": smallest, "decided_by": "exact",
        "rank_bound": matrix.rank,
    }  # fmt: skip
    return Measurement(values, "ok" if kappa else "singular")


def _bounds_pay(choice: Choice, places: Sequence[Place]) -> bool:
    """Say whether bounds of all matrices cost no more than they are likely to save."""
    shares, spent, saved = choice.likely(places), 0.0, 0.0
    for place in places:
        if has_bounds(place.rows, place.cols):
            whole = float(extremes_work(place.rows, place.cols))
            spent += float(floor_work(place.rows, place.cols))
            saved += (1.0 - shares[place.matrix]) * whole
    return spent <= saved


def _parameters(rows: Sequence[Row]) -> int:
    return sum(row.place.numel for row in rows)


def _names(rows: Sequence[Row]) -> frozenset[str]:
    return frozenset(row.matrix for row in rows)


def _word(row: Row, key: str) -> str:
    value = row.number(key)
    return "infinity" if value is None else number(value)
