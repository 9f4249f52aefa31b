"""How much of a matrix lies on few columns of a fixed basis: the discrete cosine transform."""

import math

from jaxtyping import Float

from spectra.deferred import Tensor, torch
from spectra.kernels.entries import largest_entry

BLOCK = 1 << 21  # entries transformed at a time


def cosine_shares(
    matrix: Float[Tensor, "rows cols"], seed: int | None = None
) -> Float[Tensor, " cols"]:
    """Return the share of ||A||_F^2 on each column of a DCT-III, the largest first.

    That is of ||S||_F^2, S = A Q, with Q_ij = sqrt(2 / n) cos(i (2 j + 1) pi / 2n), its first row
    times sqrt(1/2), which is orthogonal. Where A is 0 in every entry all shares are.

    Args:
        matrix: At any scale, the side that the basis is of last: `by_short_side` turns it.
        seed: Of random signs that the lines of Q get first: then it is a basis that has nothing
            to do with the matrix, and what it captures is chance. None: Q as it is.

    Returns:
        float64, on the matrix's device; the first r add up to what the r columns of largest norm
        capture, of which no other choice of r columns captures more.

    Raises:
        NonFiniteError: The matrix holds NaN or Inf.

    Source:
        Modoranu et al. 2025, arXiv:2505.17967, and its code: `fft_projector.py` ranks columns by
        their l1 norms unless told otherwise, which captures no more than this.
    """
    scale = largest_entry(matrix)
    size = matrix.shape[1]
    found = torch.zeros(size, dtype=torch.float64, device=matrix.device)
    if not scale:
        return found
    signs = torch.ones(size, dtype=torch.float64)
    if seed is not None:
        drawn = torch.randint(0, 2, (size,), generator=torch.Generator().manual_seed(seed))
        signs = 1.0 - 2.0 * drawn.double()
    weights = (signs / scale).to(matrix.device)
    for some in matrix.split(max(BLOCK // size, 1)):
        found += dct3(some.double() * weights).square_().sum(dim=0)
    return found.sort(descending=True).values / found.sum()


def by_short_side(matrix: Tensor) -> Tensor:
    """Return a matrix with its shorter side last, as the optimiser's code projects."""
    return matrix.mT if matrix.shape[0] < matrix.shape[1] else matrix


def core_of(left: Float[Tensor, "rows rank"], right: Float[Tensor, "rank cols"]) -> Tensor:
    """Return a matrix of rank lines whose shares are those of a product, by its shorter side."""
    if left.shape[0] < right.shape[1]:
        left, right = right.mT, left.mT
    core: Tensor = torch.linalg.qr(left.double(), mode="r").R @ right.double()
    return core


def dct3(lines: Float[Tensor, "rows n"]) -> Float[Tensor, "rows n"]:
    """Return the orthonormal DCT-III of every row, in n log n operations a row.

    Source:
        Makhoul 1980, IEEE TASSP 28: a real transform of the same length, reordered.
    """
    size = lines.shape[1]
    scaled = lines * math.sqrt(size / 2.0)
    scaled[:, 0] *= math.sqrt(2.0)
    back = torch.zeros_like(scaled)
    back[:, 1:] = -scaled.flip(1)[:, :-1]
    turn = torch.arange(size, dtype=lines.dtype, device=lines.device) * (math.pi / (2.0 * size))
    turned = torch.complex(scaled, back) * torch.polar(torch.ones_like(turn), turn)
    mixed = torch.fft.irfft(turned[:, : size // 2 + 1], n=size, dim=1)
    found = torch.empty_like(mixed)
    found[:, 0::2] = mixed[:, : (size + 1) // 2]
    found[:, 1::2] = mixed.flip(1)[:, : size // 2]
    return found
