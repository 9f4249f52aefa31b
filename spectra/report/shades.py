"""How bad a number is, from 0 to 1, as rules judge it: by this pages and pictures colour red."""

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence

from spectra.kernels.gaussian import kappa_null
from spectra.policy import RULES, Policy
from spectra.policy.facts import Subject
from spectra.policy.peers import FEWEST, peers
from spectra.policy.rule import Settings
from spectra.policy.rules.conditioning import SQUARE
from spectra.policy.threshold import SPREAD, robust
from spectra.report.kind import RowDoc

RULE = RULES["SPC202"]
LOOKED_AT = 10  # leading vectors, where a row does not tell
MANY = 3  # findings on one matrix, which are as bad as can be

Shades = Sequence[float | None]
"""One a row: 0 is as it should be, 1 what a rule finds; None where there is no number."""

OF_KAPPA = ("as its like", "as SPC202 finds, or singular")
OF_COUNTS = ("0", f"{MANY} or more")
OF_INTRUDERS = ("0", "all vectors looked at")
OF_COSINE = ("1", "0")
"""What both ends are called."""


def conditioning(rows: Sequence[RowDoc], policy: Policy | None = None) -> Shades:
    """Return how far kappa, over what noise of the shape has, stands off that of its like.

    Squares have thousands by their shape alone: what is red is what `SPC202` finds, and half of
    the way there, in powers of ten, nothing is.

    Args:
        rows: Of one model.
        policy: Whose limits count; the defaults where there is none, or none that has the rule.
    """
    if policy is None or not policy.counts(RULE):
        policy = Policy()
    excess = [_excess(row) for row in rows]
    keys = peers(Subject.read(row) for row in rows)
    known: dict[Hashable, list[float]] = defaultdict(list)
    for row, value in zip(rows, excess, strict=True):
        if value:
            known[keys[row["matrix"]]].append(value)
    like = {key: robust(values) for key, values in known.items() if len(values) >= FEWEST}
    return [
        1.0 if row["status"] == "singular"
        else None if not value
        else _off(value, like.get(keys[row["matrix"]]), _settings(policy, row), _is_square(row))
        for row, value in zip(rows, excess, strict=True)
    ]  # fmt: skip


def findings(rows: Sequence[RowDoc], _: Policy | None = None) -> Shades:
    """Return how many findings count against a matrix; what the baseline has too does not."""
    return [min((row["against"] + 1) / (MANY + 1), 1.0) if row["against"] else 0.0 for row in rows]


def intruders(rows: Sequence[RowDoc], _: Policy | None = None) -> Shades:
    """Return the share of the leading vectors that are intruders."""
    return [
        None if row.get("intruders") is None
        else min(row["intruders"] / (len(row.get("intruder_detail") or ()) or LOOKED_AT), 1.0)
        for row in rows
    ]  # fmt: skip


def foreignness(rows: Sequence[RowDoc], _: Policy | None = None) -> Shades:
    """Return how little the vector that resembles the base least does."""
    cosines = [row.get("worst_cos") for row in rows]
    return [None if cosine is None else min(max(1.0 - cosine, 0.0), 1.0) for cosine in cosines]


def _excess(row: RowDoc) -> float | None:
    kappa = row.get("kappa")
    return None if kappa is None else float(kappa) / kappa_null(row["rows"], row["cols"])


def _is_square(row: RowDoc) -> bool:
    short, long = sorted((int(row["rows"]), int(row["cols"])))
    return short > SQUARE * long


def _settings(policy: Policy, row: RowDoc) -> Settings:
    """Return what counts for a matrix; nothing where the rule is off."""
    return policy.settings(RULE, (row["matrix"], row["tensor"])) or {}


def _off(value: float, like: tuple[float, float] | None, settings: Settings, square: bool) -> float:
    limits = [_number(settings, key) for key in ("max", "warn", "error")]
    if any(limit is not None and value > limit for limit in limits):
        return 1.0
    limit = _number(settings, "squares" if square else "outlier")
    if like is None or limit is None or limit <= 1.0:
        return 0.0
    middle, spread = like
    step = max(math.log(limit), SPREAD * spread)
    return min(max(2.0 * math.log(value / middle) / step - 1.0, 0.0), 1.0)


def _number(settings: Settings, key: str) -> float | None:
    value = settings.get(key)
    return None if isinstance(value, bool) or not isinstance(value, int | float) else value
