"""What `spectra compare` tells: what moved between two results, the largest first."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from spectra.report import cells, compared
from spectra.report.changes import (
    beyond_text,
    change_text,
    quantity_text,
    sentence,
    value_text,
    values_text,
)
from spectra.report.compared import SIDES
from spectra.report.kind import EACH, Document, Kind, Listing, Metric, Sheet, Step, Worst, typed
from spectra.report.shape import COUNT, FLAG, NUMBER, TEXT, TEXTS, Items, Object
from spectra.report.table import Column, Mark
from spectra.text import printable
from spectra.words import UNMEASURED

LIMIT = 20  # matrices shown without -v
Line = Mapping[str, Any]
"""One quantity of one matrix that moved, or a matrix that only one result has."""

MOVE = Object({
    "key": TEXT, "before": NUMBER.nullable, "after": NUMBER.nullable, "was": TEXT.nullable,
    "now": TEXT.nullable, "change": NUMBER.nullable, "beyond": NUMBER.nullable, "extent": NUMBER,
    "index": COUNT.nullable,
})  # fmt: skip
"""How one quantity moved; `was` and `now` stand where no number is known."""
QUANTITY = Object({
    "key": TEXT, "compared": COUNT, "moved": COUNT, "unknown": COUNT, "only_before": COUNT,
    "only_after": COUNT, "matrix": TEXT.nullable, "largest": MOVE.nullable,
})  # fmt: skip
SIDE = Object({
    "file": TEXT, "spectra": TEXT, "models": Items(Object()), "named": TEXT, "reading": TEXT,
})  # fmt: skip
FINDING = Object({
    "became": TEXT, "severity": TEXT, "rule": TEXT, "name": TEXT, "where": TEXT, "message": TEXT,
    "matrix": TEXT.nullable, "tensor": TEXT.nullable, "rank": COUNT,
})  # fmt: skip
PAIR = Object({
    "writer": TEXT, "reader": TEXT, "kind": TEXT, "before": NUMBER, "after": NUMBER,
})  # fmt: skip
TOTAL = Object({"key": TEXT, "before": COUNT, "after": COUNT})
PLACE = ("matrix", "role", "layer", "expert")
ONLY = {"before": "only before", "after": "only after"}


def lines(document: Document) -> list[Line]:
    """Return a line for every quantity that moved, the largest first, and for odd matrices."""
    found: list[Line] = []
    for row in document["rows"]:
        place = {key: row[key] for key in PLACE}
        found += [
            {**place, "quantity": quantity_text(move), **move} for move in row.get("moves") or ()
        ]
        if row["present"] != "both":
            found.append({
                **place, "quantity": ONLY[row["present"]], "key": ONLY[row["present"]],
                **dict.fromkeys(("before", "after", "was", "now", "change", "beyond", "index")),
                "extent": 1.0,
            })  # fmt: skip
    return sorted(found, key=_order)


def _order(line: Line) -> tuple[float, ...]:
    """Put what lost its numbers first, then what only one has, then the largest moves."""
    odd = line["key"] in ONLY.values()
    words, inside = line["beyond"] is None, line["key"] == "sigma_profile"
    size = -round(line["extent"], 3)
    return (line["key"] != "status", not odd, size, words, inside, -line["extent"])


def _text(side: str) -> cells.Cell:
    return lambda line: cells.NONE if line["key"] in ONLY.values() else value_text(line, side)


COLUMNS = (
    cells.NAME, cells.ROLE, Column("quantity", "left", cell=cells.of("quantity", printable)),
    Column("before", cell=_text("before")), Column("after", cell=_text("after")),
    Column("change", cell=change_text),
    Column("at least", optional=True, cell=beyond_text),
)  # fmt: skip
CARD = (cells.CODE, *COLUMNS[2:])
BAD_UP = frozenset({"intruders", "nan", "inf", "zero_rows", "zero_cols", "saturated"})
"""Counts of what should not be there."""


def _mark(line: Line) -> Mark:
    """Colour what is worse or better whatever the model is for; the rest is for its reader."""
    if line["key"] == "status":
        return "bad" if line["now"] in UNMEASURED else "good"
    if line["key"] in BAD_UP and line["beyond"]:
        return "bad" if line["beyond"] > 0 else "good"
    return ""


def _each(found: Sequence[Line]) -> list[Line]:
    """Return the largest move of every matrix."""
    first: dict[str, Line] = {}
    for line in found:
        first.setdefault(line["matrix"], line)
    return list(first.values())


def _table(document: Document) -> Listing:
    """Return every move; of the first screen the largest of each matrix."""
    found = lines(document)
    shown = _each(found)[:LIMIT]
    return Listing(COLUMNS, found, shown, _mark, of_rest=_noun)


def _noun(rest: Sequence[object]) -> str:
    return " move" if len(rest) == 1 else " moves"


def _under(document: Document) -> str:
    summary = document["summary"]
    return f"{typed(summary['compared'])} of {' and of '.join(_models(summary))}"


def _models(summary: Mapping[str, Any]) -> list[str]:
    """Return what both are of; of one name, by their files."""
    sides = [summary["sides"][side] for side in SIDES]
    names = [printable(side["named"]) for side in sides]
    if names[0] != names[1]:
        return names
    return [f"{name} ({printable(side['file'])})" for name, side in zip(names, sides, strict=True)]


def _facts(document: Document, full: bool) -> list[str]:
    """Return by quantity what moved, and all that a reader must know to trust it."""
    summary = document["summary"]
    return [
        *compared.findings(summary, full), *compared.pairs(summary),
        *compared.by_quantity(summary, full), *compared.left_open(summary),
        *compared.missing(summary), *compared.circumstances(summary),
    ]  # fmt: skip


def _advice(document: Document) -> list[str]:
    """Return what a page and a card must say beside the answer; a screen has it under the table."""
    summary = document["summary"]
    return [
        _under(document), *compared.pairs(summary), *compared.left_open(summary),
        *compared.missing(summary), *compared.circumstances(summary),
    ]  # fmt: skip


def _sheets(document: Document) -> list[Sheet]:
    found = [
        {**line, "was": _text("before")(line), "now": _text("after")(line),
         "moved_by": change_text(line), "least": beyond_text(line)}
        for line in lines(document)
    ]  # fmt: skip
    keys = ("matrix", "role", "layer", "quantity", "was", "now", "moved_by", "least", "extent")
    by = [
        {**one, "quantity": one["key"],
         "largest_move": values_text(one["largest"]) if one["largest"] else None}
        for one in document["summary"]["quantities"]
    ]  # fmt: skip
    findings = [
        {**one, "state": one["became"], "rule_name": one["name"]}
        for one in document["summary"].get("findings", ())
    ]
    return [
        Sheet("findings", "Findings", findings,
              ("severity", "state", "rule", "rule_name", "matrix", "tensor", "message"),
              ("severity", False), ("state",)),
        Sheet("moves", "Moves", found, keys, ("extent", True), ("quantity", "role")),
        Sheet("quantities", "Quantities", by,
              ("quantity", "moved", "compared", "unknown", "only_before", "only_after", "matrix",
               "largest_move"), ("moved", True)),
    ]  # fmt: skip


def _worst(document: Document) -> Iterator[Worst]:
    """Yield findings that are new, what lost its numbers, and the largest moves."""
    for one in document["summary"].get("findings", ()):
        if one["became"] in ("new", "no longer accepted"):
            text = printable(f"{one['rule']} {one['name']}: {one['message']} ({one['became']})")
            yield Worst(one["severity"], one["matrix"] or one["tensor"], text, bool(one["matrix"]))
    told = 0
    for line in _each(lines(document)):
        bad = _mark(line) == "bad"
        if line["key"] == "status":
            continue  # the page tells of NaN and Inf itself
        if bad or told < EACH:
            told += not bad
            text = line["quantity"] if line["key"] in ONLY.values() else sentence(line)
            yield Worst("warning" if bad else "note", line["matrix"], text)


def _figures(document: Document) -> list[tuple[str, str]]:
    summary = document["summary"]
    lost, restored = len(summary["lost"]), len(summary["restored"])
    odd = len(summary["only_before"]) + len(summary["only_after"])
    found = {"lost numbers": lost, "numbers again": restored, "only in one": odd}
    moved = summary["moved"] - lost - restored  # as the sentence counts
    return [("moved", f"{moved:,}"), *((name, f"{n:,}") for name, n in found.items() if n)]


def _onward(document: Document) -> list[Step]:
    return [[("--plot", "compare.png")]] if document["summary"]["moved"] else []


def _card(document: Document, _: object) -> Listing:
    return Listing(CARD, _each(lines(document)))


KIND = Kind(
    "compare",
    "What moved",
    order=(("extent", True), ("moved", True)),
    table=_table, card=_card, under=_under, facts=_facts, figures=_figures, reads=False,
    advice=_advice, onward=_onward,
    visible=("moved", "quantity", "change", "extent"),
    metrics=(Metric("moved", "count"), Metric("extent", "linear")),
    sheets=_sheets, worst=_worst, lines=lines,
    line_keys=(*PLACE, "quantity", *MOVE.keys),
    parts=SIDES,
    drawer="spectra.report.plots.compare:draw_compare",
    settings={"command": TEXT},
    summary={
        "lost": TEXTS, "restored": TEXTS, "changed": FLAG, "compared": TEXT, "matrices": COUNT,
        "moved": COUNT, "no_numbers": COUNT,
        "only_before": TEXTS, "only_after": TEXTS, "quantities": Items(QUANTITY),
        "totals": Items(TOTAL), "settings": Items(Object({"key": TEXT})),
        "left_out": Object(rest=TEXT), "not_measured": Object(dict.fromkeys(SIDES, TEXTS)),
        "unstated": TEXTS, "sides": Object(dict.fromkeys(SIDES, SIDE)), "digests": COUNT,
        "other_bytes": COUNT, "verdicts": Object(dict.fromkeys(SIDES, TEXT)).sometimes,
        "findings": Items(FINDING).sometimes,
        "rules_not_in_both": Object(dict.fromkeys(SIDES, TEXTS)).sometimes,
        "pairs": Object({
            "both": COUNT, "moved": Items(PAIR), "only_before": COUNT, "only_after": COUNT,
        }).sometimes,
    },
)  # fmt: skip
