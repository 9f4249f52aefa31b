"""A first policy for a model: limits with room above what it has, and what to look at."""

import datetime as dt
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from spectra.numbers import number
from spectra.policy.facts import Facts, Subject
from spectra.policy.finding import POLICY_RULES, Finding
from spectra.policy.judge import judge
from spectra.policy.peers import pattern
from spectra.policy.policy import Ignore, Override, Policy, matches
from spectra.policy.writing import DEFAULTS, written
from spectra.text import natural
from spectra.text import shown as shown_path

ROOM = 2.0  # limit over the largest value that the model has
LIMITED = {"SPC201": "kappa", "SPC204": "sigma_max"}
"""The number that a rule's `max` holds below."""
MOST_GLOBS = 12  # of a role; one of more has no pattern to its names
LOOK = dt.timedelta(days=90)  # to decide on what was found


def initial(
    facts: Facts,
    spec: str,
    today: dt.date | None = None,
    asked: Policy | None = None,
    *,
    full: bool = False,
) -> str:
    """Return a commented policy fitted to a model, by which it has no findings.

    Roles get limits with room above the largest value in them. What the model has against the
    rules' defaults is accepted for a time, each kind in an `[[ignore]]` of its own.

    Args:
        facts: What was measured of it, and of what the policy compares it with.
        spec: The model, as given.
        today: The day, UTC.
        asked: What the policy is to hold besides, its references among it.
        full: All other settings are told in comments, with their defaults.
    """
    day = today or dt.datetime.now(tz=dt.UTC).date()
    start = asked or Policy()
    policy = replace(
        start,
        min_coverage=start.min_coverage or _coverage(facts),
        rules={code: {"max": limit} for code, limit in _limits(facts.matrices()).items()},
        overrides=tuple(_overrides(facts)),
    )
    kinds: dict[str, list[Finding]] = {}
    for one in judge(policy, facts, "model", day).findings:
        if not one.rule.startswith(POLICY_RULES):
            kinds.setdefault(one.rule, []).append(one)
    ignores = tuple(_accepted(code, kinds[code], facts, day) for code in sorted(kinds))
    head = [
        f"Policy of `spectra check` for {shown_path(spec)}, written by --init on {day}.",
        f"Limits are {number(ROOM)} times what the model has."
        * bool(policy.rules or policy.overrides),
        DEFAULTS if full else "All else has its default: --init --full writes that too.",
        "`spectra rule CODE` explains a rule.",
    ]
    notes = {
        number: f"{kinds[ignore.code][0].name}: {kinds[ignore.code][0].message}"
        for number, ignore in enumerate(ignores)
    }
    return written(replace(policy, ignores=ignores), filter(None, head), notes, full=full)


def _coverage(facts: Facts) -> float:
    """Return a coverage that the model has at least, in whole percents."""
    lost = {name for fault in facts.faults for name in fault.tensors}
    total = {*facts.shapes, *lost, *(facts.index or ())}
    judged = {one.tensor for one in facts.subjects.values()} & set(facts.shapes)
    share = len(judged) / len(total) if total else 0.0
    return min(99, math.floor(100 * share)) / 100


def _limits(subjects: Iterable[Subject]) -> dict[str, float]:
    """Return `max` by rule, of all these matrices; none where one is not finite."""
    known = list(subjects)
    found = {}
    for code, key in LIMITED.items():
        values = [value for one in known if (value := one.number(key)) is not None]
        largest = max(values, default=0.0)
        if largest > 0.0 and math.isfinite(ROOM * largest):
            found[code] = rounded_up(ROOM * largest)
    return found


def rounded_up(value: float) -> float:
    """Return the next number of two digits.

    Args:
        value: Positive and finite.
    """
    digits = 10.0 ** (math.floor(math.log10(value)) - 1)
    near = float(f"{math.ceil(value / digits) * digits:.1e}")
    return near if near >= value else value


def _overrides(facts: Facts) -> list[Override]:
    """Return tighter limits for the matrices of each role."""
    general = _limits(facts.matrices())
    found: list[tuple[int, Override]] = []
    for subjects in facts.by_role().values():
        globs = tuple(dict.fromkeys(pattern(one.name) for one in subjects))
        if len(globs) > MOST_GLOBS:
            continue
        hit = [
            one
            for one in facts.matrices()
            if matches(globs, one.name) or matches(globs, one.tensor)
        ]
        rules = {
            code: {"max": limit}
            for code, limit in _limits(hit).items()
            if limit < general.get(code, math.inf)
        }
        if rules:
            found.append((len(hit), Override(globs, rules=rules)))
    # The last that fits counts: globs that fit other roles as well come first.
    return [override for _, override in sorted(found, key=lambda one: -one[0])]


def _accepted(code: str, found: Sequence[Finding], facts: Facts, day: dt.date) -> Ignore:
    """Return an ignore of what a rule found, for a time."""
    return Ignore(
        code=code,
        reason=f"found when this policy was written, on {day}; not looked at yet",
        tensors=_globs({one.matrix or one.place for one in found}, facts.subjects),
        until=day + LOOK,
    )


def _globs(places: set[str], subjects: Mapping[str, Subject]) -> tuple[str, ...]:
    """Return globs that fit these places and no other matrix."""
    if "" in places:  # the model as a whole
        return ()
    found: dict[str, None] = {}
    for place in sorted(places, key=natural):
        glob = pattern(place)
        fits = {name for name in subjects if matches((glob,), name)}
        found[glob if fits and fits <= places else place] = None
    return tuple(found)
