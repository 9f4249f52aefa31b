"""The bytes of what an adapter's file holds: factors out of a spool, and tensors as they are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from spectra.checkpoint import Checkpoint, TensorEntry
from spectra.checkpoint.entry import STORED, torch_dtype
from spectra.checkpoint.gguf.codec import Order
from spectra.checkpoint.source import Folder
from spectra.deferred import Tensor, torch
from spectra.errors import NonFiniteError, OutputError
from spectra.text import non_finite, shown, size
from spectra.writing.spool import Spool, raw
from spectra.writing.tensors import Bytes

CHUNK = 8 << 20  # bytes of a carried tensor in memory at a time
MOST_FILE = 64 << 20  # of a tokenizer's file, that is read at once


@dataclass(frozen=True, slots=True)
class Carried:
    """A tensor that is written as it is stored."""

    source: Checkpoint
    entry: TensorEntry
    shape: tuple[int, ...] | None = None  # in the file, where it is another

    @property
    def written(self) -> tuple[int, ...]:
        """The shape in the file."""
        return self.entry.shape if self.shape is None else self.shape


@dataclass(frozen=True, slots=True)
class Piece:
    """One factor, and how the file has it: B with a direction a column, unless it is turned."""

    row: str
    side: str
    count: int  # of directions in the spool
    rank: int  # of the file
    turned: bool
    order: Order | None

    def chunks(self, spool: Spool | None) -> Iterator[Bytes]:
        """Yield its bytes."""
        if spool is None:
            return
        rows = spool.rows(self.row, self.side, self.count)
        if self.rank > self.count:
            filled = rows.new_zeros(self.rank, *rows.shape[1:])
            filled[: self.count] = rows
            rows = filled
        if self.order is not None:
            moved = rows.clone()
            moved[:, self.order.index(rows.shape[1])] = rows
            rows = moved
        yield raw(rows if (self.side == "right") != self.turned else rows.mT)


@dataclass(frozen=True, slots=True)
class Stack:
    """One factor of a stack of matrices, as PEFT's `ParamWrapper` has it, or one by one.

    A lists the matrices one after the other, [matrices rank, inputs]; PEFT's B has them side by
    side in each direction, [outputs, rank matrices], others' one after the other too, [matrices,
    outputs, rank]. A matrix with fewer directions has zeros.

    Source:
        PEFT 0.19.1, `tuners/lora/layer.py`, `ParamWrapper.get_delta_weight`.
    """

    members: Sequence[tuple[str, int]]  # the rows in the spool, and how many directions each has
    side: str
    rank: int  # of the file
    width: int  # outputs or inputs
    apart: bool = False  # B lists the matrices too

    def chunks(self, spool: Spool | None) -> Iterator[Bytes]:
        """Yield its bytes."""
        if spool is None:
            return
        known = next(row for row, count in self.members if count)
        like = spool.rows(known, self.side, 0)
        if self.side == "right":
            for one in self.members:
                yield raw(self._filled(spool, *one, like))
            return
        if self.apart:
            for one in self.members:
                yield raw(self._filled(spool, *one, like).mT)
            return
        every = torch.stack([self._filled(spool, *one, like) for one in self.members])
        yield raw(every.permute(2, 1, 0))

    def _filled(self, spool: Spool, row: str, count: int, like: Tensor) -> Tensor:
        found = like.new_zeros(self.rank, self.width)
        if count:
            found[:count] = spool.rows(row, self.side, count)
        return found


def stored_bytes(one: Carried) -> Iterator[Bytes]:
    """Yield the bytes of a tensor as it is stored."""
    entry = one.entry
    if entry.codec is not None or entry.strides:
        yield raw(one.source.read(entry))
        return
    file = one.source.files[entry.shard]
    for start in range(entry.start, entry.stop, CHUNK):
        piece = bytearray(min(CHUNK, entry.stop - start))
        if file.fill(start, memoryview(piece)) < len(piece):
            raise OutputError(f"{file.label} ended while it was copied. Run it again.")
        yield piece


def finite_bytes(one: Carried) -> Iterator[Bytes]:
    """Yield the bytes of a tensor as it is stored, and count what of it is no number.

    Raises:
        NonFiniteError: It holds NaN or Inf, which is known once all of it has gone by.
    """
    entry = one.entry
    kind: torch.dtype = torch_dtype(entry.dtype if entry.dtype in STORED else "U8")
    nan = inf = gone = 0
    first: int | None = None
    for piece in stored_bytes(one):
        if kind.is_floating_point and len(piece):
            values = torch.frombuffer(piece, dtype=kind)
            values = values if kind.itemsize > 1 else values.float()  # float8 is asked nothing
            broken = ~values.isfinite()
            if bool(broken.any()):
                nan += int(values.isnan().sum())
                inf += int(values.isinf().sum())
                first = gone + int(broken.nonzero()[0]) if first is None else first
            gone += len(values)
        yield piece
    if first is not None:
        place = [int(at) for at in torch.unravel_index(torch.tensor(first), entry.shape)]
        raise NonFiniteError(
            f"{entry.name} cannot be written: {non_finite(nan, inf, place)}. Nothing was written; "
            f"repair its weights, or take it out of {shown(one.source.spec)}."
        )


def require_finite(one: Carried) -> None:
    """Read a tensor to see whether it could be written.

    Raises:
        NonFiniteError: It holds NaN or Inf.
    """
    for _ in finite_bytes(one):
        pass


def same_bytes(one: Carried, other: Carried) -> bool:
    """Say whether two tensors are stored alike: dtype, shape and every byte."""
    kinds = [(own.entry.dtype, own.entry.codec, own.written) for own in (one, other)]
    if kinds[0] != kinds[1]:
        return False
    pairs = zip_longest(stored_bytes(one), stored_bytes(other))
    return all(first == second for first, second in pairs)


def copy_file(folder: Folder, name: str, into: Path) -> None:
    """Copy a file of a tokenizer, where there is one.

    Raises:
        OutputError: It is far too large to be one.
    """
    if not folder.has(name):
        return
    file = folder.file(name)
    if file.size > MOST_FILE:
        raise OutputError(
            f"{file.label} is {size(file.size)}, expected a tokenizer's file below "
            f"{size(MOST_FILE)}. Take it out of that folder."
        )
    (into / name).write_bytes(file.read(0, file.size))
