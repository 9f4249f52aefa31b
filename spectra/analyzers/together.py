"""Several fine-tunes of one base: how alike their changes are, and what adding them up loses."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from spectra.analyzers.analyzer import Analyzer, Anew, Ask, Idling, Summary, Takes, Updates
from spectra.analyzers.row import Measurement, Row, Value
from spectra.analyzers.together_reading import reading_of, related, whole_of
from spectra.analyzers.updates import Update, each_of, of_method, of_model
from spectra.deferred import Tensor, torch
from spectra.errors import UsageError
from spectra.kernels.truncation import truncation_cost, truncation_memory
from spectra.kernels.updates import (
    Leading,
    entries_of,
    inner_product,
    leading_of_factors,
    leading_of_matrix,
    overlap,
)
from spectra.kernels.work import DOUBLE, ENTRY, Work
from spectra.matrices import Pair, View

ROUNDING = 1e-13  # of an update's energy: a difference of sums that is less is none
CLOSELY = 3.5  # times what a cut takes: directions are asked for, and not their energy alone
PASSES = 6  # over each update's entries, a few of them at a time
KEYS = (
    "task_cosine", "cosine_chance", "overlap_left", "overlap_left_chance", "overlap_right",
    "overlap_right_chance", "overlap_status", "sign_conflict", "sign_conflict_chance",
    "sign_conflict_weight", "energy_ratio", "merged_loss", "changed_by", "alike", "pairs",
    "updates",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Together:
    """What each of several models changed, and how the changes D_a = W_a - W0 lie to each other.

    Of every pair the cosine of the changes as vectors and the overlap of their leading subspaces;
    of all together how often signs are opposed, how the energy of the sum compares with theirs,
    and what a rank of it loses: of D_a all but U U^T D_a V V^T, the part along the sum's leading
    directions.

    Source:
        Ilharco et al. 2022, arXiv:2212.04089; Yadav et al. 2023, arXiv:2306.01708 (TIES); Zhang
        et al. 2024, arXiv:2407.02880 (aTLAS); Hu et al. 2021, arXiv:2106.09685, section 7.
    """

    name: ClassVar[str] = "diff_several"
    version: ClassVar[int] = 1
    takes: ClassVar[Takes] = Updates()
    keys: ClassVar[tuple[str, ...]] = KEYS
    later: ClassVar[frozenset[str]] = frozenset({"methods"})
    concluding: ClassVar[frozenset[str]] = frozenset({"ask", "models", "methods"})

    diff: Analyzer[Pair]  # measures each pair for itself
    k: int = 10  # leading directions of each change, at least 1
    merged_rank: int | None = None  # of the sum, at least 1
    models: tuple[str, ...] = ()  # their names
    methods: tuple[str, ...] = ()  # of each, where some are adapters and no LoRA; "" for others
    ask: Ask = field(default_factory=Anew)

    def __post_init__(self) -> None:
        if self.merged_rank is not None and self.merged_rank < 1:
            raise UsageError(f"--merged-rank {self.merged_rank} is too small. Expected at least 1.")

    def parts(self, views: Mapping[str, View]) -> Sequence[tuple[str, Analyzer[Any]]]:
        """Return what measures each change."""
        return [(role, self.diff) for role in views]

    def asking(self, ask: Ask) -> "Together":
        """Return the same where what is known of a change is not measured again."""
        return replace(self, ask=ask)

    def cost(self, *views: View) -> Work:
        """Passes over the entries, products of factors, and leading directions."""
        count, (rows, cols) = len(views), (views[0].rows, views[0].cols)
        few = count * truncation_cost(rows, cols, self.k)
        if self.merged_rank is not None:
            few += truncation_cost(rows, cols, self.merged_rank)
        return self._passes(views) + Work(products=CLOSELY * few * DOUBLE)

    def _passes(self, views: Sequence[View]) -> Work:
        return Work(passes=PASSES * len(views) * views[0].rows * views[0].cols * ENTRY)

    def beside(self, views: Mapping[str, View], *, factors: bool) -> Work:
        """Return what comparing the changes takes; one alone is compared with none."""
        found = tuple(views.values())
        if factors or not (len(found) > 1 or self.merged_rank):
            return self._passes(found)
        return self.cost(*found)

    def memory(self, *views: View) -> int:
        """What measuring one pair takes, or the largest of its directions and the sum's."""
        rows, cols = views[0].rows, views[0].cols
        most = max(self.k, self.merged_rank or 0)
        own = 4 * rows * cols + truncation_memory(rows, cols, most) \
            + 16 * len(views) * (rows + cols) * most  # fmt: skip
        return max(own, *(self.diff.memory(view) for view in views))

    def measure(self, subject: Mapping[str, Pair]) -> Measurement:
        """Return what became of the matrix in each model, and how these changes compare."""
        told, arrays = each_of(self.ask, self.diff, subject)
        shared: dict[int, Tensor] = {}
        updates = {
            int(role): Update.of(pair, shared)
            for one, (role, pair) in zip(told, subject.items(), strict=True)
            if one["delta_norm"]
        }
        ranks = {int(role): self._directions(one) for role, one in
                 zip(subject, told, strict=True)}  # fmt: skip
        values: dict[str, Value] = dict.fromkeys(KEYS) | {"updates": told}
        values["changed_by"] = len(updates)
        if updates:
            own, more = self._together(updates, ranks)
            values, arrays = values | own, arrays | more
        return Measurement(values, arrays=arrays)

    def _together(
        self, updates: Mapping[int, Update], ranks: Mapping[int, int]
    ) -> tuple[dict[str, Value], dict[str, Tensor]]:
        some = list(updates.values())
        shape = some[0].shape
        entries = entries_of([one.rows for one in some], some[0].base, shape)
        gram = entries.gram
        for i, j in itertools.combinations_with_replacement(range(len(some)), 2):
            mine, other = some[i].factors, some[j].factors
            if mine is not None and other is not None:
                gram[i, j] = gram[j, i] = inner_product(mine, other)
        rounding = torch.tensor([one.rounding() for one in some], dtype=torch.float64)
        norms = gram.diagonal().sqrt()
        pairs = self._pairs(updates, ranks, related(gram, entries.spread, rounding, entries.along))
        energy = float(gram.diagonal().sum())
        values: dict[str, Value] = {
            "pairs": pairs,
            "energy_ratio": max(float(gram.sum()), 0.0) / energy,
            "sign_conflict": entries.conflicts / entries.shared if entries.shared else None,
            "sign_conflict_chance": entries.expected / entries.shared if entries.shared else None,
            "sign_conflict_weight": entries.against / entries.weight if entries.shared else None,
        }
        arrays = {
            "numbers": torch.tensor(list(updates)), "gram": gram, "spread": entries.spread,
            "rounding": rounding, "along": entries.along,
            "coded": torch.tensor([one.coded for one in some]),
            "signs": torch.tensor([entries.shared, entries.conflicts, entries.expected,
                                   entries.weight, entries.against], dtype=torch.float64),
        }  # fmt: skip
        if self.merged_rank is not None:
            kept = self._merged(some, self.merged_rank)
            inside = [float(one.along(kept.left, kept.right).square().sum()) for one in some]
            rests = [float(norm) ** 2 - part for norm, part in zip(norms, inside, strict=True)]
            lost = [rest if rest > ROUNDING * float(norm) ** 2 else 0.0
                    for norm, rest in zip(norms, rests, strict=True)]  # fmt: skip
            missed = max(kept.energy - kept.kept, 0.0)
            arrays["lost"] = torch.tensor([*lost, missed, kept.energy], dtype=torch.float64)
            values["merged_loss"] = math.sqrt(missed / kept.energy) if kept.energy else 0.0
        return values, arrays

    def _pairs(
        self,
        updates: Mapping[int, Update],
        ranks: Mapping[int, int],
        cosines: Mapping[tuple[int, int], Mapping[str, Value]],
    ) -> list[Mapping[str, Value]]:
        """Return what each pair of changes has in common."""
        numbers = list(updates)
        leading = [_leading(one, ranks[number]) for number, one in updates.items()] \
            if len(numbers) > 1 else []  # fmt: skip
        told: list[Mapping[str, Value]] = []
        for (i, j), cosine in cosines.items():
            shares, chances = overlap(leading[i], leading[j])
            left, right = shares or (None, None)
            told.append({
                "a": numbers[i], "b": numbers[j], **cosine,
                "overlap_left": left, "overlap_left_chance": chances[0],
                "overlap_right": right, "overlap_right_chance": chances[1],
                "overlap_status": "undetermined" if shares is None else "ok",
            })  # fmt: skip
        return told

    def _directions(self, told: Mapping[str, Value]) -> int:
        """Return how many leading directions of a change count: none that rounding made."""
        rank = told.get("delta_rank")
        known = told.get("delta_kind") == "low rank" and isinstance(rank, int) and rank > 0
        return min(self.k, rank) if known and isinstance(rank, int) else self.k

    def _merged(self, some: Sequence[Update], rank: int) -> Leading:
        """Return the sum's leading directions: through factors where all are known by them."""
        factors = [one.factors for one in some]
        known = [one for one in factors if one is not None]
        if len(known) == len(some):
            left = torch.cat([one[0].double() for one in known], dim=1)
            return leading_of_factors(left, torch.cat([one[1].double() for one in known]), rank)
        total = next(one for one in some if one.factors is None).matrix()
        first = next(place for place, one in enumerate(some) if one.factors is None)
        for place, one in enumerate(some):
            if place != first:
                one.add_to(total)
        return leading_of_matrix(total, rank)

    def idle(self) -> list[str]:
        """Say which options do nothing; `k` is that of the subspaces too."""
        diff: Any = replace(self.diff, k=10)  # type: ignore[type-var]
        return list(diff.idle()) if isinstance(diff, Idling) else []

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Sum up over matrices, name the models, and say what follows."""
        names = self.models or tuple(
            str(1 + number) for number in range(1 + max(map(_last, rows), default=0))
        )
        marked, alone = self._each(rows, names)
        whole = whole_of(rows, names)
        summary: dict[str, object] = {
            "reading": reading_of(whole, alone, self.merged_rank),
            "matrices": len(rows),
            "changed": sum(bool(row.values["changed_by"]) for row in rows),
            "non_finite": sum(row.status == "non-finite" for row in rows),
            **whole.plain(alone),
        }
        if idle := self.idle():
            summary["notes"] = idle
        return [whole.row(row) for row in marked], summary

    def _each(
        self, rows: Sequence[Row], names: Sequence[str]
    ) -> tuple[list[Row], list[Mapping[str, Any]]]:
        """Conclude each model for itself, and take its marks back."""
        found: list[list[Mapping[str, Any]]] = [[] for _ in rows]
        summaries: list[Mapping[str, Any]] = []
        for number in range(len(names)):
            own, places = [], []
            for place, row in enumerate(rows):
                told = of_model(row, number)
                if told is not None:
                    own.append(told)
                    places.append(place)
            marked, summary = of_method(self.diff, self.methods, number).conclude(own)
            summaries.append(summary)
            for place, row in zip(places, marked, strict=True):
                found[place].append({"model": names[number], **row.values})
        return [
            row if row.values["updates"] is None
            else replace(row, values={**row.values, "updates": told})
            for row, told in zip(rows, found, strict=True)
        ], summaries  # fmt: skip


def _last(row: Row) -> int:
    told: Any = row.values["updates"] or ()
    return max((one["model"] for one in told), default=0)


def _leading(update: Update, k: int) -> Leading:
    if update.factors is not None:
        return leading_of_factors(*update.factors, k)
    return leading_of_matrix(update.matrix(), k)
