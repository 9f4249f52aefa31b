"""Several updates of one matrix: how they lie to each other, entry by entry and by directions.

An update is rows that are asked for a few at a time, so that no product of factors is formed whole,
and in float64: sums over entries round by less than anything that is told of them.

**Chance.** What the inner product of two updates would be, had their rows and columns independent
signs, has the root mean square sqrt(sum of (a_ij b_ij)^2), whatever the updates' own sizes, ranks
and outliers: sum_ij s_i t_j a_ij b_ij has uncorrelated terms.

Source:
    Ilharco et al. 2022, arXiv:2212.04089 (task vectors and their cosines); Yadav et al. 2023,
    arXiv:2306.01708 (TIES: the sign that is elected has the larger sum of |entries|); Hu et al.
    2021, arXiv:2106.09685, section 7 (overlap of subspaces).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float

from spectra.deferred import Tensor, torch
from spectra.errors import NonFiniteError
from spectra.kernels.cores import core_of
from spectra.kernels.rounding import EPS64
from spectra.kernels.similarity import APART, rounding_of
from spectra.kernels.truncation import Settings, truncated

BLOCK = 1 << 16  # entries of each update at a time, which stay in a core's cache
OVERLAP = 0.005  # of an overlap: how well it is known where it is told
FLOOR = 4.0  # times the root of rounding: singular values below, over the largest, are none
SETTINGS = Settings(excess=1e-5)  # of the space that leading directions come from

Rows = Callable[[slice], Float[Tensor, "rows cols"]]
"""Some rows of an update, float64."""
Factors = tuple[Tensor, Tensor]
"""Rows x rank and rank x columns, each update's rank its own."""


class Entries(NamedTuple):
    """What the entries of several updates tell."""

    gram: Float[Tensor, "count count"]  # inner products
    spread: Float[Tensor, "count count"]  # sums of (a_ij b_ij)^2: `Chance` above
    shared: int  # entries that two updates change, or more
    conflicts: int  # of these, where one goes up and another down
    expected: float  # conflicts, had all that are not 0 independent signs
    weight: float  # sum of |entries| of all updates
    against: float  # of it, on the side of the smaller sum: what TIES drops
    along: Float[Tensor, " count"]  # inner products with the base over its norm


