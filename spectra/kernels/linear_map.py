"""A matrix as what it does to vectors: fast products, and exact ones to measure them by.

Iterations need products with a few vectors at a time, and nothing but their error decides
what precision they need. Large float32 matrices multiply in float32, where half the bytes
go through memory; vectors are kept in float64. `products` then multiplies in float64, a
block of rows at a time, and shows how far the fast products were off.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.kernels.entries import entry_norm, largest_entry, power_of_two_near
from spectra.kernels.rounding import EPS64

BLOCK = 256  # rows widened to float64 at a time, always into the same memory
CONFIDENCE = 10.0
NARROW = 16  # columns from which one product with the transpose is the faster order
PANELS = 16  # of rows, whose products with fewer columns run side by side


@dataclass(frozen=True, slots=True)
class Products:
    """Which matrices multiply in float32; float64 ones never do."""

    single: int = 1 << 20  # entries from which it pays
    exponent: int = 90  # products of a scaled vector stay normal within 2^-90 ... 2^90


PRODUCTS = Products()


@dataclass(frozen=True, slots=True)
class LinearMap:
    """`(matrix + left @ right) / scale` or its transpose, never formed."""

    matrix: Tensor  # rows x cols, in the precision of fast products
    left: Tensor | None  # rows x rank
    right: Tensor | None  # rank x cols
    scale: float  # a power of two near the largest entry
    norm: float  # no less than the Frobenius norm of the map
    turned: bool = False  # the map is the transpose

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the map."""
        rows, cols = self.matrix.shape
        return (cols, rows) if self.turned else (rows, cols)

    @property
    def device(self) -> torch.device:
        """Where the matrix is."""
        return self.matrix.device

    @property
    def mT(self) -> "LinearMap":  # noqa: N802 - torch's name
        """The transpose."""
        return replace(self, turned=not self.turned)

    def matmat(self, vectors: Float[Tensor, "cols b"]) -> Float[Tensor, "rows b"]:
        """Return the fast product with float64 vectors, in float64."""
        scaled = (vectors / self.scale).to(self.matrix.dtype)
        return (self._after(scaled) if self.turned else self._before(scaled)).double()

    def rmatmat(self, vectors: Float[Tensor, "rows b"]) -> Float[Tensor, "cols b"]:
        """Return the fast product of the transpose, in float64."""
        return self.mT.matmat(vectors)

    def products(
        self, right: Float[Tensor, "cols b"], left: Float[Tensor, "rows c"]
    ) -> tuple[Float[Tensor, "rows b"], Float[Tensor, "cols c"]]:
        """Return `map @ right` and `map.T @ left`, both in float64, in one pass."""
        given = (left, right) if self.turned else (right, left)
        right, left = (vectors / self.scale for vectors in given)
        before, after = _one_pass(self.matrix, right, left)
        if self.left is not None and self.right is not None:
            up, down = self.left.double(), self.right.double()
            before.addmm_(up, down @ right)
            after.addmm_(down.mT, up.mT @ left)
        return (after, before) if self.turned else (before, after)

    def gram_matmat(self, vectors: Float[Tensor, "cols b"]) -> Float[Tensor, "cols b"]:
        """Return the fast product of map.T @ map."""
        scaled = (vectors / self.scale).to(self.matrix.dtype)
        if self.left is not None or self.turned:
            ways = (self._after, self._before) if self.turned else (self._before, self._after)
            return (ways[1](ways[0](scaled)) / self.scale).double()
        found = torch.zeros_like(scaled)
        for panel in self.matrix.split(BLOCK):  # read once for both
            found.addmm_(panel.mT, panel @ scaled)
        return found.double() / self.scale

    def precise(self) -> "LinearMap":
        """Return the same map with float64 products, and a sharper norm."""
        up, down = (None if part is None else part.double() for part in (self.left, self.right))
        matrix = self.matrix.double()
        norm = entry_norm(matrix) / self.scale
        if up is not None and down is not None:
            norm += entry_norm(up) * (entry_norm(down) / self.scale)
        return replace(self, matrix=matrix, left=up, right=down, norm=1.001 * norm)

    def rounding(self) -> float:
        """Return what one float64 product with a unit vector may err by.

        By probabilistic rounding analysis (Higham and Mary 2019): sqrt(n) where the worst
        case is n, times `CONFIDENCE`, which fails with probability below 1e-17.
        """
        return CONFIDENCE * math.sqrt(max(self.shape)) * EPS64 * self.norm

    def _before(self, scaled: Tensor) -> Tensor:
        """Return matrix @ vectors, in the precision of both."""
        product = self.matrix @ scaled
        if self.left is not None and self.right is not None:
            product = product.addmm(self.left, self.right @ scaled)
        return product

    def _after(self, scaled: Tensor) -> Tensor:
        """Return matrix.T @ vectors, likewise."""
        product = _transposed_product(self.matrix, scaled)
        if self.left is not None and self.right is not None:
            product = product.addmm(self.right.mT, self.left.mT @ scaled)
        return product


