"""What moved between two rows of one matrix, and by how much beyond its error."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from spectra.numbers import number
from spectra.report.changes import by_difference
from spectra.report.ranking import enriched
from spectra.runs.intervals import DIGITS, Interval, interval_of, value_error
from spectra.words import UNMEASURED

RowDoc: TypeAlias = Mapping[str, Any]

HOW = frozenset({
    "status", "error", "decided_by", "certified", "kappa_low", "kappa_high", "sigma_max_low",
    "sigma_max_high", "alpha_xmin", "alpha_ks", "delta_rank_status", "delta_spectrum_status",
    "overlap_status", "first_non_finite", "intruder_detail", "worst_at", "worst_energy",
    "sigma_profile", "digest", "layer", "expert", "parameters", "tensor", "matrix", "rows", "cols",
    "loss_spectral_low", "rounding", "frame_rounding", "cosine_rounding", "head", "kv_head",
    "module",
    "findings", "zero_row_runs", "zero_col_runs", "vectors_judged", "vectors_status", "delta_note",
})  # fmt: skip
"""Keys that say how a number was found, where, or what a key beside them says too."""
PROFILE = "sigma_profile"
BOUND = "rank_bound"
OVER_RANK = frozenset((PROFILE, BOUND, "sigma_min", "kappa", "kappa_resolved"))
"""Keys that are over the singular values that stored factors leave room for, and nothing else's."""
SINGULAR = "singular"


@dataclass(frozen=True, slots=True)
class Move:
    """One quantity of one matrix that is not what it was."""

    key: str
    before: float | int | None  # None: a word, or known by a bound alone
    after: float | int | None
    was: str | None = None  # what stands there instead
    now: str | None = None
    beyond: float | None = None  # the least that it moved, with its sign; None: of words
    extent: float = 1.0  # the difference over the larger of both, at least 1 where it has a sign
    index: int | None = None  # of several values, the one that moved most

    @property
    def change(self) -> float | None:
        """The difference over what it was; None where that is 0, not known or tells nothing."""
        if self.before is None or self.after is None or not self.before:
            return None
        if by_difference(self.key):
            return None
        return (self.after - self.before) / abs(self.before)

    @property
    def rank(self) -> tuple[float, ...]:
        """What orders moves: a matrix that lost its numbers, then the largest; the same mirrored.

        Of moves about as large those of a quantity with a name come before one inside the
        spectrum, and numbers before words. Digits that another processor changes order none.
        """
        words = self.beyond is None
        inside = self.key == PROFILE
        return (self.key != "status", -round(self.extent, 3), words, inside, -round(self.extent, 9))

    def plain(self) -> dict[str, Any]:
        """Return it as data."""
        return {
            "key": self.key, "before": self.before, "after": self.after, "was": self.was,
            "now": self.now, "change": self.change, "beyond": self.beyond, "extent": self.extent,
            "index": self.index,
        }  # fmt: skip


@dataclass(slots=True)
class Tally:
    """How often each quantity was compared, and with what outcome."""

    compared: Counter[str] = field(default_factory=Counter)
    moved: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)  # a bound leaves it open
    only_before: Counter[str] = field(default_factory=Counter)  # the other has no number
    only_after: Counter[str] = field(default_factory=Counter)

    @property
    def keys(self) -> list[str]:
        """Every quantity that was looked at, the one that moved in most matrices first."""
        seen = self.compared + self.only_before + self.only_after
        return sorted(seen, key=lambda key: -self.moved[key])


def moves_of(before: RowDoc, after: RowDoc, keys: Sequence[str], tally: Tally) -> list[Move]:
    """Return what moved in a matrix, the largest first.

    Args:
        before: Its row in one result.
        after: Its row in the other.
        keys: What both results measured and is to be compared.
        tally: Is told of every comparison.
    """
    found = list(_status(before, after, tally))
    bounds = [row.get(BOUND) for row in (before, after)]
    alike = bounds[0] == bounds[1]
    if not alike and not UNMEASURED & {before["status"], after["status"]}:
        tally.compared[BOUND] += 1
        tally.moved[BOUND] += 1
        was, now = (str(one or "none") for one in bounds)
        found.append(Move(BOUND, None, None, was, now))
    for key in keys if alike else [key for key in keys if key not in OVER_RANK]:
        one = _compared(key, before, after, tally)
        if one is not None:
            tally.moved[key] += 1
            found.append(one)
    return sorted(found, key=lambda move: move.rank)


def measured_keys(rows: Sequence[RowDoc]) -> dict[str, None]:
    """Return the keys that some row has a value for, and that are compared."""
    known = dict.fromkeys(key for row in rows for key, value in row.items() if value is not None)
    return {key: None for key in known if key not in HOW or key == PROFILE}


