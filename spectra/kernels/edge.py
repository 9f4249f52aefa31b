"""The largest eigenvalue of W^T W or of its inverse, enclosed from a random Krylov space.

`counting` proves that no eigenvalue of A reaches a point, given how far the computed
relation A Q = Q T + (leaving the space) + F is from exact, as `relation` measures it. Here A is
W^T W, for W with no more columns than rows, or its inverse.

What has been reached bounds from the other side: sigma_1 >= ||W q|| / ||q|| and sigma_n <=
||W y|| / ||y||, in float64, for the leading Ritz vector.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import torch

from spectra.kernels.counting import Space, at_most, is_drowned
from spectra.kernels.lanczos import Lanczos, Ritz, gaussian
from spectra.kernels.linear_map import LinearMap
from spectra.kernels.relation import LEADING, Apply, Measured, guessed, shares

LEAST = 1e-7  # relative width of a bracket


@dataclass(frozen=True, slots=True)
class Settings:
    """How narrow an enclosure has to be, and how its space grows and is looked at."""

    tolerance: float = 1e-3  # relative width of the bracket
    guess: float = 2e-7  # rounding of the relation, relative to A, until it is measured
    ceiling: float = math.inf  # a root above which the caller has no use for the answer
    block: int = 24  # random columns; a width at which thin products are fast
    steps: int = 48
    dense: int = 8  # steps up to which each is looked at; every other one from there on
    measurements: int = 3  # in float64
    more: int = 24  # steps after a measurement that did not suffice
    narrow: int = 8  # random columns where the matrix is too small for many blocks
    small: int = 512  # sides up to which all singular values cost no more
    single: float = 1e3  # condition number up to which a float32 Gram matrix's factor may serve
    highest: float = 1e6  # and a float64 one's

    def grown(self, apply: Apply, of: LinearMap) -> Lanczos:
        """Return a space of A, a symmetric operator of as many columns, from a random start."""
        side = of.shape[1]
        block = min(self.block, max(side // self.block, self.narrow))
        steps = min(self.steps, side // block - 1)
        return Lanczos(apply, gaussian(side, block, of.device), steps)


class Outcome(Enum):
    """What became of an enclosure."""

    PROVEN = "no wider than asked for"
    SLOW = "the steps did not suffice"
    ROUNDED = "rounding alone exceeds what a proof allows"
    BEYOND = "above the ceiling, or not finite"


class Bracket(NamedTuple):
    """What a number that is not negative is proven to lie between."""

    low: float
    high: float

    @property
    def width(self) -> float:
        """Relative to the lower end."""
        return self.high / self.low - 1.0 if self.low > 0.0 else math.inf

    def times(self, scale: float) -> "Bracket":
        """Return the bracket of a multiple."""
        return Bracket(self.low * scale, self.high * scale)

    def inverse(self) -> "Bracket":
        """Return the bracket of the reciprocal."""
        return Bracket(1.0 / self.high, 1.0 / self.low if self.low > 0.0 else math.inf)


UNKNOWN = Bracket(0.0, math.inf)
SETTINGS = Settings()


def enclosed(
    apply: Apply,
    of: LinearMap,
    measure: Callable[[Lanczos, Ritz], Measured],
    settings: Settings = SETTINGS,
) -> tuple[Outcome, Bracket]:
    """Enclose the root of the largest eigenvalue of A.

    Args:
        apply: About A, on blocks of float64 vectors.
        of: W, rows >= cols.
        measure: Float64 products: `measured_above` or `measured_below` of W.
        settings: What is asked for.

    Returns:
        A bracket no wider than the tolerance, or as much narrower as the space can prove;
        `UNKNOWN` where the outcome is not `PROVEN`.
    """
    tolerance, krylov = settings.tolerance, settings.grown(apply, of)
    most, tries, top = krylov.most, 0, math.inf
    known = torch.full((LEADING + 1,), settings.guess, dtype=torch.float64)

    for ritz in krylov.looks(lambda steps: steps <= settings.dense or not steps % 2):
        top = math.sqrt(float(ritz.values[0]))
        if not 0.0 < top < settings.ceiling or krylov.steps > most:
            break
        guess = guessed(ritz, known * float(ritz.values[0]))
        space = Space(ritz, krylov.block, krylov.steps, guess)
        if not at_most(0, (top * (1.0 + 0.9 * tolerance)) ** 2, space):
            continue
        rounding, reached = measure(krylov, ritz)
        measured = space._replace(rounding=rounding)
        found = _narrowest(top, reached, tolerance, measured)
        if found.low and krylov.orthonormal():
            return Outcome.PROVEN, found
        tries += 1
        known = (rounding(top * top) / shares(ritz))[: LEADING + 1] / top**2
        drowned = is_drowned((reached * (1.0 + tolerance)) ** 2, measured)
        if drowned or tries == settings.measurements:
            return Outcome.ROUNDED, UNKNOWN
        most = min(most, krylov.steps + settings.more)
    if not (krylov.finite and 0.0 < top < settings.ceiling):
        return Outcome.BEYOND, UNKNOWN
    # Where the steps were thought to suffice before products in float64 measured them.
    return Outcome.ROUNDED if tries else Outcome.SLOW, UNKNOWN


def _narrowest(top: float, reached: float, tolerance: float, space: Space) -> Bracket:
    """Return the narrowest bracket that can be proven, within a factor of two."""
    found, reach = UNKNOWN, 0.999 * tolerance  # no wider, when it is scaled or turned over
    while reach > LEAST:
        high = reached * (1.0 + reach)
        if high <= top or not at_most(0, high * high, space):
            break
        found = Bracket(reached, high)
        reach /= 2.0
    return found
