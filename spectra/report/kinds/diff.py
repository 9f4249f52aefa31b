"""What `spectra diff` tells: what fine-tuning changed, and its intruder dimensions."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from spectra.report.cells import (
    CODE,
    NAME,
    ROLE,
    SHAPE,
    Cell,
    count,
    figure,
    highest,
    measured,
    number,
    percent,
    share,
    short,
    word,
)
from spectra.report.kinds.kind import (
    EACH,
    Document,
    Kind,
    Listing,
    Metric,
    RowDoc,
    Worst,
    broken,
)
from spectra.report.ranking import enriched
from spectra.report.sentences import closing
from spectra.report.shape import (
    COUNT,
    FLAG,
    NUMBER,
    TEXT,
    Object,
    older,
    sometimes,
    unpublished,
)  # fmt: skip
from spectra.report.table import Column
from spectra.text import counted

SIDE = Object({"matrices": COUNT, "unpaired": COUNT})
MODULES = Object({"modules": COUNT, "unpaired": COUNT})

if TYPE_CHECKING:
    from spectra.report.html.tables import Table

LIMIT = 20  # matrices with intruders shown without -v
AT_LEAST = 3  # matrices shown where none has any


def details(row: RowDoc) -> Sequence[Mapping[str, Any]]:
    """Return the verdicts of one row."""
    return row.get("intruder_detail") or ()


def lowest(row: RowDoc) -> Mapping[str, Any]:
    """Return the verdict with the lowest cosine; empty where there is none."""
    return min(details(row), key=lambda detail: detail["max_cos"], default={})


def cosine(detail: Mapping[str, Any]) -> str:
    """Write how much a vector resembles its best match."""
    return f"{detail['max_cos']:.3f}"


def of_lowest(write: Cell) -> Cell:
    """Write what that verdict holds."""
    return measured(lambda row: write(lowest(row)) if details(row) else "")


CHANGES = (
    NAME, ROLE, SHAPE, Column("delta", cell=percent("delta_relative")),
    Column("rank", cell=count("delta_rank")),
    Column("stable", optional=True, cell=number("delta_stable_rank")),
    Column("sigma max", optional=True, cell=number("delta_sigma_max")),
)  # fmt: skip
INTRUDERS = (
    NAME, ROLE, Column("delta", optional=True, cell=percent("delta_relative")),
    Column("rank", optional=True, cell=count("delta_rank")),
    Column("intruders", cell=count("intruders")), Column("|cos|", cell=of_lowest(cosine)),
    Column("at", cell=of_lowest(word("index"))),
    Column("energy", optional=True, cell=of_lowest(percent("energy"))),
    Column("proof", "left", optional=True, cell=of_lowest(word("decided_by"))),
)  # fmt: skip
CARD = (
    CODE, Column("change", cell=percent("delta_relative")),
    Column("rank", cell=figure("delta_rank")), Column("intruders", cell=figure("intruders")),
    Column("lowest cosine", cell=figure("worst_cos")),
)  # fmt: skip


def table(document: Document) -> Listing:
    """Return the largest changes first; of intruders those who hold most, lowest cosines first."""
    changed = [row for row in document["rows"] if row.get("delta_norm") != 0.0]
    if not document["settings"].get("intruders"):
        changed.sort(key=lambda row: -(row.get("delta_relative") or 0.0))
        return Listing(CHANGES, changed)
    changed.sort(key=lambda row: (-(row.get("intruders") or 0), lowest(row).get("max_cos", 2.0)))
    holders = [row for row in changed if row.get("intruders") or row["status"] != "ok"]
    return Listing(
        INTRUDERS,
        changed,
        holders[:LIMIT] or changed[:AT_LEAST],
        mark=lambda row: "bad" if row.get("intruders") else broken(row),
        of_rest=of_rest,
    )


def of_rest(hidden: Sequence[RowDoc]) -> str:
    """Say that no matrix left out has intruders."""
    return "" if any(row.get("intruders") for row in hidden) else ", none with intruders"


def facts(document: Document, full: bool) -> list[str]:
    """Return how many verdicts there are, how each was decided, and what did not change."""
    asked = document["rows"] if document["settings"].get("intruders") else ()
    kinds = Counter(detail["decided_by"] for row in asked for detail in details(row))
    how = ", ".join(f"{number:,} {kind}" for kind, number in kinds.most_common())
    proven = "All" if document["summary"].get("certified") else "Not all"
    told = [f"{proven} {kinds.total():,} verdicts proven ({how})."] if kinds else []
    same = sum(row.get("delta_norm") == 0.0 for row in document["rows"])
    return closing(document, full, [*told, *([f"{same:,} unchanged"] if same else ())])


def card(document: Document, ranked: Sequence[RowDoc]) -> Listing:
    """Return the matrices with intruders, or those that changed."""
    key = "intruders" if document["settings"].get("intruders") else "delta_norm"
    return Listing(CARD, [row for row in ranked if row.get(key)])


def figures(document: Document) -> list[tuple[str, str]]:
    """Return how many matrices changed, and intruders or the largest change."""
    summary = document["summary"]
    found = [("changed", f"{summary['changed']:,}")]
    if summary.get("intruders") is not None:
        return [*found, ("intruders", f"{summary['intruders']:,}")]
    return found + highest(document["rows"], "delta_relative", "largest change", share)


def charts(document: Document, table: "Table") -> list[dict[str, Any]]:
    """Return what marks an intruder, and what chance would score."""
    settings = document["settings"]
    if not settings.get("intruders") or not any(table.verdicts):
        return []
    nulls = [
        row["null_cos"]
        for row in document["rows"]
        if row.get("null_cos") is not None and row.get("delta_norm")
    ]
    epsilon = settings.get("epsilon")
    return [{
        "kind": "intruders",
        "table": table.ident,
        "epsilon": 0.5 if epsilon is None else short(epsilon),
        "side": "right" if settings.get("side") == "right" else "left",
        "chance": short(median(nulls)) if nulls else None,
    }]  # fmt: skip


def worst(document: Document) -> Iterator[Worst]:
    """Yield matrices with intruders; of a change without, where it is largest."""
    rows = [enriched(row) for row in document["rows"]]
    holders = [row for row in rows if row.get("intruders")]
    holders.sort(key=lambda row: (-row["intruders"], row.get("worst_cos", 2.0)))
    for row in holders:
        what = counted(row["intruders"], "intruder dimension")
        if "worst_cos" in row:
            what += f", lowest |cos| {row['worst_cos']:.3f}"
        yield Worst("warning", row["matrix"], what)
    moved = [row for row in rows if row.get("delta_relative")] if not holders else []
    moved.sort(key=lambda row: -row["delta_relative"])
    for row in moved[:EACH]:
        text = f"changed by {share(row['delta_relative'])} of its norm"
        yield Worst("note", row["matrix"], text)


def onward(document: Document) -> list[str]:
    """Return how to look for intruders, or where to draw them."""
    found = document["settings"].get("intruders")
    return ["--intruders", *(["--plot", "intruders.png"] if found else ())]


KIND = Kind(
    "diff",
    "What fine-tuning changed",
    order=(("intruders", True), ("worst_cos", False), ("delta_relative", True)),
    table=table,
    card=card,
    facts=facts,
    figures=figures,
    onward=onward,
    visible=(
        "delta_relative", "delta_rank", "intruders", "worst_cos", "worst_at", "worst_energy",
    ),
    metrics=(
        Metric("intruders", "count"), Metric("worst_cos", "linear", "low"),
        Metric("delta_relative", "linear"), Metric("delta_rank", "count"),
    ),
    charts=charts,
    worst=worst,
    drawer="spectra.report.diff_plots:draw_diff",
    options={"intruders": False, "exact": False, "k": 10, "epsilon": 0.5, "side": "left"},
    settings={
        "intruders": FLAG, "epsilon": sometimes(NUMBER), "side": sometimes(TEXT),
        "k": sometimes(COUNT),
    },
    summary={
        "matrices": older(COUNT), "changed": COUNT, "non_finite": older(COUNT),
        "unpaired": older(Object({"base": SIDE, "tuned": SIDE, "adapter": sometimes(MODULES)})),
        "intruders": unpublished(sometimes(COUNT)), "certified": unpublished(sometimes(FLAG)),
    },
)  # fmt: skip
