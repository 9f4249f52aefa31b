"""Whether a merge is one of DoRA to the last bit, and in which arithmetic."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float

from spectra.deferred import Tensor, torch
from spectra.kernels.replay import UNIT, WORDS, Left, Matrix, Merge, Right, Steps, spread, ways
from spectra.kernels.rounding import Grid

QUOTIENT = 4 * UNIT  # of a factor, that float32 may round off on the way


@dataclass(frozen=True, slots=True)
class Lengths:
    """What DoRA makes rows, or columns, as long as."""

    values: Float[Tensor, " count"]
    axis: int  # 0: of rows, 1: of columns

    def of(self, chosen: Tensor) -> "Lengths":
        """Return those of some."""
        return replace(self, values=self.values[chosen])


@dataclass(frozen=True, slots=True)
class Way:
    """The arithmetic of one merge."""

    steps: Steps
    narrow: Grid | None = None  # to which all that follows the update is rounded; None: float32

    @property
    def text(self) -> str:
        """What was rounded to what, in words; such texts are values of results."""
        told = replace(self.steps, update=None, each=False).text
        if self.narrow is not None:
            way = f"DoRA rounded to {WORDS[self.narrow.name]} at each step"
        elif self.steps.update is not None:
            way = f"update rounded to {WORDS[self.steps.update.name]}, then DoRA in float32"
            way = way.replace(",", " at each step,") if self.steps.each else way
        else:
            way = "DoRA in float32"
        return told.replace("summed in float32", way, 1)


def dora_ways(merge: Merge, *, exact: bool) -> Iterator[Way]:
    """Yield what PEFT does: types are promoted, so that two of one kind round at each step.

    Args:
        merge: Tells the dtypes.
        exact: The base lies on the grid of the merged values.
    """
    for steps in ways(merge.grid, merge.factors, exact=exact):
        yield Way(steps)
        if steps.update is merge.grid and merge.grid.name in WORDS:
            yield Way(steps, merge.grid)


def dora_replayed(
    merge: Merge, left: Left, right: Right, scale: float, lengths: Lengths
) -> tuple[Sequence[Way], int]:
    """Return the ways in which (m / ||V||) V is stored as the tuned values, V = base + scale B A.

    Args:
        merge: The matrix.
        left: B, rows x r.
        right: A, r x cols.
        scale: What B A is multiplied by.
        lengths: m, and what has them.

    Returns:
        The ways, and the least number of values that the order of sums can have changed.

    Source:
        Liu et al. 2024, arXiv:2402.09353; PEFT 0.21, `lora/variants.py` and `lora/dora.py`.
    """
    exact = torch.equal(merge.grid.rounded(merge.base), merge.base)
    some = spread(merge.base.shape[lengths.axis], merge.base.device)
    first = merge.some(some, lengths.axis)
    sides = (left[some], right) if lengths.axis == 0 else (left, right[:, some])
    found: dict[Way, int] = {}
    for way in dora_ways(merge, exact=exact):
        if _off(first, *sides, scale, lengths.of(some), way) is None:
            continue
        off = _off(merge, left, right, scale, lengths, way)
        if off is not None:
            found[way] = off
    least = min(found.values(), default=0)
    return [way for way, off in found.items() if off == 0 or least > 0], least


def _off(
    merge: Merge, left: Left, right: Right, scale: float, lengths: Lengths, way: Way
) -> int | None:
    """Return how many values are not those that are computed here; None: it is no such merge.

    As sums may be made in any order, B A and norms are known to lie between two bounds each, and so
    is what is made of them: rounding and products keep order.
    """
    if way.steps.factors is not None:
        left, right = (way.steps.factors.rounded(one) for one in (left, right))
        values = way.steps.factors.rounded(lengths.values.unsqueeze(0)).squeeze(0)
        lengths = replace(lengths, values=values)
    values = left @ right
    whole = merge.summed(values, scale, way.steps)
    made, _ = _between(merge, (whole, whole), lengths, way)
    count = int((made != merge.tuned).sum())
    if not count:
        return 0
    slack = (2 * left.shape[1] + 4) * UNIT * (left.abs() @ right.abs())
    ends = tuple(merge.summed(values + sign * slack, scale, way.steps) for sign in (-1, 1))
    low, high = _between(merge, (ends[0], ends[1]), lengths, way, bounds=True)
    inside = (low <= merge.tuned) & (merge.tuned <= high)
    return count if bool(inside.all()) else None


def _between(
    merge: Merge, sums: tuple[Matrix, Matrix], lengths: Lengths, way: Way, *, bounds: bool = False
) -> tuple[Matrix, Matrix]:
    """Return the least and the most that may be stored where V lies between two matrices."""

    def rounded(given: Tensor) -> Tensor:
        return given if way.narrow is None else way.narrow.rounded(given)

    sums = rounded(sums[0]), rounded(sums[1])
    least, most = torch.minimum(*sums), torch.maximum(*sums)
    along = 1 - lengths.axis
    near = torch.where(least * most < 0, 0.0, torch.minimum(least.abs(), most.abs()))
    far = torch.maximum(least.abs(), most.abs())
    room = merge.base.shape[along] * UNIT if bounds else 0.0
    norms = (
        rounded(torch.linalg.vector_norm(one, dim=along, keepdim=True) * (1.0 + sign * room))
        for one, sign in ((near, -1), (far, 1))
    )
    factors = [rounded(lengths.values.unsqueeze(along) / norm) for norm in norms]
    if bounds and way.narrow is None:
        wide = QUOTIENT * torch.maximum(factors[0].abs(), factors[1].abs())
        factors = [torch.minimum(*factors) - wide, torch.maximum(*factors) + wide]
    products = [merge.grid.rounded(rounded(one * other)) for one in factors for other in sums]
    stacked = torch.stack(products) if bounds else products[0].unsqueeze(0)
    return stacked.amin(dim=0), stacked.amax(dim=0)
