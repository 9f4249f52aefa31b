"""What all commands tell that write adapters: ranks before and after, and what is lost."""

from collections.abc import Iterator, Mapping, Sequence

from spectra.numbers import number, percent
from spectra.report import cells
from spectra.report.kind import Document, Metric, Worst, highest
from spectra.report.shape import COUNT, NUMBER, TEXT, Shape
from spectra.report.table import Column
from spectra.text import size

EXACT = 1e-6  # of an update's norm: as the sentence has it, less is rounding alone
ORDER = (("loss", True), ("matrix", False))
COLUMNS = (
    Column("before", key="rank_before", cell=cells.of("rank_before")),
    Column("kept", key="rank_kept", cell=cells.of("rank_kept")),
    Column("loss", key="loss", cell=cells.of("loss", percent)),
    Column("spectral", key="loss_spectral", cell=cells.of("loss_spectral", percent)),
    Column("size", optional=True, key="nbytes", cell=cells.of("nbytes", size)),
)
METRICS = (Metric("rank_kept", "count"), Metric("loss", "linear"))
VISIBLE = ("rank_before", "rank_kept", "loss", "loss_spectral", "nbytes")
OPTIONS: Mapping[str, object] = {
    "rank": None, "energy": None, "budget": None, "delta_rank": False, "sv_ratio": None,
    "sv_cumulative": None, "sv_fro": None, "dtype": None, "to": "peft", "part": "", "output": "",
    "force": False,
}  # fmt: skip
SUMMARY: Mapping[str, Shape] = {
    "matrices": COUNT, "rank_before": COUNT, "rank_kept": COUNT, "loss": NUMBER, "nbytes": COUNT,
    "nbytes_before": COUNT, "nbytes_written": COUNT, "written": TEXT, "non_finite": COUNT,
}  # fmt: skip


def figures(document: Document) -> list[tuple[str, str]]:
    """Return what is lost, and what is written."""
    summary = document["summary"]
    return [("loss", percent(summary["loss"])), ("written", size(summary["nbytes_written"]))]


def worst(document: Document) -> Iterator[Worst]:
    """Yield the modules that lose most; what rounding alone loses is none of it."""
    for row in highest(document["rows"], "loss"):
        if row["loss"] < EXACT:
            continue
        text = f"loses {percent(row['loss'])} of its update at rank {number(row['rank_kept'])}"
        yield Worst("note", row["matrix"], text, about="loss")


def after(document: Document) -> Iterator[Sequence[str]]:
    """Yield what shows the adapter: against its base as it was given, or as the adapter has it."""
    given = [model["spec"] for model in document["models"] if model["part"] == "base"]
    base: object = given[0] if given else document["summary"].get("base")
    yield ["diff", str(base), place(document)] if base else ["ls", place(document)]


def place(document: Document) -> str:
    """Return where it was written, as a word of a command line."""
    written = str(document["summary"]["written"])
    return written if not written.startswith("-") else f"./{written}"
