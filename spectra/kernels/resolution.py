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
less for every higher rank, as the terms are many. `Settings.coherent` is beyond it.

Source:
    Bandeira and van Handel 2016, arXiv:1408.6185, theorem 1.1; Sinkhorn and Knopp 1967,
    Concerning nonnegative matrices and doubly stochastic matrices.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from jaxtyping import Float

from spectra.deferred import Tensor, torch
from spectra.kernels.streamed import Streamed, blocks
from spectra.kernels.survey import Survey, along, survey

BLOCK = 1 << 18  # entries squared at a time


@dataclass(frozen=True, slots=True)
class Settings:
    """Where lines are drawn."""

    rounds: int = 3  # of scaling rows, then columns
    alike: float = 1.3  # largest over mean level of rows and columns at which none are scaled
    gap: float = 1.3  # an update's last singular value over the floor, with none in between
    decay: float = 3.0  # the i-th singular value of a full fine-tune may fall as i to this power
    recent: int = 4  # steps from one value to the next, over which a steeper fall is taken
    loud: float = 1.2  # energy below the floor over that of rounding, from which more is in it
    coherent: float = 0.15  # of s sqrt(m n)
    worst: float = 0.32  # likewise, whatever the base
    steep: float = 1.5  # last direction of an update over the first that its rounding repeats
    apart: float = 4.0  # how far above that a direction lies that is certainly the update's
    few: int = 4  # directions whose cubic part is of low rank itself
    drowned: float = 1e-2  # of the floor, that rounding a scaled change to float32 may take


SETTINGS = Settings()


class Resolution(NamedTuple):
    """What of a change rounding cannot have made."""

    rank: int
    clear: bool  # whether nothing lies near the floor, so that no direction may be hidden
    exact: bool = True  # whether no more than these are above the floor


def resolve(
    delta: Float[Tensor, "rows cols"] | Streamed,
    variance: Float[Tensor, "rows cols"] | Streamed,
    *,
    coherent: bool,
    sigma: Float[Tensor, " rank"] | None = None,
    settings: Settings = SETTINGS,
) -> tuple[Resolution, Survey | None]:
    """Count the directions of a change above its rounding.

    Args:
        delta: The change, finite, its squares within range; float32 or float64.
        variance: Of what rounding adds to each entry; as wide, and streamed where the change is.
            Its memory is written to.
        coherent: Whether both sides lie on one grid, so that rounding repeats the update.
        sigma: Of the change, where they are known.
        settings: Where lines are drawn.

    Returns:
        The count, and what was found of the change's own singular values; None where rows and
        columns had to be scaled, and few directions do not tell.
    """
    if not bool(delta.any()):
        return Resolution(0, clear=True), None
    parts = _Parts(delta, variance, settings)
    rows, cols = delta.shape
    slack = 1.0 + 2.0 * min(rows, cols) ** (-2 / 3)  # Tracy and Widom's, for small matrices
    mean, most = parts.levels()
    uneven = most > settings.alike**2 * mean
    if uneven:
        parts.balance()
    floor, noise = slack * parts.bound(), float(parts.of_variance()[0].sum())
    weights = parts.cols if rows >= cols else parts.rows
    given = parts.scaled(floor) if uneven else delta
    del parts, variance  # whose memory others take
    found = survey(given, floor, None if uneven else sigma)
    del given
    level = 1.0 if uneven else math.sqrt(mean)
    size = level * math.sqrt(rows * cols) if coherent else 0.0
    resolution = _judged(found, size, noise, settings)
    if not uneven:
        return resolution, found
    right = found.right
    del found  # its matrices make room for others
    if right is None or not right.shape[1]:
        return resolution, None
    # Of R D C, on the short side, with squares of C, or of R.
    return resolution, along(delta, right / weights.sqrt().unsqueeze(1).to(right))


def _judged(found: Survey, size: float, noise: float, settings: Settings) -> Resolution:
    """Say what of all that exceeds the rounding's level is the update's.

    `noise` is the energy of the rounding, `size` its root where it may repeat the update; else 0.
    """
    rank, values, exact, floor = found.rank, found.values, found.exact, found.level
    repeated = settings.coherent * size
    if rank and repeated > floor:
        sure = int((values > settings.apart * repeated).sum())
        if 0 < sure <= settings.few and sure < rank and int((values > repeated).sum()) == sure:
            clear = float(values[sure - 1]) > _gap(values, sure, floor, settings)
            return Resolution(sure, clear=clear)
        for few in range(1, min(rank, len(values))):
            most = settings.worst / few**0.75 * size
            if floor < float(values[few]) <= min(most, float(values[few - 1]) / settings.steep):
                return Resolution(few, clear=False)
    if rank <= len(values) and found.left > settings.loud * noise:
        return Resolution(rank, clear=False, exact=exact)
    gap = _gap(values, rank, floor, settings)
    if rank > len(values):
        return Resolution(rank, clear=exact and found.count(gap) == rank, exact=exact)
    clear = rank == 0 or float(values[rank - 1]) > gap
    if clear and not exact:
        found.rank, found.exact = found.count(floor), True
        return _judged(found, size, noise, settings)
    return Resolution(rank, clear=clear, exact=exact)


