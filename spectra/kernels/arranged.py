"""Which singular values that stand out of the bulk are arrangement, and which a few large entries.

The edge of a bulk is that of entries of one scale. Loud rows or columns, heavy tails and sparse
matrices have noise that ends farther out, in singular vectors that live where the entries are
large. So each singular value is held against noise as it is where its own vectors are:

    tau_i^2 = sum over a, b of u_ia^2 v_ib^2 E_ab,

E_ab the variance of the noise in that entry. A direction that is spread out, however strong, sees
the mean of all entries; one that is a single entry or a loud row sees these. What stands out of
the same edge in units of tau_i counts.

Of E only what is left without the candidates is seen, R. Each of these has taken noise with it:
a direction of Gaussian noise m + n times the variance where it lives, k of them together
m + n - k times each, and no direction more than it holds. So

    tau_i^2 = sum of u_ia^2 v_ib^2 R_ab^2 + sum over j of A_ij min(sigma_j^2, (m + n - k) tau_j^2),
    A_ij = (sum of u_ia^2 u_ja^2) (sum of v_ib^2 v_jb^2),

A_ii without what Gaussian vectors have. Its least solution is taken: it rises from R alone until
nothing changes. No candidate is given back as a whole because another one fell, so that the count
does not hang on how many fall, and no tau falls as noise grows.

Directions that have taken all of the noise where they live leave R = 0 there: as many as there are
loud rows, or single entries that share no row. Then any tau up to their own size solves it, to
within how A scatters. They count as noise: tau rises from next to nothing, not from 0, and where R
makes less than a quarter of what a direction is, its A is taken larger by up to a quarter, by how
far it is from that of directions spread all over, k / mn.

Source:
    Hong, Sheng and Dobriban 2020, Selecting the number of components in PCA via random signflips,
    arXiv:2012.02985: noise of any profile is that of the same entries with other signs, whose
    variance along u and v is tau^2. Bandeira and van Handel 2016, arXiv:1408.6185, for edges of
    such noise. The test direction by direction, and what directions hold of the noise, is ours.
"""

import math

from jaxtyping import Bool, Float

from spectra.deferred import Tensor, torch
from spectra.kernels.entries import largest_entry, power_of_two_near
from spectra.kernels.filtered import leading_eigenvectors
from spectra.kernels.inverse import lower_gram
from spectra.kernels.linear_map import linear_map
from spectra.kernels.noise import (
    FEWEST,
    Bulk,
    broken_off,
    marchenko_pastur_edge,
    noise_bulk,
    noise_room,
)
from spectra.kernels.products import product
from spectra.kernels.summary import frobenius

KURTOSIS = 9.0  # m n sum u^4 sum v^4 of Gaussian vectors
ENTRIES = 1 << 19  # taken at a time
TURNS = 200  # of the noise where directions live, at most
SETTLED = 1e-5  # relative change at which they end
HINT = 1e-6  # of the noise that would make a direction none, from which it rises at least
TAKEN = 0.25  # of that noise: directions that leave less have taken most of what is where they live
LEAN = 0.25  # by how much more, at most, these then hold of each other's


def arranged_bulk(
    matrix: Float[Tensor, "rows cols"],
    sigma: Float[Tensor, " rank"],
    rows: int,
    cols: int,
    gram: Float[Tensor, "short short"] | None = None,
) -> Bulk | None:
    """Return where noise of the same size ends, and how many singular values are arrangement.

    As `noise_bulk`, whose spikes are candidates; the edge stays that of what is left without all of
    them, so that no single entry moves it. Where more than half of the values stand out of one
    scale, half of them are candidates, and None is returned if most of these stay. Where the
    spectrum breaks off below the candidates, all above the break are some, and if most of these
    stay the bulk is what lies below; more than half of the values leave none.

    Args:
        matrix: Any scale.
        sigma: Its singular values, descending.
        rows: That are not of zeros alone.
        cols: Likewise.
        gram: As `decompose` returns it; None: it is made again where it is needed.
    """
    sigma = sigma.cpu()  # once: what follows takes many numbers out of it
    bulk, exact = noise_bulk(sigma, rows, cols), int((sigma > 0.0).sum())
    count = bulk.spikes if bulk else exact // 2
    if exact < FEWEST:
        return bulk
    short, long = min(exact, rows, cols), max(rows, cols)
    room = noise_room(short, long)
    broken = broken_off(sigma, rows, cols)
    if broken > count:
        kept = arranged(matrix, sigma, broken, room, gram)
        if 2 * int(kept.sum()) > broken:
            return _of_kept(sigma, kept, short, long) if 2 * broken <= exact else None
    if not count:
        return bulk
    kept = arranged(matrix, sigma, count, room, gram)
    spikes = int(kept.sum())
    if spikes == count or (bulk is None and 2 * spikes > count):
        return bulk
    return _of_kept(sigma, kept, short, long)


