"""What `spectra spectrum` tells: singular values, matrix by matrix."""

from collections.abc import Iterator
from statistics import median

from spectra.numbers import number
from spectra.report import cells, shades
from spectra.report.kind import Document, Kind, Listing, Metric, Worst, highest, singular
from spectra.report.sentences import short_name
from spectra.report.shape import COUNT
from spectra.report.table import Column
from spectra.text import printable

COLUMNS = (
    cells.NAME, cells.ROLE, cells.SHAPE, Column("sigma max", cell=cells.of("sigma_max")),
    Column("min", optional=True, cell=cells.of("sigma_min")),
    Column("kappa", cell=cells.of("kappa")), Column("stable", cell=cells.of("stable_rank")),
    Column("alpha", cell=cells.of("alpha")),
    Column("spikes", optional=True, cell=cells.of("spikes")),
)  # fmt: skip
CARD = (
    cells.CODE, Column("κ", cell=cells.of("kappa")),
    Column("σ max", cell=cells.of("sigma_max")),
    Column("stable rank", cell=cells.of("stable_rank")),
    Column("α", cell=cells.of("alpha")),
)  # fmt: skip


def _figures(document: Document) -> list[tuple[str, str]]:
    rows = document["rows"]
    return [
        ("parameters", number(document["summary"]["parameters"])),
        *cells.conditioned(rows),
        *cells.highest(rows, "sigma_max", "highest σ"),
    ]


def _worst(document: Document) -> Iterator[Worst]:
    """Yield singular matrices, and the highest condition numbers against their role's."""
    yield from singular(document)
    known = [row for row in document["rows"] if row.get("kappa") is not None]
    for row in highest(known, "kappa"):
        alike = [other["kappa"] for other in known if other["role"] == row["role"]]
        text = f"κ {number(row['kappa'])}"
        middle = median(alike)
        if len(alike) > 2 and middle > 0:
            text += f", {number(row['kappa'] / middle)} × the median of {printable(row['role'])}"
        yield Worst("note", row["matrix"], text, about="kappa")


def _together(document: Document) -> str:
    """Say of an adapter's spectra that they are not its own."""
    names = {one["part"]: short_name(one) for one in document["models"]}
    if not {"base", "tuned"} <= names.keys():
        return ""
    return printable(f"of {names['base']} with {names['tuned']} added")


def _words(document: Document) -> list[tuple[str, ...]]:
    """Return the option that names an adapter's base."""
    return [("--base", str(one["spec"])) for one in document["models"] if one["part"] == "base"]


KIND = Kind(
    "spectrum",
    "Singular spectra",
    order=(("kappa", True),),
    table=lambda document: Listing(COLUMNS, document["rows"]),
    card=lambda _, ranked: Listing(CARD, ranked),
    figures=_figures,
    onward=lambda _: [[("--plot", "spectrum.png")]],
    visible=("sigma_max", "sigma_min", "kappa", "stable_rank", "alpha", "spikes"),
    metrics=(
        Metric("kappa", "log", "high", shades.conditioning, shades.OF_KAPPA),
        Metric("sigma_max", "log"), Metric("stable_rank", "log"), Metric("alpha", "linear"),
        Metric("spikes", "count"),
    ),
    under=_together, advice=lambda document: [*filter(None, [_together(document)])],
    worst=_worst, parts=("model", "tuned"), words=_words,
    drawer="spectra.report.plots.spectrum:draw_spectrum",
    options={"energy": 0.99},
    summary={"matrices": COUNT.older, "parameters": COUNT, "non_finite": COUNT.older},
)  # fmt: skip
