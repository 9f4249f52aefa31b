"""What kind of change one matrix went through, and what of that is beyond rounding."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.kernels.resolution import Resolution, resolve
from spectra.kernels.rounding import STORED, Grid, grid_of, half_steps
from spectra.kernels.singular import largest_entry, power_of_two_near, singular_values
from spectra.matrices import Pair
from spectra.matrices.pair import Quantised

Kind = Literal[
    "unchanged",  # equal
    "rounding",  # each value is the other's, stored more coarsely
    "quantising",  # likewise, by a codec
    "pruning",  # entries were set to zero, nothing else
    "low rank",
    "full rank",
    "scaled rows",  # of full rank, and rows of the base are in it: DoRA, or a full fine-tune
    "few rows",  # a tenth of all at most, or fewer than half and of full rank in these
    "few columns",
    "at least",  # directions above rounding, and others near it: more may be hidden
    "unresolved",  # changed, and no direction stands above rounding
]

MADE = 4.0  # roundings, of independent sign, between a merge's factors and its difference
SUMS = 2.0  # roundings, likewise, of what a merge adds up
COARSER = 4.0  # steps of the base over the tuned's, from which the base's rounding may show
UNEVEN = 1.6  # half a step of one neighbour over that of the other, in four-bit floats
FEW = 0.1  # of all rows or columns, of which a change is said to be one of these
WITHIN = 0.999  # of the entries that a quantiser moved by no more than that: some are clipped
LOUD = 1.3  # energy of a change over that of uniform rounding, up to which it is no more
ALONG = 3.0  # times what rows of a change have along those of the base by chance
MOSTLY = 0.5  # of a row's energy


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a change D, entry by entry."""

    kind: Kind
    rank: int  # directions of D above rounding
    moved: int | None = None  # entries that differ by more than storing; None: an update as factors
    rows: int | None = None  # that hold one
    cols: int | None = None  # likewise
    grid: str | None = None  # the coarsest on which either side lies: a dtype's or a codec's name


class _Side(NamedTuple):
    """One of the two, and how far each of its values may have been rounded."""

    values: Tensor
    steps: Tensor  # half of the distance to the next
    grid: Grid | None  # None: a codec's
    name: str
    stored: Grid  # of the dtype of the file


def evidence_of(
    pair: Pair, delta: Float[Tensor, "rows cols"], sigma: Float[Tensor, " rank"]
) -> Evidence:
    """Return what a change is, on what its entries and singular values tell.

    Args:
        pair: Both sides, the tuned one as values.
        delta: Their difference, not all zero.
        sigma: All singular values of it, descending.
    """
    assert isinstance(pair.tuned, Tensor)  # noqa: S101 - an update as factors is exact
    base, tuned = (
        _side(values, codec, delta.dtype)
        for values, codec in ((pair.base, pair.base_codec), (pair.tuned, pair.tuned_codec))
    )
    where = delta != 0
    if not pair.formed:
        where &= _beyond(base, tuned, delta)
    changed = where.any(dim=1), where.any(dim=0)
    rows, cols = (int(lines.sum()) for lines in changed)
    coarsest = max((base, tuned), key=lambda side: float(side.steps.mean()))
    known = int(where.sum()), rows, cols, coarsest.name
    codec = base.grid is None or tuned.grid is None
    if not pair.formed:
        if not rows and not codec:
            return Evidence("rounding", 0, *known)
        if codec and base.name != tuned.name and _quantised(base, tuned, delta):
            return Evidence("quantising", 0, *known)
        if _pruned(tuned.values, where):
            return Evidence("pruning", int((sigma > 0).sum()), *known)
    (rank, clear), name = _rank(base, tuned, changed, sigma, formed=pair.formed)
    kind = _kind(rank, clear, delta.shape, (rows, cols))
    if kind == "unresolved" and codec and base.name != tuned.name and _faint(base, tuned, delta):
        kind = "quantising"
    if kind == "full rank" and (pair.formed or _scaled(base.values, delta)):
        kind = "scaled rows"
    return Evidence(kind, rank, *known[:-1], name)


def _scaled(base: Tensor, delta: Tensor) -> bool:
    """Say whether rows of the base are in those of the change, beyond chance.

    Of a row that knows nothing of the base's, 1 / cols of the energy lies along it, on average
    over rows: each counts alike, or a single large one would decide by its own luck. A row most
    of which lies along its own in the base is scaled, whatever the others are.
    """
    scale = power_of_two_near(largest_entry(base)), power_of_two_near(largest_entry(delta))
    one, other = base / (scale[0] or 1.0), delta / (scale[1] or 1.0)
    size = one.square().sum(dim=1) * other.square().sum(dim=1)
    known = size > 0
    if not bool(known.any()):
        return False
    along = (one * other).sum(dim=1)[known].square() / size[known]
    chance = ALONG / delta.shape[1]
    return float(along.mean()) > chance or float(along.max()) > max(MOSTLY, chance)


