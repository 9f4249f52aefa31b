"""What `spectra lowrank convert` tells: ranks before and after, and what is lost."""

from collections.abc import Iterator

from spectra.report import lowrank
from spectra.report.kind import Document, Kind


def _base(document: Document) -> Iterator[tuple[str, ...]]:
    """Yield the base, where weights were read of it."""
    for model in document["models"]:
        if model["part"] == "base":
            yield "--base", str(model["spec"])


KIND = Kind(
    "lowrank_convert",
    "An adapter in another form",
    columns=lowrank.COLUMNS, order=lowrank.ORDER, figures=lowrank.figures,
    after=lowrank.after, writes=True, visible=lowrank.VISIBLE, metrics=lowrank.METRICS,
    worst=lowrank.worst, lead=("lowrank", "convert"), parts=("adapter",), words=_base,
    options=lowrank.OPTIONS, summary=lowrank.SUMMARY,
)  # fmt: skip
