"""Several stored matrices as one, each below the one before: as a model in memory has them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from spectra.checkpoint.entry import ReadStored, Slab, TensorEntry
from spectra.deferred import Tensor, torch


@dataclass(frozen=True, slots=True)
class Joined:
    """Tensors that are alike but for their rows."""

    pieces: tuple[TensorEntry, ...]
    name: str = "joined"

    @property
    def parts(self) -> Sequence[TensorEntry]:
        """Every stored part of every piece."""
        return tuple(part for piece in self.pieces for part in piece.parts)

    def decode(self, read: ReadStored, slab: Slab) -> Tensor:
        """Return the values of the slab, in the widest dtype of the pieces."""
        values = torch.cat([read(piece, None) for piece in self.pieces])
        return values if slab is None else values[slab[0] : slab[1]]

    def nudge(self, main: Tensor) -> None:  # noqa: ARG002 - of the protocol
        """Return nothing: pieces may be of several schemes."""
        return


def joined(name: str, pieces: Sequence[TensorEntry]) -> TensorEntry:
    """Return tensors as one of another name; of a single one itself.

    Args:
        name: Tells it from all others of its checkpoint.
        pieces: In the order of their rows.
    """
    first = pieces[0]
    if len(pieces) == 1:
        return first
    dtypes = {piece.dtype for piece in pieces}
    shape = sum(piece.shape[0] for piece in pieces), *first.shape[1:]
    dtype = dtypes.pop() if len(dtypes) == 1 else "F32"
    return replace(first, name=name, dtype=dtype, shape=shape, codec=Joined(tuple(pieces)))
