"""A base matrix and what it became."""

from dataclasses import dataclass

from torch import Tensor

from spectra.matrices.layout import Part
from spectra.matrices.view import View


@dataclass(frozen=True, slots=True)
class LowRank:
    """An update `left @ right`, never formed unless asked for."""

    left: Tensor  # rows x rank, the scale folded in
    right: Tensor  # rank x cols

    def of(self, part: Part) -> "LowRank":
        """Return the update of one part of a fused matrix; cutting outputs cuts `left`."""
        left = self.left
        if part.block is not None:
            left = left[part.block[0] : part.block[1]]
        return LowRank(part.rows.of(left) if part.rows else left, self.right)


@dataclass(frozen=True, slots=True)
class Pair:
    """One matrix before and after, rows = outputs, cols = inputs, float32 or wider."""

    view: View  # of the base
    base: Tensor
    tuned: Tensor | LowRank | None  # new values, an update to add, or None: unchanged
    tuned_dtype: str  # as stored; of the base where an update is added

    def tuned_exact(self) -> Tensor:
        """Return the tuned values, an update added in float64."""
        if self.tuned is None:
            return self.base
        if isinstance(self.tuned, LowRank):
            exact = self.tuned.left.double(), self.tuned.right.double()
            return self.base.double().addmm(*exact)
        return self.tuned
