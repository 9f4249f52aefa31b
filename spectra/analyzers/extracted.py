"""What fine-tuning changed in each matrix, by its leading singular directions alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from spectra.analyzers.analyzer import Pairs, Summary, Takes
from spectra.analyzers.cut import Cutting, leading_factors
from spectra.analyzers.delta import evidence_for, update_memory
from spectra.analyzers.evidence import Evidence
from spectra.analyzers.loss import concluded
from spectra.analyzers.row import Measurement, Row
from spectra.checkpoint.entry import torch_dtype
from spectra.deferred import Tensor
from spectra.errors import UsageError
from spectra.kernels.truncation import Count, truncation_cost, truncation_memory
from spectra.matrices import Pair, View

FULL = ("full rank", "scaled rows")
"""Kinds of change whose directions have no end, unless all of them stand above rounding and their
factors are smaller than the matrix: three of a router's four outputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extracted(Cutting):
    """D = W1 - W0 as B A, of each matrix whose update an adapter can hold.

    Source:
        Eckart and Young 1936; Yao et al. 2023, arXiv:2303.08302 (LoRC), where W0 is quantised.
    """

    name: ClassVar[str] = "lowrank_extract"
    version: ClassVar[int] = 1
    takes: ClassVar[Takes] = Pairs()
    keys: ClassVar[tuple[str, ...]] = (
        "rank_kept", "loss", "loss_least", "loss_spectral_low", "loss_spectral", "rounding",
        "delta_norm", "delta_sigma_max", "nbytes_before", "nbytes",
        "delta_rank", "delta_rank_status", "delta_kind",
    )  # fmt: skip
    ONE_OF: ClassVar[tuple[str, ...]] = (*Cutting.ONE_OF, "delta_rank")

    delta_rank: bool | None = None  # as many as stand above rounding
    measured: int | None = None  # directions of a matrix that are measured for a budget

    def __post_init__(self) -> None:
        # `super()` means another class where slots made this one anew.
        Cutting.__post_init__(self)
        if self.rank is None and all(getattr(self, name) is None for name in self.ONE_OF):
            raise UsageError(
                "an update of full rank has no end of directions. Expected --rank, --energy, "
                "--budget or --delta-rank."
            )

    @property
    def looked_at(self) -> int | None:
        """Directions of a matrix that are measured at most; None: as many as it takes."""
        return self.rank if self.budget is None else self.measured

    def cost(self, view: View) -> float:
        """A Krylov space of a few directions, or all of them."""
        return truncation_cost(view.rows, view.cols, self.looked_at)

    def memory(self, view: View) -> int:
        """Both matrices, the update, and what telling its directions takes beside it."""
        wide = 2 if view.entry.dtype == "F64" else 1
        sides = (12 if wide == 1 else 24) * view.rows * view.cols
        found = sides + wide * truncation_memory(view.rows, view.cols, self.looked_at)
        return max(found, sum(update_memory(view, full=False))) if self.delta_rank else found

    def measure(self, pair: Pair) -> Measurement:
        """Return the keys that no other matrix decides, and the directions that may be kept."""
        dtype = self.stored(pair.tuned_dtype)
        rows, cols = pair.view.rows, pair.view.cols
        values = dict.fromkeys(self.keys) | {
            "nbytes_before": pair.view.entry.nbytes,
            "nbytes": torch_dtype(dtype).itemsize * (rows + cols),  # of one direction, so far
        }
        count: Count = self._count
        if self.delta_rank:
            found = evidence_for(pair)
            values |= {"delta_kind": found.kind, "delta_rank": found.rank,
                       "delta_rank_status": "ok" if found.exact else "at least"}  # fmt: skip
            count = self._above(found, rows, cols)
        every = self.sv_cumulative is not None
        told, arrays, tensors = leading_factors(pair.delta(), count, dtype, every=every)
        return Measurement(values | told, arrays=arrays, tensors=tensors)

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Choose the ranks, and say what they lose; what has no rank to choose is held whole."""
        return concluded(self, rows, held=frozenset(map(id, filter(self._is_whole, rows))))

    def _is_whole(self, row: Row) -> bool:
        full = self.delta_rank and self.rank is None and row.values.get("delta_kind") in FULL
        return bool(full) and len(row.arrays.get("moved", ())) < 2  # no direction was kept

    def _above(self, found: Evidence, rows: int, cols: int) -> Count:
        """Return how many directions stand above rounding; none of those that have no end."""
        ends = found.exact and found.clear and found.rank * (rows + cols) < rows * cols
        rank = found.rank if found.kind not in FULL or ends else (self.rank or 0)
        rank = rank if self.rank is None else min(rank, self.rank)
        return lambda sigma, _: min(rank, len(sigma))

    def _count(self, sigma: Tensor, energy: float) -> int:
        """Return how many directions may be kept, whatever the other matrices are."""
        if self.budget is not None:
            return min(len(sigma), self.measured or len(sigma))
        return self.count(sigma, energy)
