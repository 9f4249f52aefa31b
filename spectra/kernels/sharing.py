"""What the inputs of several matrices have in common, from Gram matrices of their columns."""

from jaxtyping import Float

from spectra.deferred import Tensor, torch
from spectra.kernels.cosine import BLOCK, dct3

PANEL = 1024  # rows multiplied at a time
TILE = 1024  # columns likewise
ROUNDS = 2  # of signs and cosines, after which a basis is as good as random


def gram_of(matrix: Float[Tensor, "rows cols"], scale: float) -> Float[Tensor, "cols cols"]:
    """Return W^T W over scale^2, float64, both halves; only one is computed.

    Args:
        matrix: More rows than columns or fewer.
        scale: Of the size of the largest entry, so that no square overflows.
    """
    cols = matrix.shape[1]
    gram = torch.zeros(cols, cols, dtype=torch.float64, device=matrix.device)
    for part in matrix.split(PANEL):
        block = part.to(torch.float64, copy=True).div_(scale)
        for left in range(0, cols, TILE):
            stop = min(left + TILE, cols)
            gram[left:stop, :stop].addmm_(block[:, left:stop].mT, block[:, :stop])
    for left in range(0, cols, TILE):  # the other half, without a third matrix
        stop = min(left + TILE, cols)
        gram[left:stop, left:stop] = (
            gram[left:stop, left:stop].tril().add(gram[left:stop, left:stop].tril(-1).mT)
        )
        gram[left:stop, stop:] = gram[stop:, left:stop].mT
    return gram


def energies(gram: Float[Tensor, "n n"]) -> Float[Tensor, " n"]:
    """Return the eigenvalues of a Gram matrix, descending; what rounding made negative is 0."""
    found: Tensor = torch.linalg.eigvalsh(gram).flip(0).clamp_(min=0.0)
    return found


def turned(gram: Float[Tensor, "n n"], seed: int) -> Float[Tensor, "n n"]:
    """Return H^T G H, H orthogonal and random: the same spectrum in another basis.

    H is signs and a cosine transform, twice over, which takes n^2 log n operations where a basis
    that is uniform takes n^3.
    """
    size, source = len(gram), torch.Generator().manual_seed(seed)
    found = gram.clone()
    for _ in range(ROUNDS):
        drawn = torch.randint(0, 2, (size,), generator=source).double()
        signs = (1.0 - 2.0 * drawn).to(gram.device)
        for _ in range(2):  # the columns, and as many lines again
            for some in found.split(max(BLOCK // size, 1)):
                some.copy_(dct3(some * signs))
            found = found.mT.contiguous()
    return found


def share_of(values: Float[Tensor, " n"], rank: int) -> float:
    """Return how much the first few of descending numbers add up to."""
    return float(values[:rank].sum())
