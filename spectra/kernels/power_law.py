"""The power law of a spectrum's tail, how uncertain it is, and what might describe it better.

The tail's values x, those from the cut x_min on, count as independent draws. Alternatives are the
likelihood's best among lognormal, exponential and exponentially truncated laws on x >= x_min; of
each is told

    R = sum over the tail of ln p(x) - ln q(x),

p the power law, q the alternative: above 0 the power law is likelier. Both lognormal and truncated
laws come as near to a power law as one likes, and where none of them is likelier they are it: R
is 0. With l = ln(x / x_min), a lognormal tail is a normal distribution of l cut off at 0, whose
likelihood's best has the mean and the mean square that l has; a truncated law,
x^-a exp(-b x), is an exponential family in (l, x), whose likelihood is concave.
"""

import functools
import math
from typing import NamedTuple

from jaxtyping import Float, Int

from spectra.deferred import Tensor, torch
from spectra.kernels.rounding import EPS64

FLATTEST = 1e3  # cut of a normal distribution, in deviations above its mean, that no tail tells
NODES = 16  # of a Gauss-Legendre rule
PANELS = 24
DECAY = 45.0  # natural logarithms below its largest value, from which on an integrand is 0
NEWTON = 60  # steps at most
SETTLED = 1e-12  # gain of likelihood a value at which they end


class PowerLaw(NamedTuple):
    """A fitted tail `p(x) ~ x^-alpha` for `x >= xmin`."""

    alpha: float  # exponent
    xmin: float  # where the tail begins
    distance: float  # Kolmogorov-Smirnov distance of the tail to the fit, in [0, 1]
    tail: int  # values in the tail


