"""Power-law fit to the tail of an eigenvalue density."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

CHUNK = 1 << 22  # entries of the (cut, value) grid held at a time


class PowerLaw(NamedTuple):
    """A fitted tail `p(x) ~ x^-alpha` for `x >= xmin`."""

    alpha: float  # exponent
    xmin: float  # where the tail begins
    distance: float  # Kolmogorov-Smirnov distance of the tail to the fit, in [0, 1]
    tail: int  # values in the tail


def fit_power_law(values: Float[Tensor, " count"]) -> PowerLaw | None:
    """Fit a continuous power law, its cut chosen by the smallest KS distance.

    For each distinct value as `xmin`, the exponent is the maximum-likelihood one,
    `1 + n / sum(log(x / xmin))`, over the n values at or above it; the cut kept is
    the one whose tail lies nearest to its fit. All cuts are tried at once on a grid.

    Args:
        values: Positive, any order, float64; here the eigenvalues `sigma^2`.

    Returns:
        The fit, or None where fewer than two distinct values exist.

    Source:
        Clauset, Shalizi and Newman 2009, arXiv:0706.1062, equations 3.1 and 3.9;
        Alstott et al. 2014 (`powerlaw`), whose choices of cut this follows.
    """
    logs = values.log().sort().values
    count = len(logs)
    first = torch.ones(count, dtype=torch.bool, device=logs.device)
    first[1:] = logs[1:] > logs[:-1]
    cuts = first.nonzero().squeeze(1)[:-1]
    if len(cuts) == 0:
        return None
    tail = (count - cuts).double()
    excess = logs.flip(0).cumsum(0).flip(0)[cuts] - tail * logs[cuts]
    slope = tail / excess  # alpha - 1
    distance = torch.cat(
        [
            _distances(logs, cuts[part], slope[part])
            for part in torch.arange(len(cuts), device=logs.device).split(max(1, CHUNK // count))
        ]
    )
    best = int(distance.argmin())
    return PowerLaw(
        alpha=1.0 + float(slope[best]),
        xmin=math.exp(float(logs[cuts[best]])),
        distance=float(distance[best]),
        tail=int(tail[best]),
    )


def _distances(
    logs: Float[Tensor, " count"], cuts: Tensor, slope: Float[Tensor, " cuts"]
) -> Float[Tensor, " cuts"]:
    """Return the KS distance between each cut's tail and its fitted law."""
    start = int(cuts[0])
    position = torch.arange(start, len(logs), device=logs.device)
    above = position[None, :] >= cuts[:, None]
    fitted = -torch.expm1((logs[None, cuts].mT - logs[None, start:]) * slope[:, None])
    rank = (position[None, :] - cuts[:, None]).double()
    tail = (len(logs) - cuts).double()[:, None]
    below = (fitted - rank / tail).abs_()
    upper = (fitted - (rank + 1.0) / tail).abs_()
    return torch.maximum(below, upper).masked_fill_(~above, 0.0).amax(dim=1)
