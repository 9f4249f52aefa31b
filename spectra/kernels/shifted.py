"""The most that a vector can have in common with any one eigenvector.

Let A be symmetric, (x, u) any of its eigenpairs, u of length 1, and y a vector. For every v

    u . y = u . (y - (A - x) v),

as u^T (A - x) v = 0. So |u . y| is no more than the residual of any approximate solution of
the shifted system (A - x) v = y. In a Krylov space that y started, v = Q w, with Ritz values
theta, A Q = Q T + Q_next C + F as in `lanczos`, everything in the basis of Ritz vectors and
t the components of y, for every |x - c| <= h

    |u . y| <= |(t - (theta - c) w, C w)| + h |w| + |f w|,

f_i what F adds along Ritz vector i. Every w gives a bound; the one taken makes about the
least of the sum, by regularised least squares. Intervals of half-width h cover the range of
x; one is cut in two while h is what makes its bound large. So the maximum is bounded, not
sampled. Converged directions deflate themselves, and without rounding the bound is the
Christoffel function of the block.

Source:
    Akhiezer 1965, The Classical Moment Problem, section 2.5, for the Christoffel function;
    Paige and Saunders 1975, SIAM J. Numer. Anal. 12(4), for least residuals of shifted systems.
"""

import math
from dataclasses import dataclass

from jaxtyping import Float

from spectra.deferred import Tensor, torch
from spectra.kernels.lanczos import Ritz
from spectra.kernels.relation import Rounding, lengths
from spectra.kernels.rounding import EPS64


@dataclass(frozen=True, slots=True)
class Cover:
    """How finely the range of eigenvalues is covered."""

    intervals: int = 24  # to begin with
    rounds: int = 24  # of cutting intervals in two
    close: float = 0.01  # cutting stops where the bound is no more than this above a centre's
    slack: float = 0.3  # or than this share of what it may still be
    many: int = 1 << 11  # intervals of one round
    entries: int = 1 << 21  # of one temporary
    weight: float = 8.0  # of |w|^2 against the residual's square


@dataclass(frozen=True, slots=True)
class Question:
    """Vectors of a space, and what is asked about them."""

    components: Float[Tensor, "size n"]  # along the Ritz vectors
    enough: Float[Tensor, " n"]  # a bound no less than this answers nothing
    between: tuple[float, float]  # least and largest eigenvalue of interest
    over_root: bool = False  # bound |u . y| / sqrt(x): no eigenvalue of interest is 0
    together: bool = False  # one that is not answered makes the others of no use


def largest_components(
    ritz: Ritz, asked: Question, rounding: Rounding, cover: Cover = Cover()
) -> Float[Tensor, " n"]:
    """Bound |u . y| over the unit eigenvectors u of an interval, for each y.

    `rounding` gives f_i for an eigenvalue x; it grows with x.

    Returns:
        Upper bounds where they are less than `enough`; otherwise no less than that, and about what
        this space could prove at most.
    """
    (low, high), enough = asked.between, asked.enough
    found = torch.zeros_like(enough)
    if high <= low:
        return found
    # Decomposing T moves its eigenpairs by that much.
    error = rounding(high) + 8.0 * len(ritz.values) * EPS64 * float(ritz.values[0])
    if not bool(error.isfinite().all()):
        return torch.full_like(enough, math.inf)
    width = (high - low) / cover.intervals
    centre = low + width * (torch.arange(cover.intervals, dtype=torch.float64) + 0.5)
    half = torch.full_like(centre, width / 2.0)
    attained = torch.zeros_like(enough)
    for _ in range(cover.rounds):
        # Of the end of each interval that makes a bound the larger, and the least the less.
        roots = torch.stack([centre - half, centre + half])[:, :, None]
        roots = roots.rsqrt() if asked.over_root else torch.ones_like(roots)
        least = _bounds(ritz, asked.components, error, (centre, 0.0 * half), 1.0, cover)
        attained = torch.maximum(attained, (least * roots[1]).amax(dim=0))
        hopeless = attained >= enough
        if bool(hopeless.all()) or (asked.together and bool(hopeless.any())):
            return torch.maximum(attained, enough)
        bound = _bounds(ritz, asked.components, error, (centre, half), cover.weight, cover)
        bound = torch.where(hopeless, math.inf, bound * roots[0])
        room = (cover.slack * (enough - attained)).clamp(min=cover.close)
        wide = ((bound > attained + room) | (bound >= enough)) & ~hopeless
        split = wide.any(dim=1)
        if not bool(split.any()) or int(split.sum()) > cover.many:
            break
        found = torch.maximum(found, torch.where(wide, 0.0, bound).amax(dim=0))
        centre, half = centre[split], half[split] / 2.0
        centre, half = torch.cat([centre - half, centre + half]), half.repeat(2)
    found = torch.maximum(found, bound.amax(dim=0))
    return torch.where(found < enough, found, torch.maximum(attained, enough))


def _bounds(
    ritz: Ritz,
    components: Tensor,
    error: Tensor,
    intervals: tuple[Tensor, Tensor],
    weight: float,
    cover: Cover,
) -> Float[Tensor, "points n"]:
    """Return a bound of each y on each interval; with no width, the least that cutting reaches.

    From w of least squares, |w|^2 weighed against the residual's square.
    """
    centre, half = intervals
    leaving = ritz.leaving
    # No bound exceeds |y|: the one of w = 0.
    bound: Tensor = lengths(components).repeat(len(centre), 1)
    chunk = max(cover.entries // components.numel(), 1)
    for part in torch.arange(len(centre)).split(chunk):
        apart, size = ritz.values - centre[part, None], half[part, None]
        inverse = 1.0 / (apart.square() + weight * (size.square() + error.square()))
        # (D + C^T C) w = (theta - x) t by Woodbury, D diagonal: b equations a point.
        first = (inverse * apart)[:, :, None] * components
        scaled = leaving * inverse[:, None, :]
        small = torch.eye(len(leaving), dtype=apart.dtype) + scaled @ leaving.mT
        chosen = first.sub_(scaled.mT @ torch.linalg.solve_ex(small, leaving @ first).result)
        missed = torch.hypot(
            torch.linalg.vector_norm(components - apart[:, :, None] * chosen, dim=1),
            torch.linalg.vector_norm(leaving @ chosen, dim=1),
        )
        lost = torch.linalg.vector_norm(error[:, None] * chosen, dim=1)
        length = torch.linalg.vector_norm(chosen, dim=1)
        bound[part] = torch.fmin(bound[part], missed + lost + size * length)
    return bound
