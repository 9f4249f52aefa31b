"""What noise alone would do: Marchenko-Pastur edge, rounding floor, chance cosine."""

import functools
import math

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.kernels.entries import Sizes

STEPS = 12  # coordinates taken one by one in the law of the largest
GRID = 4096  # angles on which that law is tabulated
REACH = 9.0  # largest angle of the grid, in units of 1/sqrt(dimension)


def marchenko_pastur_edge(scale: float, rows: int, cols: int) -> float:
    """Return the largest singular value that noise of this scale would have.

    The upper Marchenko-Pastur edge of an m x n matrix with independent entries of
    standard deviation s is `s * (sqrt(m) + sqrt(n))`.

    Source:
        Marchenko and Pastur 1967; Martin and Mahoney, arXiv:1810.01075.
    """
    return scale * (math.sqrt(rows) + math.sqrt(cols))


def rounding_floor(of: Sizes, unit_roundoff: float, smallest: float = 0.0) -> float:
    """Return about the largest singular value of what storing the matrix rounds off.

    Rounding moves an entry w by at most u |w|, uniformly at worst, so its standard
    deviation is at most u |w| / sqrt(3). A matrix of independent such errors has
    spectral norm near (largest row norm + largest column norm) of those deviations.
    For entries of one size this is `u * rms(W) * (sqrt(m) + sqrt(n)) / sqrt(3)`. Errors
    that are not independent, such as those of a constant matrix, may exceed it.

    Args:
        of: The sizes of the stored values.
        unit_roundoff: Half of machine epsilon of the stored dtype.
        smallest: Its smallest positive number; below its normal range, half of that is
            the most that rounding moves. Matters for float16 only.

    Source:
        Bandeira and van Handel 2016, arXiv:1408.6185, theorem 1.1.
    """
    if not of.scale:
        return 0.0
    norms = math.sqrt(float(of.rows.max())) + math.sqrt(float(of.cols.max()))
    subnormal = marchenko_pastur_edge(smallest / 2, len(of.rows), len(of.cols))
    return (unit_roundoff * of.scale * norms + subnormal) / math.sqrt(3.0)


def mean_rounding_floor(norm: float, rows: int, cols: int, unit_roundoff: float) -> float:
    """Return about the largest singular value of what storing a matrix rounds off, from its norm.

    `rounding_floor` for entries of one size, `u * rms(W) * (sqrt(m) + sqrt(n)) / sqrt(3)`:
    it does not see how the entries are spread over rows and columns. Directions whose
    singular values lie below are the rounding's as much as the matrix's.

    Args:
        norm: The Frobenius norm of the stored values, `rms(W) * sqrt(m n)`.
        rows: Of the matrix.
        cols: Likewise.
        unit_roundoff: Half of machine epsilon of the stored dtype.
    """
    scale = unit_roundoff * norm / math.sqrt(3.0 * rows * cols)
    return marchenko_pastur_edge(scale, rows, cols)


@functools.cache
def chance_cosine(dimension: int, count: int) -> float:
    """Return the largest |cosine| that a random direction has with orthonormal vectors.

    The median of `max |y_i|`, i up to p, for y uniform on the unit sphere in d dimensions, by
    an exact recursion: where the largest of p coordinates is `sin(a)`, the others of them, on
    their own sphere, all stay below `tan(a)`, so with Q_dp(a) = P(max |y_i| <= sin(a))

        1 - Q_dp(a) = integral from a to pi/2 of p f_d(x) Q_{d-1,p-1}(arcsin(tan(x))) dx,

    f_d(x) proportional to cos(x)^(d-2). It starts `STEPS` lower from Boole's bound
    `1 - p P(|y_1| > sin(a))`, exact for one coordinate and in two dimensions; each step moves
    into the tail, where that bound is tight. Off by less than 1e-6.

    Args:
        dimension: d, of the space.
        count: p, of the vectors; at most d.
    """
    if dimension == 1:
        return 1.0
    reach = min(math.pi / 2, REACH / math.sqrt(dimension))
    angle = torch.linspace(0.0, reach, GRID, dtype=torch.float64)
    # Where tan(x) passes 1 the other coordinates are free: index past the end, Q = 1.
    inner = torch.where(angle < math.pi / 4, angle.tan().clamp(max=1.0).asin(), math.pi / 2)
    place = (inner / reach * (GRID - 1)).clamp(max=GRID - 1.0)
    low = place.long().clamp(max=GRID - 2)
    steps = min(STEPS, count - 1, dimension - 2)
    fewest = _tail(angle, dimension - steps, torch.ones_like(angle))
    below = (1.0 - (count - steps) * fewest).clamp_(min=0.0)
    for left in reversed(range(steps)):
        others = torch.lerp(below[low], below[low + 1], place - low)
        below = (1.0 - (count - left) * _tail(angle, dimension - left, others)).clamp_(min=0.0)
    middle = int((below < 0.5).sum())
    share = (0.5 - below[middle - 1]) / (below[middle] - below[middle - 1])
    return float(torch.lerp(angle[middle - 1], angle[middle], share).sin())


def _tail(
    angle: Float[Tensor, " points"], dimension: int, weight: Float[Tensor, " points"]
) -> Float[Tensor, " points"]:
    """Return the integral of `weight` from each angle on, under |y_1| = sin(angle)."""
    scale = math.lgamma(dimension / 2) - math.lgamma((dimension - 1) / 2)
    constant = 2.0 / math.sqrt(math.pi) * math.exp(scale)
    density = constant * angle.cos().clamp(min=0.0).pow(dimension - 2) * weight
    mass = torch.cumulative_trapezoid(density, angle)
    return torch.cat([mass[-1:], mass[-1] - mass])
