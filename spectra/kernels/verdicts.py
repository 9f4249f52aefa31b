"""Which leading singular vectors of a tuned matrix its base lacks, by the cheapest proof.

Small matrices are decided from full eigendecompositions of their Gram matrices (`dense`),
large ones from Krylov spaces (`resemblance`). Whatever those leave open is decided by all singular
vectors of that matrix.
"""

import functools
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.kernels.dense import dense_resemblance
from spectra.kernels.eigenvectors import leading_by_gram, left_singular_by_gram
from spectra.kernels.entries import entry_norm, largest_entry, power_of_two_near
from spectra.kernels.extremes import singular_value_floor
from spectra.kernels.leading import (
    DOUBLE,
    SINGLE,
    Leading,
    Search,
    Why,
    certified_leading,
    vectors_within,
)
from spectra.kernels.linear_map import LinearMap, linear_map
from spectra.kernels.resemblance import ANGLE, Judge, Verdict
from spectra.kernels.similarity import (
    PICTURE,
    Similarity,
    Tuned,
    closest_of,
    exact_similarity,
    leading_of,
)
from spectra.words import Side

CANCELLED = 0.1  # of the base's squared norm: less is not to be trusted to a difference
SHARP = 1e-6  # that tuned vectors may be off by where all vectors of the base are compared


@dataclass(frozen=True, slots=True)
class Ladder:
    """Which matrices are decided how."""

    tiny: int = 24  # shorter sides up to which two SVDs cost nothing
    dense: int = 640  # up to which eigenvectors cost less than a Krylov space
    large: int = 1400  # from which float64 Krylov spaces cost less than all eigenvectors
    single: Search = SINGLE  # with products in float32
    double: Search = DOUBLE  # and in float64


LADDER = Ladder()
ALONE = threading.Lock()  # all singular vectors fill most of the memory: one matrix at a time


