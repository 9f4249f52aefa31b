"""Everything that rules need of one matrix and its references, from one reading of each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from spectra.analyzers import Analyzer, Diff, Row, Spectrum, Width
from spectra.analyzers.analyzer import Anew, Ask, Each, Summary, Takes
from spectra.analyzers.metrics import DEFAULT as SPECTRUM
from spectra.analyzers.row import Measurement, Value
from spectra.analyzers.soundness import Soundness
from spectra.analyzers.tuned_spectrum import TunedSpectrum
from spectra.errors import NonFiniteError
from spectra.gate.merge import merged
from spectra.kernels.gaussian import kappa_null
from spectra.kernels.work import NO_WORK, Work
from spectra.matrices import Matrix, Pair, View
from spectra.matrices.pair import Product
from spectra.matrices.part import Part
from spectra.matrices.view import inner_of
from spectra.text import non_finite
from spectra.words import VECTOR

REPLAYING = 11 * 4
"""Bytes an entry that it takes to do a merge again: base, tuned, update, product and bounds."""

SHARES = ("kappa_null", "kappa_excess", "effective_share", "resolved_share")


@dataclass(frozen=True, slots=True)
class Checkup:
    """Soundness of every tensor, spectra where asked for, and how matrices compare.

    It gets tensors by side: of the `model` and its references (`base`, `baseline`, `proxy`), what
    the model and the baseline made of the base's (`change`, `earlier`), and what an adapter would
    (`meant`). A measurement's values are by side too, each with its `status`, `error` and
    `values`; `width` besides, the sigma_max that a proxy's is compared with.
    """

    name: ClassVar[str] = "check"
    version: ClassVar[int] = 5
    takes: ClassVar[Takes] = Each()
    products: ClassVar[bool] = True
    keys: ClassVar[tuple[str, ...]] = (*Soundness.keys, *SPECTRUM, *SHARES)
    concluding: ClassVar[frozenset[str]] = frozenset({"ask", "replays"})

    spectra: frozenset[str] = frozenset({"model"})  # sides of which one is asked for
    tuned: frozenset[str] = frozenset()  # comparisons of which one is: what an adapter makes
    diff: Diff | None = None  # how changes are measured
    replays: bool = False  # an adapter is looked for in the model
    width: Width | None = None  # how the model is compared with its proxy
    sound: Soundness = field(default_factory=Soundness)
    full: Spectrum = field(default_factory=Spectrum)
    together: TunedSpectrum = field(default_factory=TunedSpectrum)
    ask: Ask = field(default_factory=Anew)  # who measures spectra and comparisons

    def cost(self, view: View, *others: View) -> Work:
        """A pass and a spectrum of the first, and what comparing it with the others takes."""
        return self._own_cost(view) + (self.diff.cost(view) if self.diff and others else NO_WORK)

    def cost_of_factors(self, view: View, *others: View) -> Work:
        """The same, where an adapter's factors are the change."""
        change = self.diff.cost_of_factors(view) if self.diff and others else NO_WORK
        together = self.together.cost(view) if self.tuned and others else NO_WORK
        return self._own_cost(view) + change + together

    def _own_cost(self, view: View) -> Work:
        matrix = self.spectra and view.role.kind != VECTOR
        return self.sound.cost(view) + (self.full.cost(view) if matrix else NO_WORK)

    def memory_of_factors(self, *views: View) -> int:
        """The same: tensors are held whole for the other questions."""
        return self.memory(*views)

    def memory(self, *views: View) -> int:
        """The largest of all."""
        needs = [self.sound.memory(view) for view in views]
        needs += [4 * view.rows * view.cols for view in views if inner_of(view.entry) is not None]
        matrices = [view for view in views if view.role.kind != VECTOR]
        needs += [self.full.memory(view) for view in matrices if self.spectra]
        if len(views) > 1:
            needs += [self.diff.memory(view) for view in matrices if self.diff]
            needs += [self.together.memory(view) for view in matrices if self.tuned]
            needs += [REPLAYING * view.rows * view.cols for view in matrices if self.replays]
        return max(needs)

    def parts(self, views: Mapping[str, View]) -> Sequence[tuple[str, Analyzer[Any]]]:
        """Return what measures each side."""
        return [(side, one) for side, view in views.items() for one in self._parts(side, view)]

    def beside(self, views: Mapping[str, View], *, factors: bool) -> Work:  # noqa: ARG002 - as others take
        """Nothing worth telling."""
        return NO_WORK

    def _parts(self, side: str, view: View) -> Iterator[Analyzer[Any]]:
        if side == "proxy" and self.width is not None:
            yield self.width
        elif side in ("change", "earlier"):
            if self.diff is not None and view.role.kind != VECTOR:
                yield self.diff
            if side in self.tuned and view.role.kind != VECTOR:
                yield self.together
        elif side != "meant":
            yield self.sound
            if side in self.spectra and view.role.kind != VECTOR:
                yield self.full

    def asking(self, ask: Ask) -> "Checkup":
        """Return the same where spectra and comparisons that are known are not measured again."""
        return replace(self, ask=ask)

    def measure(self, subject: Mapping[str, Matrix | Product | Pair]) -> Measurement:
        """Measure every side that is there."""
        found: dict[str, Any] = {}
        for side, one in subject.items():
            if isinstance(one, Matrix | Product):
                found[side] = self._matrix(side, one)
            elif side != "meant" and one.view.role.kind != VECTOR and (self.diff or self.tuned):
                found[side] = self._pair(side, one)
        model, change, meant = (subject.get(side) for side in ("model", "change", "meant"))
        if isinstance(change, Pair) and isinstance(meant, Pair):
            found["meant"] = _told(merged(change, meant))
        if self.width is not None and isinstance(model, Matrix | Product):
            found["width"] = self._width(self.width, "model", model, found["model"])
        return Measurement(found)

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Nothing: rules conclude."""
        return rows, {}

    def _matrix(self, side: str, matrix: Matrix | Product) -> dict[str, Any]:
        if side == "proxy" and self.width is not None:
            return self._width(self.width, side, matrix, {})
        values = dict(self.sound.measure(_formed(matrix)).values)
        if values["nan"] or values["inf"]:
            nan, inf = (int(str(values[key])) for key in ("nan", "inf"))
            error = non_finite(nan, inf, values["first_non_finite"])
            return _told(values, "non-finite", error)
        if side not in self.spectra or matrix.view.role.kind == VECTOR:
            return _told(values)
        spectrum = self.ask(side, self.full, matrix)
        values |= spectrum.values
        values |= _compared(spectrum.values, matrix.view)
        return _told(values, spectrum.status)

    def _pair(self, side: str, pair: Pair) -> dict[str, Any]:
        asked = [self.diff] if self.diff is not None else []
        # Of what an adapter leaves as it was the base's own spectrum is none of its doing.
        spectra = side in self.tuned and pair.tuned is not None
        measuring = [*asked, *([self.together] if spectra else ())]
        try:
            found = [self.ask(side, one, pair) for one in measuring]
        except NonFiniteError as error:
            keys = [key for one in measuring for key in one.keys]
            return _not_finite(keys, error, pair.view)
        values = {key: value for one in found for key, value in one.values.items()}
        if spectra:
            values |= _compared(values, pair.view)
        return _told(values, next((one.status for one in found if one.status != "ok"), "ok"))

    def _width(
        self, width: Width, side: str, matrix: Matrix | Product, known: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return sigma_max, from the spectrum where there is one."""
        largest = known.get("values", {}).get("sigma_max")
        if largest is not None:
            return _told(dict.fromkeys(width.keys, largest))
        try:
            return _told(self.ask(side, width, _formed(matrix)).values)
        except NonFiniteError as error:
            return _not_finite(width.keys, error, matrix.view)


def _formed(matrix: Matrix | Product) -> Matrix:
    """Return a matrix with its entries."""
    return matrix if isinstance(matrix, Matrix) else Matrix(matrix.view, matrix.values)


def _told(
    values: Mapping[str, Any], status: str = "ok", error: str | None = None
) -> dict[str, Any]:
    return {"status": status, "error": error, "values": values}


def _not_finite(keys: Sequence[str], error: NonFiniteError, view: View) -> dict[str, Any]:
    place = "" if view.part == Part() else " of the matrix shown (row = output)"
    return _told(dict.fromkeys(keys), "non-finite", f"{error}{place}")


def _compared(values: Mapping[str, Any], view: View) -> dict[str, Value]:
    bound, kappa = values.get("rank_bound"), values["kappa"]
    full = bound or min(view.rows, view.cols)  # two factors leave room for no more
    null = None if bound else kappa_null(view.rows, view.cols)
    return {
        "kappa_null": null,
        "kappa_excess": None if kappa is None or null is None else kappa / null,
        "effective_share": values["effective_rank"] / full,
        "resolved_share": values["resolved_rank"] / full,
    }
