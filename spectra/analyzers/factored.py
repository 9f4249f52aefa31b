"""Low-rank updates cut to fewer directions: of one adapter, or of a weighted sum of several."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spectra.analyzers.analyzer import Factors, Summary, Takes
from spectra.analyzers.cut import DTYPES, Cutting, stored_factors
from spectra.analyzers.loss import concluded
from spectra.analyzers.row import Measurement, Row
from spectra.kernels.cores import core_cost, core_of
from spectra.matrices import Matrix, View

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
        return concluded(self, rows)


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
