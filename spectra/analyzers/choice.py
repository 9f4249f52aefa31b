"""Which matrices a share selects, and what must be measured before that is certain.

A row with status `outside` is known by a lower bound alone; one that is decided by `bound` by
an interval; any other by its number. `Choice.chosen` takes the best estimates as they are;
`Choice.unsettled` names what could still change its answer.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal, InvalidOperation, localcontext
from typing import Any, NamedTuple, get_args

from spectra.analyzers.row import Row
from spectra.errors import UsageError
from spectra.kernels.gaussian import kappa_null
from spectra.matrices import Place
from spectra.numbers import EXACT, number
from spectra.text import counted, guess, listed, share_of
from spectra.words import UNMEASURED, By, Per, RankBy

MORE, SPARE, OPEN = 2.0, 2.0, 0.15
"""Matrices of a shape measured for one of them that is selected, about, and besides; and the share
of shapes above the cut whose bounds leave them open."""

WORDS: Mapping[str, tuple[str, ...]] = {
    "rank-by": get_args(RankBy), "by": get_args(By), "per": get_args(Per),
}  # fmt: skip
"""What each option may say, the default first."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A share of the candidates, lowest first: of what, of all or of each role, by what."""

    select: str  # `10%`, or how many
    by: By = "matrices"  # what the share is of; a number counts the same
    per: Per = "global"  # of all candidates, or of each role's
    rank_by: RankBy = "kappa"

    def chosen(self, rows: Iterable[Row]) -> list[Row]:
        """Return what is selected, lowest first, ties by name; of every role's where asked.

        Where the cut falls between singular matrices none of them is: one infinity is no lower than
        another.
        """
        taken: list[Row] = []
        for group in self._groups(rows):
            some, others, _ = self._split(group, self._budget(group))
            taken += self._finite(some) if others else some
        return self._ranked(taken)

    def likely(self, places: Sequence[Place]) -> dict[str, float]:
        """Return how likely each matrix is measured after the bounds of all, before any is read.

        What its shape alone would give ranks a matrix then. Shapes below the cut are measured,
        of that at which it falls more than are selected, and of those above a few, whose bounds
        are no higher than the cut.
        """
        found: dict[str, float] = {}
        groups: dict[str, list[Place]] = {}
        for place in places:
            groups.setdefault(self._group(place), []).append(place)
        for group in groups.values():
            shapes: dict[float, list[Place]] = {}
            for place in group:
                null = kappa_null(place.rows, place.cols) if self.rank_by == "kappa" else 1.0
                shapes.setdefault(null, []).append(place)
            room = amount(self.select, sum(map(self._weight, group)))
            for _, alike in sorted(shapes.items()):
                whole = sum(map(self._weight, alike))
                taken = len(alike) * min(room / whole, 1.0)
                share = min((MORE * taken + SPARE) / len(alike), 1.0) if taken else OPEN
                found |= {place.matrix: share for place in alike}
                room = max(room - whole, 0)
        return found

    def unsettled(self, rows: Iterable[Row]) -> tuple[list[Row], list[Row]]:
        """Return the rows to measure, or else to decompose in full; none where all is certain."""
        measure: list[Row] = []
        decompose: list[Row] = []
        for group in self._groups(rows):
            unknown, loose = self._open(sorted(group, key=self._guess))
            measure += unknown
            decompose += loose
        return measure, ([] if measure else decompose)

    def untold(self, rows: Iterable[Row]) -> int:
        """Return how many singular matrices the share would take, and nothing tells which."""
        count = 0
        for group in self._groups(rows):
            some, others, _ = self._split(group, self._budget(group))
            count += (len(some) - len(self._finite(some))) * bool(others)
        return count

    def _finite(self, rows: Sequence[Row]) -> list[Row]:
        return [row for row in rows if math.isfinite(rank_key(row.flat(), self.rank_by)[0])]

    def notes(self, rows: Iterable[Row]) -> list[str]:
        """Say where a number is more than there is, or less than the least of it."""
        if self.select.strip().endswith("%"):
            return []
        asked, unit = int(self.select), "parameter" if self.by == "params" else "candidate"
        over: list[str] = []
        under: list[str] = []
        for group in self._groups(rows):
            weights = [self._weight(row.place) for row in group]
            role = f" of {group[0].place.role}" if self.per == "role" else ""
            if asked > sum(weights):
                count = f"{sum(weights):,}" if over else counted(sum(weights), unit)
                over.append(count + role)
            elif self.by == "params" and asked < self._weight(group[0].place):
                under.append(f"{group[0].matrix} has {weights[0]:,}")
        told = f"--select {self.select}" + " --by params" * (self.by == "params")
        which = "all of these" if self.per == "role" else "all"
        found = [f"{told} is more than there is: {listed(over)}; {which} selected."] if over else []
        if under:
            found.append(f"{told} is less than one matrix, and one is selected: {listed(under)}.")
        return found

    def _groups(self, rows: Iterable[Row]) -> list[list[Row]]:
        """Return what shares are taken of, each lowest first; what is not finite is in none."""
        groups: dict[str, list[Row]] = {}
        for row in rows:
            if row.status not in UNMEASURED:
                groups.setdefault(self._group(row.place), []).append(row)
        return [self._ranked(group) for group in groups.values()]

    def _ranked(self, rows: Iterable[Row]) -> list[Row]:
        return sorted(rows, key=lambda row: rank_key(row.flat(), self.rank_by))

    def _budget(self, rows: Sequence[Row]) -> int:
        return amount(self.select, sum(self._weight(row.place) for row in rows))

    def _split(self, ranked: Sequence[Row], room: int) -> tuple[Sequence[Row], Sequence[Row], int]:
        """Return what is selected, the others, and what room is left.

        The longest beginning of the ranking that fits, one row at least. Room is negative
        where even that one does not fit.
        """
        count = 0
        for row in ranked:
            weight = self._weight(row.place)
            if count and weight > room:
                break
            room -= weight
            count += 1
        return ranked[:count], ranked[count:], room

    def _open(self, group: Sequence[Row]) -> tuple[list[Row], list[Row]]:
        """Return what to measure and what to decompose before this group's answer is certain.

        It is where every row taken lies below all others, and where each of the others that
        may come next would not fit. Equal numbers are in order, by name.
        """
        spans = {row.matrix: span(row.flat(), self.rank_by) for row in group}
        taken, others, room = self._split(group, self._budget(group))
        high = max(spans[row.matrix].high for row in taken)
        low = min((spans[row.matrix].low for row in others), default=math.inf)
        loose = [row for row in taken if spans[row.matrix].high >= low]
        loose += [row for row in others if spans[row.matrix].low <= high]
        unknown = _unmeasured(taken) or _unmeasured(loose)
        first = min((spans[row.matrix].high for row in others), default=math.inf)
        front = [row for row in others if spans[row.matrix].low <= first]
        if any(self._weight(row.place) <= room for row in front):
            # Some of those that may come next fit, and would be taken if they did.
            waiting = _unmeasured(front)
            unknown += waiting if first < math.inf else waiting[:1]
            loose += front if len(front) > 1 else []
        if unknown:
            # More that may matter are measured in the same round than one after the other.
            ceiling = self._ceiling(group, spans)
            unknown += [row for row in _unmeasured(others) if spans[row.matrix].low <= ceiling]
        measure = {row.matrix: row for row in unknown}
        decompose = {row.matrix: row for row in loose if row.values["decided_by"] == "bound"}
        return list(measure.values()), list(decompose.values())

    def _ceiling(self, group: Sequence[Row], spans: Mapping[str, "Span"]) -> float:
        """Return what no row that is selected exceeds, from the rows measured; none: -infinity.

        They alone, each at the highest it may be, use up what is to be selected: the others
        can only push some of them out.
        """
        known = [row for row in group if spans[row.matrix].high < math.inf]
        known.sort(key=lambda row: spans[row.matrix].high)
        taken, others, room = self._split(known, self._budget(group))
        if taken and room < min(self._weight(row.place) for row in group):
            return spans[taken[-1].matrix].high
        return spans[others[0].matrix].high if others else -math.inf

    def _guess(self, row: Row) -> tuple[float, float, str]:
        """Return what orders rows before all is known: of a bound not less than its shape gives.

        The bound of a square says as much as that of a rectangle, and its kappa is far higher.
        """
        low, name = rank_key(row.flat(), self.rank_by)
        if row.status != "outside":
            return low, low, name
        null = kappa_null(row.place.rows, row.place.cols) if self.rank_by == "kappa" else 1.0
        return max(low, null), low, name

    def _group(self, place: Place) -> str:
        return place.role if self.per == "role" else ""

    def _weight(self, place: Place) -> int:
        return place.numel if self.by == "params" else 1


