"""How many directions of a change stand above its rounding, entry by entry.

A change D = W1 - W0 of stored weights is U + E: what was meant, and what rounding made of
it. E has independent entries of known standard deviations s_ij at most. Where they differ
much over rows and columns, such as in a base with one row 50 times larger, one level for the
whole matrix hides U. But rank does not change under scaling of rows and columns, so D is
scaled first, by factors that make every row and every column of s_ij alike (Sinkhorn). Then
||E|| is at most about (largest row norm + largest column norm) of s (Bandeira and van Handel),
and never much more than the same of D itself: where an update is far below the spacing of
the numbers, few entries move, and rounding is smaller than its bound says.

Rounding is not noise altogether. Where the base lies on the same grid as the tuned values,
round(W0 + U) - W0 is a function of U's entries, odd and steep, and its cubic part is of low
rank where U is: x^3 (y^3)^T beside x y^T. It was measured at 0.11 s sqrt(m n) for rank 1,
less for every higher rank, as the terms are many. `COHERENT` is beyond it.

Source:
    Bandeira and van Handel 2016, arXiv:1408.6185, theorem 1.1; Sinkhorn and Knopp 1967,
    Concerning nonnegative matrices and doubly stochastic matrices.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.kernels.rounding import EPS64
from spectra.kernels.singular import largest_entry, power_of_two_near

ROUNDS = 3  # of scaling rows, then columns
ALIKE = 1.3  # largest over mean level of rows and columns at which none are scaled
GAP = 1.3  # an update's last singular value over the floor, with none in between
DECAY = 3.0  # the i-th singular value of a full fine-tune may fall as i to this power
RECENT = 4  # steps from one singular value to the next, over which a steeper fall is taken
LOUD = 1.2  # energy of what is not above the floor over that of rounding, from which more is in it
COHERENT = 0.15  # of s sqrt(m n)
WORST = 0.32  # likewise, whatever the base
STEEP = 1.5  # last direction of an update over the first that its rounding repeats, at least
APART = 4.0  # how far above that a direction lies that is certainly the update's
FEW = 4  # directions whose cubic part is of low rank itself
FINE = 1e3  # norm over the floor, up to which a float32 Gram matrix counts right
SKETCH = 48  # leading directions looked at one by one
PASSES = 4  # over the Gram matrix, to find them


class Resolution(NamedTuple):
    """What of a change rounding cannot have made."""

    rank: int
    clear: bool  # whether nothing lies near the floor, so that no direction may be hidden


def resolve(
    delta: Float[Tensor, "rows cols"],
    deviation: Float[Tensor, "rows cols"],
    sigma: Float[Tensor, " rank"],
    *,
    coherent: bool,
) -> Resolution:
    """Count the directions of a change above its rounding.

    Args:
        delta: The change.
        deviation: Standard deviation of what rounding adds to each entry; float32 or wider.
        sigma: All singular values of the change, descending.
        coherent: Whether both sides lie on one grid, so that rounding repeats the update.
    """
    scale = power_of_two_near(max(largest_entry(delta), largest_entry(deviation)))
    if not scale:
        return Resolution(0, clear=True)
    parts = _Parts((delta / scale).square_(), (deviation / scale).square_())
    rows, cols = delta.shape
    slack = 1.0 + 2.0 * min(rows, cols) ** (-2 / 3)  # Tracy and Widom's, for small matrices
    floor = slack * parts.bound()
    values = (sigma / scale).double()
    known = max(rows, cols) * EPS64  # of the largest singular value
    floor = max(floor, known * float(values[0]))
    rank = int((values > floor).sum())
    level = math.sqrt(float(parts.variance.mean()))
    least, taken, left = None, rank, float(values[rank:].square().sum())
    if 2 * rank < min(rows, cols) and parts.differ():
        parts.balance()
        floor, level = slack * parts.bound(), 1.0
        scaled = (delta / scale).double().mul_(parts.rows.sqrt().unsqueeze(1))
        least, values, taken, left = _spectrum(scaled.mul_(parts.cols.sqrt()), floor)
        floor = max(floor, known * float(values[0]))
        rank = least(floor)
    repeated = COHERENT * level * math.sqrt(rows * cols)
    if coherent and rank and repeated > floor:
        sure = int((values > APART * repeated).sum())
        if 0 < sure <= FEW and sure < rank and int((values > repeated).sum()) == sure:
            return Resolution(sure, clear=float(values[sure - 1]) > _gap(values, sure, floor))
        for few in range(1, min(rank, len(values))):
            most = WORST / few**0.75 * level * math.sqrt(rows * cols)
            if floor < float(values[few]) <= min(most, float(values[few - 1]) / STEEP):
                return Resolution(few, clear=False)
    beside = left - float(values[taken:rank].square().sum())
    if rank <= len(values) and beside > LOUD * parts.total():
        return Resolution(rank, clear=False)
    gap = _gap(values, rank, floor)
    if least is not None and rank > SKETCH // 2:
        return Resolution(rank, clear=least(gap) == rank)
    return Resolution(rank, clear=rank == 0 or float(values[rank - 1]) > gap)


def _gap(values: Float[Tensor, " some"], rank: int, floor: float) -> float:
    """Return what the last direction above the floor must exceed for none to be hidden.

    Singular values that fall from one to the next as they did so far would put the one after
    it below the floor unseen: of a full fine-tune whose spectrum fades, those above are no
    adapter's.
    """
    fall = math.pow(1.0 + 1.0 / max(rank, 1), DECAY)
    last = min(rank, len(values)) - 1
    for back in {last, min(last, RECENT)} - {0, -1}:
        end = float(values[last]) if last == rank - 1 else floor
        fall = max(fall, math.pow(float(values[last - back]) / end, 1.0 / (rank - 1 - last + back)))
    return GAP * fall * floor


class _Parts:
    """The squares of a change and of its rounding, and weights of rows and columns."""

    def __init__(self, energy: Tensor, variance: Tensor) -> None:
        self.energy, self.variance = energy, variance
        self.rows = energy.new_ones(len(energy), dtype=torch.float64)
        self.cols = energy.new_ones(energy.shape[1], dtype=torch.float64)

    def differ(self) -> bool:
        mean = float(self.variance.mean())
        most = max(float(self.variance.mean(dim=dim).max()) for dim in (0, 1))
        return most > ALIKE**2 * mean

    def balance(self) -> None:
        """Choose weights under which every row and every column is rounded alike, by 1."""
        tiny = torch.finfo(self.variance.dtype).tiny
        for _ in range(ROUNDS):
            self.rows = (_times(self.variance, self.cols) / len(self.cols)).clamp_(min=tiny)
            self.rows = 1.0 / self.rows
            self.cols = (_times(self.variance.mT, self.rows) / len(self.rows)).clamp_(min=tiny)
            self.cols = 1.0 / self.cols

    def bound(self) -> float:
        """Return about the largest singular value of the rounding, in what moved at all."""
        found = [self._weighed(squares) for squares in (self.variance, self.energy)]
        rows, cols = (torch.minimum(*sides) for sides in zip(*found, strict=True))
        return math.sqrt(float(rows.max())) + math.sqrt(float(cols.max()))

    def total(self) -> float:
        return float(self._weighed(self.variance)[0].sum())

    def _weighed(self, squares: Tensor) -> tuple[Tensor, Tensor]:
        return _times(squares, self.cols) * self.rows, _times(squares.mT, self.rows) * self.cols


def _times(squares: Tensor, weights: Float[Tensor, " size"]) -> Float[Tensor, " other"]:
    """Return weighted sums of squares, in the squares' precision, as float64."""
    scale = float(weights.max())
    return (squares @ (weights / scale).to(squares.dtype)).double() * scale


