"""R of W = Q R, where W is longer than it is held: its singular values, and Q^T of vectors.

By Householder's reflections of one panel after the other (TSQR), or by products. Of W^T W = R^T R
a Cholesky factor is R, and Q^T y is R^-T W^T y. It is off as if W were by ||E|| / (2 sigma_n),
E the rounding of W^T W, for which see `GRAM`: no more than W's own, max(rows, cols) eps64 sigma_1,
up to a condition number of sqrt(rows) / 8. What has a larger one is nearly orthonormal after such a
step, W R^-1, and the next one ends it: both in half the time of reflections, which take over where
a factor does not exist.

Source:
    Demmel, Grigori, Hoemmen and Langou 2012, arXiv:0808.2664: TSQR, its tree a list; Yamamoto,
    Nakatsukasa, Yanagisawa and Fukaya 2015, ETNA 44, 306 (CholeskyQR2 and its rounding).
"""

import math
from collections.abc import Callable

from jaxtyping import Float

from spectra.deferred import Tensor, torch
from spectra.kernels.counting import gaussian_floor
from spectra.kernels.inverse import add_gram, cholesky
from spectra.kernels.lanczos import gaussian
from spectra.kernels.linear_map import LinearMap
from spectra.kernels.work import PANEL

GRAM = 16.0  # of sqrt(rows) eps64 sigma_1^2, that rounding of a Gram matrix amounts to: `singular`
COLUMNS, POWER = 16, 12  # random columns, and times W^T W is applied to them, to bound a norm


def reflected(of: LinearMap) -> Float[Tensor, "cols cols"]:
    """Return R in float64, rows >= cols, to within the rounding of one QR of all of W."""
    return _reflected_beside(of, torch.zeros(of.shape[0], 0, dtype=torch.float64))[0]


def triangle_beside(
    of: LinearMap, vectors: Float[Tensor, "rows k"]
) -> tuple[Float[Tensor, "cols cols"], Float[Tensor, "cols k"]]:
    """Return R, likewise, and Q^T of some vectors, float64 both."""
    return _by_products(of, vectors) or _reflected_beside(of, vectors)


def _by_products(of: LinearMap, vectors: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return both by Cholesky factors, two at most; None where these do not tell."""
    rows, short = of.shape
    lines = vectors.mT.double().contiguous()  # few multiply fastest as rows
    panel = torch.empty(PANEL, short, dtype=torch.float64, device=of.device)
    found: Tensor | None = None
    for _ in range(2):
        gram = torch.zeros(short, short, dtype=torch.float64, device=of.device)
        along = gram.new_zeros(len(lines), short)
        for here, part in of.panels(panel):
            block = part
            if found is not None:
                block = torch.linalg.solve_triangular(found, part, upper=True, left=False)
            add_gram(gram, block)
            along.addmm_(lines[:, here], block)
        factor = cholesky(gram, overwrite=True)
        if factor is None:
            return None
        lower = factor.tril_()
        found = lower.mT if found is None else lower.mT @ found
        if _condition(lower) <= 2.0 * math.sqrt(rows) / GRAM:
            return found, torch.linalg.solve_triangular(lower, along.mT, upper=False)
    return None


def _condition(lower: Float[Tensor, "cols cols"]) -> float:
    """Return no less than the condition number of a triangle, to some tenths."""

    def inverse(block: Tensor) -> Tensor:
        half = torch.linalg.solve_triangular(lower, block, upper=False)
        solved: Tensor = torch.linalg.solve_triangular(lower.mT, half, upper=True)
        return solved

    return _norm(lambda block: lower @ (lower.mT @ block), lower) * _norm(inverse, lower)


def _norm(apply: Callable[[Tensor], Tensor], of: Tensor) -> float:
    """Return no less than the root of the largest eigenvalue of a symmetric operator A.

    ||A^p Omega|| is at least its p-th power times what the leading eigenvector has of a Gaussian
    Omega, which `gaussian_floor` is below.
    """
    block, grown = gaussian(len(of), COLUMNS, of.device), 0.0
    for _ in range(POWER):
        block = apply(block)
        size = float(torch.linalg.vector_norm(block))
        if not 0.0 < size < math.inf:
            return math.inf
        grown += math.log(size)
        block = block / size
    return math.exp((grown - math.log(gaussian_floor(COLUMNS, 0))) / (2 * POWER))


def _reflected_beside(of: LinearMap, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Return both by reflections: vectors are columns of one QR beside those of W.

    What they have outside of the columns of all rows so far, they have outside of W's.
    """
    (rows, short), more = of.shape, vectors.shape[1]
    step = min(max(short, PANEL), rows)
    both = torch.zeros(short + step, short + more, dtype=torch.float64, device=of.device)
    for here, part in of.panels(both[short:, :short]):
        stop = short + len(part)
        both[short:stop, short:] = vectors[here]
        both[:short] = torch.linalg.qr(both[:stop], mode="r").R[:short]
    return both[:short, :short], both[:short, short:]
