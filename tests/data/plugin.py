"""A command from elsewhere: how evenly the entries of a matrix carry its energy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from spectra_cli import options

import spectra
from spectra.analyzers import Row
from spectra.analyzers.analyzer import Each, Summary, Takes
from spectra.analyzers.row import Measurement
from spectra.matrices import Matrix, View


@dataclass(frozen=True, slots=True)
class Evenness:
    """Mean |entry| over the root mean square: 1 where all are equally large."""

    name: ClassVar[str] = "evenness"
    version: ClassVar[int] = 1
    takes: ClassVar[Takes] = Each()
    keys: ClassVar[tuple[str, ...]] = ("evenness",)

    def cost(self, *views: View) -> float:
        """Two passes."""
        return 2.0 * views[0].rows * views[0].cols

    def memory(self, *views: View) -> int:
        """The values."""
        return 4 * views[0].rows * views[0].cols

    def measure(self, subject: Matrix) -> Measurement:
        """Return the share."""
        values = subject.values.float()
        return Measurement({"evenness": float(values.abs().mean() / values.square().mean().sqrt())})

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Count."""
        return rows, {"reading": f"{len(rows)} matrices."}


def evenness(model: options.Model, *, common: options.Common) -> int:
    """Show how evenly entries carry the energy of every matrix.

    Example: spectra evenness all-MiniLM-L6-v2/
    """
    return common.run(
        lambda: spectra.measure.plan(Evenness(), common.open(model), selection=common.selection)
    )
