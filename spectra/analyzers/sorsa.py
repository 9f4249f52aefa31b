"""How far all singular triplets of a matrix moved, beside what rounding it moves."""

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from spectra.analyzers.analyzer import Pairs, Summary, Takes
from spectra.analyzers.row import Measurement, Row
from spectra.deferred import Tensor, torch
from spectra.kernels.rounding import GRIDS, STORED, Grid, grid_of
from spectra.kernels.triplets import (
    Drift,
    Triplets,
    assignment_cost,
    drift,
    triplets,
    triplets_cost,
    triplets_memory,
)
from spectra.kernels.work import DOUBLE, Work
from spectra.matrices import Pair, View
from spectra.matrices.pair import widened
from spectra.text import counted

KEYS = (
    "sorsa_delta_sigma", "sorsa_delta_d", "matched_delta_d", "sorsa_tied", "noise_delta_d",
    "noise_matched_d", "noise_grid",
)  # fmt: skip
SEED = 20240900055

Shared = MutableMapping[str, Triplets | Drift]
"""What pairs of one base have in common: its triplets, and what rounding to a grid moves."""


@dataclass(frozen=True, slots=True)
class Sorsa:
    """SORSA's two measures, by index as published and by the best pairing; and their noise.

    Noise is what rounding the base to the grid that the coarser of both lies on moves: where it is
    rounded already, uniform noise of half a step, seeded.

    Source:
        Cao and Song 2024, arXiv:2409.00055.
    """

    name: ClassVar[str] = "sorsa"
    version: ClassVar[int] = 1
    takes: ClassVar[Takes] = Pairs()
    keys: ClassVar[tuple[str, ...]] = KEYS
    concluding: ClassVar[frozenset[str]] = frozenset({"shared"})

    shared: Shared | None = None  # None: it decomposes the base itself

    def cost(self, view: View) -> Work:
        """A decomposition of the tuned matrix; of one alone those of base and rounding besides."""
        times = 1 if self.shared is not None else 3
        each, pairing = triplets_cost(view.rows, view.cols), assignment_cost(view.rows, view.cols)
        return Work(
            decompositions=times * each * DOUBLE,
            products=(1 if times == 1 else 2) * pairing * DOUBLE,
        )

    def memory(self, view: View) -> int:
        """The base's triplets and those of one more."""
        return triplets_memory(view.rows, view.cols)

    def measure(self, pair: Pair) -> Measurement:
        """Return the measures; a matrix that is what it was has none of noise."""
        tuned = pair.tuned
        if tuned is None or (isinstance(tuned, Tensor) and torch.equal(tuned, pair.base)):
            return Measurement(dict.fromkeys(KEYS) | dict.fromkeys(KEYS[:4], 0))
        known: Shared = {} if self.shared is None else self.shared
        base = known.get("base")
        if not isinstance(base, Triplets):
            base = known["base"] = triplets(widened(pair.base))
        found = drift(base, triplets(pair.tuned_exact()))
        grid = _grid(pair)
        noise = known.get(grid.name)
        if not isinstance(noise, Drift):
            noise = known[grid.name] = drift(base, triplets(_rounded(widened(pair.base), grid)))
        return Measurement({
            "sorsa_delta_sigma": found.sigma, "sorsa_delta_d": found.directions,
            "matched_delta_d": found.matched, "sorsa_tied": found.tied,
            "noise_delta_d": noise.directions, "noise_matched_d": noise.matched,
            "noise_grid": grid.name,
        })  # fmt: skip

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        """Count."""
        return rows, {"reading": f"{counted(len(rows), 'matrix', 'matrices')}."}


def _grid(pair: Pair) -> Grid:
    """Return the coarser of the grids of both sides; of an adapter's, that of the base."""
    own = _of(pair.base)
    if not isinstance(pair.tuned, Tensor) or pair.formed:
        return own
    return min(own, _of(pair.tuned), key=GRIDS.index)


def _of(values: Tensor) -> Grid:
    wide = widened(values)
    return grid_of(wide, STORED.get(str(values.dtype), STORED[str(wide.dtype)]))


def _rounded(base: Tensor, grid: Grid) -> Tensor:
    """Return the base rounded to a grid; one that lies on it, with as much noise."""
    wide = base.cpu().double()
    rounded = grid.rounded(wide)
    if not torch.equal(rounded, wide):
        return rounded
    noise = torch.rand(wide.shape, generator=torch.Generator().manual_seed(SEED),
                       dtype=torch.float64)  # fmt: skip
    return wide + (noise - 0.5) * grid.spacing(wide)