def compared_row(row: RowDoc) -> dict[str, Any]:
    """Return a row with what is told of it and not stored: its shape, its lowest |cos|."""
    return enriched(row)


def unequal(before: RowDoc, after: RowDoc, keys: Set[str]) -> bool:
    """Say whether two rows differ in anything that was measured."""
    return any(before.get(key) != after.get(key) for key in keys)


def _status(before: RowDoc, after: RowDoc, tally: Tally) -> Iterator[Move]:
    """Yield a matrix that lost its numbers or got them back."""
    was, now = before["status"], after["status"]
    if was != now and UNMEASURED & {was, now}:
        tally.moved["status"] += 1
        yield Move("status", None, None, was, now)


def _compared(key: str, before: RowDoc, after: RowDoc, tally: Tally) -> Move | None:
    if key == PROFILE:
        return _profile(before, after, tally)
    first, second = interval_of(before, key), interval_of(after, key)
    if first is None and second is None:
        return _words(key, before, after, tally)
    if first is None or second is None:
        if not UNMEASURED & {before["status"], after["status"]}:
            (tally.only_after if first is None else tally.only_before)[key] += 1
        return None
    tally.compared[key] += 1
    beyond = first.beyond(second)
    if not beyond:
        open_end = first.bound or second.bound or _is_bound(key, before) or _is_bound(key, after)
        same = first == second and before.get(key) == after.get(key)
        singular = before["status"] == after["status"] == SINGULAR
        tally.unknown[key] += open_end and not same and not singular
        return None
    was, now = (_instead(key, row, found) for row, found in ((before, first), (after, second)))
    old = before[key] if was is None else None
    new = after[key] if now is None else None
    if old is None or new is None:
        # Of what is open only the end that faces the other is known.
        ends = (first.high, second.low) if beyond > 0.0 else (first.low, second.high)
        return Move(key, old, new, was, now, beyond, _extent(key, *ends))
    return Move(key, old, new, beyond=beyond, extent=_extent(key, old, new))


def _extent(key: str, before: float, after: float) -> float:
    """Return how far it is from one to the other, the same in either direction."""
    whole = max(abs(before), abs(after), 1.0 if by_difference(key) else 0.0)
    return abs(after - before) / (whole or 1.0)


def _is_bound(key: str, row: RowDoc) -> bool:
    """Say whether the lowest |cos| is no more than proven to lie below a number."""
    if key != "worst_cos":
        return False
    details = [one for one in row.get("intruder_detail") or () if one["max_cos"] is not None]
    lowest = sorted(details, key=lambda one: one["max_cos"])[:1]
    return any(str(one.get("decided_by")).startswith("bound") for one in lowest)


def _instead(key: str, row: RowDoc, found: Interval) -> str | None:
    """Return what stands where no number is known but a bound; None where one is."""
    if row.get(key) is None:
        return SINGULAR if row["status"] == SINGULAR else f"> {number(found.low)}"
    if _is_bound(key, row):
        return f"< {number(found.high)}"
    if key == "delta_rank" and row.get("delta_rank_status") == "at least":
        return f">= {row[key]:,}"
    return None


def _words(key: str, before: RowDoc, after: RowDoc, tally: Tally) -> Move | None:
    """Compare words and flags, which are what they are."""
    was, now = (row.get(key) or ("none" if key == "codec" else row.get(key))
                for row in (before, after))  # fmt: skip
    if isinstance(was, list | dict) or isinstance(now, list | dict):
        return None
    if was is None or now is None:
        if was is not now and not UNMEASURED & {before["status"], after["status"]}:
            (tally.only_after if was is None else tally.only_before)[key] += 1
        return None
    tally.compared[key] += 1
    return None if was == now else Move(key, None, None, _word(was), _word(now))


def _word(value: object) -> str:
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


def _profile(before: RowDoc, after: RowDoc, tally: Tally) -> Move | None:
    """Compare singular values between the ends, which have quantities of their own."""
    was, now = before.get(PROFILE) or (), after.get(PROFILE) or ()
    if len(was) != len(now) or len(was) < 3:
        return None
    tally.compared[PROFILE] += 1
    count = before.get("rank_bound") or min(before["rows"], before["cols"])
    last, short = len(was) - 1, count - 1
    found = []
    for place in range(1, last):
        index = (2 * place * short + last) // (2 * last)
        first, second = (
            Interval(max(value - error, 0.0), value + error)
            for row, value in ((before, was[place]), (after, now[place]))
            for error in [value_error(row, value) + DIGITS * value]
        )
        beyond = first.beyond(second)
        if beyond:
            extent = _extent(PROFILE, was[place], now[place])
            found.append(Move(PROFILE, was[place], now[place], None, None, beyond, extent, index))
    return min(found, key=lambda move: move.rank, default=None)
