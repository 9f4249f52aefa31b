"""What `spectra lowrank merge` tells: ranks before and after, and what is lost."""

from collections.abc import Iterator

from spectra.report import lowrank
from spectra.report.kind import Document, Kind


def _weights(document: Document) -> Iterator[tuple[str, ...]]:
    """Yield the weights, where they are not all 1."""
    weights = document["settings"].get("weights") or ()
    if set(weights) - {1.0}:
        yield "--weights", ",".join(f"{weight:g}" for weight in weights)


KIND = Kind(
    "lowrank_merge",
    "The sum of adapters",
    columns=lowrank.COLUMNS, order=lowrank.ORDER, figures=lowrank.figures,
    after=lowrank.after, writes=True, visible=lowrank.VISIBLE, metrics=lowrank.METRICS,
    worst=lowrank.worst, lead=("lowrank", "merge"), parts=("adapter",), options=lowrank.OPTIONS,
    words=_weights,
    summary=lowrank.SUMMARY,
)  # fmt: skip
