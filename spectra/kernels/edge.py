"""The largest eigenvalue of W^T W or of its inverse, enclosed from a random Krylov space.

`counting` proves that no eigenvalue of A reaches a point, given how far the computed
relation A Q = Q T + (leaving the space) + F is from exact, as `relation` measures it. Here A is
W^T W, for W with no more columns than rows, or its inverse.

What has been reached bounds from the other side: sigma_1 >= ||W q|| / ||q|| and sigma_n <=
||W y|| / ||y||, in float64, for the leading Ritz vector.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from spectra.kernels.counting import Space, at_most, is_drowned
from spectra.kernels.krylov import PROBES, Ritz, gaussian
from spectra.kernels.lanczos import Lanczos
from spectra.kernels.linear_map import LinearMap, normal
from spectra.kernels.relation import LEADING, Apply, Measure, Missed, lengths

BLOCK = 24  # random columns
STEPS = 48
FIRST = 2  # steps before the first look
TRIES = 3  # measurements in float64
MORE = 24  # steps after one that did not suffice
COARSE = 3.0  # ratio of the distances tried to see how far a space is
SHORTFALL = 0.5  # of the steps that seem to be missing: convergence gains speed
LEAST = 1e-7  # relative width of a bracket


class Bracket(NamedTuple):
    """What a positive number is proven to lie between."""

    low: float
    high: float

    def times(self, scale: float) -> "Bracket":
        """Return the bracket of a multiple."""
        return Bracket(self.low * scale, self.high * scale)


def enclosed(
    apply: Apply,
    of: LinearMap,
    tolerance: float,
    guess: float,
    measure: Measure,
    ceiling: float = math.inf,
) -> Bracket | None:
    """Enclose the root of the largest eigenvalue of A.

    Args:
        apply: About A, on blocks of float64 vectors.
        of: The map that A is made of, rows >= cols.
        tolerance: Relative width of the bracket.
        guess: Rounding of the relation, relative to A, until it is measured.
        measure: Float64 products; `measured_above` or `measured_below`.
        ceiling: A root above which the caller has no use for the answer.

    Returns:
        A bracket no wider than the tolerance, or as much narrower as the space can prove;
        None where it proves none, by slow convergence, rounding or overflow.
    """
    side = of.shape[1]
    most = min(STEPS, side // BLOCK - 1)
    krylov = Lanczos(apply, gaussian(side, BLOCK, of.device), most)
    look, tries, before = FIRST, 0, (0, 0.0)
    guessed = (guess, guess)
    while krylov.steps < most:
        krylov.step()
        if krylov.steps < min(look, most):
            continue
        if not bool(krylov.band.isfinite().all()):
            return None
        ritz = krylov.ritz()
        top = math.sqrt(float(ritz.values[0]))
        if not 0.0 < top < ceiling:
            return None
        space = Space(ritz, BLOCK, krylov.steps, _guessed(ritz, guessed))
        reach = _reach(top, tolerance, space)
        if reach > tolerance:
            missing = _missing_steps(before, (krylov.steps, reach), tolerance)
            before, look = (krylov.steps, reach), krylov.steps + missing
            continue
        seen = measure(krylov, ritz)
        measured = space._replace(rounding=seen.rounding)
        found = _narrowest(top, tolerance, seen, measured)
        if found is not None and _orthonormal(krylov):
            return found
        tries += 1
        relative = seen.rounding(top * top) / top**2
        guessed = float(relative[:LEADING].max()), float(relative[-1])
        if tries == TRIES or is_drowned((seen.reached * (1.0 + tolerance)) ** 2, measured):
            return None
        most = min(most, krylov.steps + MORE)
    return None


def _guessed(ritz: Ritz, relative: tuple[float, float]) -> Callable[[float], Tensor]:
    """Return a relative rounding of the leading Ritz vectors, and one of all others."""
    guess = torch.full_like(ritz.values, relative[1])
    guess[:LEADING] = relative[0]
    return lambda point: guess * point


def glimpse(
    apply: Apply, of: LinearMap, *, steps: int = 8, inverse: bool = False
) -> tuple[float, float]:
    """Return what a few steps show of both ends.

    Args:
        apply: About W^T W, or its inverse.
        of: The map W, rows >= cols.
        steps: Blocks of the space.
        inverse: Take the space's word, which proves nothing.

    Returns:
        A lower bound of the root of the largest eigenvalue and an upper bound of that of
        the smallest one: from W^T W, Rayleigh quotients by float64 products with W.
    """
    side = of.shape[1]
    krylov = Lanczos(apply, gaussian(side, BLOCK, of.device), min(steps, side // BLOCK - 1))
    while krylov.steps < krylov.most:
        krylov.step()
    if not bool(krylov.band.isfinite().all()):
        return (math.inf, math.inf) if inverse else (0.0, math.inf)
    ritz = krylov.ritz()
    if inverse:
        return math.sqrt(float(ritz.values[0])), math.sqrt(float(ritz.values[-1]))
    ends = krylov.basis @ ritz.coordinates[:, [0, -1]].to(krylov.basis)
    image, _ = normal(of, ends)
    high, low = (lengths(image) / lengths(ends)).tolist()
    return high - of.rounding(), low + of.rounding()


def _reach(top: float, tolerance: float, space: Space) -> float:
    """Return how near, relatively, a point above is that can be proven, coarsely."""
    reach = 0.9 * tolerance
    while reach < 1.0 and not at_most(0, (top * (1.0 + reach)) ** 2, space):
        reach *= COARSE
    return reach


def _missing_steps(before: tuple[int, float], now: tuple[int, float], tolerance: float) -> int:
    """Return how many steps to take until the next look, from the speed so far."""
    gained = math.log(before[1] / now[1]) / (now[0] - before[0]) if before[0] else 1.0
    left = math.log(now[1] / tolerance) / max(gained, 0.2)
    return min(max(int(SHORTFALL * left), 1), 8)


def _narrowest(top: float, tolerance: float, seen: Missed, space: Space) -> Bracket | None:
    """Return the narrowest bracket that can be proven, within a factor of two."""
    found, reach = None, tolerance
    while reach > LEAST:
        high = seen.reached * (1.0 + reach)
        if high <= top or not at_most(0, high * high, space):
            break
        found = Bracket(seen.reached, high)
        reach /= 2.0
    return found


def _orthonormal(krylov: Lanczos) -> bool:
    """Say whether Q is orthonormal to 1e-9, as seen by random combinations."""
    source = torch.Generator(device="cpu").manual_seed(1)
    probes = torch.randn(krylov.size, PROBES, generator=source, dtype=torch.float64)
    probes = probes.to(krylov.basis)
    skew = krylov.basis.mT @ (krylov.basis @ probes) - probes
    return float(skew.abs().max()) <= 1e-10 * math.sqrt(krylov.size)
