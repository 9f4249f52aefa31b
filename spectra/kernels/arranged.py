"""Which singular values that stand out of the bulk are arrangement, and which a few large entries.

The edge of a bulk is that of entries of one scale. Loud rows or columns, heavy tails and sparse
matrices have noise that ends farther out, in singular vectors that live where the entries are
large. So each singular value is held against noise as it is where its own vectors are:

    tau_i^2 = sum over a, b of u_ia^2 v_ib^2 E_ab,

E_ab the squared entry that is left when all candidates are taken away. A direction that is spread
out, however strong, sees the mean of all entries; one that is a single entry or a loud row sees
these. What stands out of the same edge in units of tau_i counts.

Taking k directions away takes noise with them, most of it where they live: of a row with the
leverage h_a = sum of u_ia^2 a share 1 - h_a is left, of a column likewise, and E is scaled up by
both. Where nothing is left, as of a row that is a singular vector of its own, the direction itself
counts as noise, beyond what one of Gaussian vectors would have. Where more than half of the
candidates fall, most were noise: they are given back and the others judged again.

Source:
    Hong, Sheng and Dobriban 2020, Selecting the number of components in PCA via random signflips,
    arXiv:2012.02985: noise of any profile is that of the same entries with other signs, whose
    variance along u and v is tau^2. Bandeira and van Handel 2016, arXiv:1408.6185, for edges of
    such noise. The test direction by direction, with leverages, is ours.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from spectra.kernels.entries import largest_entry, power_of_two_near
from spectra.kernels.lanczos import gaussian
from spectra.kernels.noise import FEWEST, Bulk, marchenko_pastur_edge, noise_bulk, noise_room
from spectra.kernels.summary import frobenius

SMALL = 1024  # sides up to which all singular vectors cost little
SHARE = 4  # of the directions at most one in so many is sought by iteration
BESIDE = 16  # columns beyond those that are sought
STEPS = 3  # of iteration: near the bulk's edge any vector of it serves
KURTOSIS = 12.0  # m n sum u^4 sum v^4; Gaussian vectors have 9
LEAST = 0.02  # of a row or column that counts as left
USUAL = 2.0**24  # largest entries up to this, and over it, that need no scaling in float32
ROWS = 1024  # taken at a time


def arranged_bulk(
    matrix: Float[Tensor, "rows cols"], sigma: Float[Tensor, " rank"], rows: int, cols: int
) -> Bulk | None:
    """Return where noise of the same size ends, and how many singular values are arrangement.

    As `noise_bulk`, whose spikes are candidates; the edge stays that of what is left without all of
    them, so that no single entry moves it. Where more than half of the values stand out of one
    scale, half of them are candidates, and None is returned if most of these stay.

    Args:
        matrix: Any scale.
        sigma: Its singular values, descending.
        rows: That are not of zeros alone.
        cols: Likewise.
    """
    sigma = sigma.cpu()  # once: what follows takes many numbers out of it
    bulk, exact = noise_bulk(sigma, rows, cols), int((sigma > 0.0).sum())
    count = bulk.spikes if bulk else exact // 2
    if exact < FEWEST or not count:
        return bulk
    short, long = min(exact, rows, cols), max(rows, cols)
    kept = arranged(matrix, sigma, count, noise_room(short, long))
    spikes = int(kept.sum())
    if spikes == count or (bulk is None and 2 * spikes > count):
        return bulk
    share = (frobenius(sigma[:count][kept]) / frobenius(sigma)) ** 2 if spikes else 0.0
    if bulk is not None:
        return Bulk(bulk.edge, spikes, share)
    scale = frobenius(sigma[count:]) / math.sqrt((short - count) * (long - count))
    return Bulk(marchenko_pastur_edge(scale, short, long), spikes, share)


def arranged(
    matrix: Float[Tensor, "rows cols"], sigma: Float[Tensor, " rank"], count: int, room: float
) -> Bool[Tensor, " count"]:
    """Say which of the leading singular values stand out of noise as it is where they live.

    Args:
        matrix: Any scale.
        sigma: Its singular values, descending.
        count: How many of them are candidates, at least 1.
        room: The largest singular value that noise of scale 1 and this shape has.

    Returns:
        One flag a candidate, on the CPU.
    """
    scale = power_of_two_near(largest_entry(matrix))
    if scale == min(max(scale, 1.0 / USUAL), USUAL):
        scale = 1.0  # nothing overflows: no copy
    if matrix.dtype != torch.float64:
        matrix = matrix.float()  # no copy of what is float32 already
    if scale != 1.0:
        matrix = matrix / scale
    left, right = _leading(matrix, count)
    lengths = (sigma[:count] / scale).to(left)
    kept = torch.arange(count, device=left.device)
    while True:
        clear = lengths[kept] > room * _local(matrix, left[:, kept], right[:, kept], lengths[kept])
        before, kept = len(kept), kept[clear]
        if not len(kept) or 2 * len(kept) >= before:
            break
    found = torch.zeros(count, dtype=torch.bool)
    found[kept.cpu()] = True
    return found


def _leading(
    matrix: Float[Tensor, "rows cols"], count: int
) -> tuple[Float[Tensor, "rows count"], Float[Tensor, "cols count"]]:
    """Return about the leading left and right singular vectors."""
    if min(matrix.shape) <= SMALL or SHARE * count > min(matrix.shape):
        return _of_gram(matrix, count)
    wide = count + BESIDE
    right = gaussian(matrix.shape[1], wide, matrix.device).to(matrix.dtype)
    left = matrix @ right
    for _ in range(STEPS):
        right = torch.linalg.qr(matrix.mT @ torch.linalg.qr(left).Q).Q
        left = matrix @ right
    basis, small = torch.linalg.qr(left)
    turn, _, other = torch.linalg.svd(small)
    return (basis @ turn)[:, :count], (right @ other.mT)[:, :count]


def _of_gram(
    matrix: Float[Tensor, "rows cols"], count: int
) -> tuple[Float[Tensor, "rows count"], Float[Tensor, "cols count"]]:
    """Return them from the smaller Gram matrix, which loses none of those that stand out."""
    if matrix.shape[0] < matrix.shape[1]:
        right, left = _of_gram(matrix.mT, count)
        return left, right
    right = torch.linalg.eigh(matrix.mT @ matrix).eigenvectors[:, -count:].flip(1)
    left = matrix @ right
    return left / left.norm(dim=0).clamp(min=torch.finfo(left.dtype).tiny), right


def _local(
    matrix: Float[Tensor, "rows cols"],
    left: Float[Tensor, "rows count"],
    right: Float[Tensor, "cols count"],
    lengths: Float[Tensor, " count"],
) -> Float[Tensor, " count"]:
    """Return the scale of noise where each direction lives."""
    rows, cols = matrix.shape
    left2, right2 = left.square(), right.square()
    loud = 1.0 / (1.0 - right2.sum(1)).clamp(min=LEAST)
    noise, shared = torch.zeros_like(lengths), torch.zeros_like(lengths)
    for start in range(0, rows, ROWS):
        here = slice(start, start + ROWS)
        rest = torch.addmm(matrix[here], left[here] * lengths, right.mT, alpha=-1.0)
        quiet = 1.0 / (1.0 - left2[here].sum(1)).clamp(min=LEAST)
        noise += ((rest.square() * quiet[:, None]) @ (loud[:, None] * right2) * left2[here]).sum(0)
        shared += (rest @ (right2 * right) * left2[here] * left[here]).sum(0)
    own = lengths.square() * left2.square().sum(0) * right2.square().sum(0)
    own = (own - KURTOSIS * lengths.square() / (rows * cols)).clamp(min=0.0)
    # Together the entries themselves where the direction is a few of them.
    both = torch.where(own > 0.0, (2.0 * lengths * shared).clamp(min=0.0), 0.0)
    return (noise + both + own).sqrt()