class Span(NamedTuple):
    """What a ranked quantity is proven to lie between."""

    low: float
    high: float


def span(row: Mapping[str, Any], rank_by: RankBy) -> Span:
    """Return what kappa, or its excess, is proven to lie between; infinite where singular.

    Args:
        row: As `Row.flat` and documents have it.
        rank_by: Which of both.
    """
    scale = kappa_null(row["rows"], row["cols"]) if rank_by == "kappa_excess" else 1.0
    low, high = (row.get(f"kappa_{end}") for end in ("low", "high"))
    return Span(
        math.inf if low is None else low / scale, math.inf if high is None else high / scale
    )


def rank_key(row: Mapping[str, Any], rank_by: RankBy) -> tuple[float, str]:
    """Return what orders matrices: the quantity, or what it is known to exceed; then names."""
    found = row.get(rank_by)
    return span(row, rank_by).low if found is None else found, row["matrix"]


def amount(select: str, total: int) -> int:
    """Return how many of the total `10%` or `22` means.

    A share is rounded down, but is one at least; a number is that many. Neither exceeds the
    total.

    Raises:
        UsageError: It is neither a share nor a number.
    """
    text = select.strip().replace("_", "?")  # Python would read 1_0 as 10
    try:
        if text.endswith("%"):
            share = Decimal(text[:-1].strip())
            if share.is_finite() and 0 < share <= 100:
                with localcontext(rounding=ROUND_FLOOR):  # 100 * 0.29 is 28.99... in binary
                    return min(max(int(total * share / 100), 1), total)
        elif int(text) > 0:
            return min(int(text), total)
    except (ValueError, InvalidOperation):
        pass
    given = share_of(text)
    below = not text.endswith("%") and 0 < given < 1
    near = f" Did you mean --select {number(100 * given, EXACT)}%?" if below else ""
    told = select if math.isfinite(given) else repr(select)
    raise UsageError(
        f"--select {told} is no share.{near} Expected a percentage above 0% and at most 100%, "
        "like 10%, or how many, at least 1, like 22."
    )


def require_word(option: str, value: str) -> None:
    """Refuse a word that an option does not know.

    Raises:
        UsageError: It is not one of `WORDS`.
    """
    known = WORDS[option]
    if value not in known:
        raise UsageError(
            f"--{option} {value!r} is not known.{guess(value, known)} "
            f"Expected one of {', '.join(known)}."
        )


def _unmeasured(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row.status == "outside"]
