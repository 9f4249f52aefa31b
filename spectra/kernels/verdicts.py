"""Which leading singular vectors of a tuned matrix its base lacks, by the cheapest proof.

Large matrices are decided from Krylov spaces (`resemblance`), first by products in float32, then
by products in float64. What these leave open, and small matrices, are decided by float64
decompositions (`decomposed`).
"""

import functools
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float

from spectra.deferred import Tensor, torch
from spectra.kernels.decomposed import Factors, decomposed, merged, settle
from spectra.kernels.entries import entry_norm
from spectra.kernels.extremes import singular_value_floor
from spectra.kernels.filtered import mirrored
from spectra.kernels.inverse import lower_gram
from spectra.kernels.leading import (
    DOUBLE,
    SINGLE,
    Leading,
    Search,
    Why,
    certified_leading,
    vectors_within,
)
from spectra.kernels.linear_map import FLOAT32, LinearMap, linear_map
from spectra.kernels.resemblance import ANGLE, Judge, climb
from spectra.kernels.similarity import Similarity, Tuned
from spectra.kernels.work import DENSE, ENTRIES, SHORT, is_long
from spectra.words import Side

CANCELLED = 0.1  # of the base's squared norm: less is not to be trusted to a difference
SHARP = 1e-6  # that tuned vectors may be off by where all vectors of the base are compared
FINE = 1e-6  # likewise where they are taken out of the matrix


@dataclass(frozen=True, slots=True)
class Ladder:
    """Which matrices are decided how."""

    short: int = SHORT  # sides up to which decompositions cost less than a Krylov space
    dense: int = DENSE  # and where the other side is not much longer
    entries: int = ENTRIES
    single: Search = SINGLE  # with products in float32
    double: Search = DOUBLE  # and in float64
    hopeless: float = 10.0  # gaps that leave a vocabulary to that
    float32: int = FLOAT32  # entries from which float32 products pay

    def decomposes(self, rows: int, cols: int) -> bool:
        """Say whether a matrix of this shape is decided by decompositions at once."""
        short = min(rows, cols)
        return short <= self.short or (short <= self.dense and rows * cols <= self.entries)


LADDER = Ladder()


def proven_similarity(
    base: Float[Tensor, "rows cols"],
    tuned: Float[Tensor, "rows cols"] | Factors,
    k: int,
    epsilon: float,
    side: Side = "left",
    ladder: Ladder = LADDER,
) -> Similarity:
    """Judge the `k` leading singular vectors of a tuned matrix; every verdict is proven.

    `cosine` is the largest |cos| with any base vector to within `error` where `match`
    decided, an upper bound of it below `epsilon` where `bound` did, and that of float64
    decompositions, to within `error`, where `exact` did.

    Args:
        base: Original weight.
        tuned: Changed weight, or the factors of an update to add.
        k: Vectors of the tuned weight to examine; fewer where its rank is less.
        epsilon: Below this |cos| a vector is an intruder.
        side: Compare left (output-side) or right (input-side) singular vectors.
        ladder: Which matrices are decided how.

    Source:
        Shuttleworth et al. 2024, arXiv:2410.21228.
    """
    return proven_similarities(base, tuned, k, epsilon, (side,), ladder)[0]


def proven_similarities(
    base: Float[Tensor, "rows cols"],
    tuned: Float[Tensor, "rows cols"] | Factors,
    k: int,
    epsilon: float,
    sides: Sequence[Side],
    ladder: Ladder = LADDER,
) -> list[Similarity]:
    """Judge singular vectors of one side, or of both, which share most of the work.

    Both halves of a triplet are found together, with one error for both; the base's space, or its
    reduction to a bidiagonal matrix, tells what vectors of either side have in common with it.
    """
    turned, both = sides[0] == "right", len(sides) > 1
    if ladder.decomposes(*base.shape):
        if not is_long(*base.shape):
            tuned = merged(base, tuned)  # before it is turned, as in the reference
        base, tuned = _turned(base, tuned) if turned else (base, tuned)
        found, others, angle = decomposed(base, tuned, k)
        judges = [Judge(one, angle, epsilon) for one in (found.vectors, others)[: 1 + both]]
        settle(judges, base, prove=True)
        norm = entry_norm(tuned) if isinstance(tuned, Tensor) else _norm_of_long(base, *tuned)
        return [_similarity(judge, found, norm, base.device) for judge in judges]
    if turned:
        base, tuned = _turned(base, tuned)
    return _by_rungs(base, tuned, k, epsilon, ladder, both=both)


