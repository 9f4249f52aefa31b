"""Factors of LoRA that a file holds in another form than `B @ A`: turned, or in three."""

import math
from dataclasses import dataclass, replace

from spectra.checkpoint.codecs.parts import Coded
from spectra.checkpoint.entry import ReadStored, Slab, TensorEntry
from spectra.deferred import Tensor, torch


@dataclass(frozen=True, slots=True)
class Moved(Coded):
    """A stored factor whose axes are put in another order; all but the first become one."""

    stored: TensorEntry
    axes: tuple[int, ...]  # of the stored tensor
    name: str = "moved"
    bits: int = 0

    def decode(self, read: ReadStored, slab: Slab) -> Tensor:
        """Return the values of the slab."""
        values = read(self.stored, None).permute(self.axes).flatten(1)
        return values if slab is None else values[slab[0] : slab[1]]


@dataclass(frozen=True, slots=True)
class Scaled(Coded):
    """A factor times a number: the scale of its update."""

    stored: TensorEntry
    scale: float
    name: str = "scaled"
    bits: int = 0

    def decode(self, read: ReadStored, slab: Slab) -> Tensor:
        """Return the values of the slab, in float64 where the stored dtype would round them."""
        values = read(self.stored, slab)
        doubling = math.frexp(self.scale)[0] in (0.5, -0.5) and values.dtype != torch.float16
        return (values if doubling else values.double()).mul_(self.scale)


@dataclass(frozen=True, slots=True)
class Decomposed(Coded):
    """A convolution's `lora_down` and `lora_mid` as one factor A.

    A[i, c, ...] = sum over j of mid[i, j, ...] down[j, c]: [r, in, height, width].

    Source:
        Yeh et al. 2023, arXiv:2309.14859 (LyCORIS, its CP decomposition).
    """

    mid: TensorEntry  # [r, r, height, width]
    down: TensorEntry  # [r, in, 1, 1]
    name: str = "cp"
    bits: int = 0

    def decode(self, read: ReadStored, slab: Slab) -> Tensor:
        """Return the values of the slab, in float32 or wider."""
        mid, down = read(self.mid, slab), read(self.down, None).flatten(1)
        wide = torch.float64 if mid.dtype == torch.float64 else torch.float32
        return torch.einsum("ij...,jc->ic...", mid.to(wide), down.to(wide))


def scaled(entry: TensorEntry, scale: float) -> TensorEntry:
    """Return a factor times a number, of a name that tells it from the same at another scale."""
    return replace(entry, name=f"{entry.name} times {scale!r}", codec=Scaled(entry, scale))


def turned(entry: TensorEntry) -> TensorEntry:
    """Return a matrix the other way round."""
    return replace(entry, shape=entry.shape[::-1], codec=Moved(entry, (1, 0)))


def stacked(entry: TensorEntry) -> TensorEntry:
    """Return factors B of a stack, [count, out, r], as PEFT lays them: [out, r count]."""
    count, outputs, rank = entry.shape
    return replace(entry, shape=(outputs, rank * count), codec=Moved(entry, (1, 2, 0)))


def one_of(stack: TensorEntry, number: int, count: int) -> TensorEntry:
    """Return one matrix of a stack of plain values [count, ...] or [count rows, ...]: its bytes.

    Args:
        stack: Stored without a codec.
        number: Which.
        count: How many there are.
    """
    size = (stack.stop - stack.start) // count
    start = stack.start + number * size
    rows = stack.shape[1:] if len(stack.shape) == 3 else (stack.shape[0] // count, stack.shape[1])
    return replace(stack, shape=rows, start=start, stop=start + size)


@dataclass(frozen=True, slots=True)
class Sliced(Coded):
    """Some rows of a factor."""

    stored: TensorEntry
    first: int
    count: int
    name: str = "sliced"
    bits: int = 0

    def decode(self, read: ReadStored, slab: Slab) -> Tensor:
        """Return the values of the slab."""
        start, stop = slab if slab is not None else (0, self.count)
        return read(self.stored, (self.first + start, self.first + stop))


def sliced(entry: TensorEntry, rows: tuple[int, int]) -> TensorEntry:
    """Return some rows of a factor, of a name that tells them from others."""
    name = f"{entry.name}[{rows[0]}:{rows[1]}]"
    shape = (rows[1] - rows[0], *entry.shape[1:])
    if entry.codec is None:
        start, stop = entry.stretch(rows)
        return replace(entry, name=name, shape=shape, start=start, stop=stop)
    return replace(entry, name=name, shape=shape, codec=Sliced(entry, rows[0], shape[0]))