def fit_power_law(values: Float[Tensor, " count"], held: int = 1 << 20) -> PowerLaw | None:
    """Fit a continuous power law, its cut chosen by the smallest KS distance.

    For each distinct value but the largest as `xmin`, the exponent is the
    maximum-likelihood one, `1 + n / sum(log(x / xmin))`, over the n values at or above
    it; the cut kept is the one whose tail lies nearest to its fit, the lower where two
    are as near. The distance is taken where the empirical distribution is about to
    step, `|F(x) - #(values < x) / n|`, as both sources' programs take it.

    The values are positive, of any order; here the eigenvalues `sigma^2`. Neighbours no further
    apart than their rounding count as equal; None where fewer than two distinct ones exist. The
    (cut, value) grid is taken `held` entries at a time.

    Source:
        Clauset, Shalizi and Newman 2009, arXiv:0706.1062, equations 3.1 and 3.9;
        Alstott et al. 2014 (`powerlaw`), whose choices of cut this follows.
    """
    ordered = values.sort().values
    count = len(ordered)
    logs = (ordered / ordered[-1:]).log()  # against the largest: no scale, less rounding
    first = torch.ones(count, dtype=torch.bool, device=logs.device)
    first[1:] = logs[1:] - logs[:-1] > count * EPS64
    starts = first.nonzero().squeeze(1)
    cuts = starts[:-1]
    if len(cuts) == 0:
        return None
    tail = (count - cuts).double()
    excess = logs.flip(0).cumsum(0).flip(0)[cuts] - tail * logs[cuts]
    slope = tail / excess  # alpha - 1
    step = max(1, held // count)
    parts = [_distances(logs, starts[i:], slope[i : i + step]) for i in range(0, len(cuts), step)]
    distance, best = torch.cat(parts).min(dim=0)
    found = torch.stack([1.0 + slope[best], ordered[cuts[best]], distance, tail[best]])
    alpha, xmin, least, size = found.tolist()  # one wait for a GPU
    return PowerLaw(alpha, xmin, least, int(size))


def _distances(
    logs: Float[Tensor, " count"],
    inside: Int[Tensor, " distinct"],
    slope: Float[Tensor, " cuts"],
) -> Float[Tensor, " cuts"]:
    """Return how far the tails from the first places `inside` are from their laws.

    `logs` ascends; `slope` is alpha - 1.
    """
    cut = inside[: len(slope), None]
    rank = (inside[None, :] - cut).double()
    fitted = -torch.expm1((logs[cut] - logs[inside][None, :]) * slope[:, None])
    gap = fitted.sub_(rank / (len(logs) - cut)).abs_()
    return gap.masked_fill_(inside[None, :] < cut, 0.0).amax(dim=1)


def alpha_sigma(law: PowerLaw) -> float:
    """Return about the standard error of the exponent, `(alpha - 1) / sqrt(n)`, n in the tail.

    The cut counts as known, and the values as independent, which eigenvalues are not: these
    repel each other, and scatter less.

    Source:
        Clauset, Shalizi and Newman 2009, arXiv:0706.1062, equation 3.2.
    """
    return (law.alpha - 1.0) / math.sqrt(law.tail)


def alpha_error(law: PowerLaw) -> float | None:
    """Return the standard deviation of the exponent's estimate; None below 3 values in the tail.

    `(alpha - 1) n / ((n - 1) sqrt(n - 2))`: of a finite tail, where `alpha_sigma` is the limit of
    a long one. Otherwise as there.

    Source:
        Clauset, Shalizi and Newman 2009, arXiv:0706.1062, appendix B: 1 / (alpha - 1) follows a
        gamma distribution.
    """
    n = law.tail
    return (law.alpha - 1.0) * n / ((n - 1.0) * math.sqrt(n - 2.0)) if n > 2 else None


class Comparison(NamedTuple):
    """The power law against another law of the same tail."""

    ratio: float  # ln of both likelihoods' ratio: above 0 the power law is likelier
    p: float  # how often chance alone makes it so far from 0


class Alternatives(NamedTuple):
    """What Clauset et al. hold a power law against."""

    lognormal: Comparison
    exponential: Comparison
    truncated: Comparison


NEITHER = Comparison(0.0, 1.0)


def alternatives(values: Float[Tensor, " count"], law: PowerLaw) -> Alternatives:
    """Compare a fitted power law with other laws of its tail.

    Args:
        values: Those that it was fitted to, positive, of any order.
        law: Of `fit_power_law`.

    Returns:
        Of lognormal and exponential laws p is that of Vuong's test; the power law is a truncated
        one that is cut nowhere, so there p is that of twice R by a chi square with one degree
        of freedom.

    Source:
        Clauset, Shalizi and Newman 2009, arXiv:0706.1062, sections 3.3 and 5, appendix C; Vuong
        1989, Likelihood ratio tests for model selection and non-nested hypotheses; Cohen 1950 for
        the truncated normal distribution.
    """
    tail = values.detach().double().cpu().sort().values[-law.tail :] / law.xmin
    tail = tail.clamp(min=1.0)  # x_min itself, rounded
    logs = tail.log()
    slope = law.alpha - 1.0
    power = math.log(slope) - law.alpha * logs
    excess = float(tail.mean()) - 1.0
    exponential = -math.log(excess) - (tail - 1.0) / excess
    return Alternatives(
        _vuong(power, _lognormal(logs)),
        _vuong(power, exponential),
        _nested(power, _truncated(tail, logs, law.alpha), exponential),
    )


def _vuong(law: Float[Tensor, " tail"], other: Float[Tensor, " tail"] | None) -> Comparison:
    """Compare log-likelihoods, value by value, of two laws of which neither holds the other."""
    if other is None:
        return NEITHER
    gain = law - other
    ratio, spread = float(gain.sum()), float(gain.std(correction=0))
    if not spread:
        return Comparison(ratio, 1.0)
    return Comparison(ratio, math.erfc(abs(ratio) / (spread * math.sqrt(2.0 * len(gain)))))


def _nested(
    law: Float[Tensor, " tail"],
    other: tuple[float, Float[Tensor, " tail"]] | None,
    exponential: Float[Tensor, " tail"],
) -> Comparison:
    """Compare those of a law with those of a family that it belongs to, from a = 0 on."""
    if other is None:
        return NEITHER
    a, best = other
    ratio = min(float((law - (best if a > 0.0 else exponential)).sum()), 0.0)
    return Comparison(ratio, math.erfc(math.sqrt(-ratio)))


def _mills(cut: float) -> float:
    """Return the normal distribution's density at a point over what lies above it."""
    scaled = torch.special.erfcx(torch.tensor(cut / math.sqrt(2.0), dtype=torch.float64))
    return math.sqrt(2.0 / math.pi) / float(scaled)


def _lognormal(logs: Float[Tensor, " tail"]) -> Float[Tensor, " tail"] | None:
    """Return log-likelihoods by the best lognormal tail; None: it is the power law.

    Of z normal, cut off below k, the mean of (z - k)^2 over the square of its mean grows with k
    from 1 to 2, which is that of an exponential distribution: there the tail is a power law.
    """
    mean, square = float(logs.mean()), float(logs.square().mean())

    def moments(cut: float) -> tuple[float, float]:
        mills = _mills(cut)
        return mills - cut, 1.0 - cut * (mills - cut)

    wanted = square / mean**2
    low, high = -40.0, FLATTEST
    first, second = moments(high)
    if wanted >= second / first**2:
        return None
    for _ in range(200):
        cut = (low + high) / 2.0
        first, second = moments(cut)
        low, high = (cut, high) if second / first**2 < wanted else (low, cut)
        if high - low <= 4.0 * EPS64 * max(abs(cut), 1.0):
            break
    spread = mean / first
    scaled = logs / spread
    # The density at (l + k s) / s over that at k, times Mills' ratio there, without cancellation.
    return -scaled * (scaled / 2.0 + cut) + math.log(_mills(cut) / spread) - logs


def _truncated(
    tail: Float[Tensor, " tail"], logs: Float[Tensor, " tail"], alpha: float
) -> tuple[float, Float[Tensor, " tail"]] | None:
    """Return a and log-likelihoods by the best x^-a exp(-b x), b >= 0; None: b is 0."""
    mean, size = float(logs.mean()), float(tail.mean())
    if alpha > 2.0 and size >= (alpha - 1.0) / (alpha - 2.0):
        return None  # the likelihood falls with b from 0 on
    a, b = alpha, 1.0 / (10.0 * float(tail[-1]))
    total, first, second = _integral(a, b)
    height = -a * mean - b * size - total
    for _ in range(NEWTON):
        gradient = first - torch.tensor([mean, size], dtype=torch.float64)
        step = torch.linalg.solve(second, gradient).tolist()
        reach = min(1.0, 0.9 * b / -step[1]) if step[1] < 0.0 else 1.0
        while True:
            tried = a + reach * step[0], b + reach * step[1]
            total, first, second = _integral(*tried)
            gained = -tried[0] * mean - tried[1] * size - total - height
            if gained >= 0.0 or reach < SETTLED:
                break
            reach /= 2.0
        (a, b), height = tried, height + gained
        if gained <= SETTLED:
            break
    return a, -a * logs - b * tail - total


def _integral(a: float, b: float) -> tuple[float, Tensor, Tensor]:
    """Return ln of the integral of y^-a exp(-b y) from 1 on; means and covariance of (ln y, y)."""
    peak = max(0.0, math.log((1.0 - a) / b)) if a < 1.0 else 0.0

    def exponent(t: float) -> float:
        return (1.0 - a) * t - b * math.exp(min(t, 700.0))

    low, high, top = peak, peak + 1.0, exponent(peak)
    while exponent(high) > top - DECAY:
        low, high = high, high + 2.0 * (high - peak)
    for _ in range(20):
        middle = (low + high) / 2.0
        low, high = (middle, high) if exponent(middle) > top - DECAY else (low, middle)
    nodes, weights = _rule()
    # Panels shrink towards the cut, where an integrand may fall fastest.
    edges = torch.linspace(0.0, 1.0, PANELS + 1, dtype=torch.float64).square() * high
    half = (edges[1:] - edges[:-1]) / 2.0
    t = (edges[:-1, None] + half[:, None] * (1.0 + nodes[None, :])).reshape(-1)
    y = t.exp()
    mass = ((1.0 - a) * t - b * y - top).exp() * (half[:, None] * weights[None, :]).reshape(-1)
    whole = float(mass.sum())
    pair = torch.stack([t, y])
    share = mass / whole
    means = pair @ share
    apart = pair - means[:, None]
    return top + math.log(whole), means, (apart * share) @ apart.mT


@functools.cache
def _rule() -> tuple[Tensor, Tensor]:
    """Return nodes and weights on [-1, 1]: eigenvalues of the Legendre polynomials' recurrence."""
    order = torch.arange(1, NODES, dtype=torch.float64)
    beside = order / (4.0 * order.square() - 1.0).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(beside, 1) + torch.diag(beside, -1))
    return nodes, 2.0 * vectors[0].square()