def leading_pairs(
    base: Float[Tensor, "rows cols"],
    tuned: Float[Tensor, "rows cols"] | Factors,
    chosen: Sequence[int],
    side: Side = "left",
    ladder: Ladder = LADDER,
) -> tuple[Float[Tensor, "side chosen"], Float[Tensor, "other chosen"]]:
    """Return some leading singular vectors u of a tuned matrix, and W^T u = sigma v.

    Vectors are off by `FINE` at most, or as those of a float64 decomposition are; products are
    float64's. On the right side they are v, and W v = sigma u.

    Args:
        base: Original weight.
        tuned: Changed weight, or the factors of an update to add.
        chosen: Which, by their indices.
        side: Left (output-side) or right (input-side).
        ladder: Which matrices are decomposed at once.
    """
    if side == "right":
        base, tuned = _turned(base, tuned)
    whole = (tuned,) if isinstance(tuned, Tensor) else (base, *tuned)
    long = is_long(*base.shape)
    of = linear_map(*whole, float32=FLOAT32 if long else sys.maxsize, stored=long)
    found, count = None, max(chosen) + 1
    if not ladder.decomposes(*base.shape):
        found, _ = _leading_triplets(of, count, ladder, FINE, chosen)
    if found is None:
        found = decomposed(base, tuned, count)
    vectors = found[0].vectors[:, list(chosen)].to(base.device)
    _, image = of.products(vectors.new_zeros(base.shape[1], 0), vectors)
    return vectors, image * of.scale


def _turned(base: Tensor, tuned: Tensor | Factors) -> tuple[Tensor, Tensor | tuple[Tensor, Tensor]]:
    """Return both transposed."""
    return base.mT, tuned.mT if isinstance(tuned, Tensor) else (tuned[1].mT, tuned[0].mT)


def _by_rungs(
    base: Tensor, tuned: Tensor | Factors, k: int, epsilon: float, ladder: Ladder, *, both: bool
) -> list[Similarity]:
    """Judge a large pair; what one rung leaves open climbs to the next, alone.

    float32 products; float64 products, more of them, of a vocabulary with its Gram matrix; all
    singular vectors, by float64 decompositions. An update is added up for the last one only.
    """
    stored = is_long(*base.shape)
    before = linear_map(base, float32=ladder.float32, stored=stored)
    whole = (tuned,) if isinstance(tuned, Tensor) else (base, *tuned)
    after = linear_map(*whole, float32=ladder.float32, stored=stored)
    norm = entry_norm(tuned) if isinstance(tuned, Tensor) else _updated_norm(before, base, *tuned)

    triplets, double = _leading_triplets(after, k, ladder)
    if triplets is None:
        del before, after
        found, others, angle = decomposed(base, tuned, k)
        judges = [Judge(one, 0.0 * angle, epsilon) for one in (found.vectors, others)[: 1 + both]]
        settle(judges, base)
        return [_similarity(judge, found, norm, base.device) for judge in judges]
    found, others, angle = triplets
    judges = [Judge(one, angle, epsilon) for one in (found.vectors, others)[: 1 + both]]
    floor = functools.cache(lambda gram: (singular_value_floor(base, gram) / before.scale) ** 2)
    if not double:  # what the tuned vectors needed, the base's need too
        climb(judges, before, ladder.single, functools.partial(floor, None))
    if not all(judge.done for judge in judges):
        for judge in judges:
            judge.words = ("match float64", "bound float64")
        fine = _finer(before)
        climb(judges, fine, ladder.double, functools.partial(floor, fine.gram))
        del fine, floor  # with the Gram matrix
    open_ = [judge for judge in judges if not judge.done]
    if open_:
        if max(float(judge.angle.max()) for judge in open_) > SHARP:
            better, _ = _leading_triplets(after, k, ladder, SHARP)
            sharp, others, angle = better or decomposed(base, tuned, k)
            if better is None:
                angle = 0.0 * angle
            for judge, vectors in zip(judges, (sharp.vectors, others), strict=False):
                if not judge.done:
                    judge.vectors, judge.angle = vectors, angle
        settle(judges, base)
    return [_similarity(judge, found, norm, base.device) for judge in judges]