def _of_kept(sigma: Tensor, kept: Tensor, short: int, long: int) -> Bulk:
    """Return a bulk without the candidates, some of which were kept as spikes."""
    count, spikes = len(kept), int(kept.sum())
    share = (frobenius(sigma[:count][kept]) / frobenius(sigma)) ** 2 if spikes else 0.0
    scale = frobenius(sigma[count:]) / math.sqrt((short - count) * (long - count))
    return Bulk(marchenko_pastur_edge(scale, short, long), spikes, share)


def arranged(
    matrix: Float[Tensor, "rows cols"],
    sigma: Float[Tensor, " rank"],
    count: int,
    room: float,
    gram: Float[Tensor, "short short"] | None = None,
) -> Bool[Tensor, " count"]:
    """Say which of the leading singular values stand out of noise as it is where they live.

    Args:
        matrix: Any scale.
        sigma: Its singular values, descending, on the CPU.
        count: How many of them are candidates, at least 1, none of them 0.
        room: The largest singular value that noise of scale 1 and this shape has.
        gram: As of `arranged_bulk`.

    Returns:
        One flag a candidate, on the CPU.
    """
    scale = power_of_two_near(largest_entry(matrix))
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.mT
    if gram is None:
        gram = lower_gram(linear_map(tall, stored=True), torch.float64)
    squares = (sigma.double() / scale).square()
    right = leading_eigenvectors(gram, squares, count)
    alone, shares = _seen(tall, right, 1.0 / scale)
    rows, cols = tall.shape
    shares.diagonal().sub_(KURTOSIS / (rows * cols)).clamp_(min=0.0)
    squares = squares[:count]
    taken = room**2 * alone < TAKEN * squares
    spread = shares.new_tensor(count / (rows * cols))
    lean = (1.0 - spread / shares.sum(1).clamp(min=float(spread))) * taken
    shares *= (1.0 + LEAN * lean).unsqueeze(1)
    noise = alone + HINT * squares / room**2
    for _ in range(TURNS):
        held = torch.minimum(squares, (rows + cols - count) * noise)
        before, noise = noise, alone + shares @ held
        if bool((noise - before <= SETTLED * noise).all()):
            break
    return squares > room**2 * noise


def _seen(
    tall: Float[Tensor, "rows cols"], right: Float[Tensor, "cols count"], scaling: float
) -> tuple[Float[Tensor, " count"], Float[Tensor, "count count"]]:
    """Return the noise left where each direction lives, and how much of each lives in which.

    Of the matrix times `scaling`, in float64 on the CPU.
    """
    weight = right.square()
    left = [weight.new_zeros(size) for size in ((len(weight.mT),) * 2, (len(weight.mT),))]
    alone, lengths = torch.zeros_like(left[1]), left[1]
    step = max(ENTRIES // tall.shape[1], 1)
    held = right.new_empty(min(step, len(tall)), tall.shape[1])
    for start in range(0, len(tall), step):
        part = tall[start : start + step]
        block = torch.mul(part.to(right.dtype), scaling, out=held[: len(part)])
        image = product(block, right)
        rest = block.sub_(product(image, right.mT)).square_()
        image.square_()
        alone += product(rest, weight).mul_(image).sum(0)
        left[0] += product(image.mT, image)
        lengths += image.sum(0)
    alone, lengths, both, other = (
        part.double().cpu() for part in (alone, lengths, left[0], weight.mT @ weight)
    )
    return alone / lengths, both * other / torch.outer(lengths, lengths)
