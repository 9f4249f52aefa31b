"""What a list of singular values says: norms, ranks, condition, entropy, determinant.

Every function takes `sigma`, descending, in float64.
"""

import math

from jaxtyping import Float

from spectra.deferred import Tensor, torch
from spectra.kernels.rounding import EPS64


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


def spectral_entropy(sigma: Float[Tensor, " rank"], rank: int) -> float | None:
    """Return `-sum p ln p / ln(rank)`, `p = sigma^2 / sum sigma^2`: 1 where all are equal.

    `rank` is how many of them count as not 0, by the caller's measure; None below 2.

    Source:
        Martin and Mahoney, WeightWatcher (`entropy`).
    """
    largest = float(sigma[0])
    if rank < 2 or not largest:
        return None
    share = (sigma / largest).square()
    share = share / share.sum()
    return float(torch.special.entr(share).sum()) / math.log(rank)


def log_abs_determinant(sigma: Float[Tensor, " rank"]) -> float | None:
    """Return `sum ln sigma`, ln |det W| of a square matrix; None where one of them is 0.

    Of a rectangle it is half of ln det of its smaller Gram matrix: the log of the volume that its
    rows or columns span.
    """
    return float(sigma.log().sum()) if float(sigma[-1]) > 0.0 else None


def detx(sigma: Float[Tensor, " rank"]) -> int | None:
    """Return the smallest k for which the k largest lambda, scaled to mean 1, multiply to below 1.

    `lambda = sigma^2`, scaled by rank / sum lambda. In logs: the product itself underflows. None
    where no product does, as for equal values, and for a zero matrix.

    Source:
        Martin and Hinrichs, WeightWatcher (`detX_num`): the tail whose volume is preserved.
    """
    largest = float(sigma[0])
    if not largest:
        return None
    scaled = (sigma / largest).square()
    logs = (scaled * (len(sigma) / float(scaled.sum()))).log().cumsum(0)
    # Of equal values every product is 1, and rounding may put it on either side.
    below = (logs < -len(sigma) * 4.0 * EPS64).nonzero()
    return int(below[0]) + 1 if len(below) else None


def signal_to_noise(sigma: Float[Tensor, " rank"], rows: int, cols: int) -> float | None:
    """Return Spectrum's ratio: `sum(sigma > t) / sum(sigma <= t) / sigma_1`.

    With `t = iqr(sigma) / 1.349 * (1 + sqrt(beta))`, beta the shorter side over the longer, and
    quartiles interpolated linearly. Where nothing is at or below t the denominator is 1. It is
    not free of scale, and t is no edge of noise: of Gaussian noise with four times as many rows as
    columns every value is above. None where only zeros are below, and for a zero matrix.

    Source:
        Hartford et al. 2024, Spectrum, arXiv:2406.06623 and its `spectrum.py`.
    """
    largest = float(sigma[0])
    if not largest:
        return None
    quartiles = sigma.quantile(torch.tensor([0.25, 0.75], dtype=sigma.dtype))
    beta = min(rows, cols) / max(rows, cols)
    edge = float(quartiles[1] - quartiles[0]) / 1.349 * (1.0 + math.sqrt(beta))
    above = sigma > edge
    signal, noise = float(sigma[above].sum()), float(sigma[~above].sum())
    if bool(above.all()):
        noise = 1.0
    return signal / noise / largest if noise else None


def paired_distance(sigma: Float[Tensor, " rank"], other: Float[Tensor, " rank"]) -> float:
    """Return the Jensen-Shannon distance of two spectra, their lambda paired by rank.

    The square root of `(KL(p, m) + KL(q, m)) / 2`, p and q the `sigma^2` over their sums, m =
    (p + q) / 2: 0 where both fall alike, at most sqrt(ln 2) = 0.83. Of as many values each, none of
    them all zeros.

    Source:
        WeightWatcher (`rand_distance`), which pairs the sorted eigenvalues; Endres and Schindelin
        2003 for the distance.
    """
    p, q = ((one / float(one[0])).square() for one in (sigma, other))
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2.0
    entr = torch.special.entr
    divergence = float((entr(middle) - (entr(p) + entr(q)) / 2.0).sum())
    return math.sqrt(max(divergence, 0.0))
