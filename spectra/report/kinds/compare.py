"""What `spectra compare` tells: what moved between two results, the largest first."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from spectra.report import cells
from spectra.report.changes import (
    beyond_text,
    change_text,
    quantity_text,
    sentence,
    value_text,
    values_text,
)
from spectra.report.kind import EACH, Document, Kind, Listing, Metric, Sheet, Worst
from spectra.report.sentences import SAMPLED_ALIKE
from spectra.report.shape import COUNT, FLAG, NUMBER, TEXT, TEXTS, Items, Object
from spectra.report.table import Column, Mark
from spectra.text import counted, printable
from spectra.words import UNMEASURED

LIMIT = 20  # matrices shown without -v
FEW = 6  # quantities named under the table
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
TOTAL = Object({"key": TEXT, "before": COUNT, "after": COUNT})
SIDES = ("before", "after")
PLACE = ("matrix", "role", "layer", "expert")
IDENTITY = ("role", "dtype", "codec", "shape")
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
    return Listing(COLUMNS, found, shown, _mark, of_rest=lambda _: " moves")


def _under(document: Document) -> str:
    summary = document["summary"]
    return f"{summary['compared']} of {' and of '.join(_models(summary))}"


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
        *_findings(summary, full), *_by_quantity(summary, full), *_open(summary),
        *_missing(summary), *_circumstances(summary),
    ]  # fmt: skip


def _advice(document: Document) -> list[str]:
    """Return what a page and a card must say beside the answer; a screen has it under the table."""
    summary = document["summary"]
    return [_under(document), *_open(summary), *_missing(summary), *_circumstances(summary)]


def _findings(summary: Mapping[str, Any], full: bool) -> Iterator[str]:
    found = summary.get("findings", ())
    for one in found if full else found[:LIMIT]:
        yield (
            f"{one['became']}: {one['rule']} {one['severity']}, {printable(one['where'])}: "
            f"{printable(one['message'])}"
        )
    if not full and len(found) > LIMIT:
        yield f"... {len(found) - LIMIT:,} more findings (-v shows all)"
    for side, codes in (summary.get("rules_not_in_both") or {}).items():
        if codes:
            yield f"judged only {side}: {', '.join(map(printable, codes))}"


def _by_quantity(summary: Mapping[str, Any], full: bool) -> Iterator[str]:
    moved = [one for one in summary["quantities"] if one["moved"] and one["compared"]]
    shown = moved if full else moved[:FEW]
    told = [f"{printable(one['key'])} {one['moved']:,} of {one['compared']:,}" for one in shown]
    if len(moved) > len(shown):
        told.append(f"{len(moved) - len(shown):,} more")
    if told:
        yield f"moved: {', '.join(told)}"
    still = [
        printable(one["key"])
        for one in summary["quantities"]
        if one["compared"] and not one["moved"] and one["key"] not in IDENTITY
    ]
    if still and moved:
        yield f"within the error everywhere: {', '.join(still)}"


def _open(summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a bound leaves open, and what has a number on one side alone."""
    told = [
        f"{printable(one['key'])} of {one['unknown']:,}"
        for one in summary["quantities"]
        if one["unknown"]
    ]
    if told:
        exact = " (--exact measures it)" if summary["compared"] == "kappa" else ""
        yield f"a bound leaves open whether it moved: {', '.join(told)}{exact}"
    for side, other in (SIDES, SIDES[::-1]):
        found = [one for one in summary["quantities"] if one[f"only_{side}"]]
        if found:
            names = ", ".join(
                f"{printable(one['key'])} of {one[f'only_{side}']:,}" for one in found
            )
            yield f"a value {side} and none {other}: {names}"


def _missing(summary: Mapping[str, Any]) -> Iterator[str]:
    if summary["no_numbers"]:
        yield f"no numbers on either side: {counted(summary['no_numbers'], 'matrix', 'matrices')}"
    for side, other in (SIDES, SIDES[::-1]):
        lacking = summary["not_measured"][other]
        if lacking:
            yield f"measured only {side}: {', '.join(map(printable, lacking))}"


def _circumstances(summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield what differs beside the numbers: settings, versions, bases, stored values."""
    for one in summary["settings"]:
        keys = [key for key, setting in summary["left_out"].items() if setting == one["key"]]
        so = f"; not compared: {', '.join(map(printable, keys))}" if keys else ""
        values = f"{_value(one['before'])} → {_value(one['after'])}"
        yield f"settings differ: {printable(one['key'])} {values}{so}"
    sides = [summary["sides"][side] for side in SIDES]
    versions = [side["spectra"] for side in sides]
    if versions[0] != versions[1]:
        yield f"versions of spectra differ: {' → '.join(map(printable, versions))}"
    bases = [[one for one in side["models"] if one.get("part") == "base"] for side in sides]
    specs, known = ([[str(one.get(key) or "") for one in side] for side in bases]
                    for key in ("spec", "digest"))  # fmt: skip
    same = known[0] == known[1] and all(known[0])
    if specs[0] != specs[1] and all(bases) and not same:
        yield f"the bases differ: {' → '.join(printable(', '.join(base)) for base in specs)}"
    digests = [[str(one.get("digest") or "") for one in side["models"]] for side in sides]
    if all(map(all, digests)) and not summary["digests"]:
        yield _same_weights(*digests)
    if summary["unstated"]:
        names = ", ".join(map(printable, summary["unstated"]))
        yield f"no error is stated of {names}: any move is shown"
    if summary["digests"]:
        of = counted(summary["digests"], "matrix or vector", "matrices and vectors")
        what = f"{summary['other_bytes']:,} of {of}"
        yield f"stored values differ in {what}"


def _same_weights(before: Sequence[str], after: Sequence[str]) -> str:
    """Say what digests tell of the weights; a sample of the bytes does not tell of the others."""
    forms = [[digest.partition(":")[0] for digest in side] for side in (before, after)]
    if forms[0] != forms[1]:
        return "whether the weights are the same is not known: their digests are of two kinds"
    if before != after:
        return "other weights, by their digests"
    if "sample" in forms[0]:
        return SAMPLED_ALIKE
    return "the same weights, by their digests"


def _value(value: object) -> str:
    if isinstance(value, list):
        return printable(", ".join(map(str, value))) or "none"
    return "none" if value in (None, "") else cells.plain(value)


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


def _card(document: Document, _: object) -> Listing:
    return Listing(CARD, _each(lines(document)))


KIND = Kind(
    "compare",
    "What moved",
    order=(("extent", True), ("moved", True)),
    table=_table, card=_card, under=_under, facts=_facts, figures=_figures, reads=False,
    advice=_advice, onward=lambda _: [[("--plot", "compare.png")]],
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
    },
)  # fmt: skip
