"""The leading singular triplets, each with what it may be off by.

Let U, V hold the c candidates, turned so that U^T W V is diagonal. [u; v] / sqrt(2) are
Ritz vectors of the dilation [[0, W], [W^T, 0]], whose eigenvalues are the sigma and their
negatives; rho_i are the norms of their residuals [W v - sigma u; W^T u - sigma v] / sqrt(2),
taken from float64 products with W itself.

Values: by Kahan's theorem c different eigenvalues lie within delta = ||rho|| of the c
values. If the smallest value exceeds `ceiling` by more than delta, and at most c singular
values of W reach `ceiling` (`counting`), these are the c largest, in order.

Vectors: all other eigenvalues keep the distance gap_i from sigma_i, so the angle phi between
[u; v] and the true pair has sin(phi) <= rho_i / gap_i (Davis and Kahan), and both ||u - u_i||
and ||v - v_i|| are at most sqrt(2) sin(phi) / cos(phi / 2).

Source:
    Parlett 1998, The Symmetric Eigenvalue Problem, theorems 11.5.1 and 11.7.1.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.kernels.counting import SPARE, Space, at_most, gaussian_floor, rounding_of
from spectra.kernels.krylov import Bidiagonalization, Ritz, gaussian, measure
from spectra.kernels.linear_map import LinearMap

BLOCK = 24  # random columns
FEWEST = 4  # steps that are worth a look
FIRST = 6  # steps before the first look
EVERY = 2  # steps between looks
MOST = 24  # steps after which to give up
GUESSED = 6e-6  # of sigma_1: rounding of float32 products, until it is measured
GUESSED_TO_RESIDUAL = 40.0  # how much less than that the residual of one vector is
TRIES = 3  # measurements in float64
SEPARATE = 2  # places tried for the cut between leading and other singular values
SKEW = 1e-9  # that the bases may be off from orthonormal, as `krylov` looks
NEGLIGIBLE = 1e-4  # of sigma_1: what is smaller is left to a full decomposition


@dataclass(frozen=True, slots=True)
class Leading:
    """The `count` largest singular triplets and their proven errors."""

    left: Float[Tensor, "rows count"]
    sigma: Float[Tensor, " count"]  # of the scaled map
    right: Float[Tensor, "cols count"]
    residual: Float[Tensor, " count"]  # rho
    value_error: float  # delta
    vector_error: Float[Tensor, " count"]  # of each left and right vector, at most 2
    ceiling: float  # no further singular value reaches it
    krylov: Bidiagonalization
    space: Space
    measured: bool  # by float64 products; otherwise an estimate


def certified_leading(
    of: LinearMap, k: int, tolerance: float = 1e-3, accept: Callable[[Leading], bool] | None = None
) -> Leading | None:
    """Find at least the `k` largest singular triplets by block Lanczos, and prove them.

    Args:
        of: The matrix.
        k: How many.
        tolerance: Largest error of each of the first `k` vectors.
        accept: What the caller needs instead of `tolerance`; asked before the float64
            products, with estimates, and after them.

    Returns:
        The triplets; None where the matrix is too small or too clustered for this, or of
        lower rank. A full decomposition then decides.

    Source:
        Golub, Luk and Overton 1981; Musco and Musco 2015, arXiv:1504.05477.
    """
    most = min(MOST, min(of.shape) // BLOCK - 1)
    if most < FEWEST or k > BLOCK - SPARE - 1:
        return None
    krylov = Bidiagonalization(of, gaussian(of.shape[0], BLOCK, of.device), most)
    look = _Look(of, krylov, k, accept or _vectors_within(k, tolerance))
    while krylov.steps < most and look.tries < TRIES:
        krylov.step()
        since = krylov.steps - min(FIRST, most)
        if since >= 0 and (since % EVERY == 0 or krylov.steps == most):
            ritz = krylov.ritz()
            if not float(ritz.values[k - 1]) > NEGLIGIBLE**2 * float(ritz.values[0]):
                return None
            found = look.at(ritz)
            if found is not None:
                return found
    return None


def _vectors_within(k: int, tolerance: float) -> Callable[[Leading], bool]:
    return lambda found: float(found.vector_error[:k].max()) <= tolerance


@dataclass(slots=True)
class _Look:
    """A glance at a growing Krylov space: estimates first, float64 products when they please."""

    of: LinearMap
    krylov: Bidiagonalization
    k: int
    accept: Callable[[Leading], bool]
    guess: float = GUESSED
    tries: int = 0

    def at(self, ritz: Ritz) -> Leading | None:
        top = math.sqrt(float(ritz.values[0]))
        for count in _cuts(ritz, self.k):
            estimate = _estimated(self.krylov, ritz, count, self.guess * top)
            if estimate is not None and self.accept(estimate):
                found, rounding = _measured(self.of, self.krylov, ritz, count)
                self.guess = rounding / top
                self.tries += 1
                return found if found is not None and self.accept(found) else None
        return None


def _cuts(ritz: Ritz, k: int) -> list[int]:
    """Return the counts, from `k` on, that look easiest to prove."""
    sigma = ritz.values.sqrt()
    ease = {
        count: float(sigma[count - 1] - sigma[count]) * gaussian_floor(BLOCK, count)
        for count in range(k, BLOCK - SPARE)
    }
    return sorted(ease, key=lambda count: -ease[count])[:SEPARATE]


class _Triplets(NamedTuple):
    left: Tensor  # rows x count
    sigma: Tensor  # on the CPU
    right: Tensor  # cols x count
    residual: Tensor  # rho, on the CPU
    rounding: tuple[float, float]  # ||F_1||_F and ||F_2||_F, or a guess
    measured: bool


def _vectors(krylov: Bidiagonalization, ritz: Ritz, count: int) -> tuple[Tensor, Tensor]:
    coordinates = ritz.coordinates[:, :count].to(krylov.left)
    right = krylov.right @ (krylov.band.mT @ coordinates)
    return krylov.left @ coordinates, right / torch.linalg.vector_norm(right, dim=0)


def _estimated(
    krylov: Bidiagonalization, ritz: Ritz, count: int, rounding: float
) -> Leading | None:
    """Return what the recurrence itself says, at no cost of products."""
    left, right = _vectors(krylov, ritz, count)
    sigma = ritz.values[:count].sqrt()
    residual = ritz.residual[:count] / sigma / math.sqrt(2.0) + rounding / GUESSED_TO_RESIDUAL
    guess = (rounding, rounding)
    return _proven(krylov, ritz, _Triplets(left, sigma, right, residual, guess, measured=False))


def _measured(
    of: LinearMap, krylov: Bidiagonalization, ritz: Ritz, count: int
) -> tuple[Leading | None, float]:
    """Return the triplets with residuals and rounding from float64 products, and the latter."""
    left, right = _vectors(krylov, ritz, count)
    seen = measure(krylov, of, right, left)
    turn_left, sigma, turn_right = torch.linalg.svd(left.mT @ seen.before)
    left, right = left @ turn_left, right @ turn_right.mT
    missing = torch.cat(
        [seen.before @ turn_right.mT - left * sigma, seen.after @ turn_left - right * sigma]
    )
    residual = torch.linalg.vector_norm(missing, dim=0) / math.sqrt(2.0)
    residual = residual + math.sqrt(count) * of.rounding() + SKEW * sigma[0]
    rounding = (seen.rounding_right, seen.rounding_left)
    if not seen.orthogonal:
        return None, max(rounding)
    triplets = _Triplets(left, sigma.cpu(), right, residual.cpu(), rounding, measured=True)
    return _proven(krylov, ritz, triplets), max(rounding)


def _proven(krylov: Bidiagonalization, ritz: Ritz, triplets: _Triplets) -> Leading | None:
    """Return the triplets with their errors, if none above the ceiling can be missing."""
    left, sigma, right, residual, rounding, measured = triplets
    count = len(sigma)
    value_error = float(torch.linalg.vector_norm(residual))
    below = math.sqrt(float(ritz.values[count]))
    space = Space(ritz, BLOCK, krylov.steps, rounding_of(ritz, *rounding))
    least = float(sigma[-1]) - value_error
    for share in (0.6, 0.25):  # of the way down: low leaves wide gaps, high is soon proven
        ceiling = least - share * (least - below)
        if not below < ceiling < least:
            return None
        if at_most(count, ceiling**2, space):
            break
    else:
        return None
    apart = (sigma[:, None] - sigma).abs().fill_diagonal_(math.inf).amin(dim=1) - value_error
    gap = torch.minimum(apart, sigma - ceiling)
    return Leading(
        left=left,
        sigma=sigma,
        right=right,
        residual=residual,
        value_error=value_error,
        vector_error=(distance_from_sine(residual / gap.clamp(min=1e-300)) + SKEW).clamp(max=2.0),
        ceiling=ceiling,
        krylov=krylov,
        space=space,
        measured=measured,
    )


def distance_from_sine(sine: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
    """Return how far a half of a unit pair moves when the pair turns; 2 where unknown."""
    cosine_of_half = ((1.0 + (1.0 - sine.clamp(max=1.0).square()).sqrt()) / 2.0).sqrt()
    distance = math.sqrt(2.0) * sine / cosine_of_half
    return torch.where(sine < 1.0, distance.clamp(max=2.0), 2.0)