def entries_of(updates: Sequence[Rows], base: Rows, shape: tuple[int, int]) -> Entries:
    """Compare updates entry by entry, a few rows at a time.

    Args:
        updates: Two or more; one alone has nothing in conflict.
        base: What they are updates of.
        shape: Rows and columns of each.

    Raises:
        NonFiniteError: Products of entries overflow float64.
    """
    count, (rows, cols) = len(updates), shape
    step = max(BLOCK // max(cols, 1), 1)
    sums: _Sums | None = None
    for start in range(0, rows, step):
        here = slice(start, min(start + step, rows))
        block = torch.stack([update(here).flatten() for update in updates])
        sums = sums or _Sums.like(block)
        sums.add(block, base(here).flatten())
    found = sums or _Sums.like(torch.zeros(count, 0, dtype=torch.float64))
    if not bool(found.spread.isfinite().all()):
        raise NonFiniteError("products of the updates' entries overflow float64")
    return found.entries()


@dataclass(slots=True)
class _Sums:
    """What adds up over entries, where they are."""

    gram: Tensor
    spread: Tensor
    along: Tensor
    fair: Tensor  # the share of conflicts by chance, of an entry that so many change
    sums: Tensor  # shared, conflicts, expected, weight, against, energy of the base

    @staticmethod
    def like(block: Float[Tensor, "count entries"]) -> "_Sums":
        """Begin with nothing."""
        count = len(block)
        fair = [1.0 - 2.0 ** (1 - max(many, 1)) for many in range(count + 1)]
        return _Sums(
            block.new_zeros(count, count), block.new_zeros(count, count), block.new_zeros(count),
            torch.tensor(fair, dtype=block.dtype).to(block.device), block.new_zeros(6),
        )  # fmt: skip

    def add(self, block: Float[Tensor, "count entries"], base: Float[Tensor, " entries"]) -> None:
        """Add some entries of all updates, whose memory is used, and of the base."""
        count = len(block)
        self.gram.addmm_(block, block.mT)
        self.along.addmv_(block, base)
        opposed = (block.amax(dim=0) > 0.0) & (block.amin(dim=0) < 0.0)
        if count > 1 and bool(block.all()):
            self.sums[0] += block.shape[1]
            self.sums[2] += self.fair[count] * block.shape[1]
        else:
            changing = (block != 0.0).sum(dim=0)
            self.sums[0] += (changing > 1).sum()
            self.sums[2] += self.fair[changing].sum()
        total = block.sum(dim=0).abs_()
        sizes = block.abs_().sum(dim=0)
        self.sums[1] += opposed.sum()
        self.sums[3] += sizes.sum()
        self.sums[4] += (sizes - total).mul_(opposed).sum() / 2.0
        self.sums[5] += base.square().sum()
        block.square_()
        self.spread.addmm_(block, block.mT)

    def entries(self) -> Entries:
        """Return what they tell."""
        shared, conflicts, expected, weight, against, energy = self.sums.tolist()
        along = self.along / (math.sqrt(energy) or 1.0)
        return Entries(
            self.gram.cpu(), self.spread.cpu(), int(shared), int(conflicts), expected, weight,
            against, along.cpu(),
        )  # fmt: skip


def inner_product(one: Factors, other: Factors) -> float:
    """Return tr((B A)^T B' A') through small matrices, float64."""
    (left, right), (other_left, other_right) = (
        tuple(part.double() for part in both) for both in (one, other)
    )
    return float(((left.mT @ other_left) * (right @ other_right.mT)).sum())


class Leading(NamedTuple):
    """The leading directions of an update."""

    left: Tensor  # rows x k, orthonormal, float64
    right: Tensor  # columns x k
    energy: float  # ||D||_F^2
    kept: float  # of it, along these
    tilt: float  # a bound of how far either subspace is off: ||P - P'||_F; infinite: a tie


def leading_of_factors(left: Tensor, right: Tensor, k: int) -> Leading:
    """Return the `k` leading directions of a product, fewer where its rank is less."""
    core = core_of(left, right)
    sigma = core.sigma
    count = min(k, len(sigma))
    outer, inner = core.balanced(count)
    tied = False
    if count < len(sigma):
        rounding = rounding_of(sigma, (left.shape[0], right.shape[1]))
        tied = float(sigma[count - 1] - sigma[count]) <= APART * rounding
    return Leading(
        _unit(outer), _unit(inner.mT), core.energy, float(sigma[:count].square().sum()),
        math.inf if tied else 0.0,
    )  # fmt: skip


def leading_of_matrix(matrix: Float[Tensor, "rows cols"], k: int) -> Leading:
    """Return the `k` leading directions of a matrix, fewer where its rank is less.

    Raises:
        NonFiniteError: It holds NaN or Inf.
    """

    def count(sigma: Tensor, _energy: float) -> int:
        # Their squares are eigenvalues, which round by that of the largest.
        floor = FLOOR * math.sqrt(max(matrix.shape) * EPS64)
        return min(k, int((sigma > floor * float(sigma[0])).sum())) if len(sigma) else 0

    found = truncated(matrix, count, settings=SETTINGS)
    kept = float(found.sigma.square().sum())
    tilt = 0.0
    if len(found.sigma):
        gap = float(found.sigma[-1]) ** 2 - found.spectral.high**2
        rounding = rounding_of(found.sigma, matrix.shape) * float(found.sigma[0])
        rest = found.rest > 1e-24 * found.energy
        tied = rest and gap <= APART * rounding
        tilt = math.inf if tied else math.sqrt(2.0) * found.coupling / gap if rest else 0.0
    return Leading(_unit(found.left), _unit(found.right.mT), found.energy, kept, tilt)


def overlap(one: Leading, other: Leading) -> tuple[tuple[float, float] | None, tuple[float, float]]:
    """Return what two leading subspaces share, and what ones in random directions would.

    ||U^T U'||_F^2 / k of the outputs' side and of the inputs', k the smaller dimension; None
    where a subspace is not determined, within 0.005.
    """
    counts = one.left.shape[1], other.left.shape[1]
    few, many = min(counts), max(counts)
    null = many / one.left.shape[0], many / one.right.shape[0]
    if few == 0 or (one.tilt + other.tilt) / math.sqrt(few) > OVERLAP:
        return None, null
    shares = (
        float((ours.mT @ theirs).square().sum()) / few
        for ours, theirs in ((one.left, other.left), (one.right, other.right))
    )
    return tuple(min(share, 1.0) for share in shares), null  # type: ignore[return-value]


def _unit(columns: Float[Tensor, "side k"]) -> Float[Tensor, "side k"]:
    found: Tensor = columns / torch.linalg.vector_norm(columns, dim=0).clamp(min=1e-300)
    return found
