"""Quantiles of Student's t and of Fisher's F, through the incomplete beta function.

With y beta-distributed, `(a, b) = (1/2, freedom/2)`, the square of Student's t is
`freedom * y / (1 - y)`; with `(numerator/2, denominator/2)`, Fisher's F is
`denominator/numerator * y / (1 - y)`. So both are the odds of a beta quantile. Odds are found
by bisection of their logarithm, which loses nothing near y = 0 and y = 1.
"""

import math
from functools import lru_cache

from spectra.kernels.rounding import EPS64

TINY = 1e-300  # in place of a zero denominator of the continued fraction
TERMS = 20_000  # of it: about the root of the larger parameter are needed
LOG_ODDS = 700.0  # e^700 is near the largest double


def student_quantile(probability: float, freedom: float) -> float:
    """Return the t that Student's variable stays below with this probability.

    Args:
        probability: In (0, 1).
        freedom: Degrees of freedom, any positive number up to a million.

    Raises:
        ValueError: One of them is outside.

    Source:
        Abramowitz and Stegun 1964, 26.7.1 and 26.5.27.
    """
    _require(probability, freedom)
    if probability == 0.5:
        return 0.0
    outside = 2.0 * min(probability, 1.0 - probability)  # beyond t on either side
    size = math.sqrt(freedom) * math.exp(-0.5 * _log_odds(outside, 0.5 * freedom, 0.5))
    return math.copysign(size, probability - 0.5)


def fisher_quantile(probability: float, numerator: float, denominator: float) -> float:
    """Return what a ratio of two variance estimates stays below with this probability.

    Args:
        probability: In (0, 1).
        numerator: Degrees of freedom of the variance above, positive, up to a million.
        denominator: Of the variance below.

    Raises:
        ValueError: One of them is outside.

    Source:
        Abramowitz and Stegun 1964, 26.6.2 and 26.5.28.
    """
    _require(probability, numerator, denominator)
    odds = math.exp(_log_odds(probability, 0.5 * numerator, 0.5 * denominator))
    return denominator / numerator * odds


def incomplete_beta(below: float, above: float, a: float, b: float) -> float:
    """Return I_x(a, b), the chance that a beta-distributed number is less than x.

    Args:
        below: x, in [0, 1].
        above: 1 - x, given for itself, as it may be far below the rounding of x.
        a: Positive.
        b: Positive.

    Source:
        DLMF 8.17.22, a continued fraction that converges fast for x < (a + 1) / (a + b + 2),
        and 8.17.4 for the others; evaluated forwards (Lentz 1976).
    """
    if below <= 0.0 or above <= 0.0:
        return 0.0 if below <= 0.0 else 1.0
    if below > (a + 1.0) / (a + b + 2.0):
        return 1.0 - incomplete_beta(above, below, b, a)
    log_front = a * math.log(below) + b * math.log(above)
    log_front += math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    return math.exp(log_front) / a / _fraction(below, a, b)


def _fraction(x: float, a: float, b: float) -> float:
    """Return 1 + d_1/(1 + d_2/(1 + ...)) of DLMF 8.17.23."""
    value = upper = 1.0
    lower = 0.0
    for term in range(1, TERMS):
        half = term // 2
        if term % 2:
            step = -(a + half) * (a + b + half) / ((a + 2 * half) * (a + 2 * half + 1.0))
        else:
            step = half * (b - half) / ((a + 2 * half - 1.0) * (a + 2 * half))
        lower = 1.0 / ((1.0 + step * x * lower) or TINY)
        upper = (1.0 + step * x / upper) or TINY
        value *= upper * lower
        if abs(upper * lower - 1.0) < EPS64:
            break
    return value


@lru_cache(maxsize=256)  # many slopes share their degrees of freedom
def _log_odds(probability: float, a: float, b: float) -> float:
    """Return log(y / (1 - y)) of the y with I_y(a, b) = probability."""
    low, high = -LOG_ODDS, LOG_ODDS
    while True:
        middle = 0.5 * (low + high)
        if not low < middle < high or high - low < EPS64:
            return middle
        below, above = 1.0 / (1.0 + math.exp(-middle)), 1.0 / (1.0 + math.exp(middle))
        if incomplete_beta(below, above, a, b) < probability:
            low = middle
        else:
            high = middle


def _require(probability: float, *freedom: float) -> None:
    if not 0.0 < probability < 1.0:
        raise ValueError(f"probability {probability!r}, expected more than 0 and less than 1")
    for count in freedom:
        if not 0.0 < count <= 1e6:
            raise ValueError(f"{count!r} degrees of freedom, expected above 0 and at most 1e6")
