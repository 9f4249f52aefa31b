"""A proven lower bound of all singular values of a matrix of full column rank.

Let R be what a Cholesky factorisation makes of the Gram matrix less tau I, in whatever
precision. Whatever went wrong on the way is E = W^T W - tau I - R^T R, and as R^T R has no
negative eigenvalue,

    smallest eigenvalue of W^T W >= tau - ||E||.

||E||_F is measured by float64 products with `PROBES` random vectors, as in `krylov`. So
float32 products and a float32 factorisation prove a float64 fact. This proves far less than
the smallest singular value, and costs half a product and one factorisation.

Source:
    Rump 2006, Verification of positive definiteness, BIT 46; measured instead of bounded.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.kernels.krylov import INFLATION, PROBES
from spectra.kernels.linear_map import LinearMap, linear_map

WIDTH = 1024  # columns of a block of the Gram matrix
SHARES = (0.3, 0.03)  # of the guess, to be tried as tau
TAME = 30.0  # float32 Gram matrices of entries within 2^-30 ... 2^30


def eigenvalue_floor(of: LinearMap, guess: float) -> float:
    """Return a lower bound of the eigenvalues of W^T W / scale^2; 0 where none was proven.

    Args:
        of: W, with no more columns than rows, and no update.
        guess: About the smallest eigenvalue, rather too large.
    """
    matrix = of.matrix.mT if of.turned else of.matrix
    if of.left is not None or abs(math.log2(of.scale)) > TAME or guess <= 0.0:
        return 0.0
    gram = _lower_gram(matrix).div_(of.scale**2)
    source = torch.Generator(device="cpu").manual_seed(2)
    probes = torch.randn(len(gram), PROBES, generator=source, dtype=torch.float64).to(of.device)
    image = _gram_times(of, probes)
    trace = float(gram.diagonal().sum(dtype=torch.float64))
    for share in SHARES:
        tau = share * guess
        shifted = gram.clone()
        shifted.diagonal().sub_(tau)
        factor, failed = torch.linalg.cholesky_ex(shifted)
        if int(failed):
            continue
        triangle = linear_map(factor.mT)
        found = _gram_times(triangle, probes) * triangle.scale**2
        missed = image - tau * probes - found
        # two float64 products with W and two with R, whose norm is about the root of the trace
        own = (
            2.0
            * math.sqrt(len(gram))
            * (of.rounding() * of.norm + triangle.rounding() * triangle.norm * triangle.scale**2)
        )
        error = INFLATION * (float(torch.linalg.vector_norm(missed)) / math.sqrt(PROBES) + own)
        if error < 0.5 * tau:
            return tau - error
    del trace
    return 0.0


def _gram_times(of: LinearMap, vectors: Float[Tensor, "cols b"]) -> Float[Tensor, "cols b"]:
    """Return W^T W vectors in float64."""
    rows, _ = of.shape
    image = of.products(vectors, vectors.new_zeros(rows, 0))[0]
    return of.products(vectors[:, :0], image)[1]


def _lower_gram(matrix: Float[Tensor, "rows cols"]) -> Float[Tensor, "cols cols"]:
    """Return the lower triangle of matrix.T @ matrix, and zeros or more above it."""
    cols = matrix.shape[1]
    gram = matrix.new_zeros(cols, cols)
    for start in range(0, cols, WIDTH):
        stop = min(start + WIDTH, cols)
        torch.matmul(matrix[:, start:stop].mT, matrix[:, :stop], out=gram[start:stop, :stop])
    return gram
