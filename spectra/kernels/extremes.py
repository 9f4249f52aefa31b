"""The largest and the smallest singular value, enclosed, without all the others.

sigma_max comes from a Krylov space of W, sigma_min from one of its inverse: LU factors of a
square matrix, a Cholesky factor of the Gram matrix of any other, in float32 where the
condition number allows. Both are proven by float64 products with W itself (`edge`), so that
a factor is only a way to get there. Where that fails, from `HIGHEST` on, and for small
matrices, which take no longer, all singular values are computed.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.kernels.edge import Bracket, enclosed, glimpse
from spectra.kernels.inverse import (
    Inverse,
    refined_inverse,
    square_inverse,
    triangle_of_gram,
    triangular_inverse,
)
from spectra.kernels.linear_map import LinearMap, linear_map, normal
from spectra.kernels.relation import measured_above, measured_below
from spectra.kernels.singular import (
    singular_value_error,
    singular_values,
    singular_values_cost,
    singular_values_memory,
)

WIDTH = 1e-3  # relative width of a bracket, where no other is asked for
SMALL = 512  # sides up to which all singular values cost no more
HIGHEST = 1e6  # condition number from which on float64 decides
PLAIN = 13.0  # condition number up to which float32 factors serve as they are
REFINED = 200.0  # and with one correction in float64
SINGLE = 1e-6  # relative rounding of float32 products; a guess until it is measured
DOUBLE = 1e-13
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
    matrix: Float[Tensor, "rows cols"], relative_error: float = WIDTH
) -> Extremes:
    """Return sigma_max and sigma_min, each in a bracket no wider than `relative_error`.

    The proofs hold but for a chance of 1e-12 over the random start of each (`counting`).

    Args:
        matrix: Any shape that is not empty, any floating dtype up to float64.
        relative_error: Relative width of each bracket; above about 1e-5.

    Raises:
        NonFiniteError: The matrix holds NaN or Inf.

    Source:
        Golub and Van Loan 2013, Matrix Computations, sections 8.2 and 10.3, for inverse
        iteration and block Lanczos.
    """
    if has_bounds(*matrix.shape):
        of = tall_map(matrix)
        found = _enclosed(of, relative_error)
        if found is not None:
            return found
        del of
    return exact_extremes(matrix)


def exact_extremes(matrix: Float[Tensor, "rows cols"]) -> Extremes:
    """Return both from all singular values, float64.

    Raises:
        NonFiniteError: The matrix holds NaN or Inf.
    """
    sigma = singular_values(matrix)
    length, ends = max(matrix.shape), (float(sigma[0]), float(sigma[-1]))
    largest, smallest = (_around(value, ends[0], length) for value in ends)
    return Extremes(*ends, largest, smallest, "exact")


def _around(value: float, largest: float, length: int) -> Bracket:
    """Return what a computed singular value proves; 0 stands for singular to rounding."""
    if not value:
        return Bracket(0.0, 0.0)
    error = singular_value_error(value, largest, length)
    return Bracket(value - error, value + error)


def largest_singular_value(matrix: Float[Tensor, "rows cols"]) -> Bracket:
    """Return sigma_max in a bracket no wider than `WIDTH`, by block Lanczos.

    A matrix whose largest singular values stand apart takes a few passes, one whose
    spectrum ends in a dense edge, as pure noise does, some twenty.

    Raises:
        NonFiniteError: The matrix holds NaN or Inf.
    """
    if has_bounds(*matrix.shape):
        of = tall_map(matrix)
        found = enclosed(of.gram_matmat, of, WIDTH, SINGLE, measured_above(of))
        if found is not None:
            return found.times(of.scale)
    return exact_extremes(matrix).largest


def condition_floor(matrix: Float[Tensor, "rows cols"]) -> float:
    """Return a number that the condition number is proven to exceed, from a few products.

    Both singular values are bounded by Rayleigh quotients, from a Krylov space of W.

    Raises:
        NonFiniteError: The matrix holds NaN or Inf.
    """
    of = tall_map(matrix)
    if not of.norm or not has_bounds(*matrix.shape):
        return 1.0
    low, high = glimpse(of.gram_matmat, of)
    return max(low / high, 1.0) if high > 0.0 else 1.0


def has_bounds(rows: int, cols: int) -> bool:
    """Say whether a shape is large enough for bounds to cost less than all singular values."""
    return min(rows, cols) > SMALL


def extremes_cost(rows: int, cols: int) -> float:
    """Return about how many operations it takes, in those of `singular_values_cost`."""
    short, long = sorted((rows, cols))
    if not has_bounds(rows, cols):
        return singular_values_cost(rows, cols)
    return float(long) * short**2 + 2.0 * short**3


def extremes_memory(rows: int, cols: int) -> int:
    """Return about the peak bytes, the float32 matrix and the exact way out included."""
    short, size = min(rows, cols), rows * cols
    return max(singular_values_memory(rows, cols), 5 * size + 20 * short**2)


def tall_map(matrix: Float[Tensor, "rows cols"]) -> LinearMap:
    """Return the matrix, or its transpose, as a map with rows >= cols and a sharp norm."""
    of = linear_map(matrix)
    if abs(math.log2(of.scale)) < SAFE:
        # Float32 sums of one row's squares err by less than a thousandth.
        rows = torch.linalg.vector_norm(of.matrix, dim=1).double()
        of = replace(of, norm=1.001 * float(torch.linalg.vector_norm(rows)) / of.scale)
    return of if matrix.shape[0] >= matrix.shape[1] else of.mT


def _enclosed(of: LinearMap, tolerance: float) -> Extremes | None:
    rows, short = of.shape
    triangle = None if rows == short else triangle_of_gram(of, torch.float32)
    quick = of
    if triangle is not None:
        # L^T has the singular values of W and is smaller.
        quick = LinearMap(triangle, None, None, 1.0, of.norm, turned=True)
    largest = enclosed(quick.gram_matmat, of, tolerance, SINGLE, measured_above(of))
    if largest is None:
        return None
    del quick
    found = None
    for inverse in _inverses(of, triangle, largest.high):
        measure, ceiling = measured_below(of, inverse.transposed), HIGHEST / largest.high
        found = enclosed(inverse.normal, of, tolerance, DOUBLE, measure, ceiling)
        if found is not None:
            break
    if found is None:
        return None
    smallest = Bracket(1.0 / found.high, 1.0 / found.low).times(of.scale)
    largest = largest.times(of.scale)
    return Extremes(largest.low, smallest.high, largest, smallest, "bound")


def _inverses(of: LinearMap, triangle: Tensor | None, sigma_max: float) -> Iterator[Inverse]:
    """Make inverses, the cheapest that the condition number allows first."""
    if of.shape[0] == of.shape[1]:
        square = square_inverse(of)
        if square is not None:
            yield square
        return
    if triangle is not None:
        single = triangular_inverse(triangle)
        kappa = sigma_max * glimpse(single.normal, of, steps=2, inverse=True)[0]
        if kappa < PLAIN:
            yield single
        if kappa < REFINED:
            yield refined_inverse(single, lambda vectors: normal(of, vectors)[1])
        del single, triangle
    factor = triangle_of_gram(of, torch.float64)
    if factor is not None:
        yield triangular_inverse(factor)
