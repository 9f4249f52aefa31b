"""What a list of singular values says: norms, ranks, condition.

Every function takes `sigma`, all singular values of one matrix, descending, float64.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

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
