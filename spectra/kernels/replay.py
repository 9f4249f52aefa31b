"""Whether a merge is a sum of base and update to the last bit, and in which arithmetic."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from jaxtyping import Float

from spectra.deferred import Tensor, torch
from spectra.kernels.rounding import BF16, F16, Grid

UNIT = 2.0**-24  # unit roundoff of float32
SIDE = 64  # rows and columns on which most ways fail
WORDS = {"BF16": "bfloat16", "F16": "float16"}

Matrix = Float[Tensor, "rows cols"]
Left = Float[Tensor, "rows r"]
Right = Float[Tensor, "r cols"]


@dataclass(frozen=True, slots=True)
class Steps:
    """Where the sum of a base and an update is rounded before it is stored; None: nowhere."""

    base: Grid | None = None  # the base, before anything is added
    update: Grid | None = None  # the scaled update, before it is added
    each: bool = False  # and B A before it was scaled
    factors: Grid | None = None  # B and A, before they were multiplied

    @property
    def text(self) -> str:
        """What of a merge was rounded to what, in words; such texts are values of results."""
        told = "summed in float32"
        if self.update is not None:
            word = WORDS[self.update.name]
            told = f"update rounded to {word}, then summed"
            if self.each:
                told = f"rounded to {word} at each step"
        first = [(grid, what) for grid, what in ((self.factors, "factors"), (self.base, "base"))
                 if grid is not None]  # fmt: skip
        if not first:
            return told
        named = " and ".join(what for _, what in first)
        return f"{told}, {named} in {WORDS[first[0][0].name]} before"


def ways(grid: Grid, factors: Grid, *, exact: bool) -> Iterator[Steps]:
    """Yield what merges do, the usual first.

    Float32 throughout is what llama.cpp, Unsloth and PEFT with factors in float32 do, the update
    rounded once what PEFT does with `safe_merge`, on experts and with narrow factors on a CPU,
    at each step what it does with those on a GPU, and kohya in a narrow dtype.

    Args:
        grid: On which the merged values lie.
        factors: The dtype of the factors.
        exact: The base lies on that grid.
    """
    narrow = [one for one in (BF16, F16) if one in (grid, factors)]
    bases = (None, grid) if grid in narrow and not exact else (None,)
    updates = [(None, False), *product(narrow, (False, True))]
    starts = (None, grid) if grid in narrow and factors not in narrow else (None,)
    for start, base, (update, each) in product(starts, bases, updates):
        yield Steps(base, update, each, start)


@dataclass(frozen=True, slots=True)
class Merge:
    """A stored matrix, and what it may be a sum of."""

    base: Matrix  # float32 or float64, as are all
    tuned: Matrix
    grid: Grid  # on which the tuned values lie
    factors: Grid  # the dtype of the factors

    def some(self, chosen: Tensor, axis: int = 0) -> "Merge":
        """Return the same of some rows, or of some columns."""
        base, tuned = ((one[chosen] if axis == 0 else one[:, chosen])
                       for one in (self.base, self.tuned))  # fmt: skip
        return Merge(base, tuned, self.grid, self.factors)

    def stored(self, values: Matrix, scale: float, steps: Steps) -> Matrix:
        """Return what is stored of base + scale B A; it never falls as scale B A grows.

        Args:
            values: B A.
            scale: What it is multiplied by.
            steps: What is rounded.
        """
        return self.grid.rounded(self.summed(values, scale, steps))

    def summed(self, values: Matrix, scale: float, steps: Steps) -> Matrix:
        """Return base + scale B A before it is stored."""
        if steps.each and steps.update is not None:
            values = steps.update.rounded(values)
        update = scale * values
        if steps.update is not None:
            update = steps.update.rounded(update)
        base = self.base if steps.base is None else steps.base.rounded(self.base)
        return base + update

    def off(self, left: Left, right: Right, scale: float, steps: Steps) -> int | None:
        """Return how many values are not those that are computed here; None: it is no such sum.

        Sums of a product may be made in any order, so that its last bits differ from machine to
        machine: with |fl(B A) - B A| <= r u |B||A| and rounding that keeps order, each value must
        lie between those that the lowest and the highest product give.

        Args:
            left: B, rows x r.
            right: A, r x cols.
            scale: What B A is multiplied by.
            steps: What is rounded.
        """
        if steps.factors is not None:
            left, right = steps.factors.rounded(left), steps.factors.rounded(right)
        values = left @ right
        off = self.stored(values, scale, steps) != self.tuned
        count = int(off.sum())
        if not count:
            return 0
        slack = (2 * left.shape[1] + 4) * UNIT * (left.abs() @ right.abs())
        one, other = (self.stored(values + sign * slack, scale, steps) for sign in (-1, 1))
        inside = (torch.minimum(one, other) <= self.tuned) & (
            self.tuned <= torch.maximum(one, other)
        )
        return count if bool(inside.all()) else None


def replayed(merge: Merge, left: Left, right: Right, scale: float) -> tuple[Sequence[Steps], int]:
    """Return the ways in which base + scale B A is stored as the tuned values, bit for bit.

    Several may give the same bytes; none is there where it is no such sum.

    Args:
        merge: The matrix.
        left: B, rows x r.
        right: A, r x cols.
        scale: What B A is multiplied by.

    Returns:
        The ways, and the least number of values that the order of sums can have changed.
    """
    exact = torch.equal(merge.grid.rounded(merge.base), merge.base)
    rows, cols = (spread(size, merge.base.device) for size in merge.base.shape)
    first = merge.some(rows).some(cols, 1)
    found: dict[Steps, int] = {}
    for steps in ways(merge.grid, merge.factors, exact=exact):
        if first.off(left[rows], right[:, cols], scale, steps) is None:
            continue
        off = merge.off(left, right, scale, steps)
        if off is not None:
            found[steps] = off
    least = min(found.values(), default=0)
    return [steps for steps, off in found.items() if off == 0 or least > 0], least


def lies_at(merge: Merge, values: Matrix, slack: Matrix) -> int | None:
    """Return how many of the tuned values are not those given; None: some are farther off.

    Args:
        merge: The matrix.
        values: What it may be, before it is stored.
        slack: How far each may be off, such as by the order of sums.
    """
    off = merge.grid.rounded(values) != merge.tuned
    count = int(off.sum())
    low, high = merge.grid.rounded(values - slack), merge.grid.rounded(values + slack)
    inside = (low <= merge.tuned) & (merge.tuned <= high)
    return count if not count or bool(inside.all()) else None


def spread(size: int, device: "torch.device") -> Tensor:
    """Return some places of an axis, from its start to its end."""
    return torch.linspace(0, size - 1, min(size, SIDE), device=device).long()
