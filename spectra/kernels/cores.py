"""A product of two thin factors in its own singular directions, without the product.

With A^T = Q2 R2 and B = Q1 R1 the singular values of B A are those of the small R1 R2^T = U S V^T.
The balanced factors Q1 U sqrt(S) and sqrt(S) V^T Q2^T are B (R2^T V) / sqrt(S) and
(U^T R1) A / sqrt(S): no Q is formed, and no triangle is inverted, so that factors whose columns
depend on each other lose nothing. All in float64; the k-th pair is off by about
eps ||B|| ||A|| / sigma_k, relative to itself, and pairs below `TRUE` of that are none.

Source:
    Golub and Van Loan 2013, Matrix Computations, section 8.6; Hu et al. 2021, arXiv:2106.09685.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.kernels.entries import largest_entry
from spectra.kernels.singular import product_rounding


@dataclass(frozen=True, slots=True)
class Core:
    """The product of two factors, by the small one of their triangles."""

    sigma: Float[Tensor, " rank"]  # of the product, descending, as many as its true rank
    energy: float  # sum of all sigma^2
    _factors: tuple[Tensor, Tensor]
    _turns: tuple[Tensor, Tensor]  # what turns left's columns and right's rows

    def balanced(
        self, count: int
    ) -> tuple[Float[Tensor, "rows count"], Float[Tensor, "count cols"]]:
        """Return `count` columns u_i sqrt(sigma_i), and as many rows sqrt(sigma_i) v_i."""
        left, right = self._factors
        outer, inner = self._turns
        root = self.sigma[:count].sqrt()
        return left @ (outer[:, :count] / root), (inner[:count] / root[:, None]) @ right


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
