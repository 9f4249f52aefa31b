"""Intruder dimensions: leading vectors of W1 that resemble none of W0."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from matplotlib import colormaps, patheffects
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from spectra.analyzers import Row
from spectra.report.figure import INK, SMALL, page
from spectra.report.lettering import matrix_label, number
from spectra.text import counted
from spectra.work import Result

MOST = 40  # matrices
CELL = 0.17  # inches
NAME = 2.35  # inches that a name may take
CLOSE_UPS = 3  # matrices shown vector by vector
CLOSE_UP = 2.1  # inches that one of them needs


def examined(rows: Sequence[Row]) -> list[Row]:
    """Return the rows whose vectors were compared, worst first."""
    found = [row for row in rows if _details(row)]
    return sorted(found, key=lambda row: (-_intruders(row), _lowest(row), row.matrix))


def draw_intruders(result: Result, found: Sequence[Row]) -> Figure:
    """Draw every matrix's leading vectors, and the worst matrices vector by vector.

    Args:
        result: The analysis.
        found: Its `examined` rows.
    """
    rows = found[:MOST]
    body = max(1.55 + CELL * len(rows), 3.4)
    figure = page(result, "Intruder dimensions", body, _notes(result, found))
    layout = figure.add_gridspec(2, 2, width_ratios=[1.0, 1.15], height_ratios=[body - 0.9, 0.13])
    left = figure.add_subplot(layout[0, 0])
    _overview(left, rows, _side(result))
    pictured = [row for row in rows if row.arrays.get("cosines") is not None]
    pictured = [row for row in pictured if row.arrays["cosines"].numel()]
    wanted = [row for row in pictured if _intruders(row)] or pictured[:1]
    room = max(int((body - 1.0) / CLOSE_UP), 1)
    close = wanted[: min(CLOSE_UPS, room)]
    grid = layout[0, 1].subgridspec(max(len(close), 1), 1)
    for index, row in enumerate(close):
        _close_up(figure.add_subplot(grid[index, 0]), row)
    _colour_bar(figure.add_subplot(layout[1, :]), rows, _epsilon(result))
    return figure


def _overview(axes: Axes, rows: Sequence[Row], side: str) -> None:
    """Draw the largest |cos| of each matrix's leading vectors, intruders crossed."""
    width = max(int(item["index"]) for row in rows for item in _details(row)) + 1
    cosines = np.full((len(rows), width), np.nan)
    crosses = []
    for place, row in enumerate(rows):
        for item in _details(row):
            if item["max_cos"] is not None:
                cosines[place, int(item["index"])] = item["max_cos"]
            if item["intruder"]:
                crosses.append((int(item["index"]) + 0.5, place + 0.5))
    _cells(axes, cosines)
    size = float(np.clip(0.5 * 72 * min(CELL, 1.9 / width), 1.5, 6.0))
    if crosses:
        axes.plot(
            *zip(*crosses, strict=True), linestyle="none", marker="x", markersize=size,
            markeredgewidth=1.4, color=INK, gid="intruders", path_effects=_halo(),
        )  # fmt: skip
    axes.set_yticks(
        np.arange(len(rows)) + 0.5, [matrix_label(row.matrix, SMALL, NAME) for row in rows]
    )
    _number_cells(axes, width)
    axes.set_title("Largest |cos| with any vector of W0", fontsize=SMALL)
    axes.set_xlabel(f"index of {side} singular vector of W1")
    axes.set_ylabel("matrix, most intruders first")


