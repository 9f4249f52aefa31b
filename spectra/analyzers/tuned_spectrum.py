"""The singular spectrum of what an adapter makes of each matrix of its base."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from spectra.analyzers.analyzer import Analyzer, Anew, Ask, Pairs, Summary, Takes
from spectra.analyzers.row import Measurement, Row
from spectra.analyzers.spectrum import Sigma, Spectrum
from spectra.kernels.work import Work
from spectra.matrices import Matrix, Pair, View
from spectra.matrices.pair import widened
from spectra.words import Preset


@dataclass(frozen=True, slots=True)
class TunedSigma:
    """The same of what an adapter makes of each matrix of its base."""

    name: ClassVar[str] = Sigma.name
    version: ClassVar[int] = Sigma.version
    takes: ClassVar[Takes] = Pairs()
    keys: ClassVar[tuple[str, ...]] = Sigma.keys

    shuffled: int | None = None  # as of `Sigma`

    def answered_by(self) -> Sequence[Analyzer[Any]]:
        """Return what is asked for most, whose rows hold the same."""
        return [] if self.shuffled is not None else [TunedSpectrum()]

    def cost(self, view: View) -> Work:
        """All singular values."""
        return Sigma(self.shuffled).cost(view)

    def memory(self, view: View) -> int:
        """That of the base's, and the tuned values, in float64 where an update is added."""
        return Sigma(self.shuffled).memory(view) + 12 * view.rows * view.cols

    def measure(self, pair: Pair) -> Measurement:
        """Return what `Sigma` does, of the tuned matrix."""
        made = pair.tuned_product() if self.shuffled is None else None
        return Sigma(self.shuffled).measure(made or _tuned(pair))

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Nothing: `TunedSpectrum` concludes."""
        return rows, {}


@dataclass(frozen=True, slots=True)
class TunedSpectrum:
    """All singular values of what an adapter makes of each matrix of its base."""

    name: ClassVar[str] = Spectrum.name
    version: ClassVar[int] = Spectrum.version
    takes: ClassVar[Takes] = Pairs()
    concluding: ClassVar[frozenset[str]] = Spectrum.concluding
    later: ClassVar[frozenset[str]] = Spectrum.later
    every: ClassVar[tuple[str, ...]] = Spectrum.every

    energy: float = 0.99  # these as of `Spectrum`
    metrics: str | None = None
    seed: int = 0
    preset: Preset | None = None
    select: str | None = None
    dct_rank: int | None = None
    ask: Ask = field(default_factory=Anew)

    def __post_init__(self) -> None:
        _ = self._alone  # which refuses what cannot be meant

    @property
    def _alone(self) -> Spectrum:
        return Spectrum(
            self.energy, self.metrics, self.seed, self.preset, self.select, self.dct_rank
        )

    @property
    def keys(self) -> tuple[str, ...]:
        """What is told."""
        return self._alone.keys

    def cost(self, view: View) -> Work:
        """That of the base's."""
        return self._alone.cost(view)

    def memory(self, view: View) -> int:
        """That of the base's, and the tuned values, in float64 where an update is added."""
        return self._alone.memory(view) + 12 * view.rows * view.cols

    def parts(self, views: Mapping[str, View]) -> Sequence[tuple[str, Analyzer[Any]]]:
        """Return who decomposes."""
        alone = self._alone.parts(views)
        return [(role, TunedSigma(one.shuffled)) for role, one in alone]

    def beside(self, views: Mapping[str, View], *, factors: bool) -> Work:
        """Return what passes and fits take."""
        return self._alone.beside(views, factors=factors)

    def asking(self, ask: Ask) -> "TunedSpectrum":
        """Return the same where singular values that are known are not measured again."""
        return replace(self, ask=ask)

    def measure(self, pair: Pair) -> Measurement:
        """Return the spectrum's keys of the tuned matrix, which nothing rounded but float32."""

        def sigma(seed: int | None) -> Measurement:
            return self.ask("", TunedSigma(seed), pair)

        return self._alone.told(pair.tuned_product() or _tuned(pair), sigma)

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Count, and say in one sentence how the spectra look."""
        return self._alone.conclude(rows)


def _tuned(pair: Pair) -> Matrix:
    """Return what became of the base's matrix."""
    return Matrix(pair.view, pair.tuned_exact().to(widened(pair.base).dtype))