Factors = tuple[Float[Tensor, "rows rank"], Float[Tensor, "rank cols"]]


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
        base: Original weight, any floating dtype.
        tuned: Changed weight of the same shape, or the factors of an update to add.
        k: Vectors of the tuned weight to examine; fewer where its rank is less.
        epsilon: Below this |cos| a vector is an intruder.
        side: Compare left (output-side) or right (input-side) singular vectors.
        ladder: Which matrices are decided how.

    Raises:
        NonFiniteError: Either matrix holds NaN or Inf.

    Source:
        Shuttleworth et al. 2024, arXiv:2410.21228.
    """
    rows, cols = base.shape
    if small(rows, cols, k, ladder):
        return proven_similarities([(base, tuned)], k, epsilon, side)[0]
    if min(rows, cols) > ladder.dense:
        return _by_rungs(*_turned(base, tuned, side), k, epsilon, ladder)
    return exact_similarity(base, merged(base, tuned), k, side)


def proven_similarity_cost(rows: int, cols: int) -> float:
    """Return about how many operations `proven_similarity` takes where nothing falls back."""
    short, long = sorted((rows, cols))
    if short <= LADDER.dense:
        return 2.0 * (2.0 * long * short**2 + 12.0 * short**3)
    return 2700.0 * rows * cols  # products with some 24 columns, about 20 times both ways


def proven_similarity_memory(rows: int, cols: int) -> int:
    """Return about the peak bytes that `proven_similarity` adds to its input where bounds decide.

    What they leave open takes some 40 bytes a square of the shorter side more, one matrix of a
    process at a time.
    """
    return 8 * rows * cols + 16 * min(rows, cols) ** 2


def merged(
    base: Float[Tensor, "rows cols"], tuned: Float[Tensor, "rows cols"] | Factors
) -> Float[Tensor, "rows cols"]:
    """Return the tuned weight, an update added in float64."""
    if isinstance(tuned, Tensor):
        return tuned
    left, right = tuned
    return base.double().addmm(left.double(), right.double())


def small(rows: int, cols: int, k: int, ladder: Ladder = LADDER) -> bool:
    """Say whether a pair of this shape is decided from eigenvectors, alone or with others."""
    return ladder.tiny < min(rows, cols) <= ladder.dense and k <= min(rows, cols)


def proven_similarities(
    pairs: Sequence[tuple[Tensor, Tensor | Factors]], k: int, epsilon: float, side: Side = "left"
) -> list[Similarity]:
    """Judge several `small` pairs of one shape together, as `proven_similarity` does each.

    Args:
        pairs: Base and tuned weight, or base and an update's factors.
        k: As there.
        epsilon: As there.
        side: As there.
    """
    before, _, _ = _scaled([base for base, _ in pairs])
    # Merged before they are turned, as in the reference.
    after, scales, norms = _scaled([merged(*pair) for pair in pairs])
    if side == "right":
        before, after = before.mT, after.mT
    found = []
    for i, answer in enumerate(dense_resemblance(before, after, k, epsilon)):
        sharp = answer is not None and float(answer.angle.max()) <= SHARP
        if answer is None or (not sharp and None in answer.verdicts):
            found.append(exact_similarity(pairs[i][0], merged(*pairs[i]), k, side))
            continue
        none = torch.zeros(k, dtype=torch.bool)
        tuned = Tuned(answer.vectors, answer.sigma * scales[i], none, leads=True)
        judge = Judge(answer.vectors, answer.angle, epsilon, answer.verdicts, answer.overlap)
        judge.cosines = answer.cosines.mT
        if not judge.done:
            _settle(judge, before[i])
        found.append(_similarity(judge, tuned, scales[i] * norms[i], before.device))
    return found


def _turned(
    base: Tensor, tuned: Tensor | Factors, side: Side
) -> tuple[Tensor, Tensor | tuple[Tensor, Tensor]]:
    """Return what has the vectors of a side on the left: the transposes for the right one."""
    if side == "left":
        return base, tuned
    return base.mT, tuned.mT if isinstance(tuned, Tensor) else (tuned[1].mT, tuned[0].mT)


def _scaled(matrices: Sequence[Tensor]) -> tuple[Tensor, list[float], list[float]]:
    """Return one float64 batch with entries near 1, the scales, and the norms that remain."""
    scales = [power_of_two_near(largest_entry(part)) or 1.0 for part in matrices]
    batch = torch.stack(
        [part.double() / scale for part, scale in zip(matrices, scales, strict=True)]
    )
    return batch, scales, torch.linalg.matrix_norm(batch).tolist()


def _by_rungs(
    base: Tensor, tuned: Tensor | Factors, k: int, epsilon: float, ladder: Ladder
) -> Similarity:
    """Judge a large pair; what one rung leaves open climbs to the next, alone.

    float32 products; float64 products, more of them; all singular vectors, by float64 Gram
    matrices. An update is added up for the last one only.
    """
    before = linear_map(base)
    after = linear_map(tuned) if isinstance(tuned, Tensor) else linear_map(base, *tuned)
    norm = entry_norm(tuned) if isinstance(tuned, Tensor) else _updated_norm(before, base, *tuned)

    found, angle, double = _leading_vectors(after, k, ladder)
    if found is None:
        del before, after
        found = _decomposed(merged(base, tuned), k)
        judge = Judge(found.vectors, angle[: len(found.sigma)], epsilon, double=True)
        if len(found.sigma):
            _settle(judge, base)
        return _similarity(judge, found, norm, base.device)
    judge = Judge(found.vectors, angle, epsilon, double=double)
    floor = functools.cache(lambda: _floor(base, before.scale))
    if not double:  # what the tuned vectors needed, the base's need too
        judge.climb(before, ladder.single, floor)
    if not judge.done and min(base.shape) >= ladder.large:
        judge.double = True
        judge.climb(before.precise(), ladder.double, floor)
    if not judge.done:
        if float(judge.angle.max()) > SHARP:
            better, judge.angle, _ = _leading_vectors(after, k, ladder, SHARP)
            judge.vectors = (better or _decomposed(merged(base, tuned), k)).vectors
        _settle(judge, base)
    return _similarity(judge, found, norm, base.device)


def _decomposed(tuned: Tensor, k: int) -> Tuned:
    """Return the leading left singular vectors by float64 decompositions."""
    count = min(k + 1, *tuned.shape)  # one more tells whether the last is tied
    with ALONE:
        return leading_of(*leading_by_gram(tuned, count), k, max(tuned.shape))


def _leading_vectors(
    after: LinearMap, k: int, ladder: Ladder, tolerance: float = ANGLE
) -> tuple[Tuned | None, Tensor, bool]:
    """Return the leading left singular vectors, if products find them, and their errors.

    And whether that took products in float64.
    """
    tall = after.shape[0] > after.shape[1]
    seeds = None
    rungs = [tolerance < ANGLE]
    if not rungs[0] and min(after.shape) >= ladder.large:
        rungs.append(True)
    for double in rungs:
        of = after.precise() if double else after
        search = replace(ladder.double if double else ladder.single, settled=True)
        accept = vectors_within(k, tolerance)
        found = certified_leading(of if tall else of.mT, k, accept, search, seeds=seeds)
        if isinstance(found, Leading):
            vectors = (found.outer if tall else found.inner)[:, :k]
            sigma, tied = found.sigma[:k] * after.scale, torch.zeros(k, dtype=torch.bool)
            return Tuned(vectors, sigma, tied, leads=True), found.vector_error[:k], double
        if found.why is not Why.CLOSE:
            break
        seeds = found.seeds
    return None, torch.zeros(k, dtype=torch.float64), False


def _floor(base: Tensor, scale: float) -> float:
    """Return a proven lower bound of the squares of a base's singular values, scaled."""
    return (singular_value_floor(base) / scale) ** 2


