"""How the bytes of a GGUF tensor become the values that its model has."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from types import ModuleType

from spectra.checkpoint.entry import FLOATING, ReadStored, Slab, TensorEntry, torch_dtype
from spectra.checkpoint.gguf.header import BLOCK_BYTES
from spectra.deferred import Tensor, torch
from spectra.errors import CheckpointError

DECODED = frozenset([
    "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
    "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS",
    "TQ1_0", "TQ2_0", "MXFP4", "NVFP4",
])  # fmt: skip
"""Types that the library of the format turns into float32."""

LOWEST = {
    "Q4_0": (2, 18, 0x11), "Q4_1": (4, 20, 0x11), "Q5_0": (6, 22, 0x11), "Q5_1": (8, 24, 0x11),
    "Q8_0": (2, 34, 0x01), "Q2_K": (16, 80, 0x55), "Q3_K": (32, 96, 0x55), "Q4_K": (16, 144, 0x11),
    "Q5_K": (48, 176, 0x11), "Q6_K": (0, 128, 0x11), "IQ4_NL": (2, 18, 0x11),
    "IQ4_XS": (8, 136, 0x11), "TQ2_0": (0, 64, 0x55), "MXFP4": (1, 17, 0x11),
    "NVFP4": (4, 36, 0x11),
}  # fmt: skip
"""Of a block: from and to which byte the lowest bits of its codes lie, and which bits they are.

Other types hold numbers of vectors of a code book, or ternary digits: neighbours there are not
one step away.
"""

BLOCK = 1 << 20  # values decoded at once: 4 MiB, so that the result alone is large


@dataclass(frozen=True, slots=True)
class Order:
    """Entries of an axis that the file holds in another order than the model.

    The axis falls into equal blocks. Of each block, `start` to `stop` lie in the file as one
    piece after another, piece i as `groups` runs of `widths[i]`; the model has them group
    by group, of each piece one run.
    """

    blocks: int
    start: int
    stop: int
    groups: int
    widths: tuple[int, ...]

    def fits(self, extent: int) -> bool:
        """Say whether an axis of this extent can be so."""
        if self.blocks < 1 or self.groups < 1 or min(self.widths, default=0) < 1:
            return False
        inside = 0 <= self.start <= self.stop and self.blocks * self.stop <= extent
        whole = extent % self.blocks == 0
        return whole and inside and self.stop - self.start == self.groups * sum(self.widths)

    def index(self, extent: int) -> Tensor:
        """Return for each place of the model's axis its place in the file's."""
        places = torch.arange(extent).view(self.blocks, -1)
        pieces = places[:, self.start : self.stop].split(
            [self.groups * width for width in self.widths], dim=1
        )
        runs = [
            piece.unflatten(1, (self.groups, width))
            for piece, width in zip(pieces, self.widths, strict=True)
        ]
        places[:, self.start : self.stop] = torch.cat(runs, dim=2).flatten(1)
        return places.flatten()


@dataclass(frozen=True, slots=True)
class GgufCodec:
    """One tensor of a GGUF file that must be decoded, put in order, or both."""

    kind: str  # the format's word for its type
    shape: tuple[int, ...]  # of the values as the model has them
    stored: TensorEntry  # its bytes, a row in each row; or its values where the type is plain
    width: int  # values in a row of the file
    rows: Order | None = None  # of a matrix
    columns: Order | None = None
    transposed: bool = False  # the last two axes
    scale: TensorEntry | None = None  # one number for the whole tensor, or for one expert

    @property
    def name(self) -> str:
        """The type as results show it, such as `gguf-q4_k`."""
        return f"gguf-{self.kind.lower()}"

    @property
    def parts(self) -> Sequence[TensorEntry]:
        """The bytes and the scale."""
        return (self.stored,) if self.scale is None else (self.stored, self.scale)

    def decode(self, read: ReadStored, slab: Slab) -> Tensor:
        """Return the values of the slab: float32, or the stored dtype where that is plain.

        Raises:
            CheckpointError: The Python package gguf is not installed.
        """
        stored = self.stored.shape
        if self.transposed or len(stored) < 2 or stored[0] != self.shape[0]:
            values = self._rows(read, None).reshape(*stored[:-1], self.width)
            values = values.mT if self.transposed else values
            values = values.reshape(self.shape)
            return values if slab is None else values[slab[0] : slab[1]]
        count = self.shape[0] if slab is None else slab[1] - slab[0]
        return self._rows(read, slab).reshape(count, *self.shape[1:])

    def nudge(self, main: Tensor) -> "Tensor | None":
        """Return the bytes with the lowest bit of each code turned."""
        if self.kind not in LOWEST:
            return None
        from spectra.checkpoint.codecs import numbers  # noqa: PLC0415 - needs torch

        first, last, bits = LOWEST[self.kind]
        block = BLOCK_BYTES[self.kind]
        pattern = bytes(first) + bytes([bits]) * (last - first) + bytes(block - last)
        return numbers.xor_pattern(main, pattern)

    def _rows(self, read: ReadStored, slab: Slab) -> Tensor:

        order = None
        if self.rows is not None:
            order = self.rows.index(self.stored.shape[0])
            if slab is not None:
                order = order[slab[0] : slab[1]]
                slab = (int(order.min()), int(order.max()) + 1) if len(order) else (0, 0)
                order = order - slab[0]
        raw = read(self.stored, slab)
        raw = raw.reshape(prod(raw.shape[:-1]), raw.shape[-1])
        count, width = len(raw) if order is None else len(order), self.width
        columns = None if self.columns is None else self.columns.index(width)
        plain = self.kind in FLOATING
        dtype = torch_dtype(self.kind) if plain else torch.float32
        values = torch.empty(count, width, dtype=dtype)
        step = max(1, BLOCK // max(1, width))
        for first in range(0, count if width else 0, step):
            last = min(count, first + step)
            piece = raw[first:last] if order is None else raw[order[first:last]]
            decoded = piece if plain else dequantized(piece, self.kind)
            values[first:last] = decoded if columns is None else decoded[:, columns]
        if self.scale is not None:
            values *= read(self.scale, None)
        return values


def dequantized(packed: Tensor, kind: str) -> Tensor:
    """Return rows of packed bytes as float32, as the library of the format reads them.

    Raises:
        CheckpointError: The library is not installed.
    """
    library = gguf_library()
    import numpy as np  # noqa: PLC0415 - as above

    with np.errstate(all="ignore"):  # infinite scales are the file's; kernels refuse them
        found = library.quants.dequantize(packed.numpy(), library.GGMLQuantizationType[kind])
    return torch.from_numpy(found)


def gguf_library() -> ModuleType:
    """Return the Python package gguf.

    Raises:
        CheckpointError: It is not installed.
    """
    try:
        return importlib.import_module("gguf")
    except ModuleNotFoundError:
        raise CheckpointError(
            "GGUF files are read with the Python package gguf, which is not installed. Install "
            "it: pip install gguf."
        ) from None
