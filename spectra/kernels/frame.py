"""A change seen in the singular frame of what it changed: C = U^T D V, for W = U S V^T.

To first order the diagonal of C is how far each singular value moved, and what lies off it turned
singular vectors. A random change puts about 1 / max(rows, cols) of its energy on the diagonal,
training of singular values alone puts all of it there.

Where singular values of W coincide their vectors are known up to a rotation, and so is what of D
lies between them: it can be turned onto the diagonal of C, or off it. `Shares.tied` is all of that.

Factors of D are multiplied with U^T and V alone; D is never formed of them.

Source:
    Sun et al. 2024, arXiv:2409.05926 (SVFit: the leading singular values are trained); Koleilat
    et al. 2025, arXiv:2509.03740 (CLIP-SVD: all); Elsayed et al. 2025, arXiv:2503.16055 (SALT: the
    leading ones, and a low-rank part beside the others).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Float, Int

from spectra.deferred import Tensor, torch
from spectra.kernels.entries import entry_norm, largest_entry, power_of_two_near
from spectra.kernels.similarity import APART, rounding_of
from spectra.kernels.summary import energy_rank

Factors = tuple[Float[Tensor, "rows inner"], Float[Tensor, "inner cols"]]


class Frame(NamedTuple):
    """The singular vectors of a matrix, float64."""

    left: Float[Tensor, "rows rank"]
    sigma: Float[Tensor, " rank"]  # descending, over a scale
    right: Float[Tensor, "cols rank"]
    cluster: Int[Tensor, " rank"]  # those that coincide have one number


class Shares(NamedTuple):
    """What of ||D||^2, D as it is, lies where in the frame; each in [0, 1]."""

    diagonal: float  # CLIP-SVD trains it
    top: float  # in the block of the k leading directions of both sides
    tail: float  # in the block of all others
    outside: float  # in directions that a matrix which is not square does not have
    svfit: float  # on the diagonal, of the singular values that hold the energy of W
    salt: float  # on the diagonal of the top, and anywhere in the tail
    tied: float  # in blocks of values that coincide: of it the diagonal may have any part
    kept: int  # how many those are
    split: bool  # the k-th value coincides with the next: top and tail are not determined


def singular_frame(matrix: Float[Tensor, "rows cols"]) -> Frame:
    """Return the frame of a matrix that is not all zero, by a float64 SVD.

    Values count as one where the gap between them is less than `APART` times what they may be off
    by: a vector beside a wider gap is off by less than a thousandth.
    """
    scale = power_of_two_near(largest_entry(matrix))
    wide = matrix.to(torch.float64, copy=True).div_(scale)
    left, sigma, right = torch.linalg.svd(wide, full_matrices=False)
    cluster = torch.zeros(len(sigma), dtype=torch.long, device=sigma.device)
    apart = APART * rounding_of(sigma, matrix.shape)
    cluster[1:] = (sigma[:-1] - sigma[1:] > apart).cumsum(0)
    return Frame(left, sigma, right.mT, cluster)


def shares_in(
    frame: Frame, change: Float[Tensor, "rows cols"] | Factors, k: int, energy: float
) -> Shares:
    """Return where in a frame a change lies that is not all zero.

    Args:
        frame: Of the matrix before.
        change: D, or the factors whose product it is.
        k: Leading directions that make the top, at most all.
        energy: Share of the sum of sigma^2 that SVFit's singular values hold.
    """
    rank, size = len(frame.sigma), 0.0
    if isinstance(change, Tensor):
        scale = power_of_two_near(largest_entry(change))
        size = (entry_norm(change) / scale) ** 2
        along = frame.left.mT @ change.to(torch.float64, copy=True).div_(scale)
        block = along @ frame.right
        del along
        diagonal, squares = block.diagonal(), block.square()
        top, tail = float(squares[:k, :k].sum()), float(squares[k:, k:].sum())
        inside = float(squares.sum())
        tied = _tied(frame, lambda some: float(squares[some][:, some].sum()))
    else:
        left, right = (part.double() / (power_of_two_near(largest_entry(part)) or 1.0)
                       for part in change)  # fmt: skip
        size = _size(left, right)
        left, right = frame.left.mT @ left, right @ frame.right
        diagonal = (left * right.mT).sum(dim=1)
        top, tail = _size(left[:k], right[:, :k]), _size(left[k:], right[:, k:])
        inside = _size(left, right)
        tied = _tied(frame, lambda some: _size(left[some], right[:, some]))
    alone = diagonal.square().cumsum(0).cpu()
    kept = energy_rank(frame.sigma, energy)
    split = k < rank and bool(frame.cluster[k - 1] == frame.cluster[k])

    def share(part: float) -> float:
        return min(max(part / size, 0.0), 1.0)

    return Shares(
        share(float(alone[-1])), share(top), share(tail), share(size - inside),
        share(float(alone[kept - 1])), share(float(alone[k - 1]) + tail), share(tied), kept, split,
    )  # fmt: skip


def _size(left: Tensor, right: Tensor) -> float:
    """Return ||left @ right||_F^2, from Gram matrices of the short side."""
    if not len(left) or not right.shape[1]:
        return 0.0
    return float(((left.mT @ left) * (right @ right.mT)).sum())


def _tied(frame: Frame, size_of: Callable[[Tensor], float]) -> float:
    """Return what lies between directions of values that coincide, in all clusters."""
    count = frame.cluster.bincount()
    clusters = (count > 1).nonzero().flatten().tolist()
    return math.fsum(size_of((frame.cluster == one).nonzero().flatten()) for one in clusters)
