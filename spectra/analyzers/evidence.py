"""What kind of change one matrix went through, and what of that is beyond rounding."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float

from spectra.analyzers.difference import MOST, SUMS, Change, enough
from spectra.deferred import Tensor
from spectra.kernels.entries import is_zero
from spectra.kernels.resolution import Resolution, resolve
from spectra.kernels.rounding import STORED
from spectra.kernels.survey import Survey

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

COARSER = 4.0  # steps of the base over the tuned's, from which the base's rounding may show
FEW = 0.1  # of all rows or columns, of which a change is said to be one of these
WHOLE = 0.9  # of rows or columns that moved, from which on the others are not left out


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a change D, entry by entry."""

    kind: Kind
    rank: int  # directions of D above rounding
    moved: int | None = None  # entries that differ by more than storing; None: an update as factors
    rows: int | None = None  # that hold one
    cols: int | None = None  # likewise
    grid: str | None = None  # the coarsest on which either side lies: a dtype's or a codec's name
    exact: bool = True  # whether no more are
    survey: Survey | None = None  # of the singular values of D over `Change.scale`
    clear: bool = True  # whether no direction may be hidden near rounding


def evidence_of(change: Change, sigma: Float[Tensor, " rank"] | None = None) -> Evidence:
    """Return what a change is, on what its entries and leading singular values tell.

    Args:
        change: Not all zero.
        sigma: All singular values of `change.core()`, descending, where they are known.
    """
    rows, cols = (int(lines.sum()) for lines in change.lines)
    steps = change.steps.tolist()
    coarsest = change.base if steps[0] >= steps[1] else change.tuned
    known = int(change.counts[0]), rows, cols, coarsest.name
    if not change.formed:
        if not rows and change.base.grid is not None and change.tuned.grid is not None:
            return Evidence("rounding", 0, *known)
        if change.quantised():
            return Evidence("quantising", 0, *known)
        if not change.alive and not is_zero(change.tuned.values):
            return _pruned(change, sigma, known)
    (rank, clear, exact), found, name = _rank(change, sigma, steps)
    kind = _kind(rank, clear, change.values.shape, (rows, cols))
    if kind == "unresolved" and change.faint():
        kind = "quantising"
    if kind == "full rank" and (change.formed == "lengths" or change.scaled()):
        kind = "scaled rows"
    return Evidence(kind, rank, *known[:-1], name, exact, found, clear)


def _pruned(change: Change, sigma: Tensor | None, known: tuple[int, int, int, str]) -> Evidence:
    """Say of how many directions entries that became zero are."""
    if sigma is not None:
        return Evidence("pruning", int((sigma > 0).sum()), *known)
    found, survey, _ = _rank(change, None, change.steps.tolist())
    return Evidence("pruning", found.rank, *known, exact=False, survey=survey)


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


def _rank(
    change: Change, sigma: Tensor | None, steps: Sequence[float]
) -> tuple[Resolution, Survey | None, str]:
    """Count directions above rounding, and name the grid whose rounding it is.

    Where the base lies on the coarser grid, the tuned values were mostly made from it as it
    is: its rounding counts only if the change is of full rank otherwise.
    """
    base, tuned = change.base, change.tuned
    same = base.grid is tuned.grid
    lines = [enough(line, WHOLE if same else MOST) for line in change.lines]
    delta = change.within(lines)
    whole = same or delta.shape == change.values.shape
    if not whole:
        sigma = None  # what was left out is not zero, but rounded
    size = SUMS * steps[1] if tuned.grid is STORED[str(delta.dtype)] else steps[1]
    name = tuned.name
    found = None
    if change.formed or steps[0] > COARSER * size:
        alone = change.variance(lines, other=False)
        found, survey = resolve(delta, alone, coherent=False, sigma=sigma)
        del alone
        clear = found.clear and 0 < 2 * found.rank <= min(delta.shape)
    if found is None or not (change.formed or clear):
        survey = None  # whose matrices make room
        both = change.variance(lines, other=True)
        found, survey = resolve(delta, both, coherent=base.name == tuned.name, sigma=sigma)
        name = base.name if steps[0] > size else name
    return found, survey if whole else None, name
