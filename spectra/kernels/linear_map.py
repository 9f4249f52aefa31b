"""A matrix as what it does to vectors: fast products, and exact ones to measure them by.

Iterations need products with a few vectors at a time, and nothing but their error decides
what precision they need. Large float32 matrices multiply in float32, where half the bytes
go through memory; vectors are kept in float64. `products` then multiplies in float64, a
panel at a time, and shows how far the fast products were off.

Few vectors multiply fastest as rows, from the left, and a panel at a time, which is read once
for both products of W^T (W v). So blocks of vectors are laid out column by column.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from jaxtyping import Float

from spectra.deferred import Tensor, torch
from spectra.kernels.entries import entry_norm, largest_entry, power_of_two_near, square_norm
from spectra.kernels.products import add_product, wants_dense
from spectra.kernels.rounding import EPS64
from spectra.kernels.streamed import Streamed
from spectra.kernels.work import is_long

PANEL = 64  # rows multiplied at a time: they stay in a core's cache
LONG_PANEL = 512  # of a transpose in float64, whose products find them in memory alike
DEVICE_PANEL = 1 << 13
CONFIDENCE = 10.0
FLOAT32 = 1 << 20  # entries from which matrices multiply in float32; float64 ones never do
HALF = 2  # bytes of the floats that are widened
EXPONENT = 90  # float32 products of a scaled vector stay normal within 2^-90 ... 2^90


@dataclass(frozen=True, slots=True)
class LinearMap:
    """`(matrix + left @ right) / scale` or its transpose, never formed.

    Rows and columns of the matrix may have weights to be multiplied with, panel by panel.
    """

    matrix: Tensor | Streamed  # rows x cols, as precise as fast products, or widened by panels
    left: Tensor | None  # rows x rank
    right: Tensor | None  # rank x cols
    scale: float  # a power of two near the largest entry
    norm: float  # no less than the Frobenius norm of the map
    turned: bool = False  # the map is the transpose
    weights: tuple[Tensor, Tensor] | None = None  # float64, of the matrix's rows and columns
    double: bool = False  # fast products are in float64, into which panels are widened
    gram: Tensor | None = None  # about that of the shorter side, float64, for fast products

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the map."""
        rows, cols = self.matrix.shape
        return (cols, rows) if self.turned else (rows, cols)

    @property
    def dtype(self) -> "torch.dtype":
        """The precision of fast products, into which 16 bits are widened panel by panel."""
        if self.double:
            return torch.float64
        if self.matrix.dtype.itemsize != HALF:
            return self.matrix.dtype
        return torch.float32 if abs(math.log2(self.scale)) < EXPONENT else torch.float64

    @property
    def device(self) -> "torch.device":
        """Where the matrix is."""
        return self.matrix.device

    @property
    def mT(self) -> "LinearMap":  # noqa: N802 - torch's name
        """The transpose."""
        return replace(self, turned=not self.turned)

    @property
    def parts(self) -> tuple[Tensor | Streamed, Tensor | None, Tensor | None]:
        """The matrix and its update's factors, turned as the map is."""
        if not self.turned:
            return self.matrix, self.left, self.right
        up, down = (None if part is None else part.mT for part in (self.right, self.left))
        return self.matrix.mT, up, down

    @property
    def held(self) -> Tensor:
        """The matrix, turned as the map is, where it is not streamed."""
        matrix = self.parts[0]
        assert isinstance(matrix, Tensor)  # noqa: S101 - who asks gave one
        return matrix

    def matmat(self, vectors: Float[Tensor, "cols b"]) -> Float[Tensor, "rows b"]:
        """Return the fast product with float64 vectors, in float64."""
        lines = self._lines(vectors, self.dtype)
        image, _ = self._swept(lines, lines.new_zeros(0, self.shape[0]))
        return image.double().mT

    def gram_matmat(self, vectors: Float[Tensor, "cols b"]) -> Float[Tensor, "cols b"]:
        """Return the fast product of map.T @ map."""
        if self.gram is not None and self.turned == (len(self.matrix) < self.matrix.shape[1]):
            return self.gram @ vectors
        _, back = self._swept(self._lines(vectors, self.dtype))
        return back.double().div_(self.scale).mT

    @property
    def _as_is(self) -> bool:
        """Whether the matrix is there as fast products take it."""
        held = isinstance(self.matrix, Tensor) and self.weights is None
        return held and self.matrix.dtype == self.dtype

    def room(self, rows: int, dtype: "torch.dtype") -> Float[Tensor, "most cols"]:
        """Return memory for so many rows, with their strides: no copy turns the matrix."""
        matrix, most = self.parts[0], min(rows, self.shape[0])
        if isinstance(matrix, Tensor):
            return torch.empty_like(matrix[:most], dtype=dtype)
        return torch.empty(most, self.shape[1], dtype=dtype, device=self.device)

    def panels(
        self, into: Float[Tensor, "most cols"]
    ) -> Iterator[tuple[slice, Float[Tensor, "here cols"]]]:
        """Yield rows of the map, so many at a time as memory is given for, and always in that."""
        matrix, up, down = self.parts
        for start in range(0, self.shape[0], len(into)):
            here = slice(start, min(start + len(into), self.shape[0]))
            block = self._weighed(start, matrix[here], into)
            if up is not None and down is not None:
                block.addmm_(up[here].to(block.dtype), down.to(block.dtype))
            # Scaled after widening: together, of a transpose, they take ten times as long.
            yield here, block.mul_(1.0 / self.scale)

    def _weighed(self, start: int, part: Tensor, into: Tensor) -> Tensor:
        block = into[: len(part)].copy_(part)
        if self.weights is not None:
            down, across = self.weights[::-1] if self.turned else self.weights
            block.mul_(down[start : start + len(part)].to(block.dtype).unsqueeze(1))
            block.mul_(across.to(block.dtype))
        return block

    def row_norms(self) -> Float[Tensor, " rows"]:
        """Return about the norm of each row of the map."""
        matrix = self.parts[0]
        if isinstance(matrix, Tensor) and self._as_is and self.left is None:
            norms: Tensor = torch.linalg.vector_norm(matrix, dim=1)
            return norms.div_(self.scale)
        panels = self.panels(self.room(PANEL, self.dtype))
        return torch.cat([torch.linalg.vector_norm(part, dim=1) for _, part in panels])

    def energy(self) -> float:
        """Return the sum of squares of the map's entries, from float64."""
        return sum(square_norm(part) for _, part in self.panels(self.room(PANEL, torch.float64)))

    def without(
        self, left: Float[Tensor, "rows k"], right: Float[Tensor, "k cols"]
    ) -> tuple[Float[Tensor, "rows cols"], float]:
        """Return the map less left @ right, as precise as its matrix, and its sum of squares."""
        rest, total = torch.empty_like(self.held), 0.0
        for here, part in self.panels(self.room(PANEL, torch.float64)):
            part.addmm_(left[here], right, alpha=-1.0)
            total += square_norm(part)
            rest[here] = part
        return rest, total

    def products(
        self, right: Float[Tensor, "cols b"], left: Float[Tensor, "rows c"]
    ) -> tuple[Float[Tensor, "rows b"], Float[Tensor, "cols c"]]:
        """Return `map @ right` and `map.T @ left`, both in float64, in one pass."""
        given = (self._lines(vectors, torch.float64) for vectors in (right, left))
        image, back = self._swept(*given)
        return image.mT, back.mT

    def normal(
        self, vectors: Float[Tensor, "cols c"]
    ) -> tuple[Float[Tensor, "rows c"], Float[Tensor, "cols c"]]:
        """Return map @ v and map.T @ (map @ v), both in float64, in one pass."""
        image, back = self._swept(self._lines(vectors, torch.float64))
        return image.mT, back.div_(self.scale).mT

    def _lines(self, vectors: Float[Tensor, "side b"], dtype: "torch.dtype") -> Tensor:
        """Return vectors over scale as rows, in a precision."""
        return (vectors.mT / self.scale).to(dtype).contiguous()

    def _swept(
        self, right: Float[Tensor, "b cols"], left: Float[Tensor, "c rows"] | None = None
    ) -> tuple[Float[Tensor, "b rows"], Float[Tensor, "c cols"]]:
        """Return the products with rows `right`, and of those, or of `left`, with the transpose.

        In the precision of `right`, into which panels are widened.
        """
        matrix, up, down = self.parts
        image = right.new_zeros(len(right), len(matrix))
        given = image if left is None else left
        back = right.new_zeros(len(given), matrix.shape[1])
        if up is not None and down is not None:
            up, down = up.to(right.dtype), down.to(right.dtype)
            image.addmm_(right @ down.mT, up.mT)
        step = LONG_PANEL if self.turned and matrix.dtype == torch.float64 else PANEL
        step = step if matrix.is_cpu else DEVICE_PANEL
        wide = self.room(step, right.dtype)
        for start in range(0, len(matrix), step):
            part, here = matrix[start : start + step], slice(start, start + step)
            held = part.dtype == wide.dtype and self.weights is None
            held = held and (part.is_contiguous() or not wants_dense(part))
            block = part if held else self._weighed(start, part, wide)
            add_product(image[:, here], right, block.mT)
            add_product(back, given[:, here].contiguous(), block)
        if up is not None and down is not None:
            back.addmm_(given @ up, down)
        return image, back

    def precise(self) -> "LinearMap":
        """Return the same map with float64 products, and a sharper norm; what is long stays."""
        assert isinstance(self.matrix, Tensor)  # noqa: S101 - a weight
        up, down = (None if part is None else part.double() for part in (self.left, self.right))
        long = is_long(*self.matrix.shape)
        matrix = self.matrix if long else self.matrix.double()
        norm = entry_norm(matrix) / self.scale
        if up is not None and down is not None:
            norm += entry_norm(up) * (entry_norm(down) / self.scale)
        return replace(self, matrix=matrix, left=up, right=down, norm=1.001 * norm, double=long)

    def rounding(self) -> float:
        """Return what one float64 product with a unit vector may err by.

        By probabilistic rounding analysis (Higham and Mary 2019): sqrt(n) where the worst
        case is n, times `CONFIDENCE`, which fails with probability below 1e-17.
        """
        return CONFIDENCE * math.sqrt(max(self.shape)) * EPS64 * self.norm


