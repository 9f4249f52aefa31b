"""What `spectra lowrank mask` tells: which entries are trained, and what they held of an update."""

from collections.abc import Iterator

from spectra.numbers import percent
from spectra.report import cells
from spectra.report.kind import Document, Kind, Listing, Metric, Worst
from spectra.report.shape import COUNT, NUMBER, TEXT
from spectra.report.table import Column
from spectra.text import size

LATER = ("update_share", "update_largest", "update_best")  # keys that only --tuned gives


def figures(document: Document) -> list[tuple[str, str]]:
    """Return how many entries there are, and what is written."""
    summary = document["summary"]
    return [
        ("entries", f"{summary['mask_entries']:,}"),
        ("written", size(summary["nbytes_written"])),
    ]


def worst(document: Document) -> Iterator[Worst]:
    """Yield masks that rounding decides."""
    for row in document["rows"]:
        if row.get("determined") is False:
            text = "its mask is not determined: rounding decides the directions"
            yield Worst("warning", row["matrix"], text, about="determined")


def words(document: Document) -> Iterator[tuple[str, ...]]:
    """Yield what training made of the model, where that was given."""
    for model in document["models"]:
        if model["part"] == "tuned":
            yield "--tuned", str(model["spec"])


COLUMNS = (
    Column("entries", key="mask_entries", cell=cells.of("mask_entries")),
    Column("density", key="mask_density", cell=cells.of("mask_density", percent)),
    Column("overlap", key="mask_overlap", cell=cells.of("mask_overlap", percent)),
)
UPDATE = (
    Column("of update", key="update_share", cell=cells.of("update_share", percent)),
    Column("by |W|", key="update_largest", cell=cells.of("update_largest", percent)),
    Column("at best", key="update_best", cell=cells.of("update_best", percent)),
)


def table(document: Document) -> Listing:
    """Return the masks that differ most from the largest weights first."""
    rows = sorted(document["rows"], key=lambda row: row.get("mask_overlap") or 0.0)
    told = document["summary"].get("update_share") is not None
    columns = (cells.NAME, cells.ROLE, cells.SHAPE, *COLUMNS, *(UPDATE if told else ()))
    return Listing(columns, rows)


KIND = Kind(
    "lowrank_mask",
    "Entries to train",
    columns=COLUMNS, table=table,
    order=(("mask_overlap", False), ("matrix", False)),
    figures=figures, writes=True, metrics=(Metric("mask_overlap", "linear"),),
    visible=("mask_entries", "mask_density", "mask_overlap", *LATER),
    worst=worst, words=words, lead=("lowrank", "mask"), parts=("base",),
    options={
        "rank": 128, "density": None, "filter": "largest", "filter_rank": 128, "seed": 0,
        "form": "masks", "output": "", "force": False,
    },
    summary={
        "matrices": COUNT, "mask_entries": COUNT, "mask_density": NUMBER, "mask_overlap": NUMBER,
        "undetermined": COUNT, "tied": COUNT, "nbytes_written": COUNT, "written": TEXT,
        "non_finite": COUNT, **dict.fromkeys((*LATER, "update_chance"), NUMBER.nullable),
    },
)  # fmt: skip
