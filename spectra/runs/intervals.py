"""What a saved quantity is proven, or stated, to lie between: docs/quantities.md as code."""

import math
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

RowDoc: TypeAlias = Mapping[str, Any]

SIGMA = 1e-4  # relative error of a singular value, above the rounding floor
ENDS = 1e-3  # of both ends of a spectrum that bounds prove
SQUARES = ((1.0 + SIGMA) / (1.0 - SIGMA)) ** 2 - 1.0  # of a ratio of squares
OVERLAP = 0.005  # of `subspace_overlap`
LINE = 0.5  # of a count: the one value that lies on the line counts, or does not
DIGITS = 5e-6  # of a number saved in six digits
COSINE = 1e-6  # of |cos| from float64 decompositions
ROUNDING = 1e-12  # of what follows from stored values or shapes
UNSTATED = 1e-6  # of a number of which no error is stated: float32's rounding
LOGARITHMS = {"alpha_weighted", "log_alpha_norm", "log_norm", "log_spectral_norm", "log_abs_det"}
"""What may be 0 of numbers that are not: rounded as these are."""
EPS = sys.float_info.epsilon
LOGARITHM = 40.0  # above -ln p of any share p that a rounding floor leaves


class Interval(NamedTuple):
    """What a quantity is known to lie between."""

    low: float
    high: float

    @property
    def bound(self) -> bool:
        """Say whether it is known from one side alone."""
        return math.isinf(self.high) or math.isinf(self.low)

    def beyond(self, other: "Interval") -> float:
        """Return the least by which another one differs, with its sign; 0 where they meet."""
        if not (self.low <= self.high and other.low <= other.high):
            return 0.0  # of numbers that no run writes
        if other.low > self.high:
            return other.low - self.high
        return min(other.high - self.low, 0.0)


Rule: TypeAlias = Callable[[RowDoc, float], Interval]
"""Takes a row and a number of it."""


def interval_of(row: RowDoc, key: str) -> Interval | None:
    """Return what a row's quantity lies between; None where nothing is known of it.

    Args:
        row: Of a document.
        key: What was measured. A key that this version does not know is taken to have
            float32's rounding, or to be a count.
    """
    if key in BOUNDED:
        found = BOUNDED[key](row)
        if found is not None:
            return found
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if key in RULES:
        return RULES[key](row, float(value))
    size = max(abs(value), 1.0) if key in LOGARITHMS else abs(value)
    return _around(float(value), 0.0 if isinstance(value, int) else UNSTATED * size)


def value_error(row: RowDoc, value: float) -> float:
    """Return how far one of a row's singular values may be off."""
    share = ENDS if row.get("decided_by") == "bound" else SIGMA
    return max(share * value, _floor(row))


def is_stated(key: str) -> bool:
    """Say whether the error of a quantity is known here."""
    return key in RULES or key in BOUNDED


def _around(value: float, error: float) -> Interval:
    return Interval(value - error, value + error)


def _positive(value: float, error: float) -> Interval:
    return Interval(max(value - error, 0.0), value + error)


def _relative(share: float) -> Rule:
    return lambda _, value: _positive(value, share * value)


def _within(error: float) -> Rule:
    return lambda _, value: _around(value, error)


def _short(row: RowDoc) -> int:
    return max(min(int(row["rows"]), int(row["cols"])), 1)


def _floor(row: RowDoc) -> float:
    """Return the rounding floor: what is no larger was taken for 0."""
    return max(int(row["rows"]), int(row["cols"])) * EPS * float(row.get("sigma_max") or 0.0)


def _value(row: RowDoc, value: float) -> Interval:
    # What was taken for 0 is below the floor, which itself may be off by as much.
    return _positive(value, value_error(row, value) * (1.0 if value else 2.0))


def _kappa(row: RowDoc) -> Interval | None:
    """Return the proven bracket, or what both ends of the spectrum leave."""
    low, high = row.get("kappa_low"), row.get("kappa_high")
    if low is not None:
        return Interval(low, math.inf if high is None else high)
    largest, smallest = row.get("sigma_max"), row.get("sigma_min")
    if not largest or smallest is None:
        return None
    above, below = _value(row, largest), _value(row, smallest)
    if not below.high:
        return Interval(0.0, math.inf)  # below what a double holds
    value = row.get("kappa")
    unit = 1.0 if value is None or not smallest else value * (smallest / largest)  # about 1
    high = above.high / below.low if below.low else math.inf
    return Interval(unit * above.low / below.high, unit * high)


def _excess(row: RowDoc) -> Interval | None:
    null, found, value = row.get("kappa_null"), _kappa(row), row.get("kappa_excess")
    if not null or found is None:
        return None
    # The null is exact: kappa's bracket, about the excess that was written.
    unit = 1.0 / null if value is None or not row.get("kappa") else value / row["kappa"]
    return Interval(unit * found.low, unit * found.high)


