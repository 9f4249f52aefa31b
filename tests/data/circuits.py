"""A command from elsewhere: how much the matrices of one attention have in common."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from spectra_cli.options import Common, Model

import spectra
from spectra.analyzers.analyzer import PerLayer, Summary, Takes
from spectra.analyzers.row import Measurement, Row
from spectra.matrices import Matrix, View
from spectra.report import cells
from spectra.report.kinds import Kind
from spectra.report.table import Column

if TYPE_CHECKING:
    from torch import Tensor  # what is slow to load waits until something is measured


ROLES = ("attn.q", "attn.k", "attn.v", "attn.o")


@dataclass(frozen=True, slots=True)
class Circuits:
    """Share of what queries read that keys read too, and of what outputs write that values read."""

    name: ClassVar[str] = "circuits"
    version: ClassVar[int] = 1
    takes: ClassVar[Takes] = PerLayer(ROLES)
    keys: ClassVar[tuple[str, ...]] = ("qk", "vo")

    def cost(self, *views: View) -> float:
        """Two products."""
        return 4.0 * views[0].rows * views[0].rows * views[0].cols

    def memory(self, *views: View) -> int:
        """The values, and a product."""
        return 4 * sum(view.rows * view.cols for view in views) + 4 * views[0].rows ** 2

    def measure(self, subject: Mapping[str, Matrix]) -> Measurement:
        """Return both shares."""
        q, k, v, o = (
            subject[role].values.float() for role in ("attn.q", "attn.k", "attn.v", "attn.o")
        )
        return Measurement({"qk": shared(q, k.mT), "vo": shared(v, o)})

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Count."""
        return rows, {"reading": f"{len(rows)} attentions."}


def shared(left: "Tensor", right: "Tensor") -> float:
    """Return the norm of a product over the product of the norms."""
    return float((left @ right).norm() / (left.norm() * right.norm()))


def circuits(model: Model, *, common: Common) -> int:
    """Show how much the matrices of one attention have in common.

    Example: spectra circuits all-MiniLM-L6-v2/
    """
    plan = spectra.measure.plan
    return int(common.run(lambda: plan(Circuits(), common.open(model), selection=common.selection)))


KIND = Kind(
    "circuits",
    "Circuits of attention",
    columns=[Column(key, cell=cells.of(key)) for key in Circuits.keys],
)
