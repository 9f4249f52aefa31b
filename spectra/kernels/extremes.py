"""The largest and the smallest singular value, enclosed, without all the others.

sigma_max comes from a Krylov space of W, sigma_min from one of its inverse: LU factors of a
square matrix, a Cholesky factor of the Gram matrix of any other, in float32 where the
condition number allows. Both are proven by float64 products with W itself (`edge`), so that
a factor is only a way to get there. Where that fails, as from a condition number of 1e6 on, and
for small matrices, which take no longer, all singular values are computed.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from jaxtyping import Float

from spectra.deferred import Tensor, torch
from spectra.kernels.edge import SETTINGS, UNKNOWN, Bracket, GramMatrix, Outcome, Settings, enclosed
from spectra.kernels.inverse import Inverse, cholesky, gram_solve, lower_gram, square_inverse
from spectra.kernels.linear_map import LinearMap, linear_map
from spectra.kernels.relation import lengths, measured_above, measured_below
from spectra.kernels.singular import (
    singular_value_error,
    singular_values,
)
from spectra.kernels.streamed import Streamed
from spectra.kernels.work import is_long

ROUGH = 0.3  # relative width that a floor is worth
DOUBLE = 1e-13  # relative rounding of what float64 factors invert; a guess until measured
GLIMPSE = 8  # steps that show about both ends
SAFE = 40  # binary exponents within which float32 squares neither overflow nor vanish


@dataclass(frozen=True, slots=True)
class Extremes:
    """Both ends of a spectrum: the best estimates and what they are proven to lie between.

    Those of a float64 decomposition lie in it to within what `singular_values` says.
    """

    sigma_max: float
    sigma_min: float
    largest: Bracket
    smallest: Bracket
    decided_by: Literal["bound", "exact"]


def extreme_singular_values(
    matrix: Float[Tensor, "rows cols"], settings: Settings = SETTINGS
) -> Extremes:
    """Return sigma_max and sigma_min, each in a bracket no wider than the tolerance.

    The proofs hold but for a chance of 1e-12 over the random start of each (`counting`). The
    tolerance has to be above about 1e-5.

    Source:
        Golub and Van Loan 2013, Matrix Computations, sections 8.2 and 10.3, for inverse
        iteration and block Lanczos.
    """
    bounded = min(matrix.shape) > settings.small
    found = _enclosed(tall_map(matrix), settings) if bounded else None
    return found or exact_extremes(matrix)


def exact_extremes(matrix: Float[Tensor, "rows cols"] | Streamed) -> Extremes:
    """Return both from all singular values, float64."""
    sigma = singular_values(matrix)
    ends = float(sigma[0]), float(sigma[-1])
    errors = [singular_value_error(value, ends[0], max(matrix.shape)) for value in ends]
    largest, smallest = (
        Bracket(max(value - error, 0.0), value + error)
        for value, error in zip(ends, errors, strict=True)
    )
    return Extremes(*ends, largest, smallest, "exact")


def largest_singular_value(
    matrix: Float[Tensor, "rows cols"] | Streamed, settings: Settings = SETTINGS
) -> Bracket:
    """Return sigma_max in a bracket no wider than the tolerance, by block Lanczos.

    A matrix whose largest singular values stand apart takes a few passes, one whose
    spectrum ends in a dense edge, as pure noise does, some twenty.
    """
    if min(matrix.shape) > settings.small:
        of = tall_map(matrix)
        found = _largest(of, None, settings)
        if found.width <= settings.tolerance:
            return found.times(of.scale)
    return exact_extremes(matrix).largest


def largest_near(
    of: LinearMap, gram: Float[Tensor, "cols cols"], settings: Settings = SETTINGS
) -> Bracket | None:
    """Return the same of W, rows >= cols, from about W^T W: W itself is passed over once or twice.

    None where rounding of W^T W is too much for that.
    """

    def apply(block: Tensor) -> Tensor:
        return (gram @ block.to(gram.dtype)).to(block.dtype)

    outcome, found = enclosed(apply, of, partial(measured_above, of), settings)
    return found.times(of.scale) if outcome is Outcome.PROVEN else None


def singular_value_floor(
    matrix: Float[Tensor, "rows cols"], gram: Float[Tensor, "short short"] | None = None
) -> float:
    """Return what no singular value of a matrix with rows > cols is below; 0 where unknown.

    By a float32 factor of the Gram matrix, to a few tenths; where kappa is too large for one,
    by all that `extreme_singular_values` knows.

    Args:
        matrix: Any scale.
        gram: Its Gram matrix, of the shorter side and over the square of its map's scale, if known.
    """
    of = tall_map(matrix)
    gram = lower_gram(of, torch.float32) if gram is None else gram.float()
    triangle = cholesky(gram)
    if triangle is not None:
        rough = replace(SETTINGS, tolerance=ROUGH, ceiling=SETTINGS.single / of.norm)
        found = GramMatrix(of, gram, of.norm).smallest(triangle, rough)
        if found.low > 0.0:
            return found.low * of.scale
    return extreme_singular_values(matrix).smallest.low


def condition_floor(matrix: Float[Tensor, "rows cols"], settings: Settings = SETTINGS) -> float:
    """Return a number that the condition number is proven to exceed, from a few products.

    Both singular values are bounded by Rayleigh quotients, from a Krylov space of W.
    """
    of = tall_map(matrix)
    if not of.norm or min(matrix.shape) <= settings.small:
        return 1.0
    krylov = Settings(steps=GLIMPSE).grown(of.gram_matmat, of)
    ritz = next(krylov.looks(lambda _: False), None)
    if ritz is None:
        return 1.0
    ends = krylov.combined(ritz.coordinates[:, [-1, 0]])
    low, high = (lengths(of.normal(ends)[0]) / lengths(ends)).tolist()
    proven: float = (high - of.rounding()) / (low + of.rounding())
    return max(proven, 1.0)


def tall_map(matrix: Float[Tensor, "rows cols"] | Streamed) -> LinearMap:
    """Return the matrix, or its transpose, as a map with rows >= cols and a sharp norm."""
    of = linear_map(matrix, stored=is_long(*matrix.shape))
    if isinstance(matrix, Tensor) and abs(math.log2(of.scale)) < SAFE:
        # Float32 sums of one row's squares err by less than a thousandth.
        rows = of.row_norms().double()
        of = replace(of, norm=1.001 * float(torch.linalg.vector_norm(rows)))
    return of if matrix.shape[0] >= matrix.shape[1] else of.mT


def _enclosed(of: LinearMap, settings: Settings) -> Extremes | None:
    rows, short = of.shape
    gram = None if rows == short else lower_gram(of, torch.float32)
    triangle = None if gram is None else cholesky(gram)
    largest, smallest = _largest(of, triangle, settings), UNKNOWN
    if gram is not None and triangle is not None:
        wanted = replace(settings, ceiling=settings.single / largest.high)
        smallest = GramMatrix(of, gram, largest.high).smallest(triangle, wanted)
    del gram, triangle
    if smallest.width > settings.tolerance >= largest.width:
        smallest = _by_inverse(of, replace(settings, ceiling=settings.highest / largest.high))
    if max(largest.width, smallest.width) > settings.tolerance:
        return None
    largest, smallest = largest.times(of.scale), smallest.times(of.scale)
    return Extremes(largest.low, smallest.high, largest, smallest, "bound")


def _largest(of: LinearMap, triangle: Tensor | None, settings: Settings) -> Bracket:
    """Enclose sigma_max: by a Cholesky factor of W^T W, which is smaller, W, or W in float64."""
    measure = partial(measured_above, of)
    if triangle is not None:
        near = replace(of, matrix=triangle, scale=1.0, turned=True)
        outcome, found = enclosed(near.gram_matmat, of, measure, settings)
        if outcome is Outcome.PROVEN:
            return found
    outcome, found = enclosed(of.gram_matmat, of, measure, settings)
    if outcome is Outcome.ROUNDED and of.dtype != torch.float64:
        # All values as one, as of an orthogonal matrix: nothing lies apart from rounding.
        _, found = enclosed(lambda block: of.normal(block)[1], of, measure, settings)
    return found


def _by_inverse(of: LinearMap, settings: Settings) -> Bracket:
    """Enclose sigma_min by factors in float64."""
    if of.shape[0] == of.shape[1]:
        inverse: Inverse | None = square_inverse(of)
    else:
        triangle = cholesky(lower_gram(of, torch.float64), overwrite=True)
        inverse = None if triangle is None else (partial(gram_solve, triangle), None)
    if inverse is None:
        return UNKNOWN
    normal, transposed = inverse
    measure = partial(measured_below, of, transposed)
    return enclosed(normal, of, measure, replace(settings, guess=DOUBLE))[1].inverse()
