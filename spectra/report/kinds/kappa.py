"""What `spectra kappa` tells: condition numbers lowest first, and where a selection cuts."""

from collections.abc import Iterator, Sequence
from typing import Any, get_args

from spectra.analyzers.choice import rank_key, span
from spectra.numbers import number
from spectra.report import cells, shades
from spectra.report.kind import (
    Document,
    Kind,
    Listing,
    Metric,
    RowDoc,
    Step,
    Worst,
    broken,
    highest,
    singular,
)
from spectra.report.sentences import closing, unresolved_told
from spectra.report.shape import COUNT, FLAG, NUMBER, TEXTS, Words
from spectra.report.table import Column, Mark
from spectra.words import UNMEASURED, By, Per, RankBy, in_order

AFTER_CUT = 3  # rows shown below a selection's cut
AFTER_EACH = 1  # and below each role's own


def selects_by_role(document: Document) -> bool:
    """Say whether each role has a cut of its own."""
    return document["settings"]["per"] == "role" and bool(document["summary"]["selected"])


def ranking(document: Document) -> list[RowDoc]:
    """Return the rows as they were ranked, those without numbers last."""
    by = document["settings"]["rank_by"]
    return sorted(
        document["rows"], key=lambda row: (row["status"] in UNMEASURED, rank_key(row, by))
    )


def by_roles(document: Document) -> list[RowDoc]:
    """Return the ranked rows role by role."""
    order = in_order(row["role"] for row in document["rows"])
    return sorted(ranking(document), key=lambda row: order.index(row["role"]))


def around_each_cut(ranked: Sequence[RowDoc]) -> list[RowDoc]:
    """Return what is selected in each role, and the next of it."""
    shown: list[RowDoc] = []
    left: dict[str, int] = {}
    for row in ranked:
        if not is_selected(row):
            left[row["role"]] = left.get(row["role"], 0) + 1
        if is_selected(row) or left[row["role"]] <= AFTER_EACH:
            shown.append(row)
    return shown


def is_selected(row: RowDoc) -> bool:
    """Say whether the selection took it."""
    return row.get("selected") is True


def _bound(key: RankBy) -> cells.Cell:
    """Write kappa or its excess, or what it is known to exceed."""

    def write(row: RowDoc) -> str:
        if row["status"] == "outside":
            return f"> {number(span(row, key).low)}"
        return cells.kappa(row) if key == "kappa" else cells.of(key)(row)

    return write


COLUMNS = (
    Column("kappa", cell=_bound("kappa")),
    Column("excess", cell=_bound("kappa_excess")),
    cells.NAME, cells.ROLE, cells.SHAPE,
    Column("parameters", optional=True, cell=lambda row: f"{row['rows'] * row['cols']:,}"),
)  # fmt: skip
SELECTED = Column("selected", "left", cell=lambda row: "yes" if is_selected(row) else "")
CARD = (
    cells.CODE, Column("κ", cell=cells.kappa),
    Column("κ excess", cell=cells.of("kappa_excess")),
)  # fmt: skip


def _table(document: Document) -> Listing:
    """Return the lowest first, a rule at the cut or a mark at what each role selects."""

    def mark(row: RowDoc) -> Mark:
        return "good" if is_selected(row) else broken(row)

    if selects_by_role(document):
        rows = by_roles(document)
        return Listing([*COLUMNS, SELECTED], rows, around_each_cut(rows), mark)
    rows, selected = ranking(document), sum(map(is_selected, document["rows"]))
    shown = rows[: selected + AFTER_CUT] if selected else None
    cut, chosen = document["summary"]["cut"], len(document["summary"]["selected"])
    rule = "" if not chosen else "cut" if cut is None else f"cut at {number(cut)}"
    return Listing(COLUMNS, rows, shown, mark, chosen or None, rule)


def _card(document: Document, ranked: Sequence[RowDoc]) -> Listing:
    chosen = [row for row in ranked if row.get("selected")]
    return Listing(CARD, chosen if document["summary"]["selected"] else ranked)


def _figures(document: Document) -> list[tuple[str, str]]:
    """Return how many were selected, and the highest, or the cut where that was not looked for."""
    summary, rows = document["summary"], document["rows"]
    found = [("selected", f"{len(summary['selected']):,}")]
    if not _stopped_early(document):
        return found + cells.conditioned(rows)
    return found if summary["cut"] is None else [*found, ("cut", number(summary["cut"]))]


def _stopped_early(document: Document) -> bool:
    return any(row["status"] == "outside" for row in document["rows"])


def _chart(document: Document, ident: str) -> dict[str, Any]:
    settings, summary = document["settings"], document["summary"]
    return {
        "kind": "cut",
        "table": ident,
        "key": "kappa_excess" if settings.get("rank_by") == "kappa_excess" else "kappa",
        "cut": cells.short(summary["cut"]),
        "selected": len(summary["selected"]),
        "outside": sum(row["status"] == "outside" for row in document["rows"]),
        "parameters": settings.get("by") == "params",
    }


def _worst(document: Document) -> Iterator[Worst]:
    """Yield singular matrices, and what lies farthest above noise of its shape."""
    yield from singular(document)
    if _stopped_early(document):
        return  # the highest were not measured to the end
    for row in highest(document["rows"], "kappa_excess"):
        text = f"κ is {number(row['kappa_excess'])} × what noise of its shape has"
        if row.get("kappa_resolved") is False:
            text += ", and measures the rounding of its dtype"
        yield Worst("note", row["matrix"], text, about="kappa")


def _onward(document: Document) -> list[Step]:
    """Select, then write the selection for what trains it."""
    select = ("--select", str(document["settings"].get("select") or "10%"))
    return [[select, ("--export", "peft", "-o", "lora.json")], [("--plot", "kappa.png")]]


KIND = Kind(
    "kappa",
    "Condition numbers",
    order=lambda document: ((str(document["settings"].get("rank_by", "kappa")), False),),
    table=_table, card=_card, figures=_figures, onward=_onward,
    facts=lambda document, full: [*unresolved_told(document["rows"]), *closing(document, full)],
    visible=("kappa", "kappa_excess", "selected", "parameters", "decided_by"),
    metrics=tuple(
        Metric(key, "log", "high", shades.conditioning, shades.OF_KAPPA)
        for key in ("kappa", "kappa_excess")
    ),
    charts=lambda document, table: [_chart(document, table)],
    worst=_worst,
    drawer="spectra.report.plots.kappa:draw_kappa",
    options={
        "include_embeddings": False, "exact": False, "select": None, "rank_by": "kappa",
        "by": "matrices", "per": "global",
    },
    settings={
        "rank_by": Words(get_args(RankBy)), "per": Words(get_args(Per)),
        "by": Words(get_args(By)), "include_embeddings": FLAG,
    },
    summary={
        "eligible": COUNT, "selected": TEXTS, "parameters_selected": COUNT.older,
        "outside": COUNT.older, "non_finite": COUNT.older, "cut": NUMBER.nullable.unpublished,
    },
)  # fmt: skip
