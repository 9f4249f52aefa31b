"""What fine-tuning changed, by layer and role; intruders have a picture of their own."""
# ruff: noqa: RUF001 - the signs are the field's own

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spectra.errors import UsageError
from spectra.numbers import number, percent
from spectra.report.kind import Document, RowDoc, noun_of
from spectra.report.plots.heatmap import GRID_LABELS, LARGEST, draw_grid, grid_notes, grid_of
from spectra.report.plots.intruders import MOST as FEW
from spectra.report.plots.intruders import draw_intruders, examined, overview
from spectra.report.plots.page import Arrays, left_out, message, name_bars, page
from spectra.report.plots.style import DARK
from spectra.text import counted

MOST = 12  # bars
BAR = 0.19  # inches
NAME = 2.9  # inches that a name may take


def draw_diff(document: Document, arrays: Arrays) -> Figure:
    """Draw the intruders where they were looked for, the size of the change otherwise."""
    found = examined(document["rows"])
    return draw_intruders(document, found, arrays) if found else _draw_change(document)


def draw_into(axes: Axes, document: Document) -> None:
    """Draw the largest |cos| of leading vectors, or the most changed matrices, into any axes.

    Raises:
        UsageError: Nothing has changed.
    """
    found = examined(document["rows"])
    changed = _most_changed(document["rows"])
    if not changed:
        raise UsageError("no matrix that could be measured is changed: there is nothing to draw.")
    if found:
        side = str(document["settings"].get("side", "left"))
        overview(axes, found[:FEW], "left" if side == "both" else side)
    else:
        _bars(axes, changed[:MOST], noun_of(document))


def _most_changed(rows: Sequence[RowDoc]) -> list[RowDoc]:
    return sorted(
        (row for row in rows if row.get("delta_relative")),
        key=lambda row: (-row["delta_relative"], row["matrix"]),
    )


def _draw_change(document: Document) -> Figure:
    """Draw size and rank of the change by role and layer, and the most changed matrices."""
    measured = [row for row in document["rows"] if row.get("delta_norm") is not None]
    if not measured:
        return message(document, "Change", "No pair could be measured.")
    if not any(row["delta_norm"] for row in measured):
        why = "No matrix that could be measured is changed: nothing to draw."
        return message(document, "Change", why)
    size = grid_of(document["rows"], _percent)
    rank = grid_of(document["rows"], lambda row: row.get("delta_rank"))
    changed = _most_changed(measured)
    noun = noun_of(document)
    notes = grid_notes(size, several=noun[1])
    bounds = sum(row.get("delta_rank_status") == "at least" for row in measured)
    if bounds:
        notes.append(f"{counted(bounds, 'rank is', 'ranks are')} proven to be that high at least.")
    if len(changed) > MOST:
        notes.append(f"{len(changed) - MOST:,} more changed {noun[1]} have no bar.")
    nothing = sum(_percent(row) is None for row in measured if row["delta_norm"])
    if nothing:
        text = counted(nothing, f"changed {noun[0]} has", f"changed {noun[1]} have")
        notes.append(f"{text} no relative size: {'its' if nothing == 1 else 'their'} base is zero.")
    notes += left_out(len(document["rows"]) - len(measured), noun)
    heights = [size.height + rank.height + 2 * GRID_LABELS]
    heights += [0.8 + BAR * len(changed[:MOST])] if changed else []
    figure = page(document, "Change", sum(heights), " ".join(notes))
    # Grids of their own: the long names beside the bars must not squeeze the cells.
    layout = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    cells = layout[0, 0].subgridspec(2, 1, height_ratios=[size.height, rank.height])
    draw_grid(
        figure.add_subplot(cells[0, 0]), size,
        "Size of the change, ‖tuned − base‖ / ‖base‖ (Frobenius)", "change (%)", "from zero",
    )  # fmt: skip
    draw_grid(
        figure.add_subplot(cells[1, 0]), rank,
        "Rank of the change, above rounding", "rank (count)", "count",
    )  # fmt: skip
    if changed:
        _bars(figure.add_subplot(layout[1, 0].subgridspec(1, 1)[0, 0]), changed[:MOST], noun)
    return figure


def _bars(axes: Axes, rows: Sequence[RowDoc], noun: tuple[str, str]) -> None:
    percents = [_percent(row) or 0.0 for row in rows]
    axes.barh(range(len(rows)), percents, height=0.7, color=DARK)
    for place, (row, size) in enumerate(zip(rows, percents, strict=True)):
        least = "≥ " if row.get("delta_rank_status") == "at least" else ""
        rank = number(row.get("delta_rank") or 0)
        text = f"{percent(row['delta_relative'] or 0.0)}   rank {least}{rank}"
        axes.annotate(text, (size, place), (3, 0), textcoords="offset points", va="center")
    name_bars(axes, rows, NAME)
    axes.set_xlim(0, 1.45 * (max(percents) or 1.0))
    axes.set_title(f"The most changed {noun[1]}")
    axes.set_xlabel("change ‖tuned − base‖ / ‖base‖ (%)")
    axes.set_ylabel(noun[0])


def _percent(row: RowDoc) -> float | None:
    """Return a change relative to its base, in per cent; none where the base is zero."""
    relative = row.get("delta_relative")
    return None if relative is None else min(100.0 * relative, LARGEST)
