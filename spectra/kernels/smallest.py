"""The smallest singular values, by inverse iteration with a proof.

Let M be square with singular values s_1 >= ... >= s_n, and U, V orthonormal with p
columns each, turned so that U^T M V = T is diagonal. The columns of [U; V] / sqrt(2) are
orthonormal Ritz vectors of the dilation [[0, M], [M^T, 0]], whose eigenvalues are the
s_i and -s_i; their residual is [M V - U T; M^T U - V T] / sqrt(2). Kahan's theorem then
pairs the p values of T with p different eigenvalues of the dilation, each within the
residual's norm delta. If delta is less than the smallest of T, all of them are positive,
hence singular values; and if p is known to be how many lie below a bound that T + delta
stays under, they are exactly the p smallest.

The factorisation of M only steers U and V; it enters no bound. Rounding does: computing
the residual, and reducing a wide matrix to its triangular factor, each err by about
sqrt(n) eps64 ||M||_F, which is added to delta.

Source:
    Parlett 1998, The Symmetric Eigenvalue Problem, theorem 11.5.1 (Kahan).
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.kernels.rounding import EPS64

SPARE = 8  # columns iterated beside those wanted; they make the wanted ones converge
MOST = 64  # values wanted at once; beyond, a full decomposition is cheaper
STEPS = 12


def smallest_singular_values(
    wide: Float[Tensor, "rank length"], count: int, above: float, tolerance: float
) -> Float[Tensor, " count"] | None:
    """Return the `count` smallest singular values where they can be proven.

    Args:
        wide: Float64, `rank <= length`.
        count: How many singular values are known to lie below `above`.
        above: That bound.
        tolerance: Relative error of each value.

    Returns:
        Descending values, each within `tolerance`; None where that was not reached or the
        matrix is singular to rounding.
    """
    rank, length = wide.shape
    if not 0 < count <= min(MOST, rank):
        return None
    square = wide if rank == length else torch.linalg.qr(wide.mT, mode="r").R
    solve = _solver(square)
    seed = torch.Generator(device="cpu").manual_seed(0)
    start = torch.randn(rank, min(rank, count + SPARE), generator=seed, dtype=torch.float64)
    rounding = 2.0 * math.sqrt(length) * EPS64 * float(torch.linalg.vector_norm(square))
    left = torch.linalg.qr(start.to(wide.device)).Q
    for _ in range(STEPS):
        right = solve(left, transposed=False)
        if not right.isfinite().all():
            return None
        right = torch.linalg.qr(right).Q
        left = torch.linalg.qr(solve(right, transposed=True)).Q
        turn_left, ritz, turn_right = torch.linalg.svd(left.mT @ square @ right)
        values = ritz[-count:]
        u, v = left @ turn_left[:, -count:], right @ turn_right.mT[:, -count:]
        # Frobenius norms, which are at least the spectral ones.
        missing = torch.cat([square @ v - u * values, square.mT @ u - v * values])
        error = float(torch.linalg.vector_norm(missing)) / math.sqrt(2.0) + rounding
        if error <= tolerance * float(values[-1]):
            return values if float(values[0]) + error < above else None
    return None


def _solver(square: Float[Tensor, "rank rank"]) -> Callable[..., Tensor]:
    """Factor once; return what solves with the matrix or its transpose."""
    factors, pivots, _ = torch.linalg.lu_factor_ex(square)

    def solve(right: Tensor, *, transposed: bool) -> Tensor:
        solution: Tensor = torch.linalg.lu_solve(factors, pivots, right, adjoint=transposed)
        return solution

    return solve
