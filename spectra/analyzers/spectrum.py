"""The singular spectrum of a matrix and what it says."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from spectra.analyzers.analyzer import Each, Pairs, Summary, Takes, require_share
from spectra.analyzers.row import Measurement, Row, Value
from spectra.analyzers.storage import likely_roundoff
from spectra.checkpoint.entry import SMALLEST
from spectra.kernels.entries import sizes
from spectra.kernels.noise import heavy_tail, made_floor, noise_bulk, resolved_rank
from spectra.kernels.singular import singular_values
from spectra.kernels.summary import (
    condition_number,
    effective_rank,
    energy_rank,
    fit_power_law,
    frobenius,
    numerical_rank,
    stable_rank,
)
from spectra.kernels.work import CALL, ENTRY, Work, singular_values_memory, singular_values_work
from spectra.matrices import Matrix, Pair, View
from spectra.matrices.pair import widened
from spectra.numbers import number
from spectra.text import counted, listed

FEWEST = 10  # singular values that a power law is fitted to
PROFILE = 65  # values that a spectrum is drawn from where only its row is left
NAMED = 2  # matrices of zeros whose names are told


@dataclass(frozen=True, slots=True)
class Spectrum:
    """All singular values of one matrix, summarised."""

    name: ClassVar[str] = "spectrum"
    version: ClassVar[int] = 1
    takes: ClassVar[Takes] = Each()
    keys: ClassVar[tuple[str, ...]] = (
        "sigma_max", "sigma_min", "frobenius", "kappa", "stable_rank", "effective_rank",
        "energy_rank", "numerical_rank", "resolved_rank", "alpha", "alpha_xmin", "alpha_ks",
        "mp_edge", "spikes", "heavy_tail", "sigma_profile",
    )  # fmt: skip

    energy: float = 0.99  # share of sum sigma^2 that energy_rank keeps, in (0, 1]

    def __post_init__(self) -> None:
        require_share(self.energy)

    def cost(self, view: View) -> Work:
        """All singular values, a fit of their tail, and passes over the entries."""
        more = Work(passes=8.0 * view.rows * view.cols * ENTRY, calls=4.0 * CALL)
        return singular_values_work(view.rows, view.cols) + more

    def memory(self, view: View) -> int:
        """The values and what their decomposition needs."""
        return singular_values_memory(view.rows, view.cols)

    def measure(self, matrix: Matrix) -> Measurement:
        """Return the spectrum's keys; `sigma` among the arrays."""
        view, values = matrix.view, matrix.values
        there = singular_values(values)
        sigma = there.cpu()  # once: what follows takes many numbers out of it
        entries = sizes(values)
        bulk = noise_bulk(sigma, *entries.filled)
        epsilon = computed_epsilon(values)
        lost = likely_roundoff(matrix), SMALLEST.get(view.entry.dtype, 0.0)
        rank = resolved_rank(values, entries, sigma, *lost)
        fit = None
        if rank >= FEWEST and float(sigma[0] - sigma[rank - 1]) > made_floor(entries, *lost):
            fit = fit_power_law((there[:rank] / there[0]).square())  # squares of 1e200 overflow
        if fit and not math.isfinite(fit.alpha):  # of values too small beside the largest
            fit = None
        kappa = condition_number(sigma)
        singular = float(sigma[-1]) == 0.0
        found: dict[str, Value] = {
            "sigma_max": float(sigma[0]),
            "sigma_min": float(sigma[-1]),
            "frobenius": frobenius(sigma),
            "kappa": None if singular else kappa,
            "stable_rank": stable_rank(sigma),
            "effective_rank": effective_rank(sigma),
            "energy_rank": energy_rank(sigma, self.energy),
            "numerical_rank": numerical_rank(sigma, max(view.rows, view.cols), epsilon),
            "resolved_rank": rank,
            "alpha": fit.alpha if fit else None,
            "alpha_xmin": fit.xmin * float(sigma[0]) * float(sigma[0]) if fit else None,
            "alpha_ks": fit.distance if fit else None,
            "mp_edge": bulk.edge if bulk else None,
            "spikes": bulk.spikes if bulk else None,
            "heavy_tail": heavy_tail(entries, sigma),
            "sigma_profile": sigma_profile(sigma),
        }
        return Measurement(found, "singular" if singular else "ok", {"sigma": sigma})

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Count, and say in one sentence how the spectra look."""
        parameters = sum(row.place.numel for row in rows)
        measured = [row for row in rows if row.number("sigma_max") is not None]
        summary = {
            "reading": _reading(measured, len(rows), parameters),
            "matrices": len(rows),
            "parameters": parameters,
            "non_finite": sum(row.status == "non-finite" for row in rows),
        }
        return rows, summary


@dataclass(frozen=True, slots=True)
class TunedSpectrum:
    """All singular values of what an adapter makes of each matrix of its base."""

    name: ClassVar[str] = Spectrum.name
    version: ClassVar[int] = Spectrum.version
    takes: ClassVar[Takes] = Pairs()
    keys: ClassVar[tuple[str, ...]] = Spectrum.keys

    energy: float = 0.99  # as of `Spectrum`

    def __post_init__(self) -> None:
        require_share(self.energy)

    def cost(self, view: View) -> Work:
        """That of the base's."""
        return Spectrum(self.energy).cost(view)

    def memory(self, view: View) -> int:
        """That of the base's, and the tuned values, in float64 where an update is added."""
        return Spectrum(self.energy).memory(view) + 12 * view.rows * view.cols

    def measure(self, pair: Pair) -> Measurement:
        """Return the spectrum's keys of the tuned matrix, which nothing rounded but float32."""
        tuned = pair.tuned_exact().to(widened(pair.base).dtype)
        return Spectrum(self.energy).measure(Matrix(pair.view, tuned))

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Count, and say in one sentence how the spectra look."""
        return Spectrum(self.energy).conclude(rows)


def _reading(rows: Sequence[Row], count: int, parameters: int) -> str:
    if not rows:
        return "No matrix could be measured."
    text = f"{counted(count, 'matrix', 'matrices')}, {counted(parameters, 'parameter')}."
    largest = max(rows, key=lambda row: row.number("sigma_max") or 0.0)
    text += f" Largest sigma {number(largest.number('sigma_max') or 0.0)} in {largest.matrix}."
    alphas = [alpha for row in rows if (alpha := row.number("alpha")) is not None]
    if alphas:
        middle = float(torch.tensor(alphas, dtype=torch.float64).quantile(0.5))
        text += f" Median alpha {number(middle)}."
    text += _lost(rows)
    heavy = sum(row.values.get("heavy_tail") is True for row in rows)
    if heavy:
        have = counted(heavy, "matrix has", "matrices have")
        text += f" {have} entries of heavy tails: spikes there may be single entries or rows."
    return text


def _lost(rows: Sequence[Row]) -> str:
    """Say which matrices are zero, and which have half their rank at most above rounding."""
    zero = [row for row in rows if not row.number("sigma_max")]
    text = ""
    if zero:
        many = counted(len(zero), "matrix is", "matrices are")
        text += f" {many} 0 in every entry: {listed([row.matrix for row in zero[:NAMED]])}"
        text += f" and {len(zero) - NAMED:,} more." if len(zero) > NAMED else "."
    few = [row for row in rows if 0.0 < 2.0 * (row.number("resolved_rank") or 0.0) < _full(row)]
    if few:
        text += (
            f" {counted(len(few), 'matrix has', 'matrices have')} fewer than half of "
            f"{'its' if len(few) == 1 else 'their'} directions above rounding: {few[0].matrix} "
            f"{int(few[0].number('resolved_rank') or 0):,} of {_full(few[0]):,}."
        )
    return text


def _full(row: Row) -> int:
    return min(row.place.rows, row.place.cols)


def sigma_profile(sigma: torch.Tensor) -> list[float]:
    """Return sigma at 65 evenly spaced ranks, or all of them where there are fewer.

    Args:
        sigma: Descending singular values.

    Returns:
        Of r values those at index round(i (r - 1) / 64), i = 0 to 64, in six digits: no fewer
        than the values themselves have.
    """
    count = len(sigma)
    if count <= PROFILE:
        ranks = list(range(count))
    else:
        steps = PROFILE - 1
        ranks = [(2 * i * (count - 1) + steps) // (2 * steps) for i in range(PROFILE)]
    return [float(f"{value:.6g}") for value in sigma[ranks].tolist()]


def computed_epsilon(values: torch.Tensor) -> float:
    """Return machine epsilon of the dtype a rank is judged in.

    Float64 for tensors stored so, float32 for all others. LAPACK's convention means
    the arithmetic's epsilon; that of bfloat16 would give `max(m, n) * eps > 1` for
    every side over 128 and so rank 0.
    """
    return min(torch.finfo(values.dtype).eps, torch.finfo(torch.float32).eps)
