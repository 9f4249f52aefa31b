"""What `spectra lowrank init` tells: what each module begins from, and how exact it is."""

from collections.abc import Iterator, Sequence

from spectra.numbers import number, percent
from spectra.report import cells, lowrank
from spectra.report.kind import Document, Kind, Metric, Worst, highest
from spectra.report.shape import COUNT, NUMBER, TEXT
from spectra.report.table import Column
from spectra.text import size

ADAPTER = "adapter"  # the folder of a residual base that holds it


def lead(document: Document) -> Sequence[str]:
    """Return the words before the model: the method is no option."""
    return ["lowrank", "init", str(document["settings"]["method"])]


def figures(document: Document) -> list[tuple[str, str]]:
    """Return how exact it is, and what is written."""
    summary = document["summary"]
    error = [] if summary["missed"] is None else [("missed", number(float(summary["missed"])))]
    return [*error, ("written", size(summary["nbytes_written"]))]


def worst(document: Document) -> Iterator[Worst]:
    """Yield what is not determined, and the modules that are farthest from the original."""
    for row in document["rows"]:
        if row.get("determined") is False:
            text = "what it begins from is not determined: rounding decides it"
            yield Worst("warning", row["matrix"], text, about="determined")
    for row in highest(document["rows"], "missed"):
        text = f"base and adapter are the original to {number(row['missed'])} of its norm"
        yield Worst("note", row["matrix"], text, about="missed")


def words(document: Document) -> Iterator[tuple[str, ...]]:
    """Yield the ramp, which is one option of several layers."""
    settings = document["settings"]
    if settings.get("ramp"):
        yield "--ramp", ",".join(map(str, settings["ramp"]))


def after(document: Document) -> Iterator[Sequence[str]]:
    """Yield what shows it."""
    place = lowrank.place(document)
    if document["summary"].get("base"):
        yield ["diff", str(document["summary"]["base"]), place]
    elif document["summary"]["missed"] is not None:
        yield ["diff", place, f"{place}/{ADAPTER}"]
    else:
        yield ["ls", place]


KIND = Kind(
    "lowrank_init",
    "What an adapter begins from",
    columns=(
        Column("rank", key="rank_kept", cell=cells.of("rank_kept")),
        Column("share", key="chosen_share", cell=cells.of("chosen_share", percent)),
        Column("σ from", key="chosen_max", cell=cells.of("chosen_max", number), optional=True),
        Column("to", key="chosen_min", cell=cells.of("chosen_min", number), optional=True),
        Column("gap", key="chosen_gap", cell=cells.of("chosen_gap", number)),
        Column("missed", key="missed", cell=cells.of("missed", number)),
    ),
    order=(("missed", True), ("matrix", False)),
    figures=figures, after=after, writes=True, metrics=(Metric("chosen_share", "linear"),),
    visible=("rank_kept", "chosen_share", "chosen_max", "chosen_min", "chosen_gap", "missed"),
    worst=worst, words=words, lead=lead, parts=("base",),
    options={
        "rank": 16, "alpha": None, "chosen": None, "seed": 0, "start_block": 0, "form": None,
        "dtype": "float32", "output": "", "force": False,
    },
    summary={
        "matrices": COUNT, "rank_kept": COUNT, "nbytes": COUNT, "nbytes_written": COUNT,
        "written": TEXT, "non_finite": COUNT, "chosen_share": NUMBER, "undetermined": COUNT,
        "drowned": COUNT, "missed": NUMBER.nullable, "missed_max": NUMBER.nullable,
    },
)  # fmt: skip
