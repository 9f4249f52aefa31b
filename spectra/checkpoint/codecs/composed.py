"""Weights that are stored as what they are made of: two thin factors, and sparse entries beside."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Final

from spectra.checkpoint.codecs.parts import corrupt
from spectra.checkpoint.entry import COMPOSED, ReadStored, Slab, TensorEntry
from spectra.deferred import Tensor, torch

PANEL: Final = 1 << 20  # entries that are multiplied in float64 at a time


@dataclass(frozen=True, slots=True)
class Product:
    """`scale * left @ right`, which those who know it need not form."""

    left: TensorEntry  # rows x rank
    right: TensorEntry  # rank x cols
    scale: float = 1.0
    learnt: TensorEntry | None = None  # a number whose tanh multiplies the scale
    turned: bool = False  # the model holds the transpose
    name: str = "low-rank"

    @property
    def rank(self) -> int:
        """The most that its rank can be, by construction."""
        return min(self.left.shape[0], self.left.shape[1], prod(self.right.shape[1:]))

    @property
    def parts(self) -> Sequence[TensorEntry]:
        """Every stored part of both."""
        more = [] if self.learnt is None else [self.learnt]
        return tuple(part for one in (self.left, self.right, *more) for part in one.parts)

    def factors(self, read: ReadStored) -> "tuple[Tensor, Tensor]":
        """Return both in the order and orientation of the model, the scale folded into the first.

        In float32, or float64 where they are stored so.

        Args:
            read: As for `decode`.
        """
        left, right = (_wide(read(one, None).flatten(1)) for one in (self.left, self.right))
        scale = self.scale
        if self.learnt is not None:
            scale *= float(read(self.learnt, None).double().tanh())
        left = left * scale if scale != 1.0 else left
        return (right.mT, left.mT) if self.turned else (left, right)

    def decode(self, read: ReadStored, slab: Slab) -> Tensor:
        """Return the values of the slab: products in float64, rounded to the factors' own width."""
        return formed(*self.factors(read), slab)

    def nudge(self, main: Tensor) -> None:  # noqa: ARG002 - of the protocol
        """Return nothing: what is stored is not rounded to a grid of its own."""
        return


@dataclass(frozen=True, slots=True)
class Blocks:
    """Matrices along the diagonal of one, with zeros beside them."""

    pieces: tuple[TensorEntry, ...]
    name: str = "block-diagonal"

    @property
    def parts(self) -> Sequence[TensorEntry]:
        """Every stored part of every block."""
        return tuple(part for piece in self.pieces for part in piece.parts)

    def decode(self, read: ReadStored, slab: Slab) -> Tensor:
        """Return the values of the slab."""
        values: Tensor = torch.block_diag(*(read(piece, None) for piece in self.pieces))
        return values if slab is None else values[slab[0] : slab[1]]

    def nudge(self, main: Tensor) -> None:  # noqa: ARG002 - of the protocol
        """Return nothing: blocks may be of several schemes."""
        return


@dataclass(frozen=True, slots=True)
class Sparse:
    """Entries that are not zero, and where they stand, row after row; with a product where one is.

    Source:
        Han et al. 2024, arXiv:2406.02214 (SLTrain): W = (alpha / r) B A, to which values are
        added at the places of `sparse_index` of the flattened W.
    """

    index: TensorEntry  # places in [0, rows x cols)
    value: TensorEntry
    shape: tuple[int, int]
    product: Product | None = None
    name: str = "sparse"

    @property
    def parts(self) -> Sequence[TensorEntry]:
        """Every stored part."""
        more = () if self.product is None else self.product.parts
        return (*self.value.parts, self.index, *more)

    def decode(self, read: ReadStored, slab: Slab) -> Tensor:
        """Return the values of the slab, in float32 or float64.

        Raises:
            CheckpointError: A place lies outside.
        """
        places, entries = read(self.index, None).flatten().long(), _wide(read(self.value, None))
        if len(places) and not 0 <= int(places.min()) <= int(places.max()) < prod(self.shape):
            got = f"places from {int(places.min())} to {int(places.max())}"
            raise corrupt(self.index, got, f"0 to {prod(self.shape) - 1}")
        if self.product is None:
            values = torch.zeros(self.shape, dtype=entries.dtype)
        else:
            values = formed(*self.product.factors(read), None)
            values = values.to(torch.promote_types(values.dtype, entries.dtype))
        values.view(-1).index_add_(0, places, entries.flatten().to(values.dtype))
        return values if slab is None else values[slab[0] : slab[1]]

    def nudge(self, main: Tensor) -> None:  # noqa: ARG002 - of the protocol
        """Return nothing, as of a product."""
        return


def made_of(entry: TensorEntry) -> bool:
    """Say whether a weight is put together of factors or sparse entries."""
    return entry.codec is not None and entry.codec.name in COMPOSED


def rank_of(entry: TensorEntry) -> int | None:
    """Return the most that the rank of a weight's product can be; None where it has none."""
    codec = entry.codec
    made = codec.product if isinstance(codec, Sparse) else codec
    return made.rank if isinstance(made, Product) else None


def formed(left: Tensor, right: Tensor, slab: Slab = None) -> Tensor:
    """Return `left @ right`, each entry a sum in float64, some rows at a time."""
    left = left if slab is None else left[slab[0] : slab[1]]
    dtype = torch.promote_types(left.dtype, right.dtype)
    made = torch.empty(len(left), right.shape[1], dtype=dtype, device=left.device)
    wide, step = right.double(), max(1, PANEL // max(right.shape[1], 1))
    for start in range(0, len(left), step):
        made[start : start + step] = left[start : start + step].double() @ wide
    return made


def _wide(values: Tensor) -> Tensor:
    return values.float() if values.element_size() < 4 else values
