"""A product of two thin factors in its own singular directions, without the product.

With A^T = Q2 R2 and B = Q1 R1 the singular values of B A are those of the small R1 R2^T = U S V^T.
The balanced factors Q1 U sqrt(S) and sqrt(S) V^T Q2^T are B (R2^T V) / sqrt(S) and
(U^T R1) A / sqrt(S): no Q is formed, and no triangle is inverted, so that factors whose columns
depend on each other lose nothing. All in float64; the k-th pair is off by about
eps ||B|| ||A|| / sigma_k, relative to itself, and pairs below `TRUE` of that are none.

Source:
    Golub and Van Loan 2013, Matrix Computations, section 8.6; Hu et al. 2021, arXiv:2106.09685.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

from jaxtyping import Bool, Float

from spectra.deferred import Tensor, torch
from spectra.kernels.entries import largest_entry
from spectra.kernels.singular import product_rounding

ALIKE = 0.9  # a cosine between factors of one training
CANCELLED = 4.0  # times what is left of it, from which on a term is cancelled by others
SLACK = 2.0  # times what storing factors moves their product, about, that is taken for it


class Term(NamedTuple):
    """A product of a sum, as it is stored."""

    left: Float[Tensor, "rows k"]
    right: Float[Tensor, "k cols"]
    roundoff: float  # of entries, relative, at most

    @property
    def rounding(self) -> float:
        """About the spectral norm of what storing both sides adds to the product.

        Of entries that are rounded independently, with a variance of roundoff^2 / 3 times theirs.
        """
        (rows, inner), cols = self.left.shape, self.right.shape[1]
        sizes = [float(torch.linalg.vector_norm(one.double())) for one in self[:2]]
        spread = sum(1 / math.sqrt(inner) + 1 / math.sqrt(side) for side in (rows, cols))
        return SLACK * self.roundoff / math.sqrt(3.0) * spread * sizes[0] * sizes[1]


@dataclass(frozen=True, slots=True)
class Core:
    """The product of two factors, by the small one of their triangles."""

    sigma: Float[Tensor, " rank"]  # of the product, descending, as many as its true rank
    energy: float  # sum of all sigma^2
    _factors: tuple[Tensor, Tensor]
    _turns: tuple[Tensor, Tensor]  # what turns left's columns and right's rows

    def only(self, keep: Bool[Tensor, " rank"]) -> "Core":
        """Return the directions that are kept; the energy stays that of all."""
        outer, inner = self._turns
        return replace(self, sigma=self.sigma[keep], _turns=(outer[:, keep], inner[keep]))

    def balanced(
        self, count: int
    ) -> tuple[Float[Tensor, "rows count"], Float[Tensor, "count cols"]]:
        """Return `count` columns u_i sqrt(sigma_i), and as many rows sqrt(sigma_i) v_i."""
        left, right = self._factors
        outer, inner = self._turns
        root = self.sigma[:count].sqrt()
        return left @ (outer[:, :count] / root), (inner[:count] / root[:, None]) @ right


def resolved(core: Core, terms: Sequence[Term]) -> tuple[Core, Float[Tensor, " rest"]]:
    """Return a sum without directions that are no more than what storing its terms rounded off.

    Terms that depend on each other, such as an adapter and its own cut, leave such: no term has
    more of itself there than its rounding, or those that have cancel each other, down to the
    rounding of both. What one term has is none, however small it is beside others or what is left
    of it in the sum.

    Args:
        core: Of the sum.
        terms: What it is of.

    Returns:
        The rest of the sum, of the same energy, and the singular values that are left out.
    """
    levels = core.sigma.new_tensor([term.rounding for term in terms])[:, None]
    doubtful = core.sigma <= levels.sum()
    if len(terms) < 2 or not bool(doubtful.any()):
        return core, core.sigma[:0]
    left, right = core.balanced(len(core.sigma))
    root = core.sigma[doubtful].sqrt()
    outer, inner = (left[:, doubtful] / root).mT, (right[doubtful] / root[:, None]).mT
    sizes = []
    for term in terms:
        one, other = term.left.double(), term.right.double()
        rows = torch.linalg.vector_norm((outer @ one) @ other, dim=1)
        cols = torch.linalg.vector_norm(one @ (other @ inner), dim=0)
        sizes.append(torch.maximum(rows, cols))
    there, left_over = torch.stack(sizes), core.sigma[doubtful]
    held = there > levels
    most = held & (there > CANCELLED * left_over)
    cancelled = (most.sum(dim=0) > 1) & (left_over <= (most * levels).sum(dim=0))
    if any(_alike(one, other) for one, other in combinations(terms, 2)):
        cancelled.zero_()  # no rounding is between factors that differ in the last bits alone
    keep = ~doubtful
    keep[doubtful] = (held & ~(most & cancelled)).any(dim=0)
    return core.only(keep), core.sigma[~keep]


def _alike(one: Term, other: Term) -> bool:
    """Say whether factors are alike entry by entry, as those of two steps of one training."""
    return all(
        left.shape == right.shape
        and abs(float(left.double().flatten() @ right.double().flatten()))
        >= ALIKE * float(left.double().norm()) * float(right.double().norm())
        for left, right in zip(one[:2], other[:2], strict=True)
    )


def core_of(left: Float[Tensor, "rows inner"], right: Float[Tensor, "inner cols"]) -> Core:
    """Return the singular values of `left @ right`, and what its directions are made from.

    Args:
        left: Such as `scale * B`.
        right: Such as `A`.

    Raises:
        NonFiniteError: A factor holds NaN or Inf.
    """
    largest_entry(left)
    largest_entry(right)
    left, right = left.double(), right.double()
    outer = torch.linalg.qr(left, mode="r").R
    inner = torch.linalg.qr(right.mT, mode="r").R
    turn, sigma, back = torch.linalg.svd(outer @ inner.mT, full_matrices=False)
    size = float(torch.linalg.vector_norm(outer)) * float(torch.linalg.vector_norm(inner))
    rank = int((sigma > product_rounding(left, right, size)).sum())
    turns = inner.mT @ back[:rank].mT, turn[:, :rank].mT @ outer
    sigma = sigma[:rank]
    return Core(sigma, float(sigma.square().sum()), (left, right), turns)


def core_cost(rows: int, inner: int, cols: int) -> float:
    """Return about how many operations a core and its directions take."""
    return 4.0 * (rows + cols) * inner**2 + 30.0 * inner**3


def rounding_energy(
    left: Float[Tensor, "rows kept"],
    right: Float[Tensor, "kept cols"],
    stored_left: Float[Tensor, "rows kept"],
    stored_right: Float[Tensor, "kept cols"],
) -> Float[Tensor, " more"]:
    """Return how far storing the leading k pairs moves their product, squared, for every k.

    ||B'_k A'_k - B_k A_k||_F^2 for k = 0 ... kept, to four digits or so. The difference of each
    pair is db a' + b da; its inner products with the others come from k x k Gram matrices of the
    differences, which lose nothing to cancellation.
    """
    off_left, off_right = (
        (stored.double() - exact).float()
        for stored, exact in ((stored_left, left), (stored_right, right))
    )
    near, wide = left.float(), stored_right.float()
    cross = (off_left.mT @ near) * (wide @ off_right.mT)
    gram = (off_left.mT @ off_left) * (wide @ wide.mT)
    gram += cross + cross.mT + (near.mT @ near) * (off_right @ off_right.mT)
    sums = gram.double().cumsum(0).cumsum(1).diagonal().clamp(min=0.0)
    return torch.cat([sums.new_zeros(1), sums])
