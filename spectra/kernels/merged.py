"""How often an update is in values that were rounded after it was added."""

from collections.abc import Callable
from functools import partial
from itertools import chain
from math import isfinite, sqrt
from typing import NamedTuple

from jaxtyping import Float

from spectra.deferred import Tensor, torch
from spectra.kernels.rounding import BF16, F16

BLOCK = 1 << 21  # entries whose products are summed at once
LEAST = 16  # entries that an update must move to be told from none; of fewer, more than half
CLOSE = 1e-3  # of the factor, to which it is found
HALVINGS = 24
MOST = 2.0**10  # times; what was added more often is not looked for
FAINT = 4.0  # half steps of a quantiser, below which an update leaves no trace to be foretold

Matrix = Float[Tensor, "rows cols"]


class Store(NamedTuple):
    """How the tuned values were stored."""

    rounded: Callable[[Tensor], Tensor] | None  # onto their grid; None: a codec's, not foretold
    steps: Matrix  # half of the distance to the next, at each


class Added(NamedTuple):
    """What a merge did."""

    scale: float | None  # how often the update was added; None: rounding hides it
    rest: float = 0.0  # what of the change is neither it nor rounding, as a share of the change
    error: float = 0.0  # standard error of the scale
    beside_rounding: float = 0.0  # the rest, over what rounding to the stored steps makes


def added(base: Matrix, tuned: Matrix, update: Matrix, store: Store) -> Added:
    """Return the factor c for which storing W0 + c U gives the tuned values.

    With W0, W1 and U, at its own scale, all float32 or all float64, D = W1 - W0 is compared with
    E(c) = round(W0 + c U) - W0, not with c U: where an update is smaller than the distance of the
    numbers, rounding loses most of it and makes whole steps of the rest. <E(c), U> never falls as
    c grows, so the c at which it is <D, U> is found by halving. A merge may have rounded the base
    first: of all ways, the one nearest to c = 1 counts. Values of a codec are taken as c U and
    noise.

    Returns:
        The factor, 1 for a right merge, and ||D - E(c)|| / ||D||, less what rounding adds to a
        base that is not on the grid itself.
    """
    inner, size, whole = products(tuned - base, update)
    _, noise, _ = products(store.steps, store.steps)
    if not size or not isfinite(inner):
        return Added(None)
    rounded = store.rounded
    if rounded is None:
        if size < FAINT**2 * noise:
            return Added(None)
        scale = inner / size
        return _told(scale, tuned - base - scale * update, (update, noise, whole, noise))

    def stored(start: Matrix, scale: float) -> Matrix:
        return rounded(start + scale * update)

    exact = torch.equal(rounded(base), base)
    found: list[tuple[float, Tensor]] = []
    # A merge may have started from the base in the dtype of the merge.
    others = (grid.rounded(base) for grid in (() if exact else (BF16, F16)))
    for start in chain((base,), others):
        factor = _factor(partial(stored, start), base, update, inner)
        if factor is not None:
            found.append((factor, start))
            if abs(factor - 1.0) <= CLOSE:
                break
    if not found:
        return Added(None)
    scale, start = min(found, key=lambda one: abs(one[0] - 1.0))
    known = 0.0 if exact else noise
    return _told(scale, tuned - stored(start, scale), (update, noise, whole, known), CLOSE)


def _told(
    scale: float, off: Matrix, sums: tuple[Matrix, float, float, float], searched: float = 0.0
) -> Added:
    """Return the factor with its error: White's, as what is left differs from entry to entry.

    Args:
        scale: The factor.
        off: What is left of the change.
        searched: To which share of itself it was looked for.
        sums: The update; squares of half steps and of the change; and of the rest that is known
            to be rounding.
    """
    update, noise, whole, known = sums
    _, size, rest = products(off, update)
    spread, _, _ = products(off * update, off * update)
    error = sqrt(spread) / size + searched * abs(scale)
    beside = sqrt(3.0 * rest / noise) if noise else 0.0  # a step's variance is h^2 / 3
    return Added(scale, _share(rest - known, whole), error, beside)


def _factor(
    stored: Callable[[float], Matrix], base: Matrix, update: Matrix, inner: float
) -> float | None:
    """Return at which factor <E(c), U> is that much; None where the update moves too little."""

    def along(scale: float) -> float:
        return products(stored(scale) - base, update)[0]

    if not moves(stored(0.0), stored(1.0)):
        return None
    one = along(1.0)
    guess = inner / one if one > 0.0 else 1.0
    near = CLOSE * max(abs(inner), one)
    if abs(guess - 1.0) <= CLOSE or (guess > 0 and abs(along(guess) - inner) <= near):
        return guess
    none = along(0.0)
    if abs(inner - none) <= near:
        return 0.0
    sign = 1.0 if inner > none else -1.0
    low, high = 0.0, sign
    while sign * (inner - along(high)) > 0.0 and abs(high) < MOST:
        low, high = high, 2.0 * high
    for _ in range(HALVINGS):
        if abs(high - low) <= CLOSE * abs(high):
            break
        middle = (low + high) / 2.0
        short = sign * (inner - along(middle)) > 0.0
        low, high = (middle, high) if short else (low, middle)
    return (low + high) / 2.0


def moves(before: Matrix, after: Matrix) -> bool:
    """Say whether enough entries differ for an update to be told from none."""
    return int((after != before).sum()) >= min(LEAST, before.numel() // 2 + 1)


def _share(rest: float, whole: float) -> float:
    return sqrt(max(rest, 0.0) / whole) if whole else 0.0


def products(delta: Matrix, update: Matrix) -> tuple[float, float, float]:
    """Return <D, U>, <U, U> and <D, D>, some rows at a time in float64."""
    sums = delta.new_zeros(3, dtype=torch.float64)
    step = max(1, BLOCK // max(delta.shape[1], 1))
    for d, u in zip(delta.split(step), update.split(step), strict=True):
        one, other = d.double(), u.double()
        sums += torch.stack([(one * other).sum(), other.square().sum(), one.square().sum()])
    inner, size, whole = sums.tolist()
    return inner, size, whole
