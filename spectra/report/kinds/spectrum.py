"""What `spectra spectrum` tells: singular values, matrix by matrix."""

from collections.abc import Iterator
from statistics import median

from spectra.report.cells import (
    CODE,
    NAME,
    ROLE,
    SHAPE,
    brief,
    count,
    figure,
    highest,
    large,
    number,
)
from spectra.report.kinds.kind import EACH, Document, Kind, Listing, Metric, Worst, singular
from spectra.report.shape import COUNT, older
from spectra.report.table import Column
from spectra.text import printable

COLUMNS = (
    NAME, ROLE, SHAPE, Column("sigma max", cell=number("sigma_max")),
    Column("min", optional=True, cell=number("sigma_min")), Column("kappa", cell=number("kappa")),
    Column("stable", cell=number("stable_rank")), Column("alpha", cell=number("alpha", 3)),
    Column("spikes", optional=True, cell=count("spikes")),
)  # fmt: skip
CARD = (
    CODE, Column("κ", cell=figure("kappa")), Column("σ max", cell=figure("sigma_max")),
    Column("stable rank", cell=figure("stable_rank")), Column("α", cell=figure("alpha")),
)  # fmt: skip


def figures(document: Document) -> list[tuple[str, str]]:
    """Return how large it is, and how far its values spread."""
    rows = document["rows"]
    return [
        ("parameters", large(document["summary"]["parameters"])),
        *highest(rows, "kappa", "highest κ"),
        *highest(rows, "sigma_max", "highest σ"),
    ]


def worst(document: Document) -> Iterator[Worst]:
    """Yield singular matrices, and the highest condition numbers against their role's."""
    yield from singular(document)
    known = [row for row in document["rows"] if row.get("kappa") is not None]
    for row in sorted(known, key=lambda row: -row["kappa"])[:EACH]:
        alike = [other["kappa"] for other in known if other["role"] == row["role"]]
        text = f"κ {brief(row['kappa'])}"
        middle = median(alike)
        if len(alike) > 2 and middle > 0:
            text += f", {brief(row['kappa'] / middle)} × the median of {printable(row['role'])}"
        yield Worst("note", row["matrix"], text)


KIND = Kind(
    "spectrum",
    "Singular spectra",
    order=(("kappa", True),),
    table=lambda document: Listing(COLUMNS, document["rows"]),
    card=lambda _, ranked: Listing(CARD, ranked),
    figures=figures,
    onward=lambda _: ["--plot", "spectrum.png"],
    visible=("sigma_max", "sigma_min", "kappa", "stable_rank", "alpha", "spikes"),
    metrics=(
        Metric("kappa", "log"), Metric("sigma_max", "log"), Metric("stable_rank", "log", "low"),
        Metric("alpha", "linear"), Metric("spikes", "count"),
    ),
    worst=worst,
    drawer="spectra.report.spectrum_plots:draw_spectrum",
    options={"energy": 0.99},
    summary={"matrices": older(COUNT), "parameters": COUNT, "non_finite": older(COUNT)},
)  # fmt: skip
