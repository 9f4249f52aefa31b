"""What `spectra ls` tells of two models: what became of every tensor."""

from collections.abc import Iterator, Sequence

from spectra.report import cells
from spectra.report.kind import Document, Kind, Listing, RowDoc
from spectra.report.sentences import skip_counts, unread
from spectra.report.shape import COUNT, TEXT, Items, Object, Words
from spectra.report.table import Column, Mark
from spectra.text import counted, printable, some
from spectra.words import BECAME

FEW = 4  # files named under the table
TOLD = {"unknown": "not known"}


def _became(row: RowDoc) -> str:
    return TOLD.get(row["became"], str(row["became"]))


COLUMNS = (
    cells.NAME, cells.ROLE, Column("became", "left", cell=_became),
    Column("before", "left", optional=True, cell=cells.of("was", printable)),
    Column("after", "left", optional=True, cell=cells.of("now", printable)),
)  # fmt: skip


def _mark(row: RowDoc) -> Mark:
    return "dim" if row["became"] == "same" else ""


def _table(document: Document) -> Listing:
    """Return every tensor, what became another first; of the first screen no others."""
    rows = sorted(document["rows"], key=lambda row: BECAME.index(row["became"]))
    other = [row for row in rows if row["became"] != "same"]
    return Listing(COLUMNS, rows, other[:20], _mark, of_rest=_of_rest)


def _of_rest(rows: Sequence[RowDoc]) -> str:
    same = sum(row["became"] == "same" for row in rows)
    return f", {same:,} of them the same" if same else ""


def _facts(document: Document, full: bool) -> list[str]:
    """Return what became of the files, and what was not opened."""
    del full
    files, told = document["summary"]["files"], []
    for word in BECAME:
        names = [printable(one["file"]) for one in files if one["became"] == word]
        if names:
            count = f"{len(names):,} of {counted(len(files), 'file')}"
            named = f": {some(names, FEW)}" if word != "same" else ""
            told.append(f"{count} {TOLD.get(word, word)}{named}")
    return [*told, *(f"skipped: {skip}" for skip in skip_counts(document)), *unread(document)]


def _after(document: Document) -> Iterator[Sequence[str]]:
    """Yield what measures the change, where there may be one."""
    if any(row["became"] in ("changed", "recast", "unknown") for row in document["rows"]):
        specs = [str(model["spec"]) for model in document["models"]]
        yield ["diff", *(["--"] if any(spec.startswith("-") for spec in specs) else []), *specs]


KIND = Kind(
    "revisions",
    "What changed",
    columns=COLUMNS[2:],
    table=_table,
    card=lambda document, _: _table(document),
    facts=_facts,
    after=_after,
    hints=lambda document, _: (
        ["Values are known once both were read; of what is no weights they stay unknown."]
        if document["summary"]["unknown_bytes"] else []
    ),
    reads=False,
    lead=("ls",),
    parts=("before", "after"),
    visible=("became", "was", "now"),
    summary={
        "tensors": COUNT, "unknown_bytes": COUNT,
        "counts": Items(Object({"became": Words(BECAME), "tensors": COUNT})),
        "files": Items(Object({"file": TEXT, "became": Words(BECAME)})),
    },
)  # fmt: skip
