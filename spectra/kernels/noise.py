"""What noise alone would do, of chance or of rounding, and how much of a matrix is more.

The law of Marchenko and Pastur holds for independent entries of any distribution of finite
variance: normal, uniform, ternary, on a four-bit grid. So the scale of the noise in a matrix is
the root mean square of what is left when the directions that stand out are taken away. A scale
from quantiles of the entries would take one distribution for granted, and one from the middle of
the spectrum one scale of all rows and columns: both are wrong for weights.

A matrix that has collapsed to k directions and is stored in bfloat16 has full rank again: the
rounding of its entries fills it up, evenly and far below. So what is lost is told by a break:
sigma_k stands clear of the rounding, sigma_(k+1) lies within it, and nothing lies between. A
spectrum that merely falls, or a large direction such as an embedding's mean, has no such
break at the rounding. Large rows round off more than small ones, and one level for a whole matrix
would take the small ones for rounding. But scaling of rows and columns changes no rank and leaves
relative rounding as it is: where they differ in size, a break must also be there when none is
larger than most.
"""

import functools
import math
from typing import NamedTuple

from jaxtyping import Float

from spectra.deferred import Tensor, torch
from spectra.kernels.entries import Sizes, sizes
from spectra.kernels.singular import decompose
from spectra.kernels.summary import frobenius

MARGIN = 4.0  # roundings of independent sign that entries may have come through
MADE = 64.0  # those of a sum of products in float32, that made a matrix of low rank
FLOAT32 = 2.0**-24  # what they round off
BREAK = 4.0  # sigma_k over sigma_(k+1)
ENOUGH = 0.75  # of the directions above the floor, that nothing is in doubt
UNLIKE = 1.5  # the floor over that of entries of one size, from which on rows or columns differ
ROUNDS = 2  # of bringing rows, then columns, to one norm
STEPS = 12  # coordinates taken one by one in the law of the largest
GRID = 4096  # angles on which that law is tabulated
REACH = 9.0  # largest angle of the grid, in units of 1/sqrt(dimension)
TAIL = 3.2724  # that Tracy's and Widom's law of real matrices exceeds once in a thousand
FEWEST = 4  # singular values that have a bulk and an end
HEAVY = 0.75  # mean |w| over root mean square: 0.87 uniform, 0.80 normal, 0.71 Laplace
CLEAR = 1.1  # times what noise reaches, from which on a spectrum has broken off
LEFT = 0.25  # of the values, that a bulk below a break has at least
MANY = 0.125  # of the values: fewer cannot hide in a scale that they raise
ENTRIES = 400  # from which on that tells the one from the other


def marchenko_pastur_edge(scale: float, rows: int, cols: int) -> float:
    """Return the largest singular value that noise would have, `s * (sqrt(m) + sqrt(n))`.

    It is the edge of an m x n matrix with independent entries of standard deviation s, `scale`.

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

    `unit_roundoff` is half of machine epsilon of the stored dtype, `smallest` its smallest positive
    number: below its normal range, half of that is the most that rounding moves (float16 only).

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

    `rounding_floor` for entries of one size: from the Frobenius norm of the stored values,
    `rms(W) * sqrt(m n)`, it does not see how these are spread over rows and columns. Directions
    whose singular values lie below are the rounding's as much as the matrix's.
    """
    scale = unit_roundoff * norm / math.sqrt(3.0 * rows * cols)
    return marchenko_pastur_edge(scale, rows, cols)