def _kind(rank: int, clear: bool, shape: Sequence[int], changed: tuple[int, int]) -> Kind:
    most = 0.5 if 2 * rank > min(changed) else FEW
    if changed[0] < most * shape[0]:
        return "few rows"
    if changed[1] < most * shape[1]:
        return "few columns"
    if not rank:
        return "unresolved"
    if 2 * rank > min(changed):
        return "full rank"
    return "low rank" if clear else "at least"


def _side(values: Tensor, codec: Quantised | None, dtype: torch.dtype) -> _Side:
    """Find the grid on which one side lies, whatever the dtype of its file."""
    wide, stored = values.to(dtype), STORED[values.dtype]
    if codec is not None:
        return _Side(wide, codec.steps.to(dtype), None, codec.name, stored)
    grid = grid_of(wide, stored)
    return _Side(wide, half_steps(wide, grid, stored), grid, grid.name, stored)


def _beyond(base: _Side, tuned: _Side, delta: Tensor) -> Tensor:
    """Say which entries differ by more than storing one number on the grids of both makes.

    On one grid every difference counts, but for values that lie off it in one of the dtypes, such
    as small ones in float16.
    """
    if base.grid is None or tuned.grid is None:
        return torch.ones_like(delta, dtype=torch.bool)  # codecs clip, and move on purpose
    if base.grid is not tuned.grid:
        return delta.abs() > base.steps + tuned.steps
    if base.stored is tuned.stored:
        return torch.ones_like(delta, dtype=torch.bool)
    same = (base.stored.rounded(tuned.values) == base.values) | (
        tuned.stored.rounded(base.values) == tuned.values
    )
    return ~same


def _quantised(base: _Side, tuned: _Side, delta: Tensor) -> bool:
    """Say whether nearly every entry differs by no more than storing it in two ways makes."""
    most = UNEVEN * (base.steps + tuned.steps)
    return float((delta.abs() <= most).float().mean()) >= WITHIN


def _faint(base: _Side, tuned: _Side, delta: Tensor) -> bool:
    """Say whether the entries differ by no more in all, some by more: Q4_0 clips one sign."""
    steps = base.steps.square().mean() + tuned.steps.square().mean()
    return float(delta.square().mean()) <= LOUD * float(steps) / 3.0


def _pruned(tuned: Tensor, where: Tensor) -> bool:
    """Say whether all that changed became zero, in rows that are not zero altogether."""
    return not bool(tuned[where].any()) and bool(tuned.any())


def _rank(
    base: _Side, tuned: _Side, changed: tuple[Tensor, Tensor], sigma: Tensor, *, formed: bool
) -> tuple[Resolution, str]:
    """Count directions above rounding, and name the grid whose rounding it is.

    Where the base lies on the coarser grid, the tuned values were mostly made from it as it
    is: its rounding counts only if the change is of full rank otherwise.
    """
    rows, cols = changed
    if base.grid is not tuned.grid:  # the rest is rounded, and costs a decomposition to leave out
        rows, cols = (
            lines if 2 * int(lines.sum()) < len(lines) else torch.ones_like(lines)
            for lines in changed
        )

    def cut(values: Tensor) -> Tensor:
        found = values if bool(rows.all()) else values[rows]
        return found if bool(cols.all()) else found[:, cols]

    delta = cut(tuned.values - base.values)
    if base.grid is not tuned.grid and delta.shape != base.values.shape:
        sigma = singular_values(delta)  # what was left out is not zero, but rounded
    own, other = cut(tuned.steps), cut(base.steps)
    if tuned.grid is STORED[delta.dtype]:
        own = own * SUMS  # the merge was computed in what it is stored in
    arithmetic = MADE * torch.finfo(delta.dtype).eps / 2
    if tuned.grid is not None:
        arithmetic = max(arithmetic, torch.finfo(tuned.grid.dtype).eps)  # two roundings of its own
    made = delta.abs().mul_(arithmetic)
    alone = torch.hypot(own, made).div_(sqrt(3.0))
    size, coarse = float(own.mean()), float(other.mean())
    if formed or coarse > COARSER * size:
        found = resolve(delta, alone, sigma, coherent=False)
        if formed or (found.clear and 0 < 2 * found.rank <= min(delta.shape)):
            return found, tuned.name
    both = torch.hypot(alone, other.div(sqrt(3.0)))
    name = base.name if coarse > size else tuned.name
    return resolve(delta, both, sigma, coherent=base.name == tuned.name), name
