"""Which leading singular vectors of a tuned matrix resemble none of its base's: proven.

The verdict on y needs the largest |u_i . y| only, over all left singular vectors u_i of the
base, against epsilon. One block Krylov space of the base, started from random columns and
from all y, tells three things, in the order of their cost.

1. Match: the leading u_i, proven by `leading`, meet y as far as their errors tell.
2. What is left of y: with y' = y - sum of u_i (u_i . y) over those, every other u has
   |u . y| <= |y'| + leak, as the remaining u are nearly orthogonal to the found ones:
   |u . u_i| <= 2 rho_i / (sigma_i - ceiling).
3. Bound: residuals of shifted systems (`shifted`) bound |u . y| for all u at once.

A tall base (more rows than columns) has a null space that meets no left singular vector and
yet weighs at 0. So the process runs on the right, from z = W^T y: u . y = (v . z) / sigma,
and z has nothing in the null space; the factor 1 / sigma is bounded where it is proven
that no sigma lies below a floor.

y is itself computed: it may be off by an angle, by which every |u . y| may be off. A verdict
stands where its whole interval lies on one side of epsilon, by `MARGIN` at least.

Source:
    Shuttleworth et al. 2024, arXiv:2410.21228, for what is asked.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from jaxtyping import Float

from spectra.deferred import Tensor, torch
from spectra.kernels.leading import (
    Answer,
    Leading,
    Open,
    Search,
    certified_leading,
    has_room,
)
from spectra.kernels.linear_map import LinearMap
from spectra.kernels.rounding import EPS64
from spectra.kernels.shifted import Question, largest_components
from spectra.kernels.similarity import Decision

MARGIN = 1e-3  # a verdict this near to epsilon is left to a full decomposition
ANGLE = 1e-3  # that the tuned vectors may be off by
OVERLAP = 5e-3  # that the subspace overlap may be off by
STILL = 0.01  # of what a bound is too large by, for steps to have done nothing

Floor = Callable[[], float]
"""What proves a lower bound of all eigenvalues; 0 where there is none."""


class Verdict(NamedTuple):
    """One tuned vector against the whole base."""

    cosine: float  # the largest |cos|; where `bound` decided, an upper bound of it
    error: float  # of cosine; 0 for a bound
    best: int  # index of the base vector; -1 where none is known
    decided_by: Decision


@dataclass(slots=True)
class Judge:
    """Vectors of a tuned matrix and what is known of each, while spaces of the base grow."""

    vectors: Float[Tensor, "rows k"]  # unit columns
    angle: Float[Tensor, " k"]  # that each may be off by
    epsilon: float
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    overlap: float | None = None  # ||U0_k^T U1_k||_F^2 / k
    cosines: Float[Tensor, "count k"] | None = None  # with the leading base vectors
    seeds: Float[Tensor, "side seeds"] | None = None  # what the last space had of those
    words: tuple[Decision, Decision] = ("match", "bound")  # for what is decided now

    @property
    def open(self) -> list[int]:
        """Vectors that nothing has decided yet."""
        return [j for j in range(len(self.angle)) if j not in self.verdicts]

    @property
    def done(self) -> bool:
        """Whether nothing is left to decide."""
        return not len(self.angle) or (not self.open and self.overlap is not None)


def climb(
    judges: Sequence[Judge], base: LinearMap, search: Search, floor: Floor | None = None
) -> None:
    """Decide what Krylov spaces of the base, in the precision of this rung, can.

    Where there are two judges, one space finds the base's vectors that resemble those of either:
    all that it takes where there is no intruder. What that leaves open each judge decides alone.

    Args:
        judges: Of left vectors, and perhaps of right ones.
        base: The matrix.
        search: How far to go.
        floor: Proves a lower bound of all singular values, squared, where vectors of the longer
            side need it.
    """
    sides = list(zip(judges, (base, base.mT), strict=False))
    if not any(judge.done for judge in judges) and len(judges) > 1:
        _match(sides, search)
    for judge, of in sides:
        if judge.done:
            continue
        tall = of.shape[0] > of.shape[1]
        look = _look(judge, of, floor if tall else None, across=tall)
        k = len(judge.angle) if judge.overlap is None else 1
        inner = of if tall else of.mT
        found = certified_leading(inner, k, look.accepts, search, look.start, judge.seeds)
        judge.seeds = found.seeds if isinstance(found, Open) else None


def _match(sides: Sequence[tuple[Judge, LinearMap]], search: Search) -> None:
    """Find the leading triplets of the base, and what of either side they resemble."""
    base = sides[0][1]
    rows, cols = base.shape
    looks = [
        _look(judge, of, None, across=(rows > cols) is (place == 0), matching=True)
        for place, (judge, of) in enumerate(sides)
    ]
    start = torch.cat([look.start for look in looks], dim=1)
    k = max(len(judge.angle) for judge, _ in sides)
    if not has_room(min(rows, cols), k, start.shape[1], search):
        return

    def accept(leading: Leading) -> Answer:
        answers = [look.accepts(leading) for look in looks]
        return Answer.YES if all(one is Answer.YES for one in answers) else Answer.LATER

    certified_leading(base if rows > cols else base.mT, k, accept, search, start)


def _look(
    judge: Judge, of: LinearMap, floor: Floor | None, *, across: bool, matching: bool = False
) -> "_Look":
    vectors = judge.vectors
    if across:  # in float64: it is to be divided by sigma, which would magnify rounding
        vectors = of.products(vectors.new_zeros(of.shape[1], 0), vectors)[1]
    return _Look(judge, vectors, of.shape, judge.open, floor, across=across, matching=matching)


@dataclass(frozen=True, slots=True)
class _Look:
    """Asked while a space grows whether it decides everything."""

    judge: Judge
    vectors: Float[Tensor, "side k"]  # where the space is: y, or W^T y
    shape: tuple[int, int]  # of W
    asked: list[int]  # columns of it among the start block
    floor: Floor | None  # of all singular values, where vectors are across
    across: bool  # of the other side than the space: all is to be divided by sigma
    matching: bool  # only what the found vectors tell is asked
    seen: dict[int, float] = field(default_factory=dict)  # how far off a bound was last

    @property
    def start(self) -> Float[Tensor, "side asked"]:
        """Columns for the start block."""
        places = torch.tensor(self.asked).long().to(self.vectors.device)
        return self.vectors.index_select(1, places)

    def accepts(self, leading: Leading) -> Answer:
        judge = self.judge
        known = _Known(self, leading)
        verdicts = known.verdicts()
        if not leading.measured:
            served = known.overlap and (self.matching or len(verdicts) == len(judge.open))
            return Answer.YES if served else known.outlook
        if known.overlap and judge.overlap is None:
            k = len(judge.angle)
            judge.overlap = float(known.cosines[:k].square().sum()) / k
            judge.cosines = known.cosines
        judge.verdicts |= verdicts
        told = judge.overlap is not None if self.matching else judge.done
        return Answer.YES if told else Answer.LATER


class _Known:
    """What one look at the base's space says of every vector."""

    def __init__(self, look: _Look, leading: Leading) -> None:
        self.look, self.leading, self.judge = look, leading, look.judge
        cosines = (leading.inner.mT @ look.vectors).abs().cpu()
        if look.across:
            cosines = cosines / leading.sigma[:, None]
        self.cosines = cosines.clamp(max=1.0)
        angle = self.judge.angle
        # u = cos(phi) known + sin(phi) across; |sin phi| and 2 sin(phi / 2) are <= turned
        turned = leading.vector_error[:, None] + angle
        across = (1.0 - self.cosines.square()).clamp(min=0.0).sqrt() + 1e-12
        self.margins = (across * turned + self.cosines * turned.square() / 2.0).clamp(max=2.0)
        leak = (2.0 * leading.residual / (leading.sigma - leading.ceiling)).clamp(max=1.0)
        rest = (1.0 - self.cosines.square().sum(dim=0)).clamp(min=0.0).sqrt()
        self.rest = rest + leak @ self.cosines + angle + 1e-6
        self.outlook = Answer.LATER
        self.overlap = self.judge.overlap is not None or self._overlap_is_known()

    def verdicts(self) -> dict[int, Verdict]:
        """Return the verdict on each open vector that does not stay so."""
        judge, epsilon = self.judge, self.judge.epsilon
        none = self.cosines.new_zeros(1, self.cosines.shape[1])
        low = torch.cat([none - 1.0, self.cosines - self.margins]).amax(dim=0)
        most = torch.cat([none, self.cosines + self.margins]).amax(dim=0)
        clear = low >= epsilon + MARGIN
        room = torch.where(clear, low, epsilon - MARGIN)
        # One known vector, too near to epsilon: nothing else can settle that.
        stuck = ~clear & (most >= epsilon - MARGIN)
        wanted = [j for j in judge.open if not stuck[j] and self.rest[j] >= room[j]]
        if not self.overlap or self.look.matching:
            wanted = []  # the base climbs in any case, and all that is open with it
        rest = self.rest.clone()
        if wanted:
            rest[wanted] = self._others(wanted, room) + judge.angle[wanted]
        found = {}
        for j in judge.open:
            if stuck[j] or not rest[j] < room[j]:
                continue
            if clear[j]:
                found[j] = self._match(j, float(low[j]))
            else:
                found[j] = Verdict(float(max(rest[j], most[j])), 0.0, -1, judge.words[1])
        return found

    def _match(self, j: int, low: float) -> Verdict:
        cosines, margins = self.cosines[:, j], self.margins[:, j]
        best = int((cosines - margins).argmax())
        others = cosines + margins
        others[best] = 0.0
        # What else resembles the vector has no more than the best leaves.
        left = math.sqrt(max(1.0 - low * low, 0.0)) + float(self.judge.angle[j])
        high = min(float(others.max()), left)
        cosine, error = float(cosines[best]), float(margins[best])
        if high > cosine + error:  # the middle: no end of an interval reaches down to epsilon
            cosine, error = (high + cosine - error) / 2.0, (high - cosine + error) / 2.0
        return Verdict(cosine, error, best, self.judge.words[0])

    def _overlap_is_known(self) -> bool:
        """Say whether the two leading subspaces are known well enough for their overlap.

        With P and P' projectors onto the base's and what was found of it, ||P - P'||_F <=
        2 tilt / gap, and |tr (P - P') Q| <= sqrt(k) ||P - P'||_F. A column y of Q that is off by
        a moves |P y|^2 = p by no more than 2 a sqrt(p (1 - p)) + a^2.
        """
        leading, angle = self.leading, self.judge.angle
        k = len(angle)
        if len(leading.sigma) < k:
            return False
        more = len(leading.sigma) > k
        following = float(leading.sigma[k]) + leading.value_error if more else leading.ceiling
        gap = float(leading.sigma[k - 1]) - following
        if gap <= 0.0:
            return False
        tilt = 2.0 * float(torch.linalg.vector_norm(leading.residual[:k])) / gap / math.sqrt(k)
        share = self.cosines[:k].square().sum(dim=0).clamp(max=1.0)
        moved = 2.0 * angle * (share * (1.0 - share)).sqrt() + angle.square()
        return tilt + float(moved.mean()) <= OVERLAP

    def _others(self, wanted: list[int], room: Tensor) -> Float[Tensor, " wanted"]:
        """Bound what the vectors that are not known have of some of the tuned."""
        leading, look, space = self.leading, self.look, self.leading.space
        floor = look.floor() if look.floor is not None else 0.0
        if look.across and floor == 0.0:
            return torch.full((len(wanted),), math.inf, dtype=room.dtype)
        # What the vector of a cluster, singular values that coincide to rounding, is off by.
        rows, cols = look.shape
        clusters = 2.0 * float(space.ritz.values[0]) * rows * cols * EPS64
        columns = [space.random + look.asked.index(j) for j in wanted]
        asked = Question(
            space.ritz.start[:, columns],
            (room - self.judge.angle)[wanted],
            (floor, leading.ceiling**2),
            over_root=look.across,
            together=not leading.measured,
        )
        found = largest_components(space.ritz, asked, lambda x: space.rounding(x) + clusters)
        if not leading.measured:
            for j, excess in zip(wanted, (found - asked.enough).tolist(), strict=True):
                before, look.seen[j] = look.seen.get(j, math.inf), excess
                if excess > 0.0 and abs(before - excess) <= STILL * excess:
                    self.outlook = Answer.NEVER  # the last steps left a bound as far off as it was
        return found
