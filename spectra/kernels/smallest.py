"""The smallest singular values, by inverse iteration with a proof.

Let M have orthonormal U and V with p columns each, turned so that U^T M V = T is diagonal. In
bases that begin with them, M is [[T, 0], [0, M']] but for the residuals M V - U T and
M^T U - V T. Weyl's theorem then pairs the singular values of M, in order, with those of T and
M' together, each within delta, the larger residual's norm. If p is known to be how many of M's
lie below a bound that all of T + delta stay under, none of M' is among them: they are those
of T, to within delta.

The Cholesky factor of M^T M only steers U and V; it enters no bound. Its diagonal is raised so
that it exists, and correcting U and V by the residuals of M itself goes on to where the square
of the condition number has left nothing in the Gram matrix. Rounding does enter: computing the
residual errs by about sqrt(n) eps64 ||M||_F, which is added to delta.

Source:
    Stewart and Sun 1990, Matrix Perturbation Theory, corollary IV.4.10 (Weyl).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.kernels.lanczos import gaussian
from spectra.kernels.linear_map import LinearMap
from spectra.kernels.rounding import EPS64


@dataclass(frozen=True, slots=True)
class InverseSettings:
    """How far inverse iteration goes before a full decomposition is cheaper."""

    spare: int = 8  # columns iterated beside those wanted; they make the wanted ones converge
    most: int = 64  # values wanted at once
    steps: int = 12


class Smallest(NamedTuple):
    """The smallest singular values, descending, and how far each may be off."""

    values: Float[Tensor, " count"]
    error: float  # infinite where nothing is proven

    def below(self, bound: float) -> bool:
        """Say whether all of them are proven to lie below a bound."""
        return bool((self.values + self.error < bound).all()) and math.isfinite(self.error)


def smallest_singular_values(
    of: LinearMap,
    gram: Float[Tensor, "cols cols"],
    count: int,
    relative: float,
    absolute: float = 0.0,
    settings: InverseSettings = InverseSettings(),
) -> Smallest:
    """Return singular values that are the `count` smallest if so many lie below what they do.

    Args:
        of: M, with `rows >= cols`.
        gram: M^T M in float64, of which the lower triangle is read, its diagonal raised by more
            than it is off.
        count: How many.
        relative: Error at which to stop, relative to each value;
        absolute: likewise, of any.
        settings: When to give up.
    """
    rows, cols = of.shape
    unproven = Smallest(gram.new_zeros(0), math.inf)
    factor, failed = torch.linalg.cholesky_ex(gram)
    if not 0 < count <= min(settings.most, cols) or int(failed):
        return unproven
    rounding = math.sqrt(rows) * EPS64 * math.sqrt(float(gram.diagonal().sum()))
    start = gaussian(cols, min(cols, count + settings.spare), of.device)
    right = torch.linalg.qr(torch.cholesky_solve(start, factor)).Q
    right = torch.linalg.qr(torch.cholesky_solve(right, factor)).Q
    left = torch.linalg.qr(of.products(right, right.new_zeros(rows, 0))[0]).Q
    for _ in range(settings.steps):
        image, back = of.products(right, left)
        small = left.mT @ image
        if not small.isfinite().all():
            break
        turn_left, values, turn_right = torch.linalg.svd(small)
        left, back = left @ turn_left, back @ turn_left
        right, image = right @ turn_right.mT, image @ turn_right.mT
        image -= left * values
        back -= right * values
        off = [torch.linalg.norm(part[:, -count:]) for part in (image, back)]
        first, second, least = torch.stack([*off, values[-1]]).tolist()  # one wait for a GPU
        error = max(first, second) + rounding
        if error <= max(relative * least, absolute):
            return Smallest(values[-count:], error)
        # Newton's correction to both sides: M (M^T M)^-1 and (M^T M)^-1 M^T invert M^T and M.
        ahead, behind = of.products(torch.cholesky_solve(back, factor), image)
        left = torch.linalg.qr(left - ahead).Q
        right = torch.linalg.qr(right - torch.cholesky_solve(back * values + behind, factor)).Q
    return unproven
