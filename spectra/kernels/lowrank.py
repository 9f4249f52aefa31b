"""Matrices given as a product of two thin factors."""

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.kernels.entries import largest_entry


def product_singular_values(
    left: Float[Tensor, "rows rank"], right: Float[Tensor, "rank cols"]
) -> Float[Tensor, " kept"]:
    """Return the leading singular values of `left @ right` without forming it.

    `left = Q1 R1` and `right^T = Q2 R2` leave the singular values of the small
    `R1 R2^T`; all further ones of the product are exactly 0. Float64 throughout.

    Args:
        left: For a LoRA update, `scale * B`.
        right: For a LoRA update, `A`.

    Returns:
        `min(rows, rank, cols)` values, descending.

    Raises:
        NonFiniteError: A factor holds NaN or Inf.
    """
    largest_entry(left)
    largest_entry(right)
    small_left = torch.linalg.qr(left.double(), mode="r").R
    small_right = torch.linalg.qr(right.double().mT, mode="r").R
    values: Tensor = torch.linalg.svdvals(small_left @ small_right.mT)
    return values
