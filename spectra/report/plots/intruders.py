"""Intruder dimensions: leading vectors of the tuned matrix that resemble none of the base."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from spectra.numbers import hundredths, number, ranged
from spectra.report.kind import Document, RowDoc, noun_of
from spectra.report.plots.heatmap import label_cells
from spectra.report.plots.lettering import matrix_label
from spectra.report.plots.page import Arrays, array_of, left_out, page
from spectra.report.plots.style import INK, SMALL, ramp
from spectra.text import counted
from spectra.words import UNMEASURED

MOST = 40  # matrices
CELL = 0.17  # inches
NAME = 2.35  # inches that a name may take
CLOSE_UPS = 3  # matrices shown vector by vector
CLOSE_UP = 2.1  # inches that one of them needs
HALO = [patheffects.withStroke(linewidth=3.0, foreground="white")]
"""A light outline that keeps a dark mark visible on dark cells."""
COLUMNS = 10  # numbers under the cells
COLOURS = ramp("low")
"""Dark red for 0, which resembles nothing; light for 1."""


def examined(rows: Sequence[RowDoc]) -> list[RowDoc]:
    """Return the rows whose vectors were compared, worst first."""

    def worst(row: RowDoc) -> tuple[int, float, str]:
        cosines = [item["max_cos"] for item in _details(row) if item["max_cos"] is not None]
        return -len(_intruders(row)), min(cosines, default=1.0), row["matrix"]

    return sorted((row for row in rows if _details(row)), key=worst)


def draw_intruders(document: Document, found: Sequence[RowDoc], arrays: Arrays) -> Figure:
    """Draw every matrix's leading vectors, and the worst matrices vector by vector.

    Args:
        document: The analysis.
        found: Its `examined` rows.
        arrays: `cosines` of those to be shown vector by vector.
    """
    rows = found[:MOST]
    body = max(1.55 + CELL * len(rows), 3.4)
    cosines = [(row, array_of(row, arrays, "cosines")) for row in rows]
    pictured = [(row, found) for row, found in cosines if found is not None and found.size]
    wanted = [(row, values) for row, values in pictured if _intruders(row)] or pictured[:1]
    close = wanted[: min(CLOSE_UPS, max(int((body - 1.0) / CLOSE_UP), 1))]
    epsilon = float(document["settings"].get("epsilon", 0.5))
    notes = _notes(document, found, epsilon, close=bool(close))
    figure = page(document, "Intruder dimensions", body, " ".join(notes))
    layout = figure.add_gridspec(2, 2, width_ratios=[1.0, 1.15], height_ratios=[body - 0.9, 0.13])
    side = _side(document)
    overview(figure.add_subplot(layout[0, 0] if close else layout[0, :]), rows, side)
    grid = layout[0, 1].subgridspec(max(len(close), 1), 1)
    for index, (row, values) in enumerate(close):
        _close_up(figure.add_subplot(grid[index, 0]), row, values)
    _colour_bar(figure.add_subplot(layout[1, :]), rows, epsilon)
    return figure


def _side(document: Document) -> str:
    """Return the side whose vectors are drawn: where both were judged, the left one."""
    side = str(document["settings"].get("side", "left"))
    return "left" if side == "both" else side


def overview(axes: Axes, rows: Sequence[RowDoc], side: str) -> None:
    """Draw the largest |cos| of each matrix's leading vectors, intruders crossed."""
    width = max(len(_details(row)) for row in rows)
    cosines = np.full((len(rows), width), np.nan)
    for place, row in enumerate(rows):
        for item in _details(row):
            if item["max_cos"] is not None:
                cosines[place, int(item["index"])] = item["max_cos"]
    _cells(axes, cosines)
    crosses = [
        (index + 0.5, place + 0.5) for place, row in enumerate(rows) for index in _intruders(row)
    ]
    size = float(np.clip(0.5 * 72 * min(CELL, 1.9 / width), 1.5, 6.0))
    if crosses:
        axes.plot(
            *zip(*crosses, strict=True), linestyle="none", marker="x", markersize=size,
            markeredgewidth=1.4, color=INK, gid="intruders", path_effects=HALO,
        )  # fmt: skip
    names = [matrix_label(row["matrix"], SMALL, NAME) for row in rows]
    axes.set_yticks(np.arange(len(rows)) + 0.5, names)
    axes.set_title("Largest |cos| with any vector of the base", fontsize=SMALL)
    axes.set_xlabel(f"index of {side} singular vector, tuned")
    axes.set_ylabel("matrix, most intruders first")


