"""What a list of singular values says: norms, ranks, condition, and the power law of its tail.

But for the power law every function takes `sigma`.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spectra.kernels.rounding import EPS64


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


def frobenius(sigma: Float[Tensor, " rank"]) -> float:
    """Return the Frobenius norm, `sqrt(sum sigma^2)`."""
    largest = float(sigma[0])
    return largest * float((sigma / largest).norm()) if largest else 0.0


def stable_rank(sigma: Float[Tensor, " rank"]) -> float:
    """Return `sum sigma^2 / sigma_1^2`, 0 for a zero matrix.

    Source:
        Rudelson and Vershynin 2007, Sampling from large matrices.
    """
    largest = float(sigma[0])
    return float((sigma / largest).square().sum()) if largest else 0.0


def effective_rank(sigma: Float[Tensor, " rank"]) -> float:
    """Return `exp(H(p))`, `p = sigma / sum(sigma)`, 0 for a zero matrix.

    Source:
        Roy and Vetterli 2007, The effective rank.
    """
    largest = float(sigma[0])
    if not largest:
        return 0.0
    scaled = sigma / largest
    p = scaled / scaled.sum()
    return math.exp(float(torch.special.entr(p).sum()))


def energy_rank(sigma: Float[Tensor, " rank"], share: float) -> int:
    """Return the smallest k whose leading `sigma^2` hold `share` of their sum.

    A share in (0, 1]; 1 asks for all that are not 0, however small.

    Source:
        SVFit, arXiv:2409.05926.
    """
    largest = float(sigma[0])
    if not largest:
        return 0
    if share == 1.0:
        return int((sigma > 0.0).sum())
    energy = (sigma / largest).square().cumsum(0)
    # As binary fractions 0.07 * 100 > 7: a sum that reaches the share exactly must count.
    return min(int((energy < share * energy[-1] * (1.0 - 4.0 * EPS64)).sum()) + 1, len(sigma))


def numerical_rank(sigma: Float[Tensor, " rank"], length: int, epsilon: float) -> int:
    """Return how many `sigma > sigma_1 * length * epsilon`.

    With the longer side of the matrix and machine epsilon of the dtype in which it is stored.

    Source:
        LAPACK's convention (also `numpy.linalg.matrix_rank`).
    """
    return int((sigma > float(sigma[0]) * length * epsilon).sum())


def condition_number(sigma: Float[Tensor, " rank"]) -> float:
    """Return `sigma_1 / sigma_r`, infinite where `sigma_r` is 0.

    Source:
        KappaTune, arXiv:2506.16289, for its use in choosing what to train.
    """
    smallest = float(sigma[-1])
    return float(sigma[0]) / smallest if smallest else math.inf
