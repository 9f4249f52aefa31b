"""Weights that were rotated before they were stored, turned back."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from spectra.checkpoint.entry import ReadStored, Slab, TensorEntry
from spectra.deferred import Tensor, torch

SYLVESTER = ((1, 1), (1, -1))
REGULAR = ((1, 1, 1, -1), (1, 1, -1, 1), (1, -1, 1, 1), (-1, 1, 1, 1))
"""Of four, all rows of one sum: what ConvRot takes (arXiv:2512.03673)."""

PIECE = 1 << 20  # entries turned at once

Seed = tuple[tuple[int, ...], ...]


def is_power(size: int, seed: Seed) -> bool:
    """Say whether a matrix of this size is a power of a seed."""
    while size > 1 and size % len(seed) == 0:
        size //= len(seed)
    return size == 1


@dataclass(frozen=True, slots=True)
class Rotation:
    """An orthogonal matrix that undoes another, block by block along one axis."""

    size: int  # of a block
    seed: Seed = SYLVESTER  # of which the matrix is a power, where it is not stored
    rows: bool = False  # of the first axis; else of the last
    matrix: TensorEntry | None = None  # [size, size], entries 1 and -1
    places: TensorEntry | None = None  # by which its rows and columns are put in order
    transposed: bool = False  # values times the matrix's transpose, not the matrix

    @property
    def parts(self) -> tuple[TensorEntry, ...]:
        """What of it is stored."""
        return tuple(part for part in (self.matrix, self.places) if part is not None)

    def undo(self, values: Tensor, read: ReadStored) -> Tensor:
        """Return values [..., n] with the rotation of their runs along the last axis undone.

        Computed in float64, so that the result is rounded once, as stored values are.
        """
        stored = self._stored(read)
        runs = values.reshape(-1, self.size)
        found = torch.empty_like(runs)
        step = max(1, PIECE // self.size)
        for into, piece in zip(found.split(step), runs.split(step), strict=True):
            into.copy_(self._times(piece.double(), stored))
        return found.reshape(values.shape)

    def _stored(self, read: ReadStored) -> "Tensor | None":
        """Return the matrix that lies in the file, normed; None: a power of the seed."""
        if self.matrix is None:
            return None
        stored = read(self.matrix, None).double() / math.sqrt(self.size)
        if self.places is not None:
            places = read(self.places, None).long()
            stored = stored[places][:, places]
        return stored.T if self.transposed else stored

    def _times(self, runs: Tensor, stored: "Tensor | None") -> Tensor:
        if stored is not None:
            return runs @ stored
        from spectra.checkpoint.codecs import hadamard  # noqa: PLC0415 - needs torch

        return hadamard.turned(runs, self.seed, self.size)


@dataclass(frozen=True, slots=True)
class Rotated:
    """The values of another entry with rotations undone, the last of them first.

    Source:
        `apply_transform_weight` of compressed-tensors 0.20; `_rotate_weight` of comfy-kitchen
        0.2.40.
    """

    inner: TensorEntry
    rotations: tuple[Rotation, ...]  # in the order in which they are undone

    @property
    def name(self) -> str:
        """The scheme's own name, and that it was rotated."""
        codec, dtype = self.inner.codec, self.inner.dtype
        return f"{codec.name}-rotated" if codec else f"rotated-{dtype.lower()}"

    @property
    def parts(self) -> Sequence[TensorEntry]:
        """The parts of the values, and matrices that are stored."""
        return (
            *self.inner.parts,
            *(part for rotation in self.rotations for part in rotation.parts),
        )

    def decode(self, read: ReadStored, slab: Slab) -> Tensor:
        """Return the values as float32."""
        codec = self.inner.codec
        early = None if any(rotation.rows for rotation in self.rotations) else slab
        decode = codec.decode if codec is not None else lambda read, slab: read(self.inner, slab)
        values = decode(read, early).float()
        for rotation in self.rotations:
            if not rotation.rows or values.ndim == 1:
                values = rotation.undo(values, read)
            else:
                values = rotation.undo(values.mT.contiguous(), read).mT
        return values if slab is None or early is not None else values[slab[0] : slab[1]]

    def nudge(self, main: Tensor) -> "Tensor | None":
        """Return the neighbours of what is stored: turning back keeps the size of an error."""
        if self.inner.codec is not None:
            return self.inner.codec.nudge(main)
        from spectra.checkpoint.codecs import numbers  # noqa: PLC0415 - needs torch

        return numbers.flip_last_places(main)
