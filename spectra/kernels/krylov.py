"""Block Golub-Kahan bidiagonalisation, and how far its rounding can have led it astray.

From a start block Q_0 (rows x b, orthonormal) the recurrence builds orthonormal Q and P,
s blocks each, and a block lower bidiagonal B with

    W^T Q = P B^T + F_2,        W P = Q B + Q_next beta E^T + F_1,

E the last block of the identity. Every new block is orthogonalised in float64 against all
before it; the products with W may be float32. F_1 and F_2 hold all rounding, that
of the products and what reorthogonalisation took away. They are measured, not modelled:
float64 products with `PROBES` random combinations of the columns. For a Gaussian vector g,
E ||F g||^2 = ||F||_F^2, and the mean over 16 of them falls below a hundredth of it with
probability at most (0.01 e^0.99)^8 < 3e-13 (Laub and Massart's bound for rank one, which is
the worst case). So ||F||_F is at most `INFLATION` times the measured root mean square.

Source:
    Golub, Luk and Overton 1981, ACM TOMS 7(2); Halko, Martinsson and Tropp 2011,
    arXiv:0909.4061, for randomised starts.
"""

import math
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.kernels.linear_map import LinearMap

PROBES = 16
INFLATION = 10.0


@runtime_checkable
class Operator(Protocol):
    """What bidiagonalisation needs of a matrix: float64 vectors in, float64 vectors out."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        ...

    def matmat(self, vectors: Float[Tensor, "cols b"]) -> Float[Tensor, "rows b"]:
        """Return the product."""
        ...

    def rmatmat(self, vectors: Float[Tensor, "rows b"]) -> Float[Tensor, "cols b"]:
        """Return the product of the transpose."""
        ...


class Ritz(NamedTuple):
    """The eigenpairs of T = B B^T, which is W W^T as seen from Q; descending."""

    values: Float[Tensor, " size"]  # approximations from below to sigma^2
    coordinates: Float[Tensor, "size size"]  # columns: Ritz vectors in the basis Q
    start: Float[Tensor, "size b"]  # row i: Ritz vector i against the start block as given
    residual: Float[Tensor, " size"]  # ||W W^T q - value q|| in exact arithmetic


class Probes(NamedTuple):
    """Random combinations of the columns of both bases, the same ones."""

    coefficients: Float[Tensor, "size c"]
    right: Float[Tensor, "cols c"]
    left: Float[Tensor, "rows c"]


class Measured(NamedTuple):
    """What float64 products say about a bidiagonalisation."""

    rounding_right: float  # no less than ||F_1||_F
    rounding_left: float  # no less than ||F_2||_F
    before: Float[Tensor, "rows c"]  # W @ right of the vectors handed in
    after: Float[Tensor, "cols d"]  # W.T @ left of them
    orthogonal: bool  # Q and P are orthonormal to 1e-9


class Bidiagonalization:
    """A growing pair of Krylov bases of one matrix."""

    def __init__(self, of: Operator, start: Float[Tensor, "rows b"], steps: int) -> None:
        """Orthonormalise the start; `steps` blocks fit, so (steps + 1) * b <= min(shape)."""
        self.map = of
        self.block = start.shape[1]
        self.steps = 0
        rows, cols = of.shape
        size = steps * self.block
        self._left = start.new_empty(rows, size + self.block)
        self._right = start.new_empty(cols, size)
        self._band = start.new_zeros(size + self.block, size)
        basis, self.triangle = torch.linalg.qr(start)
        self._left[:, : self.block] = basis

    @property
    def size(self) -> int:
        """Columns of Q and P so far."""
        return self.steps * self.block

    @property
    def left(self) -> Float[Tensor, "rows size"]:
        """Q."""
        return self._left[:, : self.size]

    @property
    def right(self) -> Float[Tensor, "cols size"]:
        """P."""
        return self._right[:, : self.size]

    @property
    def band(self) -> Float[Tensor, "size size"]:
        """B."""
        return self._band[: self.size, : self.size]

    @property
    def next(self) -> Float[Tensor, "b b"]:
        """`beta`: the block by which W P leaves Q."""
        size = self.size
        return self._band[size : size + self.block, size - self.block : size]

    def step(self) -> None:
        """Extend both bases by one block; reads the matrix twice."""
        old, new = self.size, self.size + self.block
        last = slice(old - self.block, old)
        image = self.map.rmatmat(self._left[:, old:new])
        if old:
            image -= self._right[:, last] @ self._band[old:new, last].mT
        basis, triangle = _orthonormal(image, self._right[:, :old])
        self._right[:, old:new] = basis
        self._band[old:new, old:new] = triangle.mT
        image = self.map.matmat(basis)
        image -= self._left[:, old:new] @ triangle.mT
        basis, triangle = _orthonormal(image, self._left[:, :new])
        self._left[:, new : new + self.block] = basis
        self._band[new : new + self.block, old:new] = triangle
        self.steps += 1

    def ritz(self) -> Ritz:
        """Return the Ritz pairs of W W^T; on the CPU, where small matrices are solved."""
        band = self.band.cpu()
        values, coordinates = torch.linalg.eigh(band @ band.mT)
        values, coordinates = values.flip(0).clamp(min=0.0), coordinates.flip(1)
        start = coordinates[: self.block].mT @ self.triangle.cpu()
        residual = torch.linalg.vector_norm(self.leaving(coordinates), dim=0)
        return Ritz(values, coordinates, start, residual)

    def leaving(self, coordinates: Float[Tensor, "size k"]) -> Float[Tensor, "b k"]:
        """Return how W W^T maps vectors of span Q out of it, in the basis Q_next."""
        last = self.band[-self.block :, -self.block :].cpu()
        out: Tensor = self.next.cpu() @ (last.mT @ coordinates[-self.block :])
        return out

    def probes(self) -> "Probes":
        """Return random Gaussian combinations of the columns of P and of Q."""
        source = torch.Generator(device="cpu").manual_seed(1)
        drawn = torch.randn(self.size, PROBES, generator=source, dtype=torch.float64)
        drawn = drawn.to(self._left)
        return Probes(drawn, self.right @ drawn, self.left @ drawn)

    def predicted(
        self, probes: Float[Tensor, "size c"]
    ) -> tuple[Float[Tensor, "rows c"], Float[Tensor, "cols c"]]:
        """Return what the recurrence says that W P and W^T Q times `probes` are."""
        band = self._band[: self.size + self.block, : self.size]
        before = self._left[:, : self.size + self.block] @ (band @ probes)
        return before, self.right @ (band[: self.size].mT @ probes)


def measure(
    krylov: Bidiagonalization,
    of: LinearMap,
    right: Float[Tensor, "cols c"],
    left: Float[Tensor, "rows d"],
    *,
    outside: bool = False,
) -> Measured:
    """Bound F_1 and F_2, and multiply further vectors in the same pass over the matrix.

    Args:
        krylov: The bases and their recurrence.
        of: The matrix W.
        right: Vectors to multiply by W.
        left: Vectors to multiply by W^T.
        outside: The recurrence projects `left`, orthonormal D, out of W P; what that takes,
            D (W^T D)^T P, does not count as F_1 then.
    """
    probes = krylov.probes()
    before, after = of.products(
        torch.cat([probes.right, right], dim=1), torch.cat([probes.left, left], dim=1)
    )
    expected_before, expected_after = krylov.predicted(probes.coefficients)
    missed = before[:, :PROBES] - expected_before
    if outside:
        missed = missed - left @ (after[:, PROBES:].mT @ probes.right)
    lost = after[:, :PROBES] - expected_after
    # The measuring products round as well, those of the `size` columns together.
    own = math.sqrt(krylov.size) * of.rounding()
    return Measured(
        INFLATION * (float(torch.linalg.vector_norm(missed)) / math.sqrt(PROBES) + own),
        INFLATION * (float(torch.linalg.vector_norm(lost)) / math.sqrt(PROBES) + own),
        before[:, PROBES:],
        after[:, PROBES:],
        orthonormal(krylov, probes),
    )


def orthonormal(krylov: Bidiagonalization, probes: Probes) -> bool:
    """Say whether both bases are orthonormal to 1e-9, as seen by random combinations."""
    skew = max(
        float((basis.mT @ seen - probes.coefficients).abs().max())
        for basis, seen in ((krylov.right, probes.right), (krylov.left, probes.left))
    )
    return skew <= 1e-10 * math.sqrt(krylov.size)


def _orthonormal(
    vectors: Float[Tensor, "rows b"], basis: Float[Tensor, "rows k"]
) -> tuple[Float[Tensor, "rows b"], Float[Tensor, "b b"]]:
    """Return an orthonormal block outside `basis` and the triangle that leads back."""
    block, triangle = torch.linalg.qr(vectors)
    if not basis.shape[1]:
        return block, triangle
    # What is left of the basis is rounding, but in columns that have shrunk it may be much.
    block = block - basis @ (basis.mT @ block)
    # By Cholesky: the block is well-conditioned, as the basis is a small part of the space.
    again = torch.linalg.cholesky_ex(block.mT @ block).L.mT
    block = torch.linalg.solve_triangular(again, block, upper=True, left=False)
    return block, again @ triangle


def gaussian(rows: int, columns: int, device: torch.device) -> Float[Tensor, "rows columns"]:
    """Return the random start: the same on every device and in every run."""
    source = torch.Generator(device="cpu").manual_seed(0)
    return torch.randn(rows, columns, generator=source, dtype=torch.float64).to(device)
