"""The smallest singular value of W, proven by what W^T W is beside a few vectors.

Let V be orthonormal, H = V^T G V and R = G V - V H for G = W^T W, and let z^T G z >= tau |z|^2
for all z orthogonal to V. Then x^T G x of any x = V a + z is no less than that of the small matrix

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
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.kernels.counting import gaussian_floor
from spectra.kernels.edge import UNKNOWN, Bracket, Settings
from spectra.kernels.inverse import cholesky, gram_solve
from spectra.kernels.lanczos import Ritz, gaussian
from spectra.kernels.linear_map import LinearMap

FIRST = 6  # steps before the first look
PLACE = 0.6  # of the way from the first to the last of the leading Ritz values: theta
LIFTED = 4.0  # shift, in theta
PROMISED = 0.3  # of the width asked for that the recurrence has to promise


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