def _effective(row: RowDoc, value: float) -> Interval:
    """Relative errors e of all sigma move their entropy H by at most 2 e H."""
    floor = row["rows"] * row["cols"] * EPS * LOGARITHM
    return _positive(value, (2.0 * SIGMA * math.log(max(value, 1.0)) + floor + ROUNDING) * value)


def _effective_share(row: RowDoc, value: float) -> Interval:
    full = _short(row)
    found = _effective(row, value * full)
    return Interval(found.low / full, found.high / full)


def _energy(row: RowDoc, value: float) -> Interval:
    """What lies behind the rank holds no less on average than errors of sigma^2 can shift."""
    return _around(value, LINE + 4.0 * SIGMA * max(_short(row) - value, 0.0))


def _resolved_share(row: RowDoc, value: float) -> Interval:
    return _around(value, LINE / _short(row))


def _alpha(row: RowDoc, value: float) -> Interval:
    """Return one standard error of the fit, (alpha - 1) / sqrt(n), n values in the tail."""
    count, cut = float(row.get("resolved_rank") or _short(row)), row.get("alpha_xmin")
    profile = row.get("sigma_profile") or ()
    if cut and profile:
        tail = sum(sigma * sigma >= cut for sigma in profile)
        count = min(max(tail * _short(row) / len(profile), 2.0), count)
    return _around(value, abs(value - 1.0) / math.sqrt(max(count, 1.0)))


def _edge(row: RowDoc, value: float) -> Interval:
    """Return what the bulk's errors leave, and one value at the edge that may be of it."""
    spikes = row.get("spikes") or 0
    left = max((row["rows"] - spikes) * (row["cols"] - spikes), 1)
    one = 1.5 * math.sqrt(row["rows"] * row["cols"]) / left
    return _positive(value, (SIGMA + one) * value)


def _change(fast: float, slow: float) -> Rule:
    """Return the error of a change, by bounds or by all of its singular values."""

    def rule(row: RowDoc, value: float) -> Interval:
        return _positive(value, (fast if row.get("delta_effective_rank") is None else slow) * value)

    return rule


def _rank(row: RowDoc) -> Interval | None:
    """Return a rank that is proven, or no more than a lower bound of it."""
    rank = row.get("delta_rank")
    if rank is None:
        return None
    return Interval(rank, math.inf if row.get("delta_rank_status") == "at least" else rank)


def _intruders(row: RowDoc) -> Interval | None:
    count = row.get("intruders")
    if count is None:
        return None
    return Interval(count, count) if row.get("certified") is not False else Interval(0, math.inf)


def _cosine(row: RowDoc) -> Interval | None:
    """Return what the lowest |cos| of a row's vectors lies between."""
    details = [one for one in row.get("intruder_detail") or () if one.get("max_cos") is not None]
    ends = []
    for one in details:
        cosine, error = one["max_cos"], max(one.get("max_cos_error") or 0.0, COSINE)
        upper = str(one.get("decided_by", "")).startswith("bound")
        ends.append((0.0 if upper else max(cosine - error, 0.0), cosine + error))
    return Interval(min(low for low, _ in ends), min(high for _, high in ends)) if ends else None


def _largest(row: RowDoc) -> Interval | None:
    """Return a proven bracket of sigma_max, of a row that has one."""
    low, high = row.get("sigma_max_low"), row.get("sigma_max_high")
    return None if low is None or high is None else Interval(low, high)


def _spectral(row: RowDoc) -> Interval | None:
    """Return a proven bracket of what is cut off, of a row that has one."""
    low, high = row.get("loss_spectral_low"), row.get("loss_spectral")
    return None if low is None or high is None else Interval(low, max(low, high))


BOUNDED: Mapping[str, Callable[[RowDoc], Interval | None]] = {
    "kappa": _kappa, "kappa_excess": _excess, "delta_rank": _rank, "intruders": _intruders,
    "worst_cos": _cosine, "sigma_max": _largest, "loss_spectral": _spectral,
}  # fmt: skip
"""Quantities with a bracket of their own in the row."""

EXACT = _relative(ROUNDING)
RULES: Mapping[str, Rule] = {
    "sigma_max": _value, "sigma_min": _value, "frobenius": _relative(SIGMA),
    "stable_rank": _relative(SQUARES), "effective_rank": _effective,
    "effective_share": _effective_share,
    "energy_rank": _energy, "numerical_rank": _within(LINE), "resolved_rank": _within(LINE),
    "resolved_share": _resolved_share, "alpha": _alpha, "mp_edge": _edge, "spikes": _within(LINE),
    "delta_norm": _relative(SIGMA), "delta_relative": _relative(SIGMA),
    "delta_sigma_max": _change(ENDS, SIGMA),
    "delta_stable_rank": _change(2.0 * ENDS, SQUARES),
    "delta_effective_rank": _effective, "delta_energy_rank": _energy,
    "subspace_overlap": _within(OVERLAP), "largest": EXACT, "kappa_null": EXACT,
    "null_cos": EXACT,
}  # fmt: skip
"""The error of every other one."""