def _gap(values: Float[Tensor, " some"], rank: int, floor: float, settings: Settings) -> float:
    """Return what the last direction above the floor must exceed for none to be hidden.

    Singular values that fall from one to the next as they did so far would put the one after
    it below the floor unseen: of a full fine-tune whose spectrum fades, those above are no
    adapter's.
    """
    fall = math.pow(1.0 + 1.0 / max(rank, 1), settings.decay)
    last = min(rank, len(values)) - 1
    for back in {last, min(last, settings.recent)} - {0, -1}:
        end = float(values[last]) if last == rank - 1 else floor
        fall = max(fall, math.pow(float(values[last - back]) / end, 1.0 / (rank - 1 - last + back)))
    return settings.gap * fall * floor


class _Parts:
    """The squares of a change and of its rounding, and weights of rows and columns."""

    def __init__(
        self, delta: Tensor | Streamed, variance: Tensor | Streamed, settings: Settings
    ) -> None:
        self.delta, self.variance, self.settings = delta, variance, settings
        rows, cols = delta.shape
        self.rows = torch.ones(rows, dtype=torch.float64, device=delta.device)
        self.cols = torch.ones(cols, dtype=torch.float64, device=delta.device)
        self._spread: tuple[Tensor, Tensor] | None = None  # under these weights

    def levels(self) -> tuple[float, float]:
        """Return the mean variance, and the largest of those of rows and of columns."""
        if isinstance(self.variance, Tensor):
            means = [float(self.variance.mean(dim=dim).max()) for dim in (0, 1)]
            return float(self.variance.mean()), max(means)
        rows, cols = self.of_variance()
        most = max(float(rows.max()) / len(cols), float(cols.max()) / len(rows))
        return float(rows.sum()) / self.variance.numel(), most

    def balance(self) -> None:
        """Choose weights under which every row and every column is rounded alike, by 1."""
        tiny = torch.finfo(self.variance.dtype).tiny
        for _ in range(self.settings.rounds):
            across = torch.zeros_like(self.cols)
            for here, block in blocks(self.variance):
                rows = (_times(block, self.cols) / len(self.cols)).clamp_(min=tiny)
                self.rows[here] = 1.0 / rows
                across += _times(block.mT, self.rows[here])
            self.cols = 1.0 / (across / len(self.rows)).clamp_(min=tiny)
        self._spread = None

    def bound(self) -> float:
        """Return about the largest singular value of the rounding, in what moved at all."""
        rows, cols = (
            torch.minimum(*sides)
            for sides in zip(self.of_variance(), self._of_energy(), strict=True)
        )
        return math.sqrt(float(rows.max())) + math.sqrt(float(cols.max()))

    def scaled(self, floor: float) -> Tensor | Streamed:
        """Return the change with its weights, in place of its variance.

        In float64 where float32 would add directions.
        """
        size = math.sqrt(float(self._of_energy()[0].sum()))
        coarse = size * torch.finfo(torch.float32).eps < self.settings.drowned * floor
        delta, variance = self.delta, self.variance
        across, down = self.cols.sqrt(), self.rows.sqrt().unsqueeze(1)
        if isinstance(delta, Streamed):
            dtype = variance.dtype if coarse else torch.float64
            across = across.to(dtype)

            def weighed(here: slice) -> Tensor:
                return (delta[here].to(dtype) * down[here].to(dtype)).mul_(across)

            return replace(delta, dtype=dtype, make=weighed, known=None)
        assert isinstance(variance, Tensor)  # noqa: S101 - as the change is
        found = variance if coarse else variance.double()
        torch.mul(delta, down.to(found), out=found)
        return found.mul_(across.to(found))

    def of_variance(self) -> tuple[Tensor, Tensor]:
        """Return the weighted variance of rows and of columns."""
        if self._spread is None:
            self._spread = self._sums(blocks(self.variance))
        return self._spread

    def _of_energy(self) -> tuple[Tensor, Tensor]:
        """Return weighted squares of rows and of columns, a few rows read at a time."""
        parts = blocks(self.delta, BLOCK)
        return self._sums((here, part.square()) for here, part in parts)

    def _sums(self, parts: Iterable[tuple[slice, Tensor]]) -> tuple[Tensor, Tensor]:
        rows, cols = torch.empty_like(self.rows), torch.zeros_like(self.cols)
        for here, squares in parts:
            rows[here] = _times(squares, self.cols)
            cols += _times(squares.mT, self.rows[here])
        return rows * self.rows, cols * self.cols


def _times(squares: Tensor, weights: Float[Tensor, " size"]) -> Float[Tensor, " other"]:
    """Return weighted sums of squares, in the squares' precision, as float64."""
    scale = float(weights.max())
    return (squares @ (weights / scale).to(squares.dtype)).double() * scale