def _leading_triplets(
    after: LinearMap,
    k: int,
    ladder: Ladder,
    tolerance: float = ANGLE,
    chosen: Sequence[int] | None = None,
) -> tuple[tuple[Tuned, Tensor, Tensor] | None, bool]:
    """Return leading left singular vectors, if products find them, right ones, and their errors.

    And whether that took products in float64. Of those that are chosen alone errors count.
    """
    tall, long = after.shape[0] >= after.shape[1], is_long(*after.shape)
    hopeless = ladder.hopeless if long else math.inf
    rungs: list[Callable[[], tuple[LinearMap, Search]]] = [lambda: (_finer(after), ladder.double)]
    if tolerance >= ANGLE:
        rungs.insert(0, lambda: (after, replace(ladder.single, hopeless=hopeless)))
    elif long:
        rungs.insert(0, lambda: (after.precise(), replace(ladder.double, hopeless=hopeless)))
    seeds = None
    for rung in rungs:
        of, search = rung()
        accept = vectors_within(k, tolerance, chosen)
        search = replace(search, settled=True)
        found = certified_leading(of if tall else of.mT, k, accept, search, seeds=seeds)
        if isinstance(found, Leading):
            outer, inner = (found.outer, found.inner) if tall else (found.inner, found.outer)
            sigma, tied = found.sigma[:k] * after.scale, torch.zeros(k, dtype=torch.bool)
            left = Tuned(outer[:, :k], sigma, tied, leads=True)
            return (left, inner[:, :k], found.vector_error[:k]), rung is rungs[-1]
        if found.why is not Why.CLOSE:
            break
        seeds = found.seeds
    return None, False


def _finer(of: LinearMap) -> LinearMap:
    """Return a map with products in float64.

    Of a vocabulary a pass in float64 takes as long as a dozen products with its Gram matrix: what
    that is off by is measured, as rounding is, with the map itself.
    """
    of = of.precise()
    if not is_long(*of.shape):
        return of
    gram = lower_gram(of if of.shape[0] >= of.shape[1] else of.mT, torch.float64)
    return replace(of, gram=mirrored(gram, torch.float64))


def _updated_norm(before: LinearMap, base: Tensor, left: Tensor, right: Tensor) -> float:
    """Return the Frobenius norm of base + left @ right, from products with the factors."""
    up, down = left.double(), right.double()
    across = before.matmat(down.mT) * before.scale
    alone = entry_norm(base) ** 2
    square = float(((up.mT @ up) * (down @ down.mT)).sum()) + 2.0 * float((across * up).sum())
    if alone + square > CANCELLED * alone:
        return math.sqrt(alone + square)
    if is_long(*base.shape):
        return _norm_of_long(base, left, right)
    return entry_norm(merged(base, (left, right)))


def _norm_of_long(base: Tensor, left: Tensor, right: Tensor) -> float:
    """Return the Frobenius norm of base + left @ right, added up a panel at a time."""
    whole = linear_map(base, left, right, stored=True).precise()
    return float(torch.linalg.vector_norm(whole.row_norms())) * whole.scale


def _similarity(judge: Judge, tuned: Tuned, norm: float, device: "torch.device") -> Similarity:
    verdicts = [judge.verdicts[j] for j in range(len(judge.angle))]
    sigma = tuned.sigma.to(device)
    cosines = sigma.new_zeros(0, len(verdicts)) if judge.cosines is None else judge.cosines
    return Similarity(
        cosine=torch.tensor([one.cosine for one in verdicts], dtype=torch.float64).to(device),
        best=torch.tensor([one.best for one in verdicts], dtype=torch.long).to(device),
        tied=tuned.tied.to(device),
        sigma=sigma,
        energy=(sigma / norm).square(),
        overlap=judge.overlap if tuned.leads else None,
        cosines=cosines.mT.contiguous().to(device),
        error=torch.tensor([one.error for one in verdicts], dtype=torch.float64).to(device),
        decided_by=tuple(one.decided_by for one in verdicts),
    )