@functools.cache
def chance_cosine(dimension: int, count: int) -> float:
    """Return the largest |cosine| that a random direction has with p orthonormal vectors, p <= d.

    The median of `max |y_i|`, i up to p, for y uniform on the unit sphere in d dimensions, by
    an exact recursion: where the largest of p coordinates is `sin(a)`, the others of them, on
    their own sphere, all stay below `tan(a)`, so with Q_dp(a) = P(max |y_i| <= sin(a))

        1 - Q_dp(a) = integral from a to pi/2 of p f_d(x) Q_{d-1,p-1}(arcsin(tan(x))) dx,

    f_d(x) proportional to cos(x)^(d-2). It starts `STEPS` lower from Boole's bound
    `1 - p P(|y_1| > sin(a))`, exact for one coordinate and in two dimensions; each step moves
    into the tail, where that bound is tight. Off by less than 1e-6.
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


class Bulk(NamedTuple):
    """Noise as it would end, and what does not belong to it."""

    edge: float  # upper Marchenko-Pastur edge, s (sqrt(m) + sqrt(n))
    spikes: int  # singular values above it by more than noise scatters
    energy: float  # share of sum sigma^2 that they hold


def noise_bulk(sigma: Float[Tensor, " rank"], rows: int, cols: int) -> Bulk | None:
    """Return where noise of the same size ends, and how many singular values stand out of it.

    The scale s is that of what is left: s^2 = sum of sigma_i^2 over (m - k) (n - k), i > k, with
    k from 0 up to what then stands out, until no more does. A spike is above

        s sqrt(mu + 3.27 w),  mu = (p + q)^2,  w = (p + q) (1/p + 1/q)^(1/3),
        p = sqrt(m - 1/2), q = sqrt(n - 1/2),

    which the largest singular value of Gaussian noise exceeds about once in a thousand
    matrices. Rows or columns of unlike scale and entries of heavy tails make noise end farther
    out: see `heavy_tail`.

    Rows and columns of zeros are left out of the sides. None where fewer than `FEWEST` values are
    not 0, or more than half of them stand out. `spectra.kernels.arranged` takes away what a few
    large entries make.

    Source:
        Marchenko and Pastur 1967; Johnstone 2001, On the distribution of the largest
        eigenvalue in principal components analysis (mu, w); Tracy and Widom 1996.
    """
    exact = int((sigma > 0.0).sum())
    if exact < FEWEST:
        return None
    short, long = min(exact, rows, cols), max(rows, cols)
    room = noise_room(short, long)
    spikes, found = -1, 0
    while found > spikes:
        spikes = found
        if 2 * spikes > exact:
            return None
        scale = frobenius(sigma[spikes:]) / math.sqrt((short - spikes) * (long - spikes))
        found = int((sigma > scale * room).sum())
    edge = marchenko_pastur_edge(scale, short, long)
    share = frobenius(sigma[:spikes]) / frobenius(sigma) if spikes else 0.0
    return Bulk(edge, spikes, share**2)


def broken_off(sigma: Float[Tensor, " rank"], rows: int, cols: int) -> int:
    """Return how many singular values stand clear of all that is left below them; 0: none do.

    Where many directions are planted in a narrow band, the scale of all values is that of the band,
    and no value stands out of it: `noise_bulk` takes them for noise. But noise has no gap: of
    Gaussian entries fewer than k values stand out of the scale of those after the k-th, whatever k.
    So the largest k is told whose values are at least `CLEAR` times what noise of the scale of the
    others would reach, while none of these, `LEFT` of all or more, is beyond it. They are more than
    `MANY` of all: k of one size are below the reach of all together from mn / (sqrt(m) + sqrt(n))^2
    on alone, a quarter of the shorter side or more.

    Args:
        sigma: Singular values, descending.
        rows: That are not of zeros alone.
        cols: Likewise.
    """
    exact = int((sigma > 0.0).sum())
    if exact < FEWEST:
        return 0
    short, long = min(exact, rows, cols), max(rows, cols)
    values = sigma[:short].double() / float(sigma[0])
    count = torch.arange(int(MANY * short) + 1, min(int((1.0 - LEFT) * short), short - FEWEST) + 1)
    left = values.square().flip(0).cumsum(0).flip(0)[count]
    reach = noise_room(short, long) * (left / ((short - count) * (long - count))).sqrt()
    broken = (values[count - 1] >= CLEAR * reach) & (values[count] <= reach)
    return int(count[broken].max()) if bool(broken.any()) else 0


def noise_room(short: int, long: int) -> float:
    """Return what the largest singular value of Gaussian noise exceeds once in a thousand matrices.

    Of entries of variance 1, from the sides of the matrix; see `noise_bulk`.
    """
    p, q = math.sqrt(short - 0.5), math.sqrt(long - 0.5)
    return math.sqrt((p + q) ** 2 + TAIL * (p + q) * (1.0 / p + 1.0 / q) ** (1.0 / 3.0))


def heavy_tail(of: Sizes, sigma: Float[Tensor, " rank"]) -> bool | None:
    """Say whether entries spread so unevenly that a few may make singular values of their own.

    By Geary's ratio, the mean of |w| over its root mean square, of all entries that are not 0;
    a grid of values hardly changes it. Below `HEAVY`, they are nearer to Laplace's distribution,
    or to a mixture of large rows and small, than to normal noise. None where fewer than `ENTRIES`
    are not 0: too few to say.

    Source:
        Geary 1935, The ratio of the mean deviation to the standard deviation.
    """
    if of.nonzero < ENTRIES:
        return None
    return of.total < HEAVY * frobenius(sigma) * math.sqrt(of.nonzero)


def resolved_rank(
    matrix: Float[Tensor, "rows cols"],
    of: Sizes,
    sigma: Float[Tensor, " rank"],
    unit_roundoff: float,
    smallest: float = 0.0,
) -> int:
    """Return how many singular values stand above the rounding of the stored values.

    With k of them above `MARGIN * rounding_floor`, or above that of `MADE` roundings of float32
    (finer ones for float64), it is k where sigma_k is at least `BREAK` times sigma_(k+1), and
    otherwise all that are not 0. Where that leaves less than `ENOUGH` in doubt, and rows or
    columns are unlike, it is the count with the larger ones scaled down to the median norm.

    `unit_roundoff` is the most that storing moved an entry, relative to it, `smallest` the smallest
    positive number of the stored dtype, where that matters.
    """
    unit = _unit(unit_roundoff)
    floor = made_floor(of, unit_roundoff, smallest)
    rank, above = _before_the_break(sigma, floor)
    rows, cols = matrix.shape
    alike = floor <= UNLIKE * mean_rounding_floor(frobenius(sigma), rows, cols, unit)
    if alike or min(rank, above) >= ENOUGH * len(sigma) or not rank:
        return rank
    weights = _balanced(matrix)
    # A decomposition more, but of matrices that seem to have lost something alone.
    found = decompose(matrix, weights=weights).values
    return _before_the_break(found, rounding_floor(sizes(matrix, weights), unit))[0]


def made_floor(of: Sizes, unit_roundoff: float, smallest: float = 0.0) -> float:
    """Return about the most that making and storing a matrix moved a singular value by.

    From the sizes of the entries as stored; all as for `resolved_rank`.
    """
    return rounding_floor(of, _unit(unit_roundoff), MARGIN * smallest)


def _unit(unit_roundoff: float) -> float:
    """Return all roundings of an entry, relative to it."""
    return max(MARGIN * unit_roundoff, MADE * min(unit_roundoff, FLOAT32))


def _before_the_break(sigma: Float[Tensor, " rank"], floor: float) -> tuple[int, int]:
    """Return the rank where the floor tells one, and how many values stand above it."""
    exact = int((sigma > 0.0).sum())
    above = int((sigma > floor).sum())
    broken = 0 < above < exact and float(sigma[above - 1]) >= BREAK * float(sigma[above])
    return above if broken else exact, above


def _balanced(
    matrix: Float[Tensor, "rows cols"],
) -> tuple[Float[Tensor, " rows"], Float[Tensor, " cols"]]:
    """Return weights by which rows and columns that are larger than most are scaled down to them.

    Those that are smaller stay: a scheme's own scales round off more of them.
    """
    rows, cols = (matrix.new_ones(size, dtype=torch.float64) for size in matrix.shape)
    for _ in range(ROUNDS):
        rows /= _over_most(sizes(matrix, (rows, cols)).rows)
        cols /= _over_most(sizes(matrix, (rows, cols)).cols)
    return rows, cols


def _over_most(squares: Float[Tensor, " lines"]) -> Float[Tensor, " lines"]:
    """Return the norms of lines, none below the median of those that are not 0."""
    norms = squares.sqrt()
    filled = norms[norms > 0.0]
    return norms.clamp(min=float(filled.median()) if len(filled) else 1.0)
