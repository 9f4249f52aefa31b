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

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.kernels.counting import SPARE, Space, at_most, gaussian_floor, rounding_of
from spectra.kernels.krylov import Bidiagonalization, Ritz, gaussian, measure
from spectra.kernels.linear_map import LinearMap

BLOCK = 24  # random columns
FIRST = 4  # steps before the first look
EVERY = 2  # steps between looks
GUESSED = 6e-6  # of sigma_1: rounding of float32 products, until it is measured
TRIES = 3  # measurements in float64
SEPARATE = 4  # places tried for the cut between leading and other singular values
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


def certified_leading(
    of: LinearMap,
    k: int,
    tolerance: float = 1e-3,
    seeds: Float[Tensor, "rows seeds"] | None = None,
    most: int = 24,
    accept: Callable[[Leading], bool] | None = None,
) -> Leading | None:
    """Find at least the `k` largest singular triplets by block Lanczos, and prove them.

    Args:
        of: The matrix.
        k: How many.
        tolerance: Largest error of each of the first `k` vectors.
        seeds: Columns that the start block holds beside the random ones.
        most: Steps after which to give up.
        accept: What the caller needs instead of `tolerance`; asked before the float64
            products, with estimates, and after them.

    Returns:
        The triplets; None where the matrix is too small or too clustered for this, or of
        lower rank. A full decomposition then decides.

    Source:
        Golub, Luk and Overton 1981; Musco and Musco 2015, arXiv:1504.05477.
    """
    start = gaussian(of.shape[0], BLOCK, of.device)
    if seeds is not None:
        start = torch.cat([start, seeds], dim=1)
    most = min(most, min(of.shape) // start.shape[1] - 1)
    if most < FIRST or k > BLOCK - SPARE - 1:
        return None
    if accept is None:

        def accept(found: Leading) -> bool:
            return float(found.vector_error[:k].max()) <= tolerance

    krylov = Bidiagonalization(of, start, most)
    guess, tries = GUESSED, 0
    while krylov.steps < most:
        krylov.step()
        steps = krylov.steps
        if steps < FIRST or ((steps - FIRST) % EVERY and steps < most):
            continue
        ritz = krylov.ritz()
        top = math.sqrt(float(ritz.values[0]))
        if not math.isfinite(top) or top == 0.0:
            return None
        if float(ritz.values[k - 1]) < (NEGLIGIBLE * top) ** 2:
            return None
        for count in _cuts(ritz, k):
            estimate = _estimated(krylov, ritz, count, guess * top)
            if estimate is None or not accept(estimate):
                continue
            found, guess = _measured(of, krylov, ritz, count, top)
            tries += 1
            if found is not None and accept(found):
                return found
            break
        if tries == TRIES:
            return None
    return None


def _cuts(ritz: Ritz, k: int) -> list[int]:
    """Return the counts, from `k` on, that look easiest to prove."""
    sigma = ritz.values.sqrt()
    ease = {
        count: float(sigma[count - 1] - sigma[count]) * gaussian_floor(BLOCK, count)
        for count in range(k, BLOCK - SPARE)
    }
    return sorted(ease, key=lambda count: -ease[count])[:SEPARATE]


def _estimated(
    krylov: Bidiagonalization, ritz: Ritz, count: int, rounding: float
) -> Leading | None:
    """Return what the recurrence itself says, at no cost of products."""
    sigma = ritz.values[:count].sqrt()
    residual = ritz.residual[:count] / sigma / math.sqrt(2.0) + rounding / 40.0
    left = krylov.left @ ritz.coordinates[:, :count].to(krylov.left)
    right = krylov.right @ (krylov.band.mT @ ritz.coordinates[:, :count].to(krylov.left))
    right = right / sigma.to(right)
    return _proven(krylov, ritz, left, sigma, right, residual, rounding, rounding)


def _measured(
    of: LinearMap, krylov: Bidiagonalization, ritz: Ritz, count: int, top: float
) -> tuple[Leading | None, float]:
    """Return the triplets with residuals and rounding from float64 products."""
    left = krylov.left @ ritz.coordinates[:, :count].to(krylov.left)
    right = krylov.right @ (krylov.band.mT @ ritz.coordinates[:, :count].to(krylov.left))
    right = right / torch.linalg.vector_norm(right, dim=0)
    seen = measure(krylov, of, right, left)
    turn_left, sigma, turn_right = torch.linalg.svd(left.mT @ seen.before)
    left, right = left @ turn_left, right @ turn_right.mT
    missing = torch.cat(
        [seen.before @ turn_right.mT - left * sigma, seen.after @ turn_left - right * sigma]
    )
    residual = torch.linalg.vector_norm(missing, dim=0) / math.sqrt(2.0) + of.rounding()
    guess = max(seen.rounding_right, seen.rounding_left) / top
    if not seen.orthogonal:
        return None, guess
    found = _proven(
        krylov, ritz, left, sigma.cpu(), right, residual.cpu(),
        seen.rounding_right, seen.rounding_left,
    )  # fmt: skip
    return found, guess


def _proven(
    krylov: Bidiagonalization,
    ritz: Ritz,
    left: Tensor,
    sigma: Tensor,
    right: Tensor,
    residual: Tensor,
    rounding_right: float,
    rounding_left: float,
) -> Leading | None:
    """Return the triplets with their errors, if none above the ceiling can be missing."""
    count = len(sigma)
    value_error = float(torch.linalg.vector_norm(residual))
    below = math.sqrt(float(ritz.values[count]))
    rounding = rounding_of(ritz, rounding_right, rounding_left)
    space = Space(ritz, BLOCK, krylov.steps, rounding)
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
        vector_error=distance_from_sine(residual / gap.clamp(min=1e-300)),
        ceiling=ceiling,
        krylov=krylov,
        space=space,
    )


def distance_from_sine(sine: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
    """Return how far a half of a unit pair moves when the pair turns; 2 where unknown."""
    cosine_of_half = ((1.0 + (1.0 - sine.clamp(max=1.0).square()).sqrt()) / 2.0).sqrt()
    distance = math.sqrt(2.0) * sine / cosine_of_half
    return torch.where(sine < 1.0, distance.clamp(max=2.0), 2.0)
