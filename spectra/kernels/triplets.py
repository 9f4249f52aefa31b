"""All singular triplets of a matrix, and how far those of another one lie from them.

The measures are of all triplets and not of a few, so that nothing but two full decompositions
tells them: float64, by LAPACK. Paired by index they count an exchange of two close singular values
as a turn of both vectors; an assignment that maximises the sum of |cos| does not.

Source:
    Cao and Song 2024, arXiv:2409.00055 (SORSA), section 3 and its `analysis/data.ipynb`.
"""

from typing import NamedTuple

from jaxtyping import Float

from spectra.deferred import Tensor, torch
from spectra.kernels.entries import largest_entry
from spectra.kernels.similarity import rounding_of


class Triplets(NamedTuple):
    """U S V^T in full, rank = min(rows, cols); float64, on the CPU, where LAPACK is."""

    left: Float[Tensor, "rows rank"]
    sigma: Float[Tensor, " rank"]  # descending
    right: Float[Tensor, "cols rank"]


class Drift(NamedTuple):
    """How far the triplets of a matrix moved."""

    sigma: float  # mean |sigma1_i - sigma0_i|
    directions: float  # 1 - mean(|u1_i . u0_i| + |v1_i . v0_i|) / 2, paired by index; in [0, 1]
    matched: float  # the same after the pairing that makes it least
    tied: int  # triplets whose sigma coincides with a neighbour's to rounding, in either


def triplets(matrix: Float[Tensor, "rows cols"]) -> Triplets:
    """Decompose a matrix in full.

    Raises:
        NonFiniteError: It holds NaN or Inf.
    """
    largest_entry(matrix)
    left, sigma, right = torch.linalg.svd(matrix.cpu().double(), full_matrices=False)
    return Triplets(left, sigma, right.mT)


def drift(before: Triplets, after: Triplets) -> Drift:
    """Compare all triplets of two matrices of one shape."""
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415 - others need no scipy

    cosines = (before.left.mT @ after.left).abs_().add_((before.right.mT @ after.right).abs_())
    by_index = float(cosines.diagonal().mean())
    # Of all pairings one whose sum is largest: that by index is among them.
    rows, cols = linear_sum_assignment(cosines.numpy(), maximize=True)
    matched = float(cosines[rows, cols].mean())
    tied = _tied(before) | _tied(after)
    return Drift(
        float((after.sigma - before.sigma).abs().mean()),
        _least(by_index),
        min(_least(matched), _least(by_index)),
        int(tied.sum()),
    )


def _least(cosines: float) -> float:
    return min(max(1.0 - cosines / 2.0, 0.0), 1.0)


def _tied(of: Triplets) -> Tensor:
    """Say of each triplet whether its sigma coincides with a neighbour's."""
    tied = torch.zeros(len(of.sigma), dtype=torch.bool)
    if len(of.sigma) > 1:
        shape = (of.left.shape[0], of.right.shape[0])
        close = of.sigma[:-1] - of.sigma[1:] <= rounding_of(of.sigma, shape)
        tied[:-1] |= close
        tied[1:] |= close
    return tied


def triplets_cost(rows: int, cols: int) -> float:
    """Return about how many operations a full decomposition takes."""
    short, long = sorted((rows, cols))
    return 6.0 * long * short**2 + 20.0 * short**3


def assignment_cost(rows: int, cols: int) -> float:
    """Return about how many operations comparing two takes: products, and the assignment."""
    short = min(rows, cols)
    return 2.0 * (rows + cols) * short**2 + 2.0 * short**3


def triplets_memory(rows: int, cols: int) -> int:
    """Return about the peak bytes of two decompositions, one of which is being made."""
    short = min(rows, cols)
    return 8 * (2 * rows * cols + 3 * (rows + cols) * short + 8 * short**2)
