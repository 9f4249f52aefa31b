"""How the leading singular vectors of two matrices lie to each other: the reference.

`verdicts` answers the same question faster and falls back to this.
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from spectra.kernels.rounding import EPS64
from spectra.kernels.singular import left_singular
from spectra.words import Side

Decision = Literal["match", "bound", "exact"]

PICTURE = 32  # leading base vectors whose |cos| are kept
APART = 1e3  # roundings between sigma_k and sigma_(k+1), for a subspace that does not turn


class Similarity(NamedTuple):
    """The `k` leading singular vectors of a tuned matrix against all of its base."""

    cosine: Float[Tensor, " k"]  # largest |cos| with any base vector, or a bound of it
    best: Int[Tensor, " k"]  # index of that base vector; -1 where none is known
    tied: Bool[Tensor, " k"]  # its sigma coincides with a neighbour's: vector undetermined
    sigma: Float[Tensor, " k"]
    energy: Float[Tensor, " k"]  # sigma^2 / sum sigma^2 of the tuned matrix
    overlap: float | None  # ||U0_k^T U1_k||_F^2 / k; None where a subspace is not determined
    cosines: Float[Tensor, "k width"]  # |cos| with the leading base vectors, for a picture
    error: Float[Tensor, " k"]  # of cosine, proven; 0 for bounds and full decompositions
    decided_by: tuple[Decision, ...]


def exact_similarity(
    base: Float[Tensor, "rows cols"], tuned: Float[Tensor, "rows cols"], k: int, side: Side = "left"
) -> Similarity:
    """Compare by two float64 SVDs: the reference that fast kernels are held against.

    Where singular values of the base coincide to rounding, their vectors are not
    determined, and the norm of the projection onto their subspace stands for each
    |cos|. Directions that a rank-deficient base sends to exactly nothing belong to it
    only where they fill the rest of the space (no more rows than columns); otherwise
    no null vector is singled out and none can match.

    Args:
        base: Original weight.
        tuned: Changed weight, same shape.
        k: Vectors of `tuned` to examine; fewer where its rank is less.
        side: Compare left (output-side) or right (input-side) singular vectors.

    Returns:
        |cos| throughout, as singular vectors have no sign. No overlap where the rank of the
        base is less than k, or sigma_k of either ties with sigma_(k+1): then any of many
        subspaces is the leading one.

    Raises:
        NonFiniteError: Either matrix holds NaN or Inf.

    Source:
        Shuttleworth et al. 2024, arXiv:2410.21228; overlap: Hu et al. 2021,
        arXiv:2106.09685, section 7.
    """
    if side == "right":
        base, tuned = base.mT, tuned.mT
    directions, sigma = left_singular(tuned)
    floor = max(tuned.shape) * EPS64 * sigma[0]
    k = min(k, int((sigma > floor).sum()))
    tied = torch.zeros(len(sigma), dtype=torch.bool, device=sigma.device)
    close = sigma[:-1] - sigma[1:] <= floor
    tied[:-1] |= close
    tied[1:] |= close
    energy = (sigma / sigma[0].clamp(min=torch.finfo(sigma.dtype).tiny)).square()
    directions = directions[:, :k].clone()
    del tuned  # as wide as the base in float64 where an update was added

    basis, base_sigma = left_singular(base)
    cosines = (basis.mT @ directions).abs_()
    rounding = max(base.shape) * EPS64 * float(base_sigma[0])
    complete = base.shape[0] <= base.shape[1]
    cosine, best = _closest(cosines, base_sigma, rounding, complete=complete)
    decided: list[Decision] = ["exact"] * k
    known = k > 0 and _leads(base_sigma, k, rounding) and _leads(sigma, k, float(floor))
    return Similarity(
        cosine=cosine,
        best=best,
        tied=tied[:k],
        sigma=sigma[:k],
        energy=(energy / energy.sum().clamp(min=torch.finfo(sigma.dtype).tiny))[:k],
        overlap=float(cosines[:k].square().sum()) / k if known else None,
        cosines=cosines[:PICTURE].mT.contiguous(),
        error=torch.zeros_like(cosine),
        decided_by=tuple(decided),
    )


def _leads(sigma: Float[Tensor, " rank"], k: int, rounding: float) -> bool:
    """Say whether the `k` leading singular vectors span one subspace and no other."""
    following = float(sigma[k]) if k < len(sigma) else 0.0
    return float(sigma[k - 1]) - following > APART * rounding


def _closest(
    cosines: Float[Tensor, "rank k"], sigma: Float[Tensor, " rank"], floor: float, *, complete: bool
) -> tuple[Float[Tensor, " k"], Int[Tensor, " k"]]:
    """Return each column's largest |cos|; sigma within `floor` of their neighbours are one."""
    rank, k = cosines.shape
    cluster = torch.zeros(rank, dtype=torch.long, device=sigma.device)
    cluster[1:] = (sigma[:-1] - sigma[1:] > floor).cumsum(0)
    weight = cosines.square()
    if not complete:
        weight[sigma <= floor] = 0.0
    projected = torch.zeros(int(cluster[-1]) + 1, k, dtype=weight.dtype, device=weight.device)
    projected.index_add_(0, cluster, weight)
    largest, group = projected.max(dim=0)
    first = torch.searchsorted(cluster, group)
    return largest.sqrt().clamp(max=1.0), torch.where(largest > 0.0, first, -1)
