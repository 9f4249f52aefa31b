"""Which units of one network stand for which of another, and how far their matrices agree then.

A permutation P of the units between two layers changes the singular vectors of both, never their
values. Where nothing but such units moves, every module is a linear assignment of its own, which
is solved exactly: no coordinate descent is needed, as it would be where the stream moves too.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float, Int

from spectra.deferred import Tensor, torch
from spectra.kernels.components import leading_components

BLOCK = 1 << 22  # entries multiplied in float64 at a time
EXACT = 1 << 26  # entries of both sides up to which scores are computed in float64
RESOLVED = 1e-12  # of the largest eigenvalue of a Gram matrix: what is below has no vectors

Order = Int[Tensor, " units"]
Lines = Int[Tensor, " lines"]


class Frame(NamedTuple):
    """Singular vectors and values, without directions that a Gram matrix does not resolve.

    Of all directions or of the leading ones.
    """

    left: Float[Tensor, "rows rank"]
    sigma: Float[Tensor, " rank"]
    right: Float[Tensor, "cols rank"]
    whole: bool = True  # no direction is missing


def assigned(score: Float[Tensor, "units units"]) -> Order:
    """Return the permutation p that makes the sum of score[i, p[i]] largest.

    Where the best of every line are all different they are it, and nothing is solved.

    Source:
        Crouse 2016, IEEE TAES 52 (4), as SciPy has it.
    """
    best = score.argmax(dim=1)
    if len(best.unique()) == len(best):
        return best.cpu()
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415 - slow to load

    found: Tensor = torch.from_numpy(linear_sum_assignment(score.cpu().numpy(), maximize=True)[1])
    return found


def of_units(
    pairs: Sequence[tuple[Float[Tensor, "units n"], Float[Tensor, "others n"]]],
) -> Float[Tensor, "units others"]:
    """Return the inner products of the units of two models, over all matrices that hold them."""
    entries = sum(one.numel() + other.numel() for one, other in pairs)
    dtype = torch.float64 if entries <= EXACT else torch.float32
    (first, second), *rest = pairs
    score: Tensor = first.to(dtype) @ second.to(dtype).mT
    for one, other in rest:
        score.addmm_(one.to(dtype), other.to(dtype).mT)
    return score


def of_heads(
    queries: Float[Tensor, "heads heads"], keys: Float[Tensor, "keys keys"]
) -> tuple[Order, float]:
    """Return the permutation of heads of queries, and the sum that it reaches.

    Heads that share keys and values stay together: groups are assigned to groups, and heads to
    heads in each.

    Args:
        queries: Scores of heads of queries, by what they ask and what they write.
        keys: Scores of heads of keys and values.
    """
    share = len(queries) // len(keys)
    inner: dict[tuple[int, int], Tensor] = {}
    total = keys.clone()
    for i in range(len(keys)):
        for j in range(len(keys)):
            block = queries[i * share : (i + 1) * share, j * share : (j + 1) * share]
            order = assigned(block)
            inner[i, j] = order
            total[i, j] += block.gather(1, order[:, None].to(block.device)).sum()
    groups = assigned(total)
    heads = torch.cat([j * share + inner[i, j] for i, j in enumerate(groups.tolist())])
    return heads, float(total.gather(1, groups[:, None].to(total.device)).sum())


def lines_of(order: Order, size: int) -> Lines:
    """Return the permutation of lines where each unit has `size` of them."""
    return (order[:, None] * size + torch.arange(size)).flatten()


def inner_product(one: Float[Tensor, "rows cols"], other: Float[Tensor, "rows cols"]) -> float:
    """Return <A, B> in float64, some rows at a time."""
    many = max(BLOCK // max(one.shape[1], 1), 1)
    parts = [
        (a.double() * b.double()).sum() for a, b in zip(one.split(many), other.split(many),
                                                        strict=True)
    ]  # fmt: skip
    return float(torch.stack(parts).sum())


def frame_of(matrix: Float[Tensor, "rows cols"]) -> Frame:
    """Return the singular vectors of both sides, float64, from the smaller Gram matrix.

    A vector is off by about eps64 (sigma_1 / sigma)^2; those of sigma below 1e-6 sigma_1 are left
    out. A matrix of zeros has none.
    """
    wide = matrix.double()
    tall = wide.shape[0] >= wide.shape[1]
    lines = wide if tall else wide.mT
    values, vectors = torch.linalg.eigh(lines.mT @ lines)
    values, vectors = values.flip(0), vectors.flip(1)
    kept = int((values > RESOLVED * values[0]).sum()) if float(values[0]) > 0.0 else 0
    sigma, inner = values[:kept].sqrt(), vectors[:, :kept]
    outer = lines @ inner / sigma
    return Frame(outer, sigma, inner) if tall else Frame(inner, sigma, outer)


def leading_frame(matrix: Float[Tensor, "rows cols"], count: int) -> Frame | None:
    """Return the leading singular vectors, float64; None where their values are too close.

    Their subspaces are off by about 1e-6 at most.

    Raises:
        NonFiniteError: It holds NaN or Inf.
    """
    found = leading_components(matrix, count)
    if found is None:
        return None
    sigma = found.sigma
    kept = int((sigma > RESOLVED**0.5 * sigma[0]).sum()) if float(sigma[0]) > 0.0 else 0
    whole = kept < len(sigma) or kept == min(matrix.shape)
    return Frame(found.left[:, :kept], sigma[:kept], found.right[:, :kept], whole)


class Aligned(NamedTuple):
    """How far singular vectors of two matrices agree: 1 where they are the same; None: not known.

    Of leading directions alone it is not known how far all agree, nor those from a share of sigma_1
    on where there may be more of them.
    """

    all: float | None  # sum of (u_i . u'_j) (v_i . v'_j) over all, over the root of both counts
    top: float | None  # likewise of those with sigma >= gamma sigma_1
    weighted_top: float | None  # likewise, times sigma_i sigma'_j, over the norms
    overlap: float  # of the k leading left and right ones, ||U_k^T U'_k||_F^2 / k, their mean


def aligned(one: Frame, other: Frame, gamma: float, k: int) -> Aligned:
    """Return how far two frames agree.

    Sum over i, j of (u_i . u'_j) (v_i . v'_j) is <U V^T, U' V'^T>, which is computed by the
    smaller products U^T U' and V^T V'.

    Source:
        Ito et al. 2024, arXiv:2402.04051, who sum the same products of all layers.
    """
    if not len(one.sigma) or not len(other.sigma):
        return Aligned(0.0 if one.whole and other.whole else None, 0.0, 0.0, 0.0)
    left, right = one.left.mT @ other.left, one.right.mT @ other.right
    product = left * right
    k = min(k, *product.shape)
    overlap = float((left[:k, :k].square().sum() + right[:k, :k].square().sum()) / (2 * k))
    every = None
    if one.whole and other.whole:
        every = float(product.sum()) / math.sqrt(product.shape[0] * product.shape[1])
    first, second = (top_of(frame, gamma) for frame in (one, other))
    if first is None or second is None:
        return Aligned(every, None, None, overlap)
    some = product[:first, :second]
    a, b = one.sigma[:first], other.sigma[:second]
    weighted = float(a @ some @ b / (a.norm() * b.norm()))
    return Aligned(every, float(some.sum()) / math.sqrt(first * second), weighted, overlap)


def top_of(frame: Frame, gamma: float) -> int | None:
    """Return how many singular values are at least gamma times the largest; None: not known."""
    count = int((frame.sigma >= gamma * frame.sigma[:1]).sum())
    return count if frame.whole or count < len(frame.sigma) else None
