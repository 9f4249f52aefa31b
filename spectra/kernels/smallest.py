"""The smallest singular values, by inverse iteration with a proof.

Let M be square with singular values s_1 >= ... >= s_n, V orthonormal with p columns, and
M V = U T the SVD of the thin product, T diagonal. The columns of [U; V] / sqrt(2) are
orthonormal Ritz vectors of the dilation [[0, M], [M^T, 0]], whose eigenvalues are the
s_i and -s_i; its residual is R = M^T U - V T in one half, 0 in the other. Kahan's theorem
then pairs the p values of T with p different eigenvalues of the dilation, each within
delta = ||R||_2. If delta is less than the smallest of T, all of them are positive, hence
singular values; and if p is known to be how many lie below a bound that T + delta stays
under, they are exactly the p smallest.

The factorisation of M only steers V towards them; it enters no bound.

Source:
    Parlett 1998, The Symmetric Eigenvalue Problem, theorem 11.5.1 (Kahan).
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

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
    right = torch.linalg.qr(start.to(wide.device)).Q
    for _ in range(STEPS):
        turned = solve(right, transposed=True)
        if not turned.isfinite().all():
            return None
        back = solve(torch.linalg.qr(turned).Q, transposed=False)
        if not back.isfinite().all():
            return None
        right = torch.linalg.qr(back).Q
        left, ritz, mixing = torch.linalg.svd(square @ right, full_matrices=False)
        vectors = right @ mixing.mT
        values = ritz[-count:]
        residual = square.mT @ left[:, -count:] - vectors[:, -count:] * values
        error = float(torch.linalg.vector_norm(residual))  # at least the spectral norm
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