def _settle(judge: Judge, base: Tensor) -> None:
    """Decide what is open by all singular vectors of the base."""
    with ALONE:
        closest = closest_of(*left_singular_by_gram(base), judge.vectors, base)
    for j in judge.open:
        cosine, best = float(closest.cosine[j]), int(closest.best[j])
        judge.verdicts[j] = Verdict(cosine, float(judge.angle[j]), best, "exact")
    count = len(judge.angle)
    if judge.overlap is None and closest.leads:
        judge.overlap = float(closest.cosines[:count].square().sum()) / count
    judge.cosines = closest.cosines[:PICTURE].cpu()


def _updated_norm(before: LinearMap, base: Tensor, left: Tensor, right: Tensor) -> float:
    """Return the Frobenius norm of base + left @ right, from products with the factors."""
    up, down = left.double(), right.double()
    across = before.matmat(down.mT) * before.scale
    alone = entry_norm(base) ** 2
    square = float(((up.mT @ up) * (down @ down.mT)).sum()) + 2.0 * float((across * up).sum())
    if alone + square > CANCELLED * alone:
        return math.sqrt(alone + square)
    return entry_norm(merged(base, (left, right)))


def _similarity(judge: Judge, tuned: Tuned, norm: float, device: torch.device) -> Similarity:
    verdicts = [verdict for verdict in judge.verdicts if verdict is not None]
    cosine, error = (
        torch.tensor([getattr(verdict, key) for verdict in verdicts], dtype=torch.float64)
        for key in ("cosine", "error")
    )
    sigma = tuned.sigma.to(device)
    cosines = sigma.new_zeros(0, len(verdicts)) if judge.cosines is None else judge.cosines
    return Similarity(
        cosine=cosine.to(device),
        best=torch.tensor([verdict.best for verdict in verdicts], device=device, dtype=torch.long),
        tied=tuned.tied.to(device),
        sigma=sigma,
        energy=(sigma / norm).square(),
        overlap=judge.overlap if tuned.leads else None,
        cosines=cosines.mT.contiguous().to(device),
        error=error.to(device),
        decided_by=tuple(verdict.decided_by for verdict in verdicts),
    )
