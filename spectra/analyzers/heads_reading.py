"""Heads beside each other: which are dead, which do the same, and what stands out."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from math import isclose
from statistics import median
from typing import Any, NamedTuple, TypeAlias

from spectra.analyzers.row import Row, Value
from spectra.numbers import hundredths, number
from spectra.text import counted
from spectra.words import UNMEASURED

HEAD_KEYS = (
    "head", "kv_head", "attends", "ov_sigma_max", "ov_frobenius", "ov_stable_rank",
    "ov_effective_rank", "ov_tied", "qk_sigma_max", "qk_frobenius", "qk_unturned",
    "qk_stable_rank", "qk_effective_rank", "qk_tied", "logit_bound", "logit_scale", "logit_cap",
    "logit_added", "qk_norm", "turning", "copying", "nearest", "nearest_cosine", "folded",
    "dead", "twin", "ov_profile", "qk_profile",
)  # fmt: skip
STACK = re.compile(r"encoder|decoder|text_model|vision_model|language_model|visual")
ACROSS = re.compile(r"cross|encoder_attn|EncDec", re.IGNORECASE)
Naming: TypeAlias = Callable[[Row], str]

DEAD = 1e-3  # of the model's median: what writes or looks less does so by rounding, or was pruned
TWIN = 0.9  # cosine of two heads that do the same; its negative, of two that do the opposite
NAMED = 3  # heads in a sentence
SAME = 1e-9  # relative difference of bounds that are one, as qk-norms alone make them
COPIES = 0.5  # copying score of a head that is told of


class Twins(NamedTuple):
    """Two heads of one module that do the same, or the opposite."""

    row: Row
    other: int  # a later head
    cosine: float


def twins_of(measured: Sequence[Row], marked: Sequence[Row]) -> list[Twins]:
    """Return every pair of heads that move the same or the opposite, none of them dead.

    Args:
        measured: Rows with `alike`, the heads of their module that are so, and `alike_cosines`.
        marked: The same, as `concluded` marks them.
    """
    live = {
        (row.place.tensor, row.number("head"))
        for row in marked
        if row.status not in UNMEASURED and not row.values["dead"]
    }
    found = []
    for one, row in zip(measured, marked, strict=True):
        others: Any = one.values.get("alike") or ()
        cosines: Any = one.values.get("alike_cosines") or ()
        head, module = row.number("head"), row.place.tensor
        found += [
            Twins(row, int(other), float(cosine))
            for other, cosine in zip(others, cosines, strict=True)
            if head is not None and other > head and {(module, head), (module, other)} <= live
        ]
    return found


def concluded(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with those marked that do nothing, and those that do the same as another."""
    found = [row for row in rows if row.status not in UNMEASURED]
    middle = {
        name: median([row.number(f"{name}_frobenius") or 0.0 for row in found] or [0.0])
        for name in ("ov", "qk")
    }
    return [_marked(row, middle) if row.status not in UNMEASURED else row for row in rows]


def _marked(row: Row, middle: Mapping[str, float]) -> Row:
    dead = [
        name for name in ("ov", "qk")
        if (row.number(f"{name}_frobenius") or 0.0) <= DEAD * middle[name]
    ]  # fmt: skip
    cosine = row.number("nearest_cosine")
    twin = not dead and cosine is not None and abs(cosine) >= TWIN
    values: dict[str, Value] = {
        **row.values, "dead": " and ".join(dead) or None,
        "twin": _whole(row.values["nearest"]) if twin else None,
        "nearest": _whole(row.values["nearest"]), "ov_tied": _whole(row.values["ov_tied"]),
        "qk_tied": _whole(row.values["qk_tied"]),
    }  # fmt: skip
    return replace(row, values={name: values[name] for name in HEAD_KEYS})


def reading_of(rows: Sequence[Row], pairs: Sequence[Twins] = ()) -> dict[str, object]:
    """Return what the heads of a model show, and a sentence on it.

    Args:
        rows: As `concluded` marks them.
        pairs: Of `twins_of`.
    """
    found = [row for row in rows if row.status not in UNMEASURED]
    dead = [row for row in found if row.values["dead"]]
    twins = [row for row in found if row.values["twin"] is not None]
    modules = {row.place.tensor for row in rows}
    of_module = naming(modules)

    def named(row: Row) -> str:
        return of_module(row.place.tensor, row.place.layer, int(row.number("head") or 0))

    what = f"{counted(len(rows), 'head')} of attention in {counted(len(modules), 'module')}"
    lost = len(rows) - len(found)
    told = [
        f"{what}{_lost(lost, len(rows))}{_dead(dead, len(found), lost, named)}.",
        _twins([one for one in pairs if one.cosine > 0.0], "the same", named),
        _twins([one for one in pairs if one.cosine < 0.0], "the opposite", named),
        _copying([row for row in found if not row.values["dead"]], named),
        _bounded(found, len(found) == len(rows), named),
    ]
    return {
        "reading": " ".join(one for one in told if one),
        "heads": len(found),
        "modules": len({row.place.tensor for row in found}),
        "dead": len(dead),
        "twins": len(twins),
        "tied": sum(bool(row.values["ov_tied"] or row.values["qk_tied"]) for row in found),
        "unknown": sum(row.values["folded"] == "unknown" for row in found),
        "non_finite": sum(row.status == "non-finite" for row in rows),
    }


