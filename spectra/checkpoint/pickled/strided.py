"""Tensors saved as views: transposed, sliced or repeated, so that their bytes are not in order."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from spectra.checkpoint.entry import ReadStored, Slab, TensorEntry

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class View:
    """A view of a storage, of which its span is read: from its first element to its last."""

    name: ClassVar[str] = "strided"

    span: TensorEntry  # one-dimensional
    shape: tuple[int, ...]
    stride: tuple[int, ...]  # elements

    @property
    def parts(self) -> Sequence[TensorEntry]:
        """The span."""
        return (self.span,)

    def decode(self, read: ReadStored, slab: Slab) -> "Tensor":
        """Return the values in order, of a slab of the first axis or all of them."""
        shape, start = self.shape, 0
        if slab is not None:
            shape = (slab[1] - slab[0], *shape[1:])
            start = slab[0] * self.stride[0]
        values = read(self.span, (start, start + extent(shape, self.stride)))
        return values.as_strided(shape, self.stride).contiguous()

    def nudge(self, _main: "Tensor") -> None:
        """Return nothing: the stored values are the values."""


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
