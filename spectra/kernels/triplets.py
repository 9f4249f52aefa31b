"""The leading singular triplets of any matrix, by Krylov space or full decomposition."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.kernels.leading import Leading, certified_leading, distance_from_sine
from spectra.kernels.linear_map import EPS64, linear_map

ROUNDED = 1e-6  # of sigma_1: residuals that float32 products cannot improve


class Triplets(NamedTuple):
    """The `k` largest singular values, descending, with vectors and proven errors."""

    left: Float[Tensor, "rows k"]
    sigma: Float[Tensor, " k"]
    right: Float[Tensor, "cols k"]
    value_error: float  # of each sigma
    vector_error: Float[Tensor, " k"]  # of each left and right vector; 2 where sigma coincide


def leading_triplets(
    matrix: Float[Tensor, "rows cols"],
    k: int,
    tolerance: float = 1e-3,
    update: tuple[Float[Tensor, "rows rank"], Float[Tensor, "rank cols"]] | None = None,
) -> Triplets:
    """Return the leading singular triplets of a matrix, or of one and its low-rank update.

    Each is certified: by its residual in float64 and a proof that no larger singular value
    is missing, or by a float64 LAPACK decomposition where that is cheaper or the only way.
    The sum with an update is not formed for the former.

    Args:
        matrix: Any shape, any floating dtype up to float64.
        k: How many; fewer where the shorter side is less.
        tolerance: Largest error of a vector that its singular value determines; vectors of
            coinciding singular values have an error of 2 and span their subspace.
        update: Factors `left @ right` to add.

    Raises:
        NonFiniteError: An entry is NaN or Inf.

    Source:
        Golub, Luk and Overton 1981, ACM TOMS 7(2); proofs: `leading`, `counting`.
    """
    of = linear_map(matrix, *update) if update is not None else linear_map(matrix)
    k = min(k, *matrix.shape)

    def accept(found: Leading) -> bool:
        settled = found.vector_error <= tolerance
        settled |= found.residual <= ROUNDED * found.sigma[0]
        return bool(settled[:k].all())

    found = certified_leading(of, k, accept=accept) if k else None
    if found is not None:
        return Triplets(
            found.left[:, :k],
            (found.sigma[:k] * of.scale).to(matrix.device),
            found.right[:, :k],
            found.value_error * of.scale,
            found.vector_error[:k].to(matrix.device),
        )
    whole = matrix.double()
    if update is not None:
        whole = whole.addmm(update[0].double(), update[1].double())
    left, sigma, right = torch.linalg.svd(whole / of.scale, full_matrices=False)
    error = max(matrix.shape) * EPS64 * float(sigma[0]) if k else 0.0
    beside = torch.nn.functional.pad(sigma, (1, 1), value=math.inf)
    beside[-1] = -sigma[-1] if len(sigma) and matrix.shape[0] == matrix.shape[1] else 0.0
    gap = torch.minimum((beside[:-2] - sigma).abs(), (sigma - beside[2:]).abs())
    return Triplets(
        left[:, :k],
        sigma[:k] * of.scale,
        right.mT[:, :k],
        error * of.scale,
        distance_from_sine(torch.where(gap > error, error / (gap - error), math.inf))[:k],
    )