def linear_map(
    matrix: Float[Tensor, "rows cols"] | Streamed,
    left: Float[Tensor, "rows rank"] | None = None,
    right: Float[Tensor, "rank cols"] | None = None,
    *,
    float32: int = FLOAT32,
    stored: bool = False,
) -> LinearMap:
    """Wrap a matrix, or a matrix and its low-rank update `left @ right`, its scale folded in.

    Half precision is widened to float32, and multiplies so with that many entries or more; where
    it is to stay `stored`, those are widened anew by each product, and take no memory.
    """
    if isinstance(matrix, Streamed):
        return _streamed_map(matrix)
    largest = largest_entry(matrix)
    if left is not None and right is not None:
        largest += largest_entry(left) * largest_entry(right) * left.shape[1]
    scale = power_of_two_near(largest) or 1.0
    norm = largest * math.sqrt(matrix.numel())
    parts = [part for part in (matrix, left, right) if part is not None]
    single = (
        matrix.numel() >= float32
        and all(part.dtype != torch.float64 for part in parts)
        and abs(math.log2(scale)) < EXPONENT
    )
    dtype = torch.float32 if single else torch.float64
    up, down = (None if part is None else part.to(dtype) for part in (left, right))
    if not (stored and matrix.dtype.itemsize == HALF and matrix.numel() >= float32):
        matrix = matrix.to(dtype)
    return LinearMap(matrix, up, down, scale, norm / scale)


def _streamed_map(matrix: Streamed) -> LinearMap:
    largest, size = matrix.sizes()
    scale = power_of_two_near(largest) or 1.0
    double = abs(math.log2(scale)) >= EXPONENT or matrix.dtype == torch.float64
    return LinearMap(matrix, None, None, scale, 1.001 * size / scale, double=double)
