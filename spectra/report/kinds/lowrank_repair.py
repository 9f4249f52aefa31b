"""What `spectra lowrank repair` tells: intruders, cosines and updates before and after."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from spectra.numbers import number, percent
from spectra.report import cells, lowrank
from spectra.report.kind import Document, Kind, Listing, Metric, RowDoc, Worst, broken, highest
from spectra.report.sentences import closing
from spectra.report.shape import COUNT, FLAG, NUMBER
from spectra.report.table import Column
from spectra.text import counted

LIMIT = 20  # matrices shown without -v

ROUNDED = 1e-4  # of an update, what rounding may lose of it


def _became(key: str, other: str) -> cells.Cell:
    """Return what writes a number before, and after where that is another."""

    def cell(row: RowDoc) -> str:
        before, after = (cells.of(name)(row) for name in (key, other))
        if row.get(key) is None and row.get(other) is not None:
            return after
        return before if before == after else f"{before} → {after}"

    return cell


COLUMNS = (
    Column("intruders", key="intruders_after", cell=_became("intruders", "intruders_after")),
    Column("|cos|", key="worst_cos_after", cell=_became("worst_cos", "worst_cos_after")),
    Column("Δ norm", key="delta_norm_after", cell=_became("delta_norm", "delta_norm_after")),
)
RANK = Column("rank", optional=True, key="rank_kept", cell=_became("rank_before", "rank_kept"))
LOST = Column("loss", optional=True, key="loss", cell=cells.of("loss", percent))
COUNTED = (
    "matrices", "changed", "intruders", "intruders_after", "matrices_with_intruders", "repaired",
    "non_finite", "nbytes_written",
)  # fmt: skip
OPTIONS: Mapping[str, object] = {
    "scale": 0.75, "all": False, "min_energy": None, "truncate": None, "rank": None,
    "k": 10, "epsilon": 0.5, "side": "left", "exact": False, "output": "", "force": False,
}  # fmt: skip


def _table(document: Document) -> Listing:
    """Return what was repaired first, then what has most intruders left, lowest cosines first."""
    changed = [row for row in document["rows"] if row.get("delta_norm") != 0.0]
    changed.sort(
        key=lambda row: (
            row.get("delta_norm") is not None,
            row.get("delta_norm") == row.get("delta_norm_after"),
            -(row.get("intruders") or 0),
            row["worst_cos"] if row.get("worst_cos") is not None else 2.0,
        )
    )
    holders = [row for row in changed if _concerns(row)]
    settings = document["settings"]
    cut = settings.get("truncate") is not None or settings.get("rank") is not None
    ranked = any(row.get("rank_kept") is not None for row in changed)
    more = (*((RANK,) if ranked else ()), *((LOST,) if cut else ()))
    return Listing(
        (cells.NAME, cells.ROLE, *COLUMNS, *more),
        changed,
        holders[:LIMIT] or changed[:3],
        mark=lambda row: "bad" if row.get("intruders_after") else broken(row),
    )


def _concerns(row: RowDoc) -> bool:
    moved = row.get("delta_norm") != row.get("delta_norm_after")
    return bool(row.get("intruders")) or moved or row["status"] != "ok"


def _facts(document: Document, full: bool) -> list[str]:
    same = sum(row.get("delta_norm") == 0.0 for row in document["rows"])
    return closing(document, full, [f"{same:,} unchanged"] if same else [])


def _figures(document: Document) -> list[tuple[str, str]]:
    summary = document["summary"]
    told = [(name, f"{summary[key]:,}") for name, key in (
        ("intruders", "intruders"), ("repaired", "repaired"), ("left", "intruders_after"),
    )]  # fmt: skip
    return told if document["settings"].get("truncate") is None else [told[0], told[2]]


def _worst(document: Document) -> Iterator[Worst]:
    """Yield matrices that have intruders still; of a truncation, those that lose most."""
    for row in highest(document["rows"], "intruders_after"):
        what = f"{counted(row['intruders_after'], 'intruder dimension')} left"
        yield Worst("note", row["matrix"], what, about="intruders_after")
    lossy = [row for row in document["rows"] if (row.get("loss") or 0.0) > ROUNDED]
    for row in highest(lossy, "loss"):
        text = f"loses {percent(row['loss'])} of its update at rank {number(row['rank_kept'])}"
        yield Worst("note", row["matrix"], text, about="loss")


def _words(document: Document) -> Iterator[tuple[str, ...]]:
    """Yield that an adapter was written into its base."""
    if document["settings"].get("form") == "merged":
        yield ("--merged",)


def _after(document: Document) -> Iterator[Sequence[str]]:
    """Yield the comparison of the base with what was written."""
    specs = {model["part"]: str(model["spec"]) for model in document["models"]}
    summary: Mapping[str, Any] = document["summary"]
    place = str(summary["written"])
    if "base" in specs:
        written = place if not place.startswith("-") else f"./{place}"
        side = str(document["settings"]["side"])
        yield ["diff", specs["base"], written, "--intruders",
               *(["--side", side] if side != "left" else [])]  # fmt: skip


KIND = Kind(
    "lowrank_repair",
    "A fine-tune repaired",
    columns=COLUMNS, order=(("intruders_after", True), ("intruders", True), ("worst_cos", False)),
    table=_table, facts=_facts, figures=_figures, worst=_worst, after=_after, writes=True,
    visible=("intruders", "intruders_after", "worst_cos", "worst_cos_after", "delta_norm",
             "delta_norm_after", "rank_before", "rank_kept", "loss"),
    metrics=(Metric("intruders_after", "count"), Metric("intruders", "count")),
    lead=("lowrank", "repair"), parts=("base", "tuned"), options=OPTIONS, words=_words,
    summary={
        **dict.fromkeys(COUNTED, COUNT), "loss": NUMBER, "certified": FLAG,
        "written": lowrank.SUMMARY["written"],
    },
)  # fmt: skip
