"""What float64 decompositions say of a pair: the tuned vectors, and what each has of a base vector.

All singular vectors of a base are compared by what the tuned ones have along each
(`left_vectors`). That is an SVD in float64: right for a matrix off by rho, max(rows, cols)
roundings of sigma_1. With t the components of y and s the singular values, a true singular vector
u has no more than sqrt(2) rho / |s_l - sigma| along the l-th computed one, and a tall base's no
more than rho / sigma outside of all. So where values within `WINDOW` rho of the next are taken
together, |u . y| is no more than what y has along one group and `SLACK`, and no less, if the group
is one vector.
"""

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar

from jaxtyping import Float

from spectra.deferred import Tensor, torch
from spectra.kernels.leading import distance_from_sine
from spectra.kernels.left_vectors import components, leading_by_gram, leading_of_long
from spectra.kernels.linear_map import linear_map
from spectra.kernels.resemblance import MARGIN, Judge, Verdict
from spectra.kernels.similarity import PICTURE, Tuned, closest_of, leading_of, rounding_of
from spectra.kernels.work import decomposes, is_long

WINDOW = 1e5
SLACK = 3.0 / WINDOW
ALONE = threading.Lock()  # what large matrices leave open fills most of the memory: one at a time
THREADS: ContextVar[int] = ContextVar("THREADS")  # of all workers

Factors = tuple[Float[Tensor, "rows rank"], Float[Tensor, "rank cols"]]


def merged(
    base: Float[Tensor, "rows cols"], tuned: Float[Tensor, "rows cols"] | Factors
) -> Float[Tensor, "rows cols"]:
    """Return the tuned weight, an update added in float64."""
    if isinstance(tuned, Tensor):
        return tuned
    left, right = tuned
    return base.double().addmm(left.double(), right.double())


def decomposed(base: Tensor, tuned: Tensor | Factors, k: int) -> tuple[Tuned, Tensor, Tensor]:
    """Return leading left singular vectors by a float64 decomposition, right ones, their errors.

    What is long is not copied, nor is an update added to it.
    """
    long, shape = is_long(*base.shape), tuple(base.shape)
    count = min(k + 1, *shape)  # one more tells whether the last is tied
    with room(base):
        if long:
            of = linear_map(*((tuned,) if isinstance(tuned, Tensor) else (base, *tuned)),
                            stored=True)  # fmt: skip
            vectors, sigma = leading_of_long(of, count)
        else:
            whole = merged(base, tuned)
            vectors, sigma = leading_by_gram(whole, count)
        found = leading_of(vectors, sigma, k, max(shape))
        k = len(found.sigma)
        outer = found.vectors / sigma[:k]
        if long:
            none = outer.new_zeros(shape[1], 0).to(of.device)
            inner = of.products(none, outer.to(of.device))[1].mul_(of.scale)
            missed = of.products(inner, outer[:, :0].to(of.device))[0].mul_(of.scale)
            inner, missed = inner.cpu(), missed.cpu() - found.vectors * sigma[:k]
        else:
            inner = whole.cpu().double().mT @ outer
            missed = whole.cpu().double() @ inner - found.vectors * sigma[:k]
    rounding = rounding_of(sigma, shape)
    apart = (sigma[:k, None] - sigma).abs()
    apart[:, :k].fill_diagonal_(math.inf)
    gap = torch.minimum(apart.amin(dim=1), sigma[:k]) - rounding  # no other lies above the last
    residual = torch.linalg.vector_norm(missed, dim=0) + rounding
    angle = distance_from_sine(residual / gap.clamp(min=1e-300))
    return found, inner / torch.linalg.vector_norm(inner, dim=0).clamp(min=1e-300), angle


@contextmanager
def room(matrix: Tensor) -> Iterator[None]:
    """Decompose a large matrix alone: with the threads of those that wait for the same."""
    own, small = torch.get_num_threads(), decomposes(*matrix.shape)
    with nullcontext() if small else ALONE:
        torch.set_num_threads(own if small else max(own, THREADS.get(own)))
        try:
            yield
        finally:
            torch.set_num_threads(own)


def settle(judges: Sequence[Judge], base: Tensor, *, prove: bool = False) -> None:
    """Decide what is open by all singular vectors of the base: left ones, and right ones.

    What stands off epsilon is proven where that is asked for; otherwise all is called exact.
    """
    if all(judge.done for judge in judges):
        return
    asked = [judge.vectors if not judge.done else judge.vectors[:, :0] for judge in judges]
    if len(asked) < 2:
        asked.append(asked[0].new_zeros(base.shape[1], 0))
    with room(base):
        left, right, sigma = components(base, *asked)
    for judge, found, shape in zip(judges, (left, right), (base.shape, base.shape[::-1]),
                                   strict=False):  # fmt: skip
        if not judge.done:
            _settle_by(judge, found, sigma, shape, prove=prove)


def _settle_by(
    judge: Judge, found: Tensor, sigma: Tensor, shape: Sequence[int], *, prove: bool
) -> None:
    count = len(judge.angle)
    closest = closest_of(found, sigma, shape)
    angle, rounding = judge.angle, rounding_of(sigma, shape)
    if prove:
        judge.angle = 0.0 * angle  # of what is called exact, as in the reference
    # Of a tall base small vectors may mix with what it lacks.
    if prove and (shape[0] <= shape[1] or float(sigma[-1]) > WINDOW * rounding):
        runs = closest_of(found, sigma, shape, WINDOW)
        for j in judge.open:
            cosine, error, best = float(runs.cosine[j]), float(angle[j]) + SLACK, int(runs.best[j])
            if cosine + error < judge.epsilon - MARGIN:
                judge.verdicts[j] = Verdict(cosine + error, 0.0, best, "bound")
            elif bool(runs.alone[j]) and cosine - error >= judge.epsilon + MARGIN:
                judge.verdicts[j] = Verdict(cosine, error, best, "match")
    for j in judge.open:
        cosine, best = float(closest.cosine[j]), int(closest.best[j])
        judge.verdicts[j] = Verdict(cosine, float(judge.angle[j]), best, "exact")
    if judge.overlap is None and closest.leads:
        judge.overlap = float(closest.cosines[:count].square().sum()) / count
    judge.cosines = closest.cosines[:PICTURE]
