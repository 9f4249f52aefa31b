"""Block Lanczos: a Krylov space of a symmetric operator, and what random columns say of it.

From an orthonormal start block (side x b) the recurrence builds Q, s blocks of b columns, and a
block tridiagonal T with

    A Q = Q T + Q_next beta E^T + F,

E the last block of the identity. Every new block is orthogonalised in float64 against all
before it. F holds all rounding, that of multiplying with A included; who relies on the relation
measures F (`relation`), by float64 products with `PROBES` random combinations of the columns.
For a Gaussian vector g, E ||F g||^2 = ||F||_F^2, and the mean over 16 of them falls below a
hundredth of it with probability at most (0.01 e^0.99)^8 < 3e-13 (Laub and Massart's bound for
rank one, which is the worst case). So ||F||_F is at most `INFLATION` times the measured root
mean square.

Source:
    Golub and Underwood 1977; Parlett 1998, The Symmetric Eigenvalue Problem, chapter 13;
    Halko, Martinsson and Tropp 2011, arXiv:0909.4061, for randomised starts.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from jaxtyping import Float

from spectra.deferred import Tensor, torch

PROBES = 16
INFLATION = 10.0


class Ritz(NamedTuple):
    """The eigenpairs of T, which is A as seen from Q; descending."""

    values: Float[Tensor, " size"]  # approximations from below, 0 at least
    coordinates: Float[Tensor, "size size"]  # columns: Ritz vectors in the basis Q
    start: Float[Tensor, "size b"]  # row i: Ritz vector i against the start block as given
    leaving: Float[Tensor, "b size"]  # how A maps them out of the space, in the basis Q_next

    @property
    def residual(self) -> Float[Tensor, " size"]:
        """||A q - value q|| in exact arithmetic."""
        norms: Tensor = torch.linalg.vector_norm(self.leaving, dim=0)
        return norms


class Lanczos:
    """A growing Krylov space of A, which is given by what it does to vectors."""

    def __init__(
        self, apply: Callable[[Tensor], Tensor], start: Float[Tensor, "side b"], steps: int
    ) -> None:
        """Orthonormalise the start; `steps` blocks fit, so (steps + 1) * b <= side."""
        self.apply = apply
        self.block = start.shape[1]
        self.steps = 0
        self.most = steps
        size = steps * self.block
        self._basis = start.new_empty(size + self.block, len(start)).mT  # column by column
        self._band = start.new_zeros(size + self.block, size)
        self._basis[:, : self.block], self._triangle = torch.linalg.qr(start)

    @property
    def size(self) -> int:
        """Columns of Q so far."""
        return self.steps * self.block

    @property
    def basis(self) -> Float[Tensor, "side size"]:
        """Q."""
        return self._basis[:, : self.size]

    @property
    def band(self) -> Float[Tensor, "longer size"]:
        """T, and below it `beta`, by which A Q leaves Q."""
        return self._band[: self.size + self.block, : self.size]

    def step(self) -> None:
        """Extend the space by one block; applies A once."""
        old, new = self.size, self.size + self.block
        known, here = self._basis[:, :new], self._basis[:, old:new]
        image = self.apply(here)
        if old:
            last = slice(old - self.block, old)
            image -= self._basis[:, last] @ self._band[old:new, last].mT
        within = here.mT @ image
        image -= here @ within
        block, triangle = torch.linalg.qr(image)
        # What is left of the space is rounding, but in columns that have shrunk it may be much.
        # By Cholesky: a block that was orthonormal is well-conditioned still.
        block = block.sub_(known @ (known.mT @ block))
        again = torch.linalg.cholesky_ex(block.mT @ block).L.mT
        block = torch.linalg.solve_triangular(again, block, upper=True, left=False)
        triangle = again @ triangle
        self._basis[:, new : new + self.block] = block
        self._band[old:new, old:new] = (within + within.mT) / 2.0
        self._band[new : new + self.block, old:new] = triangle
        if self.steps + 1 < self.most:
            self._band[old:new, new : new + self.block] = triangle.mT
        self.steps += 1

    def looks(self, due: Callable[[int], bool]) -> Iterator[Ritz]:
        """Grow the space to its end; yield the Ritz pairs where a look is due, and at the end.

        Nothing more once a product is not `finite`.
        """
        while self.steps < self.most:
            self.step()
            if due(self.steps) or self.steps == self.most:
                if not self.finite:
                    return
                yield self.ritz()

    @property
    def finite(self) -> bool:
        """Whether no product has overflown, and no block collapsed; asked before `ritz`."""
        return bool(self.band.isfinite().all())

    def ritz(self) -> Ritz:
        """Return the Ritz pairs of A; on the CPU, where small matrices are solved."""
        band = self.band.cpu()
        values, coordinates = torch.linalg.eigh(band[: self.size])
        values, coordinates = values.flip(0).clamp(min=0.0), coordinates.flip(1)
        start = coordinates[: self.block].mT @ self._triangle.cpu()
        leaving = band[self.size :, -self.block :] @ coordinates[-self.block :]
        return Ritz(values, coordinates, start, leaving)

    def combined(self, coefficients: Float[Tensor, "size c"]) -> Float[Tensor, "side c"]:
        """Return Q times the first `coefficients`, by rows: the faster order for a few."""
        lines = coefficients.to(self._basis).mT.contiguous()
        found: Tensor = lines @ self._basis[:, : lines.shape[1]].mT
        return found.mT

    def mapped(self, coefficients: Float[Tensor, "size c"]) -> Float[Tensor, "side c"]:
        """Return what the recurrence says that A maps Q times `coefficients` to."""
        return self.combined(self.band @ coefficients)

    def probes(self) -> Float[Tensor, "size c"]:
        """Return Gaussian coefficients, the same in every run."""
        return gaussian(self.size, PROBES, self._basis.device, seed=1)

    def orthonormal(self) -> bool:
        """Say whether Q is orthonormal to 1e-9, as seen by random combinations."""
        probes = self.probes()
        skew = self.basis.mT @ self.combined(probes) - probes
        return float(skew.abs().max()) <= 1e-10 * math.sqrt(self.size)


def gaussian(
    rows: int, columns: int, device: "torch.device", seed: int = 0
) -> Float[Tensor, "rows columns"]:
    """Return random columns: the same on every device and in every run."""
    source = torch.Generator(device="cpu").manual_seed(seed)
    return torch.randn(rows, columns, generator=source, dtype=torch.float64).to(device)
