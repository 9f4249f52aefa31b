"""One tensor as its header describes it, the dtypes of safetensors, and what a codec is."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from spectra.deferred import Tensor, torch

BITS = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8,
    "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip
"""Every dtype that a header may name, with its width in bits."""

FLOATING = ("F16", "BF16", "F32", "F64")
"""The dtypes whose values are weights as they stand."""

ROUNDOFF = {
    "F64": 2.0**-53, "F32": 2.0**-24, "F16": 2.0**-11, "BF16": 2.0**-8,
    "F8_E4M3": 2.0**-4, "F8_E4M3FNUZ": 2.0**-4, "F8_E5M2": 2.0**-3, "F8_E5M2FNUZ": 2.0**-3,
}  # fmt: skip
"""Half of machine epsilon; what other dtypes round off depends on their scales."""

SMALLEST = {"F16": 2.0**-24}
"""Positive number; of the wider dtypes too small to matter."""

NARROW = ("F16", "BF16")
"""Those that float32 holds and that take half of it."""

STORED = {
    "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "U16": "uint16",
    "I32": "int32", "U32": "uint32", "I64": "int64", "U64": "uint64", "C64": "complex64",
    "F8_E5M2": "float8_e5m2", "F8_E4M3": "float8_e4m3fn", "F8_E8M0": "float8_e8m0fnu",
    "F8_E5M2FNUZ": "float8_e5m2fnuz", "F8_E4M3FNUZ": "float8_e4m3fnuz",
}  # fmt: skip
"""The dtypes that torch has, by its own name; the others are packed, several in a byte."""


def torch_dtype(name: str) -> "torch.dtype":
    """Return the dtype of torch that a file calls so, one of `STORED`."""
    found: torch.dtype = getattr(torch, STORED[name])
    return found


COMPOSED = ("low-rank", "sparse", "low-rank-and-sparse")
"""The names of codecs that put a weight together of what it is made of; nothing rounded it."""

MLX = "mlx"
"""The note of every tensor of a file that MLX wrote."""

Slab: TypeAlias = tuple[int, int] | None
"""Of the first axis, start and stop; None: all of it."""


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """Where one tensor lies: known from a header, before any weight is read."""

    name: str
    dtype: str  # as stored: safetensors' own word, or the format's where it has others
    shape: tuple[int, ...]  # of the values, once decoded
    shard: str  # file name inside the checkpoint
    start: int  # bytes from the start of that file; of the first part where there are several
    stop: int
    codec: "Codec | None" = None  # how stored bytes become values; None: they are the values
    strides: tuple[int, ...] = ()
    """Elements from one entry of each axis to the next, of a view; empty: row after row."""
    note: str = ""  # what the metadata of its file says of its values

    @property
    def parts(self) -> "Sequence[TensorEntry]":
        """Every stored tensor that reading it takes: the codec's parts, or itself."""
        return self.codec.parts if self.codec is not None else (self,)

    @property
    def nbytes(self) -> int:
        """Stored size in bytes, scales and the like included."""
        return sum(part.stop - part.start for part in self.parts)

    def stretch(self, slab: "Slab") -> tuple[int, int]:
        """Return the bytes, start and stop, of a slab of what is stored row after row."""
        if slab is None:
            return self.start, self.stop
        row = (self.stop - self.start) // self.shape[0]
        return self.start + slab[0] * row, self.start + slab[1] * row

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def is_weights(self) -> bool:
        """Say whether reading it gives floating-point values."""
        return self.dtype in FLOATING or self.codec is not None

    @property
    def is_quantised(self) -> bool:
        """Say whether values are decoded from fewer than 16 bits each, not only put in order."""
        codec = self.codec
        small = codec is not None and 8 * self.nbytes < 16 * self.numel
        return small and codec is not None and codec.name not in COMPOSED

    @property
    def rate_roundoff(self) -> float:
        """About what a scheme of so many bits a value moves one, over its row's root mean square.

        With b bits, twice 2^-b: somewhat more than the distortion that a good code of that rate
        leaves. A codec that knows its own step tells it exactly, by `nudge`.

        Source:
            Cover and Thomas, Elements of Information Theory, 10.3.2 (rate and distortion of
            Gaussian values).
        """
        return 2.0 * math.exp2(-8.0 * self.nbytes / max(self.numel, 1))

    def slab_bytes(self, slab: Slab) -> int:
        """Return about the stored bytes that reading a part of the first axis takes."""
        if slab is None or not self.shape or not self.shape[0]:
            return self.nbytes
        return -(-self.nbytes * (slab[1] - slab[0]) // self.shape[0])


def shards_of(entry: TensorEntry) -> set[str]:
    """Return the files that reading a tensor takes, those of its scales and the like included."""
    return {part.shard for part in entry.parts}


def extent(shape: Sequence[int], stride: Sequence[int]) -> int:
    """Return how many elements lie from the first of a view to its last; 0 where it has none."""
    if 0 in shape:
        return 0
    return 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))


def in_order(shape: Sequence[int], stride: Sequence[int]) -> bool:
    """Say whether a view's elements lie row after row without a gap."""
    expected = 1
    for size, step in zip(reversed(shape), reversed(stride), strict=True):
        if size != 1 and step != expected:
            return False
        expected *= size
    return True


ReadStored: TypeAlias = "Callable[[TensorEntry, Slab], Tensor]"


class Codec(Protocol):
    """How one tensor's stored parts become its values; a frozen dataclass of plain data.

    A codec never holds weights. It is asked for a slab so that of a stack of experts only
    the one asked for is read.
    """

    @property
    def name(self) -> str:
        """The scheme's own name as results show it, such as `bitsandbytes-nf4`."""

    @property
    def parts(self) -> Sequence[TensorEntry]:
        """Every stored tensor that decoding reads, the one with the weights first."""

    def decode(self, read: ReadStored, slab: Slab) -> Tensor:
        """Return the values of the slab in a floating dtype, the shape that of the entry.

        Args:
            read: Returns a stored tensor, or a slab of its own first axis, in its stored
                dtype; dtypes that torch lacks come as bytes, shape [nbytes].
            slab: Of the first axis of the values; None: all.

        Raises:
            CheckpointError: The stored parts do not fit each other.
        """

    def nudge(self, main: Tensor) -> "Tensor | None":
        """Return the first part, or a slab of it, with every code one step away.

        What it then decodes to tells how coarse the grid is on which each value lies. None
        where the stored values are the values, or where a step is not known.
        """


@dataclass(frozen=True, slots=True)
class Skipped:
    """A tensor that is not analysed, and why; nothing vanishes silently."""

    tensor: str
    reason: str
    model: str = ""  # of several, which
