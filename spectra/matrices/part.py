"""One matrix inside a stored tensor: which entries it is made of."""

from dataclasses import dataclass
from math import prod

from spectra.deferred import Tensor


class LayoutError(ValueError):
    """A tensor that cannot be read as matrices; the text is the reason it is skipped."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Some of the output rows: of each of `groups` blocks of `size`, `start` to `stop`."""

    groups: int
    size: int
    start: int
    stop: int

    @property
    def count(self) -> int:
        """Rows kept."""
        return self.groups * (self.stop - self.start)

    def of(self, matrix: Tensor) -> Tensor:
        """Return these rows of a 2-D tensor."""
        return self._blocks(matrix).flatten(0, 1)

    def put(self, matrix: Tensor, values: Tensor) -> None:
        """Replace these rows of a 2-D tensor."""
        blocks = self._blocks(matrix)
        blocks.copy_(values.unflatten(0, blocks.shape[:2]))

    def _blocks(self, matrix: Tensor) -> Tensor:
        blocks: Tensor = matrix.unflatten(0, (self.groups, self.size))
        return blocks[:, self.start : self.stop]


@dataclass(frozen=True, slots=True)
class Head:
    """One head of attention: some rows of its queries, keys or values, columns of its output."""

    index: int  # from 0, of those of its matrix
    start: int
    stop: int
    axis: int  # 0: rows; 1: columns
    key: int  # the head of keys and values that goes with it

    def of(self, matrix: Tensor) -> Tensor:
        """Return these rows or columns of a 2-D tensor."""
        lines = slice(self.start, self.stop)
        return matrix[lines] if self.axis == 0 else matrix[:, lines]


@dataclass(frozen=True, slots=True)
class Part:
    """One matrix inside a stored tensor."""

    label: str = ""  # "q", "gate"; empty where the tensor is one matrix
    kind: str | None = None  # role, where the part and not the name tells it
    expert: int | None = None  # index into the first axis of a fused expert tensor
    block: tuple[int, int] | None = None  # stored rows of one expert or group: start, stop
    transposed: bool = False  # stored [in, out]
    rows: Rows | None = None  # after transposing
    group: int | None = None  # of a grouped convolution
    head: Head | None = None  # of attention; of what the others leave
    alone: bool = False  # the only one on the first axis, which says nothing

    @property
    def suffix(self) -> str:
        """What the matrix's name adds to the tensor's: `[q]`, `[expert=3,up]`."""
        words = [f"expert={self.expert}"] if self.expert is not None else []
        words += [f"group={self.group}"] if self.group is not None else []
        words += [self.label] if self.label else []
        words += [f"head={self.head.index}"] if self.head is not None else []
        return f"[{','.join(words)}]" if words else ""

    @property
    def slab(self) -> tuple[int, int] | None:
        """Where it lies on the stored tensor's first axis: start, stop; None: all along."""
        if self.block is None and self.expert is not None:
            return self.expert, self.expert + 1
        return self.block

    def of(self, tensor: Tensor) -> Tensor:
        """Return this part of the stored tensor: rows = outputs, cols = inputs."""
        return self.within(tensor if self.slab is None else tensor[slice(*self.slab)])

    def within(self, slab: Tensor) -> Tensor:
        """Return this part of its slab of the stored tensor: rows = outputs, cols = inputs."""
        if self.alone or (self.block is None and self.expert is not None):
            slab = slab[0]
        matrix = slab.flatten(1) if slab.ndim > 1 else slab.reshape(-1, 1)  # a vector: one column
        if self.transposed:
            matrix = matrix.mT
        matrix = self.rows.of(matrix) if self.rows else matrix
        return matrix if self.head is None else self.head.of(matrix)

    def put(self, slab: Tensor, values: Tensor) -> None:
        """Replace this part of its slab of the stored tensor, which lies row after row.

        Args:
            slab: As `within` takes it.
            values: rows = outputs, cols = inputs.
        """
        matrix = slab.reshape(len(slab), -1)  # a view: rows lie after each other
        if self.alone or (self.block is None and self.expert is not None):
            matrix = slab[0].reshape(slab.shape[1], -1)
        if self.transposed:
            matrix = matrix.mT
        if self.rows is None:
            matrix.copy_(values)
        else:
            self.rows.put(matrix, values)

    def shape(self, stored: tuple[int, ...]) -> tuple[int, int]:
        """Return rows and columns without reading anything."""
        if self.block is not None:
            stored = (self.block[1] - self.block[0], *stored[1:])
        elif self.expert is not None or self.alone:
            stored = stored[1:]
        rows, cols = stored[0], prod(stored[1:])
        if self.transposed:
            rows, cols = cols, rows
        rows = self.rows.count if self.rows else rows
        if self.head is None:
            return rows, cols
        size = self.head.stop - self.head.start
        return (size, cols) if self.head.axis == 0 else (rows, size)