def _close_up(axes: Axes, row: RowDoc, cosines: NDArray[np.float64]) -> None:
    """Draw the |cos| of each leading tuned vector with those of the base."""
    count, width = cosines.shape
    _cells(axes, cosines, ramp(None))  # one base vector that it does not resemble is no fault
    crossed = _intruders(row)
    for index in crossed:
        axes.add_patch(
            Rectangle((0, index), width, 1, fill=False, edgecolor=INK, lw=1.2, clip_on=False)
        )
    shown = sorted({*range(0, count, max(-(-count // 12), 1)), *crossed})
    names = [f"× {index}" if index in crossed else str(index) for index in shown]
    axes.set_yticks(np.asarray(shown) + 0.5, names)
    axes.set_title(matrix_label(row["matrix"], SMALL, 2.45), fontsize=SMALL)
    axes.set_xlabel("index of singular vector, base")
    axes.set_ylabel("index, tuned")


def _cells(axes: Axes, cosines: NDArray[np.float64], colours: Colormap = COLOURS) -> None:
    """Draw |cos| as coloured cells, the first row on top."""
    count, width = cosines.shape
    fine = width <= 60
    axes.pcolormesh(
        np.ma.masked_invalid(cosines), cmap=colours, norm=Normalize(0.0, 1.0),
        edgecolors="white" if fine else "face", linewidth=0.4 if fine else 0.0,
    )  # fmt: skip
    axes.set_ylim(count, 0)
    label_cells(axes, [str(index) for index in range(width)], COLUMNS)


def _colour_bar(axes: Axes, rows: Sequence[RowDoc], limit: float) -> None:
    """Draw the scale of |cos|, marked where intruders begin and where chance lies."""
    axes.pcolormesh(
        np.linspace(0.0, 1.0, 129), [0.0, 1.0], np.linspace(0.0, 1.0, 128)[None, :],
        cmap=COLOURS, edgecolors="face",
    )  # fmt: skip
    axes.set_yticks([])
    axes.set_xlim(0.0, 1.0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("|cos| (dimensionless)")
    nulls = sorted(null for row in rows if (null := row.get("null_cos")) is not None)
    marks = [(limit, f"intruder below {number(limit)}")]
    if nulls:
        low, high = nulls[0], nulls[-1]
        marks.append((high, f"chance {ranged(low, high, hundredths)}"))
        if low < high:
            axes.axvline(low, color=INK, linewidth=1.2, path_effects=HALO)
    marks.sort()
    for place, (at, text) in enumerate(marks):
        axes.axvline(at, color=INK, linewidth=1.2, path_effects=HALO, gid="mark")
        first = place == 0 and len(marks) > 1
        axes.annotate(
            text, (at, 1.0), (2 if first else -2, 2), xycoords=("data", "axes fraction"),
            textcoords="offset points", ha="right" if first else "left", va="bottom",
        )  # fmt: skip


def _notes(
    document: Document, found: Sequence[RowDoc], epsilon: float, *, close: bool
) -> list[str]:
    """Say what the marks mean and what the page leaves out."""
    one, several = noun_of(document)
    notes = [
        f"×: an intruder, largest |cos| with any vector of the base below {number(epsilon)}.",
        "The close-ups outline it and show, blue for a large |cos|, only the leading vectors of "
        "the base."
        if close
        else "There are no close-ups: a saved result does not hold every |cos|.",
    ]
    if document["settings"].get("side") == "both":
        notes.append("Right singular vectors were judged too and are not drawn.")
    rest = found[MOST:]
    if rest:
        hidden = sum(len(_intruders(row)) for row in rest)
        more = counted(len(rest), f"more changed {one} is", f"more changed {several} are")
        notes.append(
            f"{more} not drawn"
            + (f", with {counted(hidden, 'intruder')}." if hidden else ", none with intruders.")
        )
    hollow = sum(
        bool(row.get("delta_norm")) and row["status"] not in UNMEASURED and not _details(row)
        for row in document["rows"]
    )
    if hollow:
        which = counted(hollow, f"changed {one}", f"changed {several}")
        notes.append(f"{which} without a vector to judge left out.")
    tied = sum(bool(item.get("tied")) for row in found for item in _details(row))
    if tied:
        notes.append(
            f"{counted(tied, 'vector is', 'vectors are')} not determined: singular values coincide."
        )
    return notes + left_out(
        sum(row["status"] in UNMEASURED for row in document["rows"]), (one, several)
    )


def _details(row: RowDoc) -> Sequence[Mapping[str, Any]]:
    """Return the verdicts on a row's vectors; none where it was not looked for intruders."""
    return row.get("intruder_detail") or ()


def _intruders(row: RowDoc) -> list[int]:
    """Return which of its vectors are intruders."""
    return [int(item["index"]) for item in _details(row) if item["intruder"]]
