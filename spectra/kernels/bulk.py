"""The bulk of a spectrum: noise of the same size, and what stands out of it.

The law of Marchenko and Pastur holds for independent entries of any distribution of finite
variance: normal, uniform, ternary, on a four-bit grid. So the scale of the noise is the root
mean square of what is left when the directions that stand out are taken away. A scale from
quantiles of the entries would take one distribution for granted, and one from the middle of the
spectrum one scale of all rows and columns: both are wrong for weights.
"""

import math
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from spectra.kernels.entries import Sizes
from spectra.kernels.summary import frobenius

TAIL = 3.2724  # that Tracy's and Widom's law of real matrices exceeds once in a thousand
FEWEST = 4  # singular values that have a bulk and an end
HEAVY = 0.75  # mean |w| over root mean square: 0.87 uniform, 0.80 normal, 0.71 Laplace
ENTRIES = 400  # from which on that tells the one from the other


class Bulk(NamedTuple):
    """Noise as it would end, and what does not belong to it."""

    edge: float  # upper Marchenko-Pastur edge, s (sqrt(m) + sqrt(n))
    spikes: int  # singular values above it by more than noise scatters


def noise_bulk(sigma: Float[Tensor, " rank"], rows: int, cols: int) -> Bulk | None:
    """Return where noise of the same size ends, and how many singular values stand out of it.

    The scale s is that of what is left: s^2 = sum of sigma_i^2 over (m - k) (n - k), i > k, with
    k from 0 up to what then stands out, until no more does. A spike is above

        s sqrt(mu + 3.27 w),  mu = (p + q)^2,  w = (p + q) (1/p + 1/q)^(1/3),
        p = sqrt(m - 1/2), q = sqrt(n - 1/2),

    which the largest singular value of Gaussian noise exceeds about once in a thousand
    matrices. Rows or columns of unlike scale and entries of heavy tails make noise end farther
    out: see `heavy_tail`.

    Args:
        sigma: All singular values, descending.
        rows: Of the matrix, those of zeros left out.
        cols: Likewise.

    Returns:
        None where fewer than `FEWEST` values are not 0, or more than half of them stand out.

    Source:
        Marchenko and Pastur 1967; Johnstone 2001, On the distribution of the largest
        eigenvalue in principal components analysis (mu, w); Tracy and Widom 1996.
    """
    exact = int((sigma > 0.0).sum())
    if exact < FEWEST:
        return None
    short, long = min(exact, rows, cols), max(rows, cols)
    p, q = math.sqrt(short - 0.5), math.sqrt(long - 0.5)
    room = math.sqrt((p + q) ** 2 + TAIL * (p + q) * (1.0 / p + 1.0 / q) ** (1.0 / 3.0))
    spikes, found = -1, 0
    while found > spikes:
        spikes = found
        if 2 * spikes > exact:
            return None
        scale = frobenius(sigma[spikes:]) / math.sqrt((short - spikes) * (long - spikes))
        found = int((sigma > scale * room).sum())
    return Bulk(scale * (math.sqrt(short) + math.sqrt(long)), spikes)


def heavy_tail(of: Sizes, sigma: Float[Tensor, " rank"]) -> bool | None:
    """Say whether entries spread so unevenly that a few may make singular values of their own.

    By Geary's ratio, the mean of |w| over its root mean square, of all entries that are not 0;
    a grid of values hardly changes it. Below `HEAVY`, they are nearer to Laplace's distribution,
    or to a mixture of large rows and small, than to normal noise.

    Args:
        of: The sizes of the values.
        sigma: Their matrix's singular values.

    Returns:
        None where fewer than `ENTRIES` are not 0: too few to say.

    Source:
        Geary 1935, The ratio of the mean deviation to the standard deviation.
    """
    if of.nonzero < ENTRIES:
        return None
    return of.total < HEAVY * frobenius(sigma) * math.sqrt(of.nonzero)
