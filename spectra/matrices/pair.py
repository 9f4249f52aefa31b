"""A base matrix and what it became."""

from dataclasses import dataclass, replace
from typing import Literal

from spectra.checkpoint.codecs.composed import formed
from spectra.deferred import Tensor, torch
from spectra.matrices.layout import Part
from spectra.matrices.view import View

Formed = Literal["", "lengths", "rows", "method"]
"""By what values were computed that are not stored: DoRA's lengths of outputs, new rows of an
embedding, another method."""


@dataclass(frozen=True, slots=True)
class LowRank:
    """An update `left @ right`, never formed unless asked for."""

    left: Tensor  # rows x rank, the scale folded in
    right: Tensor  # rank x cols

    def of(self, part: Part) -> "LowRank":
        """Return the update of one part of a stored matrix: rows = outputs, cols = inputs.

        Args:
            part: Of the stored matrix that this updates, or of the one expert of a stack.
        """
        left, right = self.left, self.right
        if part.block is not None:
            left = left[part.block[0] : part.block[1]]
        if part.transposed:
            left, right = right.mT, left.mT
        left = part.rows.of(left) if part.rows else left
        if part.head is None:
            return LowRank(left, right)
        along = part.head.axis == 0
        return LowRank(
            part.head.of(left) if along else left, right if along else part.head.of(right)
        )

    def formed(self) -> Tensor:
        """Return the product, each entry a sum in float64, as wide as the factors."""
        return formed(self.left, self.right)


@dataclass(frozen=True, slots=True)
class Product:
    """One matrix that is stored as two factors; who knows them need not form it."""

    view: View
    factors: LowRank

    @property
    def values(self) -> Tensor:
        """The matrix, formed at every call."""
        return self.factors.formed()

    @property
    def rank(self) -> int:
        """The most that its rank can be, by construction."""
        rows, inner = self.factors.left.shape
        return min(rows, inner, self.factors.right.shape[1])


@dataclass(frozen=True, slots=True)
class Factors:
    """What an adapter stores of an update, of which a merge may have made another one."""

    product: LowRank  # B and A, without the scale
    scale: float
    rank: int
    dtype: "torch.dtype"  # of both as stored; the narrower of two
    turned: LowRank | None = None  # the transpose, where that fits too
    other: LowRank | None = None
    """Of an expert of a stack: what a reader takes who has lora_B's columns expert by expert."""
    lengths: LowRank | None = None
    """DoRA's, as what is multiplied with each entry over the norm: one of its sides is ones."""

    def of(self, part: Part, device: str) -> "Factors":
        """Return those of one part of a stored matrix, as `LowRank.of` does."""

        def cut(one: LowRank) -> LowRank:
            update = one.of(part)
            return LowRank(update.left.to(device), update.right.to(device))

        return replace(
            self,
            product=cut(self.product),
            turned=self.turned and cut(self.turned),
            other=self.other and cut(self.other),
            lengths=self.lengths and cut(self.lengths),
        )


@dataclass(frozen=True, slots=True)
class Quantised:
    """What a codec may have moved each value by."""

    name: str  # the codec's
    steps: Tensor  # half of the distance to the next value that it has; rows x cols


@dataclass(frozen=True, slots=True)
class Merge:
    """What a method's own merge makes of a base, where it rounds on the way."""

    dtype: "torch.dtype"  # in which it is done
    values: Tensor  # float64, before they are stored
    slack: Tensor  # how far the order of sums may have moved each

    def within(self, part: Part, device: str) -> "Merge":
        """Return that of one part of a stored matrix."""
        values, slack = (part.within(one.to(device)) for one in (self.values, self.slack))
        return Merge(self.dtype, values, slack)


@dataclass(frozen=True, slots=True)
class Pair:
    """One matrix before and after, as stored: rows = outputs, cols = inputs."""

    view: View  # of the base
    base: Tensor
    tuned: Tensor | LowRank | None  # new values, an update to add, or None: unchanged
    tuned_dtype: str  # as stored; of the base where an update is added
    base_codec: Quantised | None = None  # None: the values are as stored
    tuned_codec: Quantised | None = None
    formed: Formed = ""  # by what tuned values were computed from the base's as they are
    factors: Factors | None = None  # of an adapter that is looked for in a merged model
    product: LowRank | None = None  # the base's stored factors, where it has such
    merges: tuple[Merge, ...] = ()  # of a method that is looked for in a merged model

    def tuned_product(self) -> Product | None:
        """Return what an update makes of a base that is stored as factors, as factors."""
        if self.product is None or isinstance(self.tuned, Tensor):
            return None
        sides = [self.product, *([self.tuned] if self.tuned is not None else [])]
        dtype = torch.promote_types(self.product.left.dtype, sides[-1].left.dtype)
        left = torch.cat([one.left.to(dtype) for one in sides], dim=1)
        return Product(self.view, LowRank(left, torch.cat([one.right.to(dtype) for one in sides])))

    def tuned_exact(self) -> Tensor:
        """Return the tuned values, an update added in float64."""
        if self.tuned is None:
            return self.base
        if isinstance(self.tuned, LowRank):
            exact = self.tuned.left.double(), self.tuned.right.double()
            return self.base.double().addmm(*exact)
        return self.tuned

    def delta(self) -> Tensor:
        """Return tuned minus base in float32, or float64 where either is stored so."""
        if isinstance(self.tuned, LowRank):
            return self.tuned.left @ self.tuned.right
        tuned = self.base if self.tuned is None else self.tuned
        delta = widened(tuned) - widened(self.base)
        if delta.dtype != torch.float64 and not delta.isfinite().all():
            return tuned.double() - self.base.double()  # entries near float32's largest
        return delta


def widened(tensor: Tensor) -> Tensor:
    """Return float64 as it is, everything else as float32."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
