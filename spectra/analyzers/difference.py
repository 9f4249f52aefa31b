"""The difference of two matrices, entry by entry, and how far storing may have rounded each."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import log, sqrt
from typing import NamedTuple

from jaxtyping import Float

from spectra.deferred import Tensor, torch
from spectra.kernels.entries import filled_lines, largest_entry, power_of_two_near
from spectra.kernels.rounding import STORED, Grid, grid_of, half_steps
from spectra.kernels.streamed import Streamed
from spectra.kernels.work import is_streamed
from spectra.matrices import Pair
from spectra.matrices.pair import Quantised

MADE = 4.0  # roundings, of independent sign, between a merge's factors and its difference
SUMS = 2.0  # roundings, likewise, of what a merge adds up
UNEVEN = 1.6  # half a step of one neighbour over that of the other, in four-bit floats
WITHIN = 0.999  # of the entries that a quantiser moved by no more than that: some are clipped
LOUD = 1.3  # energy of a change over that of uniform rounding, up to which it is no more
ALONG = 3.0  # times what rows of a change have along those of the base by chance
MOSTLY = 0.5  # of a row's energy
LUCK = 1e-6  # chance that a matrix which knows nothing of the base is taken for one of its rows
BLOCK = 1 << 16  # entries looked at together: small enough for a processor's cache
DEVICE_BLOCK = 1 << 24
MOST = 0.5  # likewise, where the others are rounded, and not zero


class Side(NamedTuple):
    """One of the two, and how far each of its values may have been rounded."""

    values: Tensor  # as stored
    codec: Tensor | None  # its half steps
    grid: Grid | None  # None: a codec's
    name: str
    stored: Grid  # of the dtype of the file

    def steps(self, wide: Tensor, rows: slice | Tensor) -> Tensor:
        """Return half of the distance of values to the next.

        Args:
            wide: The values of these rows, as wide as the change.
            rows: Which, or their indices.
        """
        if self.codec is not None:
            return self.codec[rows].to(wide.dtype, copy=True)
        assert self.grid is not None  # noqa: S101 - or it had a codec
        return half_steps(wide, self.grid, self.stored)


def side_of(values: Tensor, codec: Quantised | None) -> Side:
    """Find the grid on which one side lies, whatever the dtype of its file."""
    stored = STORED[str(values.dtype)]
    if codec is not None:
        return Side(values, codec.steps, None, codec.name, stored)
    found = grid_of(values, stored)
    return Side(values, None, found, found.name, stored)


class _Sides:
    """Both sides of a change D, and rows of it: what forms them holds no more than these."""

    def __init__(self, base: Side, tuned: Side, scale: float, dtype: "torch.dtype") -> None:
        self.base, self.tuned, self.scale, self.dtype = base, tuned, scale, dtype
        self._wide: Tensor | None = None  # rows of both sides, while D is formed

    def both(self, rows: slice | Tensor) -> tuple[Tensor, Tensor]:
        """Return rows of both sides, as wide as D: until others are asked for."""
        base, tuned = self.base.values[rows], self.tuned.values[rows]
        if self._wide is None or self._wide.shape[1] < len(base):  # fresh pages cost more
            self._wide = base.new_empty(2, *base.shape, dtype=self.dtype)
        wide = self._wide[:, : len(base)]
        return wide[0].copy_(base), wide[1].copy_(tuned)

    def difference(self, base: Tensor, tuned: Tensor) -> Tensor:
        """Return rows of D / scale, of which both sides are given."""
        return torch.sub(tuned, base).div_(self.scale)

    def variance(self, rows: slice | Tensor, base: Tensor, tuned: Tensor, other: bool) -> Tensor:
        """Return that of some rows, of which both sides are given."""
        sums = SUMS if self.tuned.grid is STORED[str(self.dtype)] else 1.0
        made = MADE * torch.finfo(self.dtype).eps / 2
        if self.tuned.grid is not None:  # two roundings of its own
            made = max(made, torch.finfo(self.tuned.grid.dtype).eps)
        part = self.tuned.steps(tuned, rows).mul_(sums / self.scale).square_()
        delta = self.difference(base, tuned)
        part.addcmul_(delta, delta, value=made * made)
        if other:
            step = self.base.steps(base, rows).div_(self.scale)
            part.addcmul_(step, step)
        return part.div_(3.0)


class Change:
    """D = W1 - W0, from one pass over both, a few rows at a time.

    Of a matrix as long as a vocabulary D is formed anew, row by row, whenever it is passed over.
    """

    def __init__(self, pair: Pair, largest: float) -> None:
        """Compare.

        Args:
            pair: Both sides, the tuned one as values, finite.
            largest: No less than any |entry| of either.
        """
        assert isinstance(pair.tuned, Tensor)  # noqa: S101 - an update as factors is exact
        self.formed = pair.formed
        self.base = side_of(pair.base, pair.base_codec)
        self.tuned = side_of(pair.tuned, pair.tuned_codec)
        self.scale = power_of_two_near(largest) or 1.0
        double = torch.float64 in (pair.base.dtype, pair.tuned.dtype)
        double = double or 2.0 * largest > torch.finfo(torch.float32).max
        self.dtype = torch.float64 if double else torch.float32
        sizes, made = pair.base.shape, pair.base.new_zeros
        self.nonzero = tuple(made(size, dtype=torch.bool) for size in sizes)
        self.lines = tuple(line.clone() for line in self.nonzero)  # beyond storing
        self.alive = False  # something that moved is not zero now
        self.largest = 0.0  # |entry| of D / scale, where D is streamed
        self.steps = made(2, dtype=torch.float64)  # sums of half steps / scale
        self.squares = made(4, dtype=torch.float64)  # D, W0, steps; likewise
        self.counts = made(2, dtype=torch.int64)  # moved; within two storings
        # No rows are formed by what holds them: both would stay, with their sides, once let go.
        self._sides = sides = _Sides(self.base, self.tuned, self.scale, self.dtype)
        self.values: Tensor | Streamed  # D / scale
        if is_streamed(*sizes):
            every = [line.new_ones(len(line)) for line in self.lines]
            self.values = self._streamed(every, lambda rows: sides.difference(*sides.both(rows)))
        else:
            self.values = pair.base.new_empty(sizes, dtype=self.dtype)
        for rows, base, tuned in self._blocks():
            self._look(rows, base, tuned)
        if isinstance(self.values, Streamed):
            self.values = replace(self.values, known=self._sizes)

    @property
    def _sizes(self) -> tuple[float, float]:
        """The largest |entry| of D / scale, and its norm."""
        return self.largest, sqrt(float(self.squares[0]))

    @property
    def norm(self) -> float:
        """||D||, Frobenius."""
        return self.scale * sqrt(float(self.squares[0]))

    @property
    def base_norm(self) -> float:
        """||W0||."""
        return self.scale * sqrt(float(self.squares[1]))

    @property
    def rounding(self) -> float:
        """About what of ||D||^2 storing makes: that of the tuned side, and of a codec's base."""
        if self.formed or not float(self.squares[0]):
            return 0.0
        steps = float(self.squares[3]) + float(self.squares[2]) * (self.base.grid is None)
        return min(steps / 3.0 / float(self.squares[0]), 1.0)

    @property
    def coded(self) -> bool:
        """Whether a codec stored one side, and not both."""
        codec = self.base.grid is None or self.tuned.grid is None
        return codec and self.base.name != self.tuned.name

    def core(self) -> Float[Tensor, "rows cols"] | Streamed:
        """Return D over scale, without rows or columns of zeros where these are most."""
        return self.within([enough(lines, MOST) for lines in self.nonzero])

    def within(self, lines: Sequence[Tensor]) -> Float[Tensor, "rows cols"] | Streamed:
        """Return D over scale, in the rows and columns that are told."""
        if isinstance(self.values, Tensor):
            return cut(self.values, lines)
        sides = self._sides
        found = self._taken(lines, lambda rows: sides.difference(*sides.both(rows)))
        if isinstance(found, Streamed) and found.shape == self.values.shape:
            return replace(found, known=self._sizes)
        return found

    def variance(
        self, lines: Sequence[Tensor], *, other: bool
    ) -> Float[Tensor, "rows cols"] | Streamed:
        """Return what rounding adds to entries of D / scale: its variance.

        Args:
            lines: Rows and columns to take.
            other: The base was rounded as well.
        """
        sides = self._sides
        if isinstance(self.values, Streamed):
            return self._taken(lines, lambda rows: sides.variance(rows, *sides.both(rows), other))
        found = self.values.new_empty(int(lines[0].sum()), int(lines[1].sum()))
        start = 0
        for rows, base, tuned in self._blocks():
            part = sides.variance(rows, base, tuned, other)
            part = cut(part, (lines[0][rows], lines[1]))
            found[start : start + len(part)] = part
            start += len(part)
        return found

    def _taken(
        self, lines: Sequence[Tensor], make: Callable[[slice | Tensor], Tensor]
    ) -> Tensor | Streamed:
        """Return rows and columns of what is streamed: a tensor where they are few."""
        found = self._streamed(lines, make)
        return found if is_streamed(*found.shape) else found.whole()

    def _streamed(
        self, lines: Sequence[Tensor], make: Callable[[slice | Tensor], Tensor]
    ) -> Streamed:
        rows, cols = lines
        chosen = None if bool(rows.all()) else rows.nonzero().squeeze(1)
        every = bool(cols.all())

        def made(here: slice) -> Tensor:
            found = make(here if chosen is None else chosen[here])
            return found if every else found[:, cols]

        return Streamed((int(rows.sum()), int(cols.sum())), self.dtype, rows.device, made)

    def _blocks(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Yield rows of both sides, as wide as D, always in the same memory."""
        total, cols = self.values.shape
        step = max(1, (BLOCK if self.values.is_cpu else DEVICE_BLOCK) // max(cols, 1))
        wide = self.steps.new_empty(2, min(step, total), cols, dtype=self.dtype)
        for start in range(0, total, step):
            rows = slice(start, min(start + step, total))
            size = rows.stop - start
            base = wide[0, :size].copy_(self.base.values[rows])
            yield rows, base, wide[1, :size].copy_(self.tuned.values[rows])

    def _look(self, rows: slice, base: Tensor, tuned: Tensor) -> None:
        held = self.values[rows] if isinstance(self.values, Tensor) else None
        delta = torch.sub(tuned, base, out=held)
        steps = self.base.steps(base, rows), self.tuned.steps(tuned, rows)
        where = delta != 0
        told = along, across = filled_lines(where)
        self.nonzero[0][rows] = along
        self.nonzero[1].logical_or_(across)
        if not self.formed and not self._counts_all:
            where = self._beyond(base, tuned, steps, where, delta)
            told = filled_lines(where)
        self.lines[0][rows] = told[0]
        self.lines[1].logical_or_(told[1])
        self.counts[0] += where.sum()
        self.alive = self.alive or bool((where & (tuned != 0)).any())
        if self.coded:
            self.counts[1] += (delta.abs() <= UNEVEN * (steps[0] + steps[1])).sum()
        for at, step in enumerate(steps):
            self.steps[at] += step.div_(self.scale).sum(dtype=torch.float64)
            self.squares[2 + at] += step.square_().sum(dtype=torch.float64)
        delta.div_(self.scale)
        if held is None:
            self.largest = max(self.largest, largest_entry(delta))
        for at, values in enumerate((delta, base.div_(self.scale))):
            self.squares[at] += torch.linalg.vector_norm(values, dtype=torch.float64).square()

    @property
    def _counts_all(self) -> bool:
        """Whether every difference is more than storing: codecs clip, and move on purpose."""
        one, other = self.base, self.tuned
        coded = one.grid is None or other.grid is None
        return coded or (one.grid is other.grid and one.stored is other.stored)

    def _beyond(
        self, base: Tensor, tuned: Tensor, steps: Sequence[Tensor], where: Tensor, delta: Tensor
    ) -> Tensor:
        """Say which entries differ by more than storing one number on the grids of both makes.

        On one grid every difference counts, but for values that lie off it in one of the
        dtypes, such as small ones in float16.
        """
        one, other = self.base, self.tuned
        if one.grid is not other.grid:
            return where.logical_and_(delta.abs() > steps[0] + steps[1])
        same = (one.stored.rounded(tuned) == base) | (other.stored.rounded(base) == tuned)
        return where.logical_and_(~same)

    def quantised(self) -> bool:
        """Say whether nearly every entry differs by no more than storing it in two ways makes."""
        return self.coded and int(self.counts[1]) >= WITHIN * self.values.numel()

    def faint(self) -> bool:
        """Say whether the entries differ by no more in all, some by more: Q4_0 clips one sign."""
        steps = float(self.squares[2] + self.squares[3])
        return self.coded and float(self.squares[0]) <= LOUD * steps / 3.0

    def scaled(self) -> bool:
        """Say whether rows of the base are in those of the change, beyond chance.

        Of a row that knows nothing of the base's, 1 / cols of the energy lies along it, on
        average over rows: each counts alike, or a single large one would decide by its own
        luck. A row most of which lies along its own in the base is scaled, whatever the others
        are. Of few rows, or of short ones such as a head's, more than that comes by chance: both
        have to be rarer than `LUCK`. What a row has is a beta variable of 1/2 and (cols - 1) / 2,
        the moments of which times cols are at most those of chi squared: so its Chernoff bound
        holds for the mean, and that of a cap of the sphere for the largest.
        """
        # In memory of its own: small pieces kept between blocks would hold those of all of them.
        found = self.steps.new_full((self.values.shape[0],), -1.0, dtype=self.dtype)
        for rows, base, tuned in self._blocks():
            streamed = isinstance(self.values, Streamed)
            delta = self._sides.difference(base, tuned) if streamed else self.values[rows]
            base.div_(self.scale)
            size = base.square().sum(dim=1) * delta.square().sum(dim=1)
            along = (base * delta).sum(dim=1).square() / size
            found[rows] = torch.where(size > 0, along, -1.0)
        shares = found[found >= 0.0]
        if not len(shares):
            return False
        count, cols = len(shares), self.values.shape[1]
        mean, most = cols * float(shares.mean()), min(float(shares.max()), 1.0)
        if mean > ALONG and count * (mean - 1.0 - log(mean)) > -2.0 * log(LUCK):
            return True
        rare = count * (1.0 - most) ** ((cols - 1) / 2) < LUCK
        return most > max(MOSTLY, ALONG / cols) and rare


def cut(values: Tensor, lines: Sequence[Tensor]) -> Tensor:
    """Return the rows and columns that are told; a copy only where some are left out."""
    rows, cols = lines
    found = values if bool(rows.all()) else values[rows]
    return found if bool(cols.all()) else found[:, cols]


def enough(lines: Tensor, share: float) -> Tensor:
    """Return which lines to take: all, if so many of them are told."""
    return lines if int(lines.sum()) < share * len(lines) else torch.ones_like(lines)
