"""A matrix that is formed a few rows at a time, and never held: a difference, a variance, a rest.

A vocabulary's in float32 takes gigabytes, beside those of which it is made. Kernels that pass over
rows take it for a tensor, of which they slice the long side alone.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from jaxtyping import Float, Int64

from spectra.deferred import Tensor, torch

BLOCK = 1 << 18  # entries formed at a time: they stay in a core's cache


@dataclass(frozen=True, slots=True)
class Streamed:
    """A matrix with no fewer rows than columns, finite, or its transpose."""

    tall: tuple[int, int]
    dtype: "torch.dtype"
    device: "torch.device"
    make: Callable[[slice], Tensor]  # its rows, in that dtype, in memory of their own
    turned: bool = False  # it is the transpose
    known: tuple[float, float] | None = None  # what `sizes` returns, where its maker has seen it

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.tall[::-1] if self.turned else self.tall

    @property
    def is_cpu(self) -> bool:
        """Whether rows are formed on the CPU."""
        return self.device.type == "cpu"

    @property
    def mT(self) -> "Streamed":  # noqa: N802 - torch's name
        """The transpose."""
        return replace(self, turned=not self.turned)

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Float[Tensor, "rows cols"]:
        """Return some rows of the long side."""
        if self.turned:
            raise TypeError("rows are formed along the long side alone")
        return self.make(slice(*rows.indices(self.tall[0])))

    def numel(self) -> int:
        """Return the number of entries."""
        return math.prod(self.tall)

    def any(self) -> bool:
        """Say whether any entry is not 0."""
        if self.known is not None:
            return self.known[0] > 0.0
        return any(bool(block.any()) for _, block in self.blocks())

    def blocks(self) -> Iterator[tuple[slice, Float[Tensor, "rows cols"]]]:
        """Yield all rows of the long side, a few at a time."""
        step = max(1, BLOCK // max(self.tall[1], 1))
        for start in range(0, self.tall[0], step):
            here = slice(start, min(start + step, self.tall[0]))
            yield here, self.make(here)

    def whole(self) -> Float[Tensor, "rows cols"]:
        """Return it as a tensor."""
        found = torch.empty(self.tall, dtype=self.dtype, device=self.device)
        for here, block in self.blocks():
            found[here] = block
        return found.mT if self.turned else found

    def sizes(self) -> tuple[float, float]:
        """Return the largest |entry| and the Frobenius norm."""
        if self.known is not None:
            return self.known
        largest, square = 0.0, 0.0
        for _, block in self.blocks():
            low, high = torch.stack(torch.aminmax(block)).tolist()
            largest = max(largest, -low, high)
            square += float(torch.linalg.vector_norm(block, dtype=torch.float64)) ** 2
        return largest, math.sqrt(square)

    def columns(self, chosen: Int64[Tensor, " chosen"]) -> "Streamed":
        """Return some columns of the long matrix, fewer than it has rows."""
        make = self.make
        tall = (self.tall[0], len(chosen))
        return replace(self, tall=tall, make=lambda here: make(here)[:, chosen], known=None)

    def times(self, vectors: Float[Tensor, "cols b"]) -> Float[Tensor, "rows b"]:
        """Return the product with a few vectors, of each block in its own precision, float64."""
        lines = vectors.to(self.dtype)
        if not self.turned:
            return torch.cat([(block @ lines).double() for _, block in self.blocks()])
        found = lines.new_zeros(self.tall[1], lines.shape[1], dtype=torch.float64)
        for here, block in self.blocks():
            found += (block.mT @ lines[here]).double()
        return found


def blocks(
    matrix: Float[Tensor, "rows cols"] | Streamed, entries: int | None = None
) -> Iterator[tuple[slice, Float[Tensor, "here cols"]]]:
    """Yield all rows, so many entries of a tensor at a time, or all of it."""
    if isinstance(matrix, Streamed):
        yield from matrix.blocks()
        return
    step = max(1, (entries or matrix.numel()) // max(matrix.shape[1], 1))
    for start in range(0, len(matrix), step):
        here = slice(start, start + step)
        yield here, matrix[here]