def _lost(lost: int, of: int) -> str:
    """Say how many heads are in no other number; none: nothing."""
    if not lost:
        return ""
    return ", none of which has numbers" if lost == of else f", {lost:,} of them without numbers"


def _dead(dead: Sequence[Row], of: int, lost: int, named: Naming) -> str:
    if not of:
        return ""
    if not dead:
        return f", and none of the other {of:,} dead" if lost else ", none dead"
    some = ", ".join(f"{named(row)} ({dead_parts(row.values['dead'])})" for row in dead[:NAMED])
    more = f" and {len(dead) - NAMED:,} more" if len(dead) > NAMED else ""
    return f", {len(dead):,} of {of:,} dead: {some}{more}"


def dead_parts(dead: object) -> str:
    """Return in a sentence what of a head is dead: `OV`, `OV and QK`."""
    return " and ".join(part.upper() for part in str(dead).split(" and "))


def _twins(pairs: Sequence[Twins], what: str, named: Naming) -> str:
    if not pairs:
        return ""
    ranked = sorted(pairs, key=lambda pair: -abs(pair.cosine))
    some = ", ".join(
        f"{named(pair.row)} and {pair.other} ({hundredths(pair.cosine)})" for pair in ranked[:NAMED]
    )
    more = f" and {len(pairs) - NAMED:,} more" if len(pairs) > NAMED else ""
    verb = "move" if len(pairs) > 1 else "moves"
    return f"{counted(len(pairs), 'pair')} of heads {verb} {what} by OV: {some}{more}."


def _copying(rows: Sequence[Row], named: Naming) -> str:
    known = [row for row in rows if row.values["copying"] is not None]
    copies = sorted(known, key=lambda row: -(row.number("copying") or 0.0))
    copies = [row for row in copies if (row.number("copying") or 0.0) >= COPIES]
    away = sum((row.number("copying") or 0.0) <= -COPIES for row in known)
    if not copies:
        verb = "takes away what it reads" if away == 1 else "take away what they read"
        return f"{away:,} {verb} (score of {number(-COPIES)} or less)." if away else ""
    some = ", ".join(
        f"{named(row)} ({hundredths(row.number('copying') or 0.0)})" for row in copies[:NAMED]
    )
    verb = "copies" if len(copies) == 1 else "copy"
    lead = "most of all " if len(copies) > NAMED else ""
    more = f", and {away:,} {'takes' if away == 1 else 'take'} it away" if away else ""
    they = "it reads" if len(copies) == 1 else "they read"
    what = f"{len(copies):,} {verb} what {they} (score of {number(COPIES)} or more)"
    return f"{what}, {lead}{some}{more}."


def _bounded(rows: Sequence[Row], whole: bool, named: Naming) -> str:
    """Say what no logit exceeds; of a model that is not whole, of how many heads that is known."""
    bounds = [(row.number("logit_bound"), row) for row in rows]
    known = [(bound, row) for bound, row in bounds if bound is not None]
    if not known:
        return ""
    largest, top = max(known, key=lambda pair: pair[0])
    ties = sum(isclose(bound, largest, rel_tol=SAME) for bound, _ in known) - 1
    of = "" if whole and len(known) == len(rows) else f" of {counted(len(known), 'head')}"
    added = any(row.values["logit_added"] for _, row in known)
    before = ", before positions are added," if added else ""
    size = f"No logit{of}{before} can exceed {number(largest)} in size"
    if ties and ties + 1 == len(known):
        return f"{size}, the bound of each."
    whose = f"that of {named(top)} and {counted(ties, 'other')}" if ties else f"{named(top)}'s"
    return f"{size}; the highest bound is {whose}."


def naming(modules: Iterable[str]) -> Callable[[str, int | None, int], str]:
    """Return what names a head by its module, layer and number: with its stack, of several."""
    several = len({stack_of(module) for module in modules}) > 1

    def named(module: str, layer: int | None, head: int) -> str:
        stack = f"{stack_of(module)} " if several else ""
        across = " across" if ACROSS.search(module) else ""
        return f"{stack}layer {layer}{across} head {head}".lstrip()

    return named


def stack_of(module: str) -> str:
    """Return which stack of a model a module is in, such as `decoder`; empty: there is one."""
    found = next((word for word in module.split(".") if STACK.fullmatch(word)), "")
    return found.removesuffix("_model")


def _whole(value: Value) -> int | None:
    return int(value) if isinstance(value, int | float) else None
