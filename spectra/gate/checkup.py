"""Everything that rules need of one matrix, from one reading of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from spectra.analyzers import Row, Spectrum
from spectra.analyzers.analyzer import Summary
from spectra.analyzers.row import Measurement, Value
from spectra.analyzers.soundness import Soundness
from spectra.kernels.gaussian import kappa_null
from spectra.matrices import Matrix, View
from spectra.words import VECTOR

SHARES = ("kappa_null", "kappa_excess", "effective_share", "resolved_share")


@dataclass(frozen=True, slots=True)
class Checkup:
    """Soundness of every tensor and, where asked for, the spectrum of every matrix."""

    name: ClassVar[str] = "check"
    keys: ClassVar[tuple[str, ...]] = (*Soundness.keys, *Spectrum.keys, *SHARES)

    spectrum: bool = True
    sound: Soundness = field(default_factory=Soundness)
    full: Spectrum = field(default_factory=Spectrum)

    def cost(self, view: View) -> float:
        """A pass, and a spectrum where there is one."""
        own = self.sound.cost(view)
        return own + self.full.cost(view) if self._decomposes(view) else own

    def memory(self, view: View) -> int:
        """The larger of the two."""
        own = self.sound.memory(view)
        return max(own, self.full.memory(view)) if self._decomposes(view) else own

    def measure(self, matrix: Matrix) -> Measurement:
        """Return both; of a matrix that holds NaN or Inf, soundness alone."""
        found = dict(self.sound.measure(matrix).values)
        if found["nan"] or found["inf"]:
            return Measurement(found, "non-finite")
        if not self._decomposes(matrix.view):
            return Measurement(found)
        spectrum = self.full.measure(matrix)
        found |= spectrum.values
        found |= _compared(spectrum.values, matrix.view)
        return Measurement(found, spectrum.status)

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Nothing: rules conclude."""
        return rows, {}

    def _decomposes(self, view: View) -> bool:
        """Say whether a spectrum is asked for."""
        return self.spectrum and view.role.kind != VECTOR


def _compared(values: object, view: View) -> dict[str, Value]:
    """Return kappa and ranks beside what a matrix of this shape can have."""
    assert isinstance(values, dict)  # noqa: S101 - Spectrum's own
    null, full = kappa_null(view.rows, view.cols), min(view.rows, view.cols)
    kappa = values["kappa"]
    return {
        "kappa_null": null,
        "kappa_excess": None if kappa is None else kappa / null,
        "effective_share": values["effective_rank"] / full,
        "resolved_share": values["resolved_rank"] / full,
    }
