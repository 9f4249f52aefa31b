"""Heads of attention by layer: how far each copies what it reads, and how large its maps are."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from spectra.errors import UsageError
from spectra.report.kind import Document, RowDoc
from spectra.report.plots.channels import draw_channels, draw_lines, nothing_read
from spectra.report.plots.heatmap import GRID_LABELS, Grid, Scale, draw_grid, grid_notes, grid_of
from spectra.report.plots.page import Arrays, message, page
from spectra.report.plots.stacks import Columns, columns_of

MAPS: tuple[tuple[str, str, str, Scale], ...] = (
    ("ov_sigma_max", "What a head moves at most: σ max of OV", "σ max", "log"),
    ("qk_sigma_max", "How sharply it can look: σ max of QK", "σ max", "log"),
)


def draw_heads(document: Document, arrays: Arrays) -> Figure:
    """Draw the copying score and the largest singular values of OV and QK, by head and layer.

    Of a composition which heads read what others write.
    """
    if document["summary"].get("composition"):
        return draw_channels(document, arrays)
    rows = document["rows"]
    columns = _columns(rows)
    copies = _grid(rows, "copying", columns)
    maps = [_grid(rows, key, columns) for key, *_ in MAPS]
    if not copies.roles:
        return message(document, "Heads of attention", "No head has numbers.")
    notes = [*grid_notes(copies, *maps), *([columns.note] if columns.note else [])]
    notes.append("Copying: sum of the eigenvalues of OV over the sum of their sizes; 1 copies what "
                 "it reads, -1 takes it away.")  # fmt: skip
    height = copies.height + GRID_LABELS
    figure = page(document, "Heads of attention", 3 * height, " ".join(notes))
    layout = figure.add_gridspec(3, 1)
    _copying(figure.add_subplot(layout[0, 0]), copies)
    for place, (grid, (_, title, label, scale)) in enumerate(zip(maps, MAPS, strict=True), 1):
        draw_grid(figure.add_subplot(layout[place, 0]), grid, title, label, scale)
    return figure


def draw_into(axes: Axes, document: Document) -> None:
    """Draw how far each head copies what it reads, or the strongest pairs, into any axes.

    Raises:
        UsageError: No head has numbers, or none reads what another writes.
    """
    if composition := document["summary"].get("composition"):
        if why := nothing_read(composition):
            raise UsageError(f"{why}. There is nothing to draw.")
        draw_lines(axes, document["rows"], composition)
        return
    copies = _grid(document["rows"], "copying", _columns(document["rows"]))
    if not copies.roles:
        raise UsageError("no head has numbers: there is nothing to draw.")
    _copying(axes, copies)


def _copying(axes: Axes, grid: Grid) -> None:
    draw_grid(axes, grid, "Whether a head copies what it reads", "copying", Normalize(-1.0, 1.0))


def _columns(rows: Sequence[RowDoc]) -> Columns:
    return columns_of((row["tensor"], row["layer"]) for row in rows if row.get("head") is not None)


def _grid(rows: Sequence[RowDoc], key: str, columns: Columns) -> Grid:
    placed = [{**row, "layer": columns.places[row["tensor"]]} for row in rows
              if row["tensor"] in columns.places]  # fmt: skip
    found = grid_of(placed, _value(key), by="head")
    names = [columns.names[at] for at in found.layers if at is not None]
    return replace(found, names=names, across=columns.axis)


def _value(key: str) -> Callable[[RowDoc], float | None]:
    return lambda row: row.get(key)