def normal(
    of: LinearMap, vectors: Float[Tensor, "cols c"]
) -> tuple[Float[Tensor, "rows c"], Float[Tensor, "cols c"]]:
    """Return W v and W^T (W v) in float64, in one pass over a plain map."""
    if of.left is not None:
        none = vectors.new_zeros(of.shape[1], 0), vectors.new_zeros(of.shape[0], 0)
        image, _ = of.products(vectors, none[1])
        return image, of.products(none[0], image)[1]
    image, back = _one_pass(of.matrix.mT if of.turned else of.matrix, vectors / of.scale)
    return image, back / of.scale


def _one_pass(
    source: Float[Tensor, "rows cols"],
    right: Float[Tensor, "cols b"],
    left: Float[Tensor, "rows c"] | None = None,
) -> tuple[Float[Tensor, "rows b"], Float[Tensor, "cols c"]]:
    """Return source @ right, and source.T @ left, or that of the first, both in float64."""
    before = right.new_empty(len(source), right.shape[1])
    # Rows times matrix is the faster order.
    after = right.new_zeros((right if left is None else left).shape[1], source.shape[1])
    wide = torch.empty_like(source[:BLOCK], dtype=torch.float64)  # with the strides of a part
    for start in range(0, len(source), BLOCK):
        part = source[start : start + BLOCK]
        block, here = wide[: len(part)].copy_(part), slice(start, start + len(part))
        torch.matmul(block, right, out=before[here])
        after.addmm_((before if left is None else left)[here].mT.contiguous(), block)
    return before, after.mT


def _transposed_product(
    matrix: Float[Tensor, "rows cols"], vectors: Float[Tensor, "rows b"]
) -> Float[Tensor, "cols b"]:
    """Return matrix.T @ vectors, in the order that is fastest for so many columns."""
    if vectors.shape[1] >= NARROW:
        return matrix.mT @ vectors
    rows = matrix.shape[0] // PANELS
    cut = rows * PANELS
    panels = matrix[:cut].unflatten(0, (PANELS, rows))
    product = torch.bmm(vectors[:cut].unflatten(0, (PANELS, rows)).mT, panels).sum(dim=0).mT
    return product.addmm(matrix[cut:].mT, vectors[cut:]) if cut < len(matrix) else product


def linear_map(
    matrix: Float[Tensor, "rows cols"],
    left: Float[Tensor, "rows rank"] | None = None,
    right: Float[Tensor, "rank cols"] | None = None,
    *,
    products: Products = PRODUCTS,
) -> LinearMap:
    """Wrap a matrix, or a matrix and its low-rank update `left @ right`.

    Args:
        matrix: Any floating dtype; half precision is widened to float32.
        left: Factor of the update, its scale folded in.
        right: The other factor.
        products: In which precision to multiply.

    Raises:
        NonFiniteError: An entry is NaN or Inf.
    """
    largest = largest_entry(matrix)
    if left is not None and right is not None:
        largest += largest_entry(left) * largest_entry(right) * left.shape[1]
    scale = power_of_two_near(largest) or 1.0
    norm = largest * math.sqrt(matrix.numel())
    parts = [part for part in (matrix, left, right) if part is not None]
    single = (
        matrix.numel() >= products.single
        and all(part.dtype != torch.float64 for part in parts)
        and abs(math.log2(scale)) < products.exponent
    )
    dtype = torch.float32 if single else torch.float64
    up, down = (None if part is None else part.to(dtype) for part in (left, right))
    return LinearMap(matrix.to(dtype), up, down, scale, norm / scale)
