"""The two ends of a spectrum, enclosed from random Krylov spaces.

The largest eigenvalue of A, which is W^T W, for W with no more columns than rows, or its inverse:
`counting` proves that none reaches a point, given how far the computed relation
A Q = Q T + (leaving the space) + F is from exact, as `relation` measures it. What has been reached
bounds from the other side: sigma_1 >= ||W q|| / ||q|| and sigma_n <= ||W y|| / ||y||, in float64,
for the leading Ritz vector.

The smallest singular value of W besides by what G = W^T W is beside a few vectors. Let V be
orthonormal, H = V^T G V and R = G V - V H, and let z^T G z >= tau |z|^2 for all z orthogonal to V.
Then x^T G x of any x = V a + z is no less than that of the small matrix

    [ H    T^T  ]
    [ T   tau I ],    T^T T = R^T R,

so that its smallest eigenvalue bounds that of G from below, and that of H from above. The
error is about |R v|^2 / (tau - lambda): V need not have converged.

That G is no less than tau beside V follows from a Cholesky factor L of G + shift V V^T - theta I,
made in float32: what it exists for is L L^T, which is positive, and G + shift V V^T - theta I -
L L^T =: E has a norm that products in float64 bound, so tau = theta - ||E||. Of the leading
eigenvector u of E, E^p Omega holds ||E||^p (u^T Omega), and u^T Omega of a Gaussian block is
longer than `gaussian_floor` but for its failure: p = 1 is enough unless ||E|| matters, then p = 2
comes closer. No factorisation is trusted.

Source:
    Parlett 1998, The Symmetric Eigenvalue Problem, sections 10.3 (Weyl) and 11.7 (Kato, Temple).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import NamedTuple

from jaxtyping import Float

from spectra.deferred import Tensor, torch
from spectra.kernels.counting import Space, at_most, gaussian_floor, is_drowned
from spectra.kernels.inverse import cholesky, gram_solve
from spectra.kernels.lanczos import Lanczos, Ritz, gaussian
from spectra.kernels.linear_map import LinearMap
from spectra.kernels.relation import LEADING, Apply, Measured, guessed, shares
from spectra.kernels.work import BOUNDED

LEAST = 1e-7  # relative width of a bracket
FIRST = 6  # steps before the first look
PLACE = 0.6  # of the way from the first to the last of the leading Ritz values: theta
LIFTED = 4.0  # shift, in theta
PROMISED = 0.3  # of the width asked for that the recurrence has to promise


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
    small: int = BOUNDED  # sides up to which all singular values cost no more
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


@dataclass(frozen=True, slots=True)
class GramMatrix:
    """W^T W in float32, and what it was made of."""

    of: LinearMap  # rows >= cols
    lower: Float[Tensor, "cols cols"]  # the lower half
    largest: float  # no less than the largest singular value of W

    def smallest(self, triangle: Float[Tensor, "cols cols"], settings: Settings) -> Bracket:
        """Enclose the smallest singular value of W by about a Cholesky factor.

        The ceiling is one of 1 / sigma_min. `UNKNOWN` where no bracket as narrow as asked for
        is proven.
        """
        krylov = settings.grown(partial(gram_solve, triangle), self.of)
        block, tries = krylov.block, 0
        for ritz in krylov.looks(lambda steps: steps >= FIRST):
            if not 0.0 < float(ritz.values[0]) < settings.ceiling**2:
                break
            if krylov.steps < krylov.most and not _promises(ritz, block, settings.tolerance):
                continue
            leading = ritz.coordinates[:, :block].to(krylov.basis)
            theta = float(_theta(ritz, block, settings.tolerance))
            found = self._bracket(krylov.mapped(leading), theta, settings.tolerance)
            tries += 1
            if found.width <= settings.tolerance:
                return found
            if tries == settings.measurements:
                break
        return UNKNOWN

    def _bracket(self, vectors: Float[Tensor, "cols c"], theta: float, tolerance: float) -> Bracket:
        # What the factor is made with and V are one space to the last bit.
        given = torch.linalg.qr(vectors).Q.to(self.lower.dtype)
        vectors = torch.linalg.qr(given.double()).Q
        lifted = self.lower.addmm(given, given.mT, alpha=LIFTED * theta)
        lifted.diagonal().sub_(theta)
        triangle = cholesky(lifted, overwrite=True)
        if triangle is None:
            return UNKNOWN
        rounding = 2.0 * self.of.rounding() * self.largest  # of W^T (W v), |v| = 1
        near = LinearMap(triangle, None, None, 1.0, self.of.norm, turned=True)
        given = given.double()

        def apart(block: Tensor, image: Tensor) -> Tensor:
            lift = LIFTED * theta * given @ (given.mT @ block) - theta * block
            missed: Tensor = image + lift - near.normal(block)[1]
            return missed

        start = gaussian(len(vectors), vectors.shape[1], self.of.device)
        both = self.of.normal(torch.cat([start, vectors], dim=1))
        (_, image), (seen, back) = (part.split(start.shape[1], dim=1) for part in both)
        floor, shown = gaussian_floor(start.shape[1], 0), apart(start, seen)
        # norm^p * floor is at most what was reached and norm times the rounding of the first.
        first = 2.0 * rounding * float(start.norm()) / floor
        tau = theta - first - float(torch.linalg.matrix_norm(shown, 2)) / floor
        found = _schur(vectors, image, back, tau, rounding)
        if found.width > tolerance:
            error = 2.0 * rounding * float(shown.norm())
            shown = apart(shown, self.of.normal(shown)[1])
            reached = float(torch.linalg.matrix_norm(shown, 2)) + error
            tau = theta - first - math.sqrt(reached / floor)
            found = _schur(vectors, image, back, tau, rounding)
        return found


def _schur(
    vectors: Float[Tensor, "cols c"],
    image: Float[Tensor, "rows c"],
    back: Float[Tensor, "cols c"],
    tau: float,
    rounding: float,
) -> Bracket:
    """Return the bracket of sigma_min from V, W V and W^T W V and what W^T W is beside V."""
    count = vectors.shape[1]
    within = image.mT @ image
    out = torch.linalg.qr(back - vectors @ within, mode="r").R
    small = torch.zeros(2 * count, 2 * count, dtype=within.dtype)
    small[:count, :count], small[count:, :count] = within, out
    small[:count, count:] = out.mT
    small.diagonal()[count:] = tau
    if not bool(small.isfinite().all()):
        return UNKNOWN
    own = 2.0 * math.sqrt(count) * rounding
    low = float(torch.linalg.eigvalsh(small)[0]) - own
    high = float(torch.linalg.eigvalsh(within.cpu())[0]) + own
    return Bracket(math.sqrt(max(low, 0.0)), math.sqrt(high))


def _theta(ritz: Ritz, count: int, tolerance: float) -> Tensor:
    """Return what is tried as tau: between the leading Ritz values, below all of a cluster."""
    first, last = 1.0 / ritz.values[0], 1.0 / ritz.values[count - 1]
    return first * (1.0 - PROMISED * tolerance) + PLACE * (last - first)


def _promises(ritz: Ritz, count: int, tolerance: float) -> bool:
    """Say whether the recurrence, taken at its word, leaves a bracket narrow enough."""
    values, theta = 1.0 / ritz.values[:count], _theta(ritz, count, tolerance)
    # The residuals are those of the inverse, one step later.
    lost = (ritz.residual[:count] * values.square()).square() / (theta - values)
    wanted = 2.0 * PROMISED * tolerance * values[0] + values - values[0]
    return bool((lost <= wanted)[values < theta].all())