def _close_up(axes: Axes, row: Row) -> None:
    """Draw the |cos| of each leading vector of W1 with those of W0."""
    cosines = row.arrays["cosines"].double().numpy()
    count, width = cosines.shape
    _cells(axes, cosines)
    crossed = [int(item["index"]) for item in _details(row) if item["intruder"]]
    for index in crossed:
        axes.add_patch(
            Rectangle((0, index), width, 1, fill=False, edgecolor=INK, lw=1.2, clip_on=False)
        )
    step = max(-(-count // 12), 1)
    shown = sorted({*range(0, count, step), *crossed})
    names = [f"× {index}" if index in crossed else str(index) for index in shown]
    axes.set_yticks(np.asarray(shown) + 0.5, names)
    _number_cells(axes, width)
    axes.set_title(matrix_label(row.matrix, SMALL, 2.45), fontsize=SMALL)
    axes.set_xlabel("index of singular vector of W0")
    axes.set_ylabel("index in W1")


def _cells(axes: Axes, cosines: np.ndarray[Any, Any]) -> None:
    """Draw |cos| as coloured cells, the first row on top."""
    fine = cosines.shape[1] <= 60
    axes.pcolormesh(
        np.ma.masked_invalid(cosines), cmap=_colours(), norm=Normalize(0.0, 1.0),
        edgecolors="white" if fine else "face", linewidth=0.4 if fine else 0.0,
    )  # fmt: skip
    axes.set_ylim(cosines.shape[0], 0)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _number_cells(axes: Axes, width: int) -> None:
    """Number the columns from 0, as many as there is room for."""
    step = next(s for s in (1, 2, 4, 5, 8, 10, 20, 50, 100, width) if width / s <= 10 or s == width)
    shown = np.arange(0, width, step)
    axes.set_xticks(shown + 0.5, [str(index) for index in shown])


def _colour_bar(axes: Axes, rows: Sequence[Row], limit: float) -> None:
    """Draw the scale of |cos|, marked where intruders begin and where chance lies."""
    axes.pcolormesh(
        np.linspace(0.0, 1.0, 129), [0.0, 1.0], np.linspace(0.0, 1.0, 128)[None, :],
        cmap=_colours(), edgecolors="face",
    )  # fmt: skip
    axes.set_yticks([])
    axes.set_xlim(0.0, 1.0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("|cos| (dimensionless)")
    nulls = sorted(null for row in rows if (null := row.number("null_cos")) is not None)
    marks = [(limit, f"intruder below {number(limit)}")]
    if nulls:
        low, high = nulls[0], nulls[-1]
        span = f"{low:.2g}" if f"{low:.2g}" == f"{high:.2g}" else f"{low:.2g} to {high:.2g}"
        marks.append((high, f"chance {span}"))
        if low < high:
            axes.axvline(low, color=INK, linewidth=1.2, path_effects=_halo())
    marks.sort()
    for place, (at, text) in enumerate(marks):
        axes.axvline(at, color=INK, linewidth=1.2, path_effects=_halo(), gid="mark")
        first = place == 0 and len(marks) > 1
        axes.annotate(
            text, (at, 1.0), (2 if first else -2, 2), xycoords=("data", "axes fraction"),
            textcoords="offset points", ha="right" if first else "left", va="bottom",
        )  # fmt: skip


def _notes(result: Result, found: Sequence[Row]) -> list[str]:
    """Say what the marks mean and what the page leaves out."""
    text = (
        f"×: an intruder, largest |cos| with any vector of W0 below {number(_epsilon(result))}. "
        "The close-ups outline it and show only the leading vectors of W0."
    )
    notes = [text]
    rest = found[MOST:]
    if rest:
        hidden = sum(_intruders(row) for row in rest)
        notes.append(
            f"{len(rest):,} more changed matrices are not drawn"
            + (f", with {counted(hidden, 'intruder')}." if hidden else ", none with intruders.")
        )
    tied = sum(bool(item.get("tied")) for row in found for item in _details(row))
    if tied:
        notes.append(
            f"{counted(tied, 'vector is', 'vectors are')} not determined: singular values coincide."
        )
    lost = sum(row.status == "non-finite" for row in result.rows)
    if lost:
        notes.append(f"{counted(lost, 'matrix', 'matrices')} with NaN or Inf left out.")
    return [" ".join(notes)]


def _side(result: Result) -> str:
    """Return which singular vectors were compared."""
    return str(result.settings.get("side", "left"))


def _epsilon(result: Result) -> float:
    """Return the |cos| below which a vector is an intruder."""
    return float(result.settings.get("epsilon", 0.5))


def _details(row: Row) -> Sequence[Mapping[str, Any]]:
    """Return the verdicts on a row's vectors."""
    return cast("Sequence[Mapping[str, Any]]", row.values.get("intruder_detail") or [])


def _intruders(row: Row) -> int:
    """Return how many intruders a row has."""
    return sum(bool(item["intruder"]) for item in _details(row))


def _lowest(row: Row) -> float:
    """Return the lowest of the largest |cos|."""
    cosines = [item["max_cos"] for item in _details(row)]
    return min((float(cosine) for cosine in cosines if cosine is not None), default=1.0)


def _halo() -> list[patheffects.AbstractPathEffect]:
    """Return a light outline that keeps a dark mark visible on dark cells."""
    return [patheffects.withStroke(linewidth=3.0, foreground="white")]


def _colours() -> Colormap:
    """Return light for 0 and dark for 1, without black, on which crosses would be lost."""
    colours = colormaps["Blues"](np.linspace(0.04, 1.0, 128))
    return LinearSegmentedColormap.from_list("cosine", list(itertools.chain(colours)))
