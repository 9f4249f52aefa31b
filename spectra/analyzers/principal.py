"""Which entries of a weight to train: those that are largest in a low-rank approximation of it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from spectra.analyzers.analyzer import Each, Pairs, Summary, Takes
from spectra.analyzers.row import Measurement, Row, Value
from spectra.analyzers.started import drawn
from spectra.analyzers.storage import likely_roundoff
from spectra.deferred import Tensor, torch
from spectra.errors import UsageError
from spectra.kernels.components import Which, components, components_memory, components_work
from spectra.kernels.noise import mean_rounding_floor
from spectra.kernels.selected import largest_entries, product_sizes
from spectra.kernels.work import DOUBLE, ENTRY, Work
from spectra.matrices import Matrix, Pair, View
from spectra.matrices.pair import widened
from spectra.numbers import percent
from spectra.text import counted
from spectra.words import Filter, MaskForm

RANK = 128  # as LIFT's script has it
FILTERS: Final[Mapping[Filter, str]] = {
    "largest": "largest singular directions", "smallest": "smallest singular directions",
    "hybrid": "outermost singular directions, half from either end",
    "random": "drawn singular directions",
}  # fmt: skip
"""What approximates a weight, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """The k largest |entries| of the approximation of W by some of its singular directions.

    k = min((m + n) rank, m n), as many as a LoRA of that rank has, or a share of all.

    Source:
        Liu et al. 2025, arXiv:2506.00772 (LIFT), and its `sparseAdam.py`; Bhardwaj et al. 2024,
        arXiv:2406.13175 (SHiRA).
    """

    name: ClassVar[str] = "lowrank_mask"
    version: ClassVar[int] = 1
    keys: ClassVar[tuple[str, ...]] = (
        "mask_entries", "mask_density", "mask_overlap", "mask_ties", "chosen_share", "chosen_gap",
        "floor", "determined", "decided_by", "delta_norm", "update_share", "update_largest",
        "update_best",
    )  # fmt: skip

    rank: int = RANK  # of the LoRA that has as many parameters
    density: float | None = None  # share of the entries, in place of it
    filter: Filter = "largest"  # which singular directions approximate W
    filter_rank: int = 128  # how many
    seed: int = 0  # of `random`
    form: MaskForm = "masks"
    compared: bool = False  # with what training made of the weights

    def __post_init__(self) -> None:
        for name in ("rank", "filter_rank"):
            if getattr(self, name) < 1:
                flag = name.replace("_", "-")
                raise UsageError(
                    f"--{flag} {getattr(self, name)} is too small. Expected at least 1."
                )
        if self.density is not None and not 0.0 < self.density <= 1.0:
            raise UsageError(
                f"--density {self.density!r} is no share. Expected above 0 and at most 1."
            )
        if self.density is not None and self.form == "shira":
            raise UsageError(
                "--density goes with no SHiRA adapter, of which each module has rank (m + n) "
                "entries. Expected --rank, or --form masks or indices."
            )

    @property
    def takes(self) -> Takes:
        """Matrices, or what became of them."""
        return Pairs() if self.compared else Each()

    def idle(self) -> Sequence[str]:
        """Say which settings do nothing."""
        unused = []
        if self.seed and self.filter != "random":
            unused.append("--seed does nothing without --filter random")
        if self.density is not None and self.rank != RANK:
            unused.append("--rank does nothing beside --density, which sets how many entries")
        return unused

    def entries_of(self, rows: int, cols: int) -> int:
        """Return k."""
        if self.density is not None:
            return max(round(self.density * rows * cols), 1)
        return min((rows + cols) * self.rank, rows * cols)

    def cost(self, view: View) -> Work:
        """Triplets, a product, and selections."""
        count = min(self.filter_rank, view.rows, view.cols)
        entries = view.rows * view.cols
        own = Work(products=2.0 * count * DOUBLE * entries, passes=60.0 * ENTRY * entries)
        return own + components_work(view.rows, view.cols, self._end, count)

    def memory(self, view: View) -> int:
        """The values, their triplets, and what is selected from."""
        count = min(self.filter_rank, view.rows, view.cols)
        wide = 2 if view.entry.dtype == "F64" else 1
        own = (60 if self.compared else 40) * view.rows * view.cols
        return own + wide * components_memory(view.rows, view.cols, count)

    def measure(self, subject: Matrix | Pair) -> Measurement:
        """Return the keys, and the mask as it is written."""
        view = subject.view
        values = subject.base if isinstance(subject, Pair) else subject.values
        matrix = Matrix(view, values)
        rank = min(self.filter_rank, view.rows, view.cols)
        found = components(values, self._which(view, rank), rank)
        count = self.entries_of(view.rows, view.cols)
        sizes = product_sizes(found.left * found.sigma, found.right.mT)
        mask, _, ties = largest_entries(sizes, count)
        del sizes
        plain = largest_entries(widened(values).abs(), count)[0]
        floor = mean_rounding_floor(
            math.sqrt(found.energy), view.rows, view.cols, likely_roundoff(matrix)
        )
        gap = found.gap if math.isfinite(found.gap) else None
        keys: dict[str, Value] = dict.fromkeys(self.keys) | {
            "mask_entries": count, "mask_density": count / (view.rows * view.cols),
            "mask_overlap": int((mask & plain).sum()) / count, "mask_ties": ties,
            "chosen_share": float(found.sigma.square().sum()) / found.energy
            if found.energy else 0.0,
            "chosen_gap": gap, "floor": floor, "determined": gap is None or gap > floor,
            "decided_by": found.decided_by,
        }  # fmt: skip
        if isinstance(subject, Pair):
            keys |= _shares(subject.delta(), mask, plain)
        return Measurement(keys, tensors={"mask": self._written(mask, view)})

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Say how many entries are chosen, and how much of a later update they hold."""
        known = [row for row in rows if row.status == "ok"]
        total = sum(row.place.rows * row.place.cols for row in known)
        held = sum(int(row.number("mask_entries") or 0) for row in known)
        told: dict[str, object] = {
            "matrices": len(rows), "non_finite": len(rows) - len(known), "mask_entries": held,
            "mask_density": held / total if total else 0.0,
            "mask_overlap": sum((row.number("mask_overlap") or 0.0)
                                * (row.number("mask_entries") or 0.0) for row in known)
            / max(held, 1),
            "undetermined": sum(row.values["determined"] is False for row in known),
            "tied": sum(bool(row.number("mask_ties")) for row in known),
        }  # fmt: skip
        changed = [row for row in known if row.number("update_share") is not None]
        energies = [(row.number("delta_norm") or 0.0) ** 2 for row in changed]
        for key in ("update_share", "update_largest", "update_best", "update_chance"):
            name = "mask_density" if key == "update_chance" else key
            parts = [(row.number(name) or 0.0) * energy
                     for row, energy in zip(changed, energies, strict=True)]  # fmt: skip
            told[key] = sum(parts) / sum(energies) if changed else None
        return rows, {"reading": self._reading(known, told), **told}

    def _reading(self, rows: Sequence[Row], told: Mapping[str, Any]) -> str:
        """Say it in sentences."""
        first = (
            f"{counted(len(rows), 'mask')} of {told['mask_entries']:,} entries, "
            f"{percent(told['mask_density'])} of these weights: the largest in what the "
            f"{self.filter_rank:,} {FILTERS[self.filter]} give. "
            f"{percent(told['mask_overlap'])} of them are among as many largest weights "
            f"({percent(told['mask_density'])} by chance)."
        )
        text = [first]
        if told["update_share"] is not None:
            text.append(
                f"They hold {percent(told['update_share'])} of the update's Σδ², as many largest "
                f"weights {percent(told['update_largest'])}, the best "
                f"{percent(told['update_best'])}, any {percent(told['update_chance'])}."
            )
        elif self.compared:
            text.append("Nothing of them was changed later.")
        if told["undetermined"]:
            first = next(row.matrix for row in rows if row.values["determined"] is False)
            text.append(
                f"{counted(told['undetermined'], 'choice of directions is', 'choices are')} not "
                f"determined: the next σ lies nearer than what storing rounds off ({first})."
            )
        if told["tied"]:
            first = next(row.matrix for row in rows if row.number("mask_ties"))
            text.append(
                f"In {counted(told['tied'], 'mask')} entries tie at the cut, and those that lie "
                f"first are taken ({first})."
            )
        return " ".join(text)

    @property
    def _end(self) -> Which | None:
        ends: dict[Filter, Which] = {"largest": "largest", "smallest": "smallest"}
        return ends.get(self.filter)

    def _which(self, view: View, rank: int) -> Which | list[int]:
        if self._end is not None:
            return self._end
        short = min(view.rows, view.cols)
        if self.filter == "hybrid":  # half from either end, as the script cuts them
            first = rank // 2
            return [*range(first), *range(short - (rank - first), short)]
        return drawn(view.name, short, rank, self.seed)

    def _written(self, mask: Tensor, view: View) -> Tensor:
        """Return a mask as it lies in the stored tensor, or where its entries are: 2 x k."""
        stored = (mask.mT if view.part.transposed else mask).cpu()
        if self.form == "masks":
            return stored.contiguous()
        return stored.nonzero().to(torch.int32).mT.contiguous()


def _shares(delta: Tensor, mask: Tensor, plain: Tensor) -> dict[str, Value]:
    """Return how much of a change lies in the mask, under the largest weights, and at best."""
    squares = delta.double().square_()
    whole = float(squares.sum())
    if not whole:
        return {}
    best = largest_entries(delta.abs(), int(mask.sum()))[0]
    names = ("update_share", mask), ("update_largest", plain), ("update_best", best)
    return {
        "delta_norm": math.sqrt(whole),
        **{name: float(squares[where].sum()) / whole for name, where in names},
    }