def _spectrum(
    matrix: Float[Tensor, "rows cols"], floor: float
) -> tuple[Callable[[float], int], Float[Tensor, " few"], int, float]:
    """Return how many singular values exceed a level, and the leading ones from below.

    And how many of these were taken out, and the energy of what is left.

    Those well above the floor are found by powers of Y Y^T, and taken out: their size must not
    drown the rest in rounding. By Sylvester's law of inertia as many eigenvalues of the rest's
    G = Y Y^T exceed x as pivots of G - x I = L D L^T are positive, at a fraction of the cost of
    all singular values.
    """
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT
    block = wide[:, :: max(1, wide.shape[1] // SKETCH)][:, :SKETCH]
    for _ in range(PASSES):  # a power at a time: two at once would drown small directions
        block = wide @ torch.linalg.qr(wide.mT @ torch.linalg.qr(block).Q).Q
    basis = torch.linalg.qr(block).Q
    turn, leading, _ = torch.linalg.svd(basis.mT @ wide, full_matrices=False)
    taken = leading > APART * floor
    basis = basis @ turn[:, taken]
    rest = wide - basis @ (basis.mT @ wide)
    left = float(rest.norm())
    if left < FINE * floor:
        rest = rest.float()
    gram = (rest @ rest.mT).double()

    def count(least: float) -> int:
        shifted = gram.clone()
        shifted.diagonal().sub_(least * least)
        if gram.is_cuda:
            found = int((torch.linalg.eigvalsh(shifted) > 0).sum())
        else:
            factor, pivots, _ = torch.linalg.ldl_factor_ex(shifted)
            # Two rows pivoted together have one positive eigenvalue and one negative.
            paired = pivots < 0
            found = int((factor.diagonal()[~paired] > 0).sum()) + int(paired.sum()) // 2
        return found + int((leading[taken] > least).sum())

    return count, leading, int(taken.sum()), left * left
