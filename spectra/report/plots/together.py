"""How the changes of several fine-tunes lie to each other: cosines of every pair, and by matrix."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from spectra.numbers import number
from spectra.report.kind import Document
from spectra.report.plots.heatmap import (
    AGAINST_TO_ALIKE,
    GRID_LABELS,
    Grid,
    grid_notes,
    grid_of,
    label_cells,
)
from spectra.report.plots.lettering import plain_text, role_label, shortened, width_of
from spectra.report.plots.page import Arrays, message, page
from spectra.report.plots.style import INK, QUIET, SMALL

CELL = 0.3  # inches, of a pair
NAME = 2.4  # inches that a model's name may take
MOST = 40  # models that are drawn


def draw_together(document: Document, _arrays: Arrays) -> Figure:
    """Draw the task cosine of every pair, and by role and layer the largest of a matrix."""
    summary = document["summary"]
    names = [str(one["model"]) for one in summary["updates"]]
    if all(one["task_cosine"] is None for one in summary["pairs"]):
        return message(document, "Task cosines", "No two models change the same matrix.")
    drawn = names[:MOST]
    cosines = np.full((len(drawn), len(drawn)), np.nan)
    for place, one in enumerate(summary["updates"][:MOST]):
        if one["delta_norm"]:
            cosines[place, place] = 1.0
    for pair in summary["pairs"]:
        if pair["a"] in drawn and pair["b"] in drawn and pair["task_cosine"] is not None:
            i, j = drawn.index(pair["a"]), drawn.index(pair["b"])
            cosines[i, j] = cosines[j, i] = pair["task_cosine"]
    rows = [row for row in document["rows"] if row.get("changed_by") != 0]
    grid = grid_of(rows, lambda row: row.get("task_cosine"))
    notes = grid_notes(grid)
    if len(names) > 2:
        notes.append("By layer: of all pairs the cosine that is largest in size.")
    if len(names) > MOST:
        notes.append(f"Not drawn: {len(names) - MOST:,} more models.")
    heights = [CELL * len(drawn) + 0.75, grid.height + GRID_LABELS]
    figure = page(document, "Task cosines", sum(heights), " ".join(notes))
    layout = figure.add_gridspec(2, 1, height_ratios=heights)
    norm = Normalize(-1.0, 1.0)
    _draw_pairs(figure.add_subplot(layout[0, 0].subgridspec(1, 1)[0, 0]), drawn, cosines, norm)
    _draw_layers(figure.add_subplot(layout[1, 0].subgridspec(1, 1)[0, 0]), grid, norm)
    return figure


def _draw_pairs(
    axes: Axes, names: Sequence[str], cosines: NDArray[np.float64], norm: Normalize
) -> None:
    count = len(names)
    mesh = _cells(axes, cosines, norm, min(8.0 - NAME - 1.2, CELL * 2.4 * count) / count)
    label_cells(axes, [str(1 + place) for place in range(count)])
    shown = [f"{shortened(plain_text(name), SMALL, NAME)}  {1 + place}"
             for place, name in enumerate(names)]  # fmt: skip
    axes.set_yticks(np.arange(count) + 0.5, shown)
    axes.set_ylim(count, 0)
    axes.set_xlabel("model (number)")
    axes.set_ylabel("model")
    axes.set_title("Cosine of the changes of all matrices, ⟨Δa, Δb⟩ / ‖Δa‖‖Δb‖")
    bar = axes.figure.colorbar(mesh, ax=axes, label="task cosine", fraction=0.035, pad=0.012)
    bar.outline.set_visible(False)
    bar.set_ticks([-1.0, 0.0, 1.0])


def _draw_layers(axes: Axes, grid: Grid, norm: Normalize) -> None:
    _cells(axes, grid.values, norm, grid.inside / len(grid.layers))
    for (i, j), value in np.ndenumerate(grid.values):
        if not grid.counts[i, j] or not np.isnan(value):
            continue
        if grid.broken[i, j]:
            axes.add_patch(
                Rectangle((j, i), 1, 1, hatch="/////", facecolor="white", edgecolor=INK, lw=0.4)
            )
        else:
            axes.text(j + 0.5, i + 0.5, "–", ha="center", va="center", color=QUIET)
    label_cells(axes, ["none" if layer is None else str(layer) for layer in grid.layers])
    axes.set_yticks(np.arange(len(grid.roles)) + 0.5, [role_label(role) for role in grid.roles])
    axes.set_ylim(len(grid.roles), 0)
    axes.set_xlabel("layer (index)")
    axes.set_ylabel("role")
    axes.set_title("The same of every matrix, by layer and role")


def _cells(axes: Axes, values: NDArray[np.float64], norm: Normalize, room: float) -> QuadMesh:
    """Draw cells and, where they fit in so many inches each, their numbers."""
    mesh = axes.pcolormesh(
        np.ma.masked_invalid(values), cmap=AGAINST_TO_ALIKE, norm=norm, edgecolors="white",
        linewidth=0.8,
    )  # fmt: skip
    texts = {at: number(float(value), 2) for at, value in np.ndenumerate(values)
             if not np.isnan(value)}  # fmt: skip
    if max((width_of(text, SMALL) for text in texts.values()), default=0.0) + 0.04 > room:
        return mesh
    for (i, j), text in texts.items():
        dark = abs(float(values[i, j])) > 0.55
        axes.text(j + 0.5, i + 0.5, text, ha="center", va="center", color="white" if dark else INK)
    return mesh
