"""What a few directions of one side hold of a matrix, from four passes over it.

From Gaussian columns, D D^T D ... spans about the leading left singular vectors; how nearly does
not matter to what is said. With U orthonormal, turned so that (U^T D)(U^T D)^T is diagonal, each
u_j holds p_j = ||u_j^T D||^2, and any unit v = U c + v', v' across U, holds what `held` encloses:

    | ||v^T D|| - (sum of c_j^2 p_j)^(1/2) |  <=  ||v'|| (||D||^2 - sum of p_j)^(1/2).

Source:
    Halko, Martinsson and Tropp 2011, arXiv:0909.4061, algorithm 4.4 (subspace iteration).
"""

from typing import NamedTuple

from jaxtyping import Float

from spectra.deferred import Tensor, torch
from spectra.kernels.entries import entry_norm, largest_entry, power_of_two_near
from spectra.kernels.lanczos import gaussian
from spectra.kernels.streamed import Streamed

BLOCK = 8  # columns of the space
PANEL = 1 << 20  # entries widened at a time


class Dominant(NamedTuple):
    """A few orthonormal directions of the left side of D, the first of which hold most."""

    directions: Float[Tensor, "rows count"]
    shares: Float[Tensor, " count"]  # ||u_j^T D||^2 / ||D||^2, descending
    image: Float[Tensor, " cols"]  # u_1^T D


def dominant(change: Float[Tensor, "rows cols"] | Streamed, count: int) -> Dominant:
    """Return directions that hold about as much as the leading left singular vectors.

    Products are in the precision of `change`, float32 or float64, which is not all zero.
    """
    if isinstance(change, Streamed):
        largest, norm = change.sizes()
    else:
        largest, norm = largest_entry(change), entry_norm(change)
    scale = power_of_two_near(largest)
    block = min(BLOCK, *change.shape)
    columns = gaussian(change.shape[1], block, change.device)

    def times(matrix: Tensor | Streamed, vectors: Tensor) -> Tensor:
        if isinstance(matrix, Streamed):
            return matrix.times(vectors / scale)
        product: Tensor = (vectors.mT / scale).to(matrix.dtype).contiguous() @ matrix.mT
        return product.mT.double()

    left = _orthonormal(times(change, columns))
    left = _orthonormal(times(change, _orthonormal(times(change.mT, left))))
    return _turned(left, times(change.mT, left).mT, norm / scale, count, scale)


def dominant_of_factors(
    left: Float[Tensor, "rows inner"], right: Float[Tensor, "inner cols"], count: int
) -> Dominant:
    """Return the leading left singular vectors of `left @ right`, which is not all zero."""
    outer, small = torch.linalg.qr(left.double())
    along = small @ right.double()
    return _turned(outer, along, float(torch.linalg.vector_norm(along)), count, 1.0)


def held(
    of: Float[Tensor, "rows count"], shares: Float[Tensor, " count"], unit: Float[Tensor, " rows"]
) -> tuple[float, float]:
    """Return what ||v^T D||^2 / ||D||^2 is proven to lie between, v a unit vector."""
    along = (of.double().mT @ unit.double()).square()
    inside = float((along * shares).sum()) ** 0.5
    across = max(1.0 - float(along.sum()), 0.0) * max(1.0 - float(shares.sum()), 0.0)
    return max(inside - across**0.5, 0.0) ** 2, min((inside + across**0.5) ** 2, 1.0)


def projected(matrix: Float[Tensor, "rows cols"], left: Float[Tensor, " rows"]) -> Tensor:
    """Return u^T W, float64, a few rows widened at a time."""
    found = left.new_zeros(matrix.shape[1], dtype=torch.float64)
    step = max(1, PANEL // max(matrix.shape[1], 1))
    wide = torch.float64 if matrix.dtype == torch.float64 else torch.float32
    for start in range(0, len(matrix), step):
        rows = slice(start, start + step)
        found += (left[rows].to(wide) @ matrix[rows].to(wide)).double()
    return found


def _orthonormal(columns: Tensor) -> Tensor:
    basis: Tensor = torch.linalg.qr(columns).Q
    return basis


def _turned(left: Tensor, image: Tensor, norm: float, count: int, scale: float) -> Dominant:
    turn, sigma, right = torch.linalg.svd(image, full_matrices=False)
    count = min(count, len(sigma))
    shares = (sigma[:count] / norm).square().clamp(max=1.0)
    return Dominant(left @ turn[:, :count], shares, right[0] * (sigma[0] * scale))
