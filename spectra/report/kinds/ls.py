"""What `spectra ls` tells: what a model holds."""

from collections import Counter
from typing import Any

from spectra.numbers import number
from spectra.report import cells
from spectra.report.kind import Document, Kind, Listing, RowDoc
from spectra.report.sentences import skip_counts, unread
from spectra.report.shape import COUNT
from spectra.report.table import Column
from spectra.text import printable
from spectra.words import in_order


def _stored(row: RowDoc) -> str:
    """Write the stored dtype, and the codec where the dtype does not tell it."""
    dtype, codec = row["dtype"], row["codec"]
    told = codec is not None and codec != f"gguf-{dtype}".lower()
    return printable(f"{dtype}, {codec}" if told else dtype)


def _table(document: Document) -> Listing:
    columns = [cells.NAME, cells.ROLE, Column("shape", optional=True, cell=cells.shape),
               Column("dtype", "left", cell=_stored)]  # fmt: skip
    return Listing(columns, document["rows"], document["rows"])


def _facts(document: Document, full: bool) -> list[str]:
    """Return what is no matrix, and files that were not opened."""
    skips = skip_counts(document)
    if full:
        skips = [f"{printable(item['tensor'])}: {printable(item['reason'])}"
                 for item in document["skipped"]]  # fmt: skip
    return [*(f"skipped: {skip}" for skip in skips), *unread(document)]


def _parameters(document: Document) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    for row in document["rows"]:
        counts[row["role"]] += row["rows"] * row["cols"]
    return {
        "kind": "bars",
        "title": "Parameters by role",
        "items": [[printable(role), counts[role]] for role in in_order(counts)],
    }


KIND = Kind(
    "ls",
    "Contents",
    order=(("parameters", True),),
    table=_table,
    facts=_facts,
    figures=lambda document: [("parameters", number(document["summary"]["parameters"]))],
    hints=lambda document, full: (
        ["-v names every skipped tensor."] if document["skipped"] and not full else []
    ),
    reads=False,
    visible=("parameters", "dtype", "codec"),
    summary={"matrices": COUNT.older, "parameters": COUNT, "bytes": COUNT.older},
    charts=lambda document, _: [_parameters(document)],
)
