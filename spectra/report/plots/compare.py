"""What moved between two results: how far by quantity, and where by layer and role."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from spectra.numbers import number
from spectra.report.changes import values_text
from spectra.report.kind import Document, RowDoc
from spectra.report.plots.heatmap import GRID_LABELS, draw_grid, grid_notes, grid_of
from spectra.report.plots.lettering import plain_text, shortened
from spectra.report.plots.page import Arrays, logarithmic_ticks, message, page
from spectra.report.plots.style import DARK, INK, QUIET, SMALL
from spectra.text import counted
from spectra.words import UNMEASURED

TITLE = "What moved"
MOST = 12  # quantities
LINE = 0.34  # inches of one
FACTOR = 1.5  # from which on changes are drawn as factors, not in per cent
FARTHEST = 1e12  # a factor; points beyond stand there
ROOM = 1.15  # beyond the largest, of the axis

Quantity = Mapping[str, Any]


def draw_compare(document: Document, _arrays: Arrays) -> Figure:
    """Draw a point for every move of a number by quantity, and the largest by layer and role."""
    factors = _factors(document["rows"])
    moved = [one for one in document["summary"]["quantities"] if one["key"] in factors]
    turned = document["summary"]["lost"] or document["summary"]["restored"]
    if not any(row["moves"] for row in document["rows"]) and not turned:
        return message(document, TITLE, "No number moved beyond its error: nothing to draw.")
    drawn = moved[:MOST]
    both = [row for row in document["rows"] if row["present"] == "both"]
    grid = grid_of(both, _extent)
    notes = _notes(document, factors, moved) + grid_notes(grid)
    heights = [LINE * len(drawn) + 0.75] if drawn else []
    heights += [grid.height + GRID_LABELS]
    figure = page(document, TITLE, sum(heights), " ".join(notes))
    layout = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    if drawn:
        _draw_strips(figure.add_subplot(layout[0, 0]), drawn, factors)
    cells = layout[-1, 0].subgridspec(1, 1)
    draw_grid(
        figure.add_subplot(cells[0, 0]), grid,
        "The largest move of a matrix, over the larger of both values", "move (%)", "from zero",
    )  # fmt: skip
    return figure


def _extent(row: RowDoc) -> float | None:
    """Return how far a matrix moved, in per cent; none where it has no numbers any more."""
    if row["status"] in UNMEASURED:
        return None
    return 100.0 * row["extent"] if row.get("extent") else 0.0


def _factors(rows: Sequence[RowDoc]) -> dict[str, list[float]]:
    """Return after over before of every move between two numbers above 0, by quantity."""
    found: dict[str, list[float]] = {}
    for row in rows:
        for move in row["moves"]:
            before, after = move["before"], move["after"]
            if before and after and before > 0.0 and after > 0.0:
                factor = min(max(after / before, 1.0 / FARTHEST), FARTHEST)
                found.setdefault(move["key"], []).append(factor)
    return found


def _notes(
    document: Document, factors: Mapping[str, Sequence[float]], moved: Sequence[Quantity]
) -> list[str]:
    """Say what a point is, and what has none."""
    total = sum(len(row["moves"]) for row in document["rows"])
    points = sum(len(found) for found in factors.values())
    notes = ["A point is a matrix whose number moved beyond its error; others have none."]
    notes = notes if points else ["No number moved from one value above 0 to another."]
    if total > points:
        without = counted(total - points, "move has", "moves have")
        notes.append(f"{without} no point: from or to 0, a bound, or a word.")
    if len(moved) > MOST:
        rest = counted(len(moved) - MOST, "more quantity is", "more quantities are")
        notes.append(f"{rest} not drawn.")
    return notes


def _draw_strips(
    axes: Axes, drawn: Sequence[Quantity], factors: Mapping[str, Sequence[float]]
) -> None:
    """Draw a line of points a quantity, its largest move written beside it."""
    largest = max(max(value, 1.0 / value) for one in drawn for value in factors[one["key"]])
    logarithmic = largest > FACTOR
    for place, one in enumerate(drawn):
        values = np.asarray(factors[one["key"]])
        x = values if logarithmic else 100.0 * (values - 1.0)
        axes.scatter(x, np.full(len(x), place), s=16, color=DARK, alpha=0.55, linewidth=0)
        text = f"{one['moved']:,} of {one['compared']:,}; most: {values_text(one['largest'])}"
        axes.annotate(
            shortened(text, SMALL, 6.0), (0.0, place), (2, 7), xycoords=("axes fraction", "data"),
            textcoords="offset points", va="center", color=QUIET,
        )  # fmt: skip
    if logarithmic:
        axes.set_xscale("log")
        axes.set_xlim(largest**-ROOM, largest**ROOM)
        logarithmic_ticks(axes.xaxis)
        axes.axvline(1.0, color=INK, linewidth=0.9)
        axes.set_xlabel("after over before (factor)")
    else:
        end = max(100.0 * (largest - 1.0) * ROOM, 1e-9)
        axes.set_xlim(-end, end)
        axes.xaxis.set_major_locator(MaxNLocator(7))
        axes.xaxis.set_major_formatter(
            FuncFormatter(
                lambda value, _: f"{'+' if value > 0 else ''}{number(value)}" if value else "0"
            )
        )
        axes.axvline(0.0, color=INK, linewidth=0.9)
        axes.set_xlabel("change over before (%)")
    axes.set_yticks(np.arange(len(drawn)), [plain_text(str(one["key"])) for one in drawn])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(drawn) - 0.5, -0.8)
    axes.set_ylabel("quantity")
    axes.set_title("Every move, by quantity")
    axes.grid(axis="x")
