"""Directions in tokens as cells of a table: a few tokens of both ends."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from unicodedata import bidirectional

from spectra.checkpoint.tokenizer import seen
from spectra.report.shape import COUNT, FLAG, NUMBER, TEXT, Items, Object

ENDS = " ↔ "
"""Between both ends: a direction has no sign, so that either may be called the upper one."""
NONE = "—"
FEW = 3  # tokens of an end in a cell
LONG = 14  # characters of one there
MANY, WHOLE = 10, 40  # on a page
ESCAPE = re.compile(r"\\(?:x[0-9a-f]?|u[0-9a-f]{0,3}|U[0-9a-f]{0,7})?$")
"""The beginning of what stands for a character that does not print."""

TOKEN = Object({"id": COUNT, "token": TEXT, "weight": NUMBER})
READING = Object({
    "of": TEXT, "index": COUNT, "sigma": NUMBER.nullable, "does": TEXT, "tied": FLAG,
    "folded": TEXT, "through": TEXT, "match": COUNT.sometimes, "intruder": COUNT.sometimes,
    "highest": Items(TOKEN), "lowest": Items(TOKEN),
})  # fmt: skip
"""One direction in tokens."""
ABOUT = Object({
    "through": TEXT, "table": TEXT, "table_rows": COUNT, "embedding": TEXT.nullable,
    "norm": TEXT.nullable, "folded": TEXT, "bent": FLAG, "tokenizer": TEXT.nullable,
    "directions_read": COUNT,
})  # fmt: skip
"""By what directions were read."""


def words(tokens: Sequence[Mapping[str, Any]], few: int = FEW, long: int = LONG) -> str:
    """Return the first tokens of an end, spaces in them visible."""
    return " ".join(_cut(seen(str(one["token"])), long) for one in tokens[:few])


def _on_page(tokens: Sequence[Mapping[str, Any]]) -> str:
    """Return many tokens of an end, in their order even where some are written from the right."""
    return " ".join(_apart(_cut(seen(str(one["token"])), WHOLE)) for one in tokens[:MANY])


def _apart(text: str) -> str:
    """Return a token that turns none of its neighbours: between marks of Unicode's isolates."""
    turns = any(bidirectional(one) in {"R", "AL"} for one in text)
    return f"\u2068{text}\u2069" if turns else text


def _cut(text: str, long: int) -> str:
    return text if len(text) <= long else f"{ESCAPE.sub('', text[: long - 1])}…"


def both_ends(reading: Mapping[str, Any], few: int = FEW) -> str:
    """Return a few tokens of both ends of a direction."""
    return f"{words(reading['highest'], few)}{ENDS}{words(reading['lowest'], few)}"


def _first(row: Mapping[str, Any], of: str, does: str = "") -> Mapping[str, Any] | None:
    """Return a row's first direction of a kind."""
    return next((one for one in row.get("tokens") or ()
                 if one["of"] == of and does in {"", one["does"]}), None)  # fmt: skip


def cell(of: str) -> Callable[[Mapping[str, Any]], str]:
    """Return what writes the first direction of a kind of a row: what it does, and both ends."""

    def write(row: Mapping[str, Any]) -> str:
        found = _first(row, of)
        return NONE if found is None else f"{found['does']} {both_ends(found)}"

    return write


def matched(row: Mapping[str, Any]) -> str:
    """Write the first intruder of a row, and beside it its best match."""
    own = _first(row, "intruder")
    if own is None:
        return NONE
    other = next((one for one in row["tokens"] if one["of"] == "match"
                  and one["intruder"] == own["index"]), None)  # fmt: skip
    beside = "match not known (--exact tells)" if other is None else f"match: {both_ends(other)}"
    return f"{own['does']} {both_ends(own)}; {beside}"


def through(of: str) -> Callable[[Mapping[str, Any]], str]:
    """Return what writes what a head's strongest component reads, and what it writes then."""

    def write(row: Mapping[str, Any]) -> str:
        parts = [_first(row, of, does) for does in ("reads", "writes")]
        return " → ".join(NONE if one is None else both_ends(one) for one in parts)

    return write


def facts(summary: Mapping[str, Any]) -> list[str]:
    """Say by what directions were read, and that they have no sign."""
    about = summary.get("tokens")
    if not about:
        return []
    norm = f", {about['norm']} folded in" if about["norm"] and about["folded"] != "no" else ""
    if about["folded"] == "unknown":
        norm = ", a final norm not known"
    by = {
        "output head": about["table"],
        "tied embedding": f"{about['table']}, which is the head too",
    }
    told = f"what is written by {by.get(about['through'], about['table'])}{norm}"
    if about["through"] == "input embedding":
        told += ": the model has no output head"
    if about["bent"]:
        told += "; the transform between them is left out"
    if about["embedding"]:
        told += f"; what is read by {about['embedding']}"
    return [f"tokens: both ends of each direction, which has no sign; {told}"]


def block(row: Mapping[str, Any]) -> list[list[str]]:
    """Return what a page shows of a row: what each direction is, and the tokens of both ends."""
    if "tokens_status" not in row:
        return []
    told = [
        [_title(one), _on_page(one["highest"]), _on_page(one["lowest"])]
        for one in row.get("tokens") or ()
    ]
    why = row["tokens_status"]
    return told if why == "ok" else [*told, ["none is told" if not told else "others", why, ""]]


def _title(one: Mapping[str, Any]) -> str:
    does = {"query": "the query reads", "key": "the key reads"}.get(one["does"], one["does"])
    if one["of"] in {"ov", "qk"}:
        return f"{one['of'].upper()}: {does}"
    tied = ", tied" if one["tied"] else ""
    if one["of"] == "match":
        return f"its best match in the base, {one['index']}: {does}"
    return f"{one['of']} {one['index']}{tied}: {does}"
