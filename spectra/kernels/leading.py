"""The leading singular triplets, each with what it may be off by.

Let q hold the c leading Ritz vectors of A = W^T W, turned so that (W q)^T (W q) is diagonal,
sigma^2. With p = W q / sigma, [p; q] / sqrt(2) are Ritz vectors of the dilation
[[0, W], [W^T, 0]], whose eigenvalues are the sigma and their negatives; the residual
[W q - sigma p; W^T p - sigma q] / sqrt(2) has norm rho = |A q - sigma^2 q| / (sqrt(2) sigma),
from float64 products with W itself.

Values: by Kahan's theorem c different eigenvalues lie within delta = ||rho|| of the c
values. If the smallest value exceeds `ceiling` by more than delta, and at most c singular
values of W reach `ceiling` (`counting`), these are the c largest, in order.

Vectors: all other eigenvalues keep the distance gap_i from sigma_i, so the angle phi between
[p; q] and the true pair has sin(phi) <= rho_i / gap_i (Davis and Kahan), and both ||p - u_i||
and ||q - v_i|| are at most sqrt(2) sin(phi) / cos(phi / 2).

Source:
    Parlett 1998, The Symmetric Eigenvalue Problem, theorems 11.5.1 and 11.7.1; Musco and
    Musco 2015, arXiv:1504.05477, for block Krylov spaces.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto
from typing import NamedTuple

from jaxtyping import Float

from spectra.deferred import Tensor, torch
from spectra.kernels.counting import SPARE, Space, at_most, gaussian_floor
from spectra.kernels.lanczos import Lanczos, Ritz, gaussian
from spectra.kernels.linear_map import LinearMap
from spectra.kernels.relation import Rounding, guessed, lengths, seen, shares

SEPARATE = 2  # places tried for the cut between leading and other singular values
SKEW = 1e-9  # that the basis may be off from orthonormal, as `lanczos` looks


@dataclass(frozen=True, slots=True)
class Search:
    """How far a Krylov space is grown, and when it is looked at."""

    width: int = 12  # columns come in multiples
    first: int = 6  # steps before the first look
    every: int = 2  # steps between looks, at least
    most: int = 32  # steps after which to give up
    fewest: int = 14  # steps that must fit into the matrix
    tries: int = 3  # measurements in float64
    own: float = 1e-7  # of sigma sigma_1: rounding of one Ritz vector's products, until measured
    rounding: float = 3.5e-7  # likewise of all but the leading ones, as these share it
    settled: bool = False  # give up where more steps would leave nothing but rounding
    hopeless: float = math.inf  # or where half of them leave residuals so many gaps large
    negligible: float = 1e-4  # of sigma_1: what is smaller is left to a full decomposition


class Why(StrEnum):
    """Why leading triplets are not proven."""

    SMALL = "the matrix is small"
    RANK = "its rank is less, or nearly"
    CLOSE = "its values are too close to each other"
    OVERFLOW = "products overflowed"


class Open(NamedTuple):
    """What is left to a dearer search."""

    why: Why
    seeds: Float[Tensor, "cols seeds"] | None = None  # the leading Ritz vectors


@dataclass(frozen=True, slots=True)
class Leading:
    """The `count` largest singular triplets and their proven errors."""

    outer: Float[Tensor, "rows count"]  # no rows where nothing was measured
    sigma: Float[Tensor, " count"]  # of the scaled map; on the CPU, as all that follows
    inner: Float[Tensor, "cols count"]
    residual: Float[Tensor, " count"]  # rho
    value_error: float  # delta
    vector_error: Float[Tensor, " count"]  # of each vector, at most 2
    ceiling: float  # no further singular value reaches it
    space: Space  # of W^T W
    measured: bool  # by float64 products; otherwise an estimate


SINGLE = Search()
DOUBLE = Search(first=8, every=4, most=64, own=1e-14, rounding=5e-11, negligible=1e-6)
"""For products in float64; the edge of noise takes some 50 steps."""


class Answer(Enum):
    """Whether leading triplets serve."""

    YES = auto()
    LATER = auto()  # more steps may do
    NEVER = auto()  # none will: what is known now is proven, and the search ends


Accept = Callable[[Leading], Answer]


def certified_leading(
    of: LinearMap,
    k: int,
    accept: Accept,
    search: Search = SINGLE,
    start: Float[Tensor, "cols extra"] | None = None,
    seeds: Float[Tensor, "cols seeds"] | None = None,
) -> Leading | Open:
    """Find at least the `k` largest singular triplets by block Lanczos, and prove them.

    Args:
        of: The matrix W, cheapest with no more columns than rows.
        k: How many.
        accept: Whether they serve; asked before the float64 products, with estimates, and
            after them. Perhaps of none: then all singular values lie below the ceiling.
        search: How far to go.
        start: Further columns of the start block.
        seeds: Columns that may fill it up, instead of random ones.
    """
    none = torch.zeros(of.shape[1], 0, dtype=torch.float64, device=of.device)
    start, seeds = (none if part is None else part for part in (start, seeds))
    random = k + 2 * SPARE + 6
    block = block_of(k, start.shape[1], search)
    more = torch.cat([start, seeds], dim=1)[:, : block - random]
    random = block - more.shape[1]
    most = min(search.most, of.shape[1] // block - 1)
    if most < search.fewest:
        return Open(Why.SMALL)
    first = torch.cat([gaussian(of.shape[1], random, of.device), more], dim=1)
    krylov = Lanczos(of.gram_matmat, first, most)
    look = _Look(of, krylov, k, random, accept, search, next=min(search.first, most))
    ritz = None
    for ritz in krylov.looks(lambda steps: steps >= look.next):
        look.next = krylov.steps + max(search.every, krylov.steps // 4)
        values = ritz.values[:k]
        if not float(values[-1]) > search.negligible**2 * float(values[0]):
            return Open(Why.RANK)
        rounding = search.own * (values * values[0]).sqrt()
        settled = search.settled and bool((ritz.residual[:k] <= rounding).all())
        last = krylov.steps == most or settled
        found = look.at(ritz, last=last)
        if found is not None:
            return found
        if last or look.over or look.tries == search.tries:
            break
        if 2 * krylov.steps >= most and _off(ritz, k) > search.hopeless:
            break
    seen = None if ritz is None else krylov.combined(ritz.coordinates[:, : k + SPARE])
    return Open(Why.CLOSE if krylov.finite else Why.OVERFLOW, seen)


def _off(ritz: Ritz, k: int) -> float:
    """Return the most gaps that one of the `k` leading Ritz values is off by, about."""
    gaps = ritz.values[:k] - ritz.values[1 : k + 1]
    return float((ritz.residual[:k] / gaps).max())


def block_of(k: int, extra: int, search: Search) -> int:
    """Return how many columns start a search for `k` triplets with so many columns of one's own."""
    return -(-(k + 2 * SPARE + 6 + extra) // search.width) * search.width


def has_room(side: int, k: int, extra: int, search: Search) -> bool:
    """Say whether the fewest steps of a search fit into a matrix with this shorter side."""
    return side // block_of(k, extra, search) - 1 >= search.fewest


def vectors_within(k: int, tolerance: float, chosen: Sequence[int] | None = None) -> Accept:
    """Return what asks for the first `k` vectors, none, or none of some, farther off than this."""
    some = [*range(k)] if chosen is None else [*chosen]
    return lambda found: (
        Answer.YES
        if len(found.sigma) >= k and float(found.vector_error[some].max()) <= tolerance
        else Answer.LATER
    )


@dataclass(slots=True)
class _Look:
    """A glance at a growing Krylov space: estimates first, float64 products when they please."""

    of: LinearMap
    krylov: Lanczos
    k: int
    random: int
    accept: Accept
    search: Search
    next: int  # step before which not to look
    tries: int = 0
    rounding: Tensor = field(default_factory=lambda: torch.empty(0))  # norms, as measured
    over: bool = False  # no step will do

    def at(self, ritz: Ritz, *, last: bool) -> Leading | None:
        for count in self._cuts(ritz):
            space = Space(ritz, self.random, self.krylov.steps, self._guessed(ritz, count))
            # What the recurrence itself says, at no cost of products.
            inner = self.krylov.combined(ritz.coordinates[:, :count])
            sigma = ritz.values[:count].sqrt()
            rounding = self.search.own * math.sqrt(float(ritz.values[0]))
            residual = (ritz.residual[:count] / sigma + rounding) / math.sqrt(2.0)
            estimate = _proven(space, (inner, inner[:0], sigma, residual))
            if estimate is None:
                continue
            answer = Answer.YES if last else self.accept(estimate)
            if answer is Answer.LATER:
                return None
            self.over = answer is Answer.NEVER
            self.tries += 1
            found = self._measured(space, count)
            return found if found is not None and self.accept(found) is Answer.YES else None
        return None

    def _guessed(self, ritz: Ritz, count: int) -> Rounding:
        """Return about what rounding will be measured of every Ritz vector."""
        values, known = ritz.values, self.rounding
        leading = max(count, self.k) + SPARE
        if len(known) <= leading:
            size = (values[: leading + 1] * values[0]).sqrt()
            known = torch.cat([self.search.own * size[:-1], self.search.rounding * size[-1:]])
        return guessed(ritz, torch.cat([known[:leading], known[-1:]]), count)

    def _cuts(self, ritz: Ritz) -> list[int]:
        """Return the counts, from `k` on, that look easiest to prove; at last none."""
        sigma = ritz.values.sqrt()
        ease = {
            count: float(sigma[count - 1] - sigma[count]) * gaussian_floor(self.random, count)
            for count in range(self.k, self.random - SPARE)
        }
        return [*sorted(ease, key=lambda count: -ease[count])[:SEPARATE], 0]

    def _measured(self, space: Space, count: int) -> Leading | None:
        """Return the triplets with residuals and rounding from float64 products."""
        ritz = space.ritz
        leading, top = max(count, self.k) + SPARE, float(ritz.values[0])
        found = seen(self.of, self.krylov, ritz, leading, count)
        self.rounding = (found.rounding(top) / shares(ritz, leading, count))[: leading + 1]
        if not self.krylov.orthonormal():
            return None
        image = found.image[:, :count]
        squares, turn = torch.linalg.eigh(image.mT @ image)
        squares, turn = squares.flip(0), turn.flip(1)
        sigma = squares.sqrt()
        inner, back = found.vectors[:, :count] @ turn, found.back[:, :count] @ turn
        off = lengths(back - inner * squares)
        # Errors of the products themselves, and of vectors orthonormal to SKEW only.
        own = math.sqrt(count) * found.own * 2.0 * math.sqrt(top)
        residual = (off + own) / (math.sqrt(2.0) * sigma) + SKEW * math.sqrt(top)
        triplets = (inner, image @ turn / sigma, sigma.cpu(), residual.cpu())
        return _proven(space._replace(rounding=found.rounding), triplets)


def _proven(space: Space, triplets: tuple[Tensor, Tensor, Tensor, Tensor]) -> Leading | None:
    """Return the triplets with their errors, if none above the ceiling can be missing."""
    inner, outer, sigma, residual = triplets
    count = len(sigma)
    value_error = float(torch.linalg.vector_norm(residual))
    below = math.sqrt(float(space.ritz.values[count]))
    if count:
        least = float(sigma[-1]) - value_error
        # Of the way down: low leaves wide gaps, high is soon proven.
        ceilings = [least - share * (least - below) for share in (0.6, 0.25) if least > below]
    else:
        ceilings = [below * (1.0 + share) for share in (0.003, 0.03, 0.3)]
    ceiling = next((at for at in ceilings if at_most(count, at * at, space)), None)
    if ceiling is None:
        return None
    apart = (sigma[:, None] - sigma).abs().fill_diagonal_(math.inf)
    nearest = apart.amin(dim=1) - value_error if count else sigma
    gap = torch.minimum(nearest, sigma - ceiling)
    turned = (distance_from_sine(residual / gap.clamp(min=1e-300)) + SKEW).clamp(max=2.0)
    measured = len(outer) > 0
    return Leading(outer, sigma, inner, residual, value_error, turned, ceiling, space, measured)


def distance_from_sine(sine: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
    """Return how far a half of a unit pair moves when the pair turns; 2 where unknown."""
    cosine_of_half = ((1.0 + (1.0 - sine.clamp(max=1.0).square()).sqrt()) / 2.0).sqrt()
    distance = math.sqrt(2.0) * sine / cosine_of_half
    return torch.where(sine < 1.0, distance.clamp(max=2.0), 2.0)
