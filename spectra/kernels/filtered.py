"""Leading eigenvectors of a Gram matrix whose eigenvalues are known, by a Chebyshev filter.

Who has all singular values of a matrix and its Gram matrix G lacks no more than vectors. A
polynomial of G that is small where the other eigenvalues lie and grows fast above them turns random
columns into the leading ones; as the eigenvalues are known, the interval is the true one, and so is
how many products it takes. What grows by too much in one go would leave of the weaker directions
nothing but rounding: columns are made orthonormal again before that.

Source:
    Zhou, Saad, Tiago and Chelikowsky 2006, Self-consistent-field calculations using
    Chebyshev-filtered subspace iteration.
"""

import math

from jaxtyping import Float

from spectra.deferred import Tensor, torch
from spectra.kernels.lanczos import gaussian
from spectra.kernels.products import product

SMALL = 96  # sides up to which all eigenvectors cost no more
FEW = 4  # of the eigenvectors at most one in so many is sought by iteration
BESIDE = 16  # columns beyond those that are sought, and one more for eight of these
CLEAR = 20.0  # what the weakest direction grows by over all that is not sought
FLAT = 1.01  # least argument of a polynomial that is taken for growing
MOST = 8  # products with G
GROWTH = {4: 1e6, 8: 1e12}  # by bytes, of the largest direction beside the weakest
SPREAD = 1e4  # largest over least eigenvalue sought, up to which float32 serves
TILE = 256  # rows and columns that are mirrored at a time


def leading_eigenvectors(
    gram: Float[Tensor, "side side"], values: Float[Tensor, " side"], count: int
) -> Float[Tensor, "side count"]:
    """Return about the leading eigenvectors, orthonormal, the largest first.

    Those whose eigenvalue stands well apart are right to a few digits; of neighbours near the last
    one the vectors are mixtures of each other. They come in float32 where that resolves
    them, otherwise in float64.

    Args:
        gram: Its lower half, at a scale at which float32 neither overflows nor underflows.
        values: Its eigenvalues, descending, on the CPU.
        count: How many are sought, at least 1; their eigenvalues are not 0.
    """
    side = len(gram)
    largest, least = float(values[0]), float(values[count - 1])
    dtype = torch.float32 if largest <= SPREAD * least else torch.float64
    if side <= SMALL or FEW * count > side:
        found: Tensor = torch.linalg.eigh(gram.to(dtype)).eigenvectors
        return found[:, -count:].flip(1)
    whole = mirrored(gram, dtype)
    wide = count + BESIDE + count // 8
    middle = max(float(values[min(wide, side - 1)]), least / SPREAD) / 2.0
    slowest, fastest = (math.acosh(max(one / middle - 1.0, FLAT)) for one in (least, largest))
    degree = min(math.ceil(math.acosh(CLEAR) / slowest), MOST)
    at_once = max(int(math.acosh(GROWTH[dtype.itemsize]) / fastest), 1)
    vectors = gaussian(side, wide, gram.device).to(dtype)
    for left in range(degree, 0, -at_once):
        vectors = torch.linalg.qr(_filtered(whole, vectors, middle, min(at_once, left))).Q
    turn = torch.linalg.eigh(vectors.mT @ product(whole, vectors)).eigenvectors
    turned: Tensor = vectors @ turn[:, -count:].flip(1)
    return turned


def _filtered(
    whole: Float[Tensor, "side side"], vectors: Float[Tensor, "side b"], middle: float, degree: int
) -> Float[Tensor, "side b"]:
    """Return T_d(G / middle - 1) times vectors."""
    before, now = vectors, product(whole, vectors).mul_(1.0 / middle).sub_(vectors)
    for _ in range(degree - 1):
        later = product(whole, now).mul_(2.0 / middle).sub_(now, alpha=2.0).sub_(before)
        before, now = now, later
    return now


def mirrored(gram: Float[Tensor, "side side"], dtype: "torch.dtype") -> Float[Tensor, "side side"]:
    """Return all of a symmetric matrix from its lower half."""
    whole = torch.empty_like(gram, dtype=dtype)
    for left in range(0, len(gram), TILE):
        here = slice(left, left + TILE)
        rows = gram[here, : left + TILE].to(dtype)
        square = rows[:, left:]
        whole[here, here] = square.tril() + square.tril(-1).mT
        whole[here, :left] = rows[:, :left]
        whole[:left, here] = rows[:, :left].mT
    return whole
