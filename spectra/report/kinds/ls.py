"""What `spectra ls` tells: what a model holds."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from spectra.matrices.place import COLUMNS
from spectra.numbers import number
from spectra.report import cells
from spectra.report.command_line import arguments
from spectra.report.kind import Document, Kind, Listing, RowDoc
from spectra.report.sentences import skip_counts, unread
from spectra.report.shape import COUNT, Items, Object
from spectra.report.table import Column
from spectra.text import printable
from spectra.words import in_order


def _stored(row: RowDoc) -> str:
    """Write the stored dtype, and the codec where the dtype does not tell it."""
    dtype, codec = row["dtype"], row["codec"]
    told = codec is not None and codec != f"gguf-{dtype}".lower()
    return printable(f"{dtype}, {codec}" if told else dtype)


def _table(document: Document) -> Listing:
    columns = [cells.NAME, cells.ROLE, cells.SHAPE,
               Column("dtype", "left", cell=_stored)]  # fmt: skip
    return Listing(columns, document["rows"], document["rows"])


def _facts(document: Document, full: bool) -> list[str]:
    """Return what is no matrix, and files that were not opened."""
    skips = skip_counts(document)
    if full:
        skips = [f"{printable(item['tensor'])}: {printable(item['reason'])}"
                 for item in document["skipped"]]  # fmt: skip
    return [*(f"skipped: {skip}" for skip in skips), *unread(document)]


def _after(document: Document) -> Iterator[Sequence[str]]:
    """Yield what measures these matrices, and what judges the whole; an adapter is judged alone."""
    _command, *words = arguments(document)
    if "adapter" not in document["summary"]:
        yield ["spectrum", *words]
    spec = str(document["models"][0]["spec"])
    yield ["check", *(["--"] if spec.startswith("-") else []), spec]


def _every(document: Document) -> list[RowDoc]:
    """Return a line for each matrix and, after them, for each tensor that is none."""
    keys = dict.fromkeys(COLUMNS)
    skips = [
        {**keys, "tensor": item["tensor"], "status": "skipped", "error": item["reason"]}
        for item in document["skipped"]
    ]
    return [*document["rows"], *skips]


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
    after=_after,
    every=_every,
    figures=lambda document: [("parameters", number(document["summary"]["parameters"]))],
    hints=lambda document, full: (
        ["-v names every skipped tensor."] if document["skipped"] and not full else []
    ),
    reads=False,
    visible=("parameters", "dtype", "codec"),
    summary={
        "matrices": COUNT.older, "parameters": COUNT, "bytes": COUNT.older,
        "adapter": Object({"modules": COUNT, "ranks": Items(COUNT)}).sometimes,
    },
    charts=lambda document, _: [_parameters(document)],
)  # fmt: skip
