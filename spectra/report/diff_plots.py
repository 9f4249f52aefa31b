"""What fine-tuning changed, by layer and role; intruders have a picture of their own."""
# ruff: noqa: RUF001 - the signs are the field's own

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spectra.analyzers import Row
from spectra.report.figure import DARK, SMALL, message, page
from spectra.report.heatmap import GRID_LABELS, LARGEST, draw_grid, grid_notes, grid_of
from spectra.report.intruder_plots import draw_intruders, examined
from spectra.report.lettering import matrix_label, measured, number
from spectra.text import counted
from spectra.work import Result

MOST = 12  # bars
BAR = 0.19  # inches
NAME = 2.9  # inches that a name may take


def draw_diff(result: Result) -> Figure:
    """Draw the intruders where they were looked for, the size of the change otherwise."""
    found = examined(result.rows)
    return draw_intruders(result, found) if found else _draw_change(result)


def _draw_change(result: Result) -> Figure:
    """Draw size and rank of the change by role and layer, and the most changed matrices."""
    measured = [row for row in result.rows if row.number("delta_norm") is not None]
    if not measured:
        return message(result, "Change", "No pair could be measured.")
    if not any(row.number("delta_norm") for row in measured):
        return message(
            result,
            "Change",
            "No matrix that could be measured is changed: nothing to draw.",
        )
    size = grid_of(measured, _percent)
    rank = grid_of(measured, lambda row: row.number("delta_rank"))
    changed = sorted(
        (row for row in measured if row.number("delta_relative")),
        key=lambda row: (-(row.number("delta_relative") or 0.0), row.matrix),
    )
    heights = [size.height + rank.height + 2 * GRID_LABELS]
    heights += [0.8 + BAR * len(changed[:MOST])] if changed else []
    figure = page(result, "Change", sum(heights), _notes(result, measured, changed))
    # Grids of their own: the long names beside the bars must not squeeze the cells.
    layout = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    cells = layout[0, 0].subgridspec(2, 1, height_ratios=[size.height, rank.height])
    draw_grid(
        figure, figure.add_subplot(cells[0, 0]), size,
        "Size of the change, ‖W1 − W0‖ / ‖W0‖ (Frobenius)", "change (%)", "from zero",
    )  # fmt: skip
    draw_grid(
        figure, figure.add_subplot(cells[1, 0]), rank,
        "Rank of the change, above rounding", "rank (count)", "count",
    )  # fmt: skip
    if changed:
        _bars(figure.add_subplot(layout[1, 0].subgridspec(1, 1)[0, 0]), changed[:MOST])
    return figure


def _bars(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw the most changed matrices with their ranks."""
    places = np.arange(len(rows))
    percents = [_percent(row) or 0.0 for row in rows]
    axes.barh(places, percents, height=0.7, color=DARK)
    for place, (row, percent) in enumerate(zip(rows, percents, strict=True)):
        text = f"{measured(percent)} %   rank {number(row.number('delta_rank') or 0)}"
        axes.annotate(text, (percent, place), (3, 0), textcoords="offset points", va="center")
    axes.set_yticks(places, [matrix_label(row.matrix, SMALL, NAME) for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, max(percents) * 1.45)
    axes.grid(axis="x")
    axes.set_title("The most changed matrices")
    axes.set_xlabel("change ‖W1 − W0‖ / ‖W0‖ (%)")
    axes.set_ylabel("matrix")


def _percent(row: Row) -> float | None:
    """Return a change relative to its base, in per cent; none where the base is zero."""
    relative = row.number("delta_relative")
    return None if relative is None else min(100.0 * relative, LARGEST)


def _notes(result: Result, measured: Sequence[Row], changed: Sequence[Row]) -> list[str]:
    """Say what the page leaves out."""
    notes = grid_notes(grid_of(measured, _percent))
    if len(changed) > MOST:
        notes.append(f"{len(changed) - MOST:,} more changed matrices have no bar.")
    nothing = sum(_percent(row) is None for row in measured if row.number("delta_norm"))
    if nothing:
        text = counted(nothing, "changed matrix has", "changed matrices have")
        notes.append(f"{text} no relative size: {'its' if nothing == 1 else 'their'} base is zero.")
    lost = len(result.rows) - len(measured)
    if lost:
        notes.append(f"{counted(lost, 'matrix', 'matrices')} with NaN or Inf left out.")
    return [" ".join(notes)] if notes else []
