"""How the leading singular vectors of two matrices lie to each other: the reference.

`verdicts` answers the same question faster and falls back to this.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from jaxtyping import Bool, Float, Int

from spectra.deferred import Tensor, torch
from spectra.kernels.entries import entry_norm
from spectra.kernels.left_vectors import components, leading_of_long, left_singular
from spectra.kernels.linear_map import linear_map
from spectra.kernels.rounding import EPS64
from spectra.kernels.work import is_long
from spectra.words import Side

Decision = Literal["match", "bound", "match float64", "bound float64", "exact"]
"""How a verdict was reached: by a known base vector that resembles the tuned one, or by a bound
of all that any could have in common with it; from float32 products, or float64 ones. `exact`:
from all singular vectors of the base, by float64 decompositions."""

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

    A matrix as long as a vocabulary is not copied: they are those of its triangular factor.
    Where singular values of the base coincide to rounding, their vectors are not
    determined, and the norm of the projection onto their subspace stands for each
    |cos|. Directions that a rank-deficient base sends to exactly nothing belong to it
    only where they fill the rest of the space (no more rows than columns); otherwise
    no null vector is singled out and none can match.

    Of `tuned` k vectors are examined, fewer where its rank is less: left ones (output-side) or
    right ones (input-side). No overlap where the rank of the base is less than k, or sigma_k of
    either ties with sigma_(k+1): then any of many subspaces is the leading one.

    Source:
        Shuttleworth et al. 2024, arXiv:2410.21228; overlap: Hu et al. 2021,
        arXiv:2106.09685, section 7.
    """
    if side == "right":
        base, tuned = base.mT, tuned.mT
    long = is_long(*tuned.shape)
    if long:
        of = linear_map(tuned, stored=True)
        directions, sigma = leading_of_long(of, min(k + 1, *tuned.shape))
    else:
        directions, sigma = left_singular(tuned)
    norm = entry_norm(tuned)
    chosen = leading_of(directions, sigma, k, max(tuned.shape))
    del tuned, directions  # as wide as the base in float64 where an update was added
    k = len(chosen.sigma)
    if long:
        along, _, base_sigma = components(base, chosen.vectors, sigma.new_zeros(base.shape[1], 0))
    else:
        basis, base_sigma = left_singular(base)
        along = basis.mT @ chosen.vectors
    closest = closest_of(along, base_sigma, base.shape)
    known = closest.leads and chosen.leads
    decided: list[Decision] = ["exact"] * k
    return Similarity(
        cosine=closest.cosine,
        best=closest.best,
        tied=chosen.tied,
        sigma=chosen.sigma,
        energy=(chosen.sigma / norm).square(),
        overlap=float(closest.cosines[:k].square().sum()) / k if known else None,
        cosines=closest.cosines[:PICTURE].mT.contiguous(),
        error=torch.zeros_like(closest.cosine),
        decided_by=tuple(decided),
    )


class Tuned(NamedTuple):
    """The leading left singular vectors of a tuned matrix."""

    vectors: Float[Tensor, "rows k"]
    sigma: Float[Tensor, " k"]
    tied: Bool[Tensor, " k"]  # with a neighbour, to rounding
    leads: bool  # whether they span one subspace and no other


def leading_of(
    vectors: Float[Tensor, "rows rank"], sigma: Float[Tensor, " rank"], k: int, length: int
) -> Tuned:
    """Return the first `k` of all left singular vectors, fewer where the rank is less.

    `length` is the longer side of their matrix.
    """
    floor = rounding_of(sigma, (length,))
    k = min(k, int((sigma > floor).sum()))
    tied = torch.zeros(len(sigma), dtype=torch.bool, device=sigma.device)
    close = sigma[:-1] - sigma[1:] <= floor
    tied[:-1] |= close
    tied[1:] |= close
    leads = k > 0 and _leads(sigma, k, floor)
    return Tuned(vectors[:, :k].clone(), sigma[:k], tied[:k], leads)


class Closest(NamedTuple):
    """Vectors against all left singular vectors of a base."""

    cosine: Float[Tensor, " k"]  # the largest |cos|
    best: Int[Tensor, " k"]  # of which base vector
    alone: Bool[Tensor, " k"]  # whether that is one vector, and not several taken together
    cosines: Float[Tensor, "rank k"]
    leads: bool  # whether as many leading base vectors span one subspace and no other


def closest_of(
    components: Float[Tensor, "rank k"],
    sigma: Float[Tensor, " rank"],
    shape: Sequence[int],
    roundings: float = 1.0,
) -> Closest:
    """Compare vectors with all left singular vectors of a base.

    `components` are those of each vector along these. Values of `sigma` that differ by no more
    `roundings` from the next are taken as one, and the norm of the projection onto their subspace
    for each |cos|.
    """
    cosines, k = components.abs(), components.shape[1]
    rounding = rounding_of(sigma, shape)
    floor = roundings * rounding
    cluster = torch.zeros(len(sigma), dtype=torch.long, device=sigma.device)
    cluster[1:] = (sigma[:-1] - sigma[1:] > floor).cumsum(0)
    weight = cosines.square()
    if shape[0] > shape[1]:  # a null space that the base does not fill is no vector of it
        weight[sigma <= floor] = 0.0
    projected = weight.new_zeros(int(cluster[-1]) + 1, k).index_add_(0, cluster, weight)
    largest, group = projected.max(dim=0)
    best = torch.where(largest > 0.0, torch.searchsorted(cluster, group), -1)
    alone = cluster.bincount()[group] == 1
    leads = k > 0 and _leads(sigma, k, rounding)
    return Closest(largest.sqrt().clamp(max=1.0), best, alone, cosines, leads)


def rounding_of(sigma: Float[Tensor, " rank"], shape: Sequence[int]) -> float:
    """Return what singular values of a float64 decomposition may be off by."""
    return max(shape) * EPS64 * float(sigma[0])


def _leads(sigma: Float[Tensor, " rank"], k: int, rounding: float) -> bool:
    """Say whether the `k` leading singular vectors span one subspace and no other."""
    following = float(sigma[k]) if k < len(sigma) else 0.0
    return float(sigma[k - 1]) - following > APART * rounding
