"""Which heads read what earlier ones write: the strongest pairs as channels, and all by layer."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from spectra.report.kind import Document, RowDoc
from spectra.report.plots.lettering import tick
from spectra.report.plots.page import Arrays, message, page
from spectra.report.plots.stacks import Columns, columns_of
from spectra.report.plots.style import INK, QUIET, ramp

KINDS = {"q": ("Q", "#1f6fb2", -0.14), "k": ("K", "#d9822b", 0.0), "v": ("V", "#3a9a5b", 0.14)}
"""What a side is called, its colour, and how far its lines lie beside each other's, in heads."""
HEIGHT = 3.6  # inches, of the channels
GRIDS = 2.7
WIDEST, THINNEST = 3.2, 0.6  # points
LEAST = 1.0  # times chance, where the colours begin


def draw_channels(document: Document, _arrays: Arrays) -> Figure:
    """Draw the strongest pairs from layer to layer, and the highest score of any two layers."""
    told = document["summary"]["composition"]
    layers = told["layers"]
    if why := nothing_read(told):
        return message(document, "Composition of heads", f"{why[0].upper()}{why[1:]}.")
    columns = columns_in(document["rows"], told)
    notes = ["Lines: the strongest pairs, the thicker the stronger."]
    notes.append("Cells: the highest score of two heads of two layers, over chance, 1 / √width.")
    notes += [columns.note] if columns.note else []
    figure = page(document, "Composition of heads", HEIGHT + GRIDS, " ".join(notes))
    layout = figure.add_gridspec(2, 1, height_ratios=[HEIGHT, GRIDS])
    draw_lines(figure.add_subplot(layout[0, 0]), document["rows"], told)
    inner = layout[1, 0].subgridspec(1, 3)
    top = max(one["highest"] / one["null"] for one in layers)
    norm = LogNorm(LEAST, max(top, 2 * LEAST))
    panels = [figure.add_subplot(inner[0, place]) for place in range(3)]
    for axes, kind in zip(panels, KINDS, strict=True):
        mesh = _draw_layers(
            axes, [one for one in layers if one["kind"] == kind], kind, norm, columns
        )
    bar = panels[0].figure.colorbar(mesh, ax=panels, label="times chance", fraction=0.03, pad=0.01)
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(tick))
    bar.ax.yaxis.set_minor_formatter(FuncFormatter(tick) if top < 10 else FuncFormatter(_none))
    return figure


def nothing_read(told: Mapping[str, Any]) -> str:
    """Say why there is no line to draw; empty where there is one."""
    if not told["strongest"]:
        return "no head can read what another writes"
    if not any(pair["over"] for pair in told["strongest"]):
        return "every score is 0: what is written, nothing later reads"
    return ""


def columns_in(rows: Sequence[RowDoc], told: Mapping[str, Any]) -> Columns:
    """Return the columns of all modules that have heads, or are among pairs."""
    found = {one[side]: one[f"{side}_layer"]
             for one in told["layers"] for side in ("writer", "reader")}  # fmt: skip
    found |= {row["tensor"]: row["layer"] for row in rows if row.get("head") is not None}
    return columns_of(found.items())


def draw_lines(axes: Axes, rows: Sequence[RowDoc], told: Mapping[str, Any]) -> None:
    """Draw a line from each head that writes to the one that reads it, by layer and number.

    Pairs of score 0 have none; some have another.
    """
    pairs, columns = [pair for pair in told["strongest"] if pair["over"]], columns_in(rows, told)
    places = {(columns.places[row["tensor"]], row["head"]) for row in rows
              if row["tensor"] in columns.places and row.get("head") is not None}  # fmt: skip
    at = np.array(sorted(places), dtype=float).reshape(-1, 2)  # of no rows none
    axes.scatter(at[:, 0], at[:, 1], s=9, color="#d5d9de", linewidths=0, zorder=1)
    most = max(pair["over"] for pair in pairs)
    for pair in reversed(pairs):
        _, colour, shift = KINDS[pair["kind"]]
        x, to_x = (columns.places[pair[side].partition("[")[0]] for side in ("writer", "reader"))
        y, to_y = pair["writer_head"], pair["reader_head"]
        width = THINNEST + (WIDEST - THINNEST) * pair["over"] / most
        axes.plot([x, to_x], [y + shift, to_y + shift], color=colour, linewidth=width, alpha=0.75,
                  zorder=2)  # fmt: skip
        axes.scatter([x, to_x], [y, to_y], s=16, color=INK, linewidths=0, zorder=3)
    handles = [Line2D([], [], color=colour, label=f"read by {label}")
               for label, colour, _ in KINDS.values()]  # fmt: skip
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    axes.yaxis.set_major_locator(MaxNLocator(12, integer=True))
    columns.label(axes, 0.0)
    axes.invert_yaxis()
    axes.set(xlabel=columns.axis, ylabel="head",
             title="Which heads read what earlier ones write")  # fmt: skip


def _draw_layers(
    axes: Axes, layers: Sequence[Mapping[str, Any]], kind: str, norm: LogNorm, columns: Columns
) -> Any:  # noqa: ANN401 - a QuadMesh
    count = len(columns.names)
    values = np.full((count, count), np.nan)
    for one in layers:
        place = columns.places[one["writer"]], columns.places[one["reader"]]
        values[place] = np.nanmax([values[place], max(one["highest"] / one["null"], LEAST)])
    mesh = axes.pcolormesh(np.ma.masked_invalid(values), cmap=ramp(None), norm=norm,
                           edgecolors="white", linewidth=0.4)  # fmt: skip
    columns.label(axes, 0.5, upright=True)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_ylim(count, 0)
    axes.set(xlabel=f"{columns.noun} that reads", title=f"by {KINDS[kind][0]}")
    if kind == "q":
        axes.set_ylabel(f"{columns.noun} that writes")
    if not layers:
        axes.text(0.5, 0.5, "none", ha="center", va="center", color=QUIET)
    return mesh


def _none(_value: float, _place: int) -> str:
    return ""
