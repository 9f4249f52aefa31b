"""The condition numbers as bars, lowest first, beside what their shapes alone would give."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.transforms import ScaledTranslation

from spectra.analyzers import Row
from spectra.analyzers.choice import span
from spectra.kernels.gaussian import kappa_null
from spectra.report.figure import DARK, INK, LIGHT, QUIET, SMALL, logarithmic_ticks, message, page
from spectra.report.kappa_screen import (
    around_each_cut,
    by_roles,
    is_selected,
    is_unresolved,
    ranking,
    selects_by_role,
    unresolved_told,
)
from spectra.report.lettering import matrix_label, measured
from spectra.text import counted
from spectra.words import RankBy
from spectra.work import Result

MOST = 60  # bars that one page holds
KEPT = 40  # lowest ones where there are more
BAR = 0.165  # inches
THICK = 0.78  # of that
NAME = 2.6  # inches that a name may take
ROOM = 1.03  # of the axis, in powers of ten, behind the longest bar
BEFORE = 1.5  # the least excess, or 1, over where its axis begins: each bar is seen
LINE = 0.16  # inches that one more line of the key takes

CHOSEN: dict[str, Any] = {"facecolor": DARK, "edgecolor": "white", "hatch": "////"}
OTHERS: dict[str, Any] = {"facecolor": LIGHT, "edgecolor": "white"}
OPEN: dict[str, Any] = {"facecolor": "none", "edgecolor": QUIET, "linestyle": "--"}
NULL: dict[str, Any] = {
    "color": INK, "linestyle": "none", "marker": "|", "markersize": 72 * THICK * BAR,
    "markeredgewidth": 1.4, "path_effects": [withStroke(linewidth=3.6, foreground="white")],
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Words:
    """How a ranked quantity is called on the page."""

    column: str
    axis: str
    order: str
    floor: str  # what is known of a matrix that stopped early
    null: str  # what the marks of the Gaussian null are


WORDS: Mapping[RankBy, Words] = {
    "kappa": Words(
        "κ", "condition number κ = σ max / σ min (dimensionless, logarithmic)", "lowest κ first",
        "outside the cut: at least this κ", "κ of a Gaussian matrix of this shape",
    ),
    "kappa_excess": Words(
        "excess", "excess = κ / κ of a Gaussian matrix of this shape (dimensionless, logarithmic)",
        "lowest excess first", "outside the cut: at least this excess",
        "a Gaussian matrix of this shape",
    ),
}  # fmt: skip


def draw_kappa(result: Result) -> Figure:
    """Draw what every matrix was ranked by, or the lowest where a page cannot hold them all."""
    rank_by: RankBy = result.settings["rank_by"]
    words, by_role = WORDS[rank_by], selects_by_role(result)
    ordered = by_roles(result) if by_role else ranking(result)
    ranked = [row for row in ordered if row.status != "non-finite"]
    if not ranked:
        return message(result, "Condition numbers", "No matrix could be measured.")
    rows = ranked
    if len(ranked) > MOST:
        rows = around_each_cut(ranked)[:MOST] if by_role else ranked[:KEPT]
    key = _legend(rows, rank_by)
    across = 3 if len(key) <= 3 else 2  # what is open has a long name
    height = 1.25 + BAR * len(rows) + LINE * ((len(key) - 1) // across)
    figure = page(result, "Condition numbers", height, _notes(result, ranked, rows, by_role))
    axes = figure.subplots()
    cut = result.summary.get("cut")
    begin, limit = _limits(rows, rank_by, cut)
    _bars(axes, rows, rank_by, begin, limit)
    _nulls(axes, rows, rank_by)
    if isinstance(cut, int | float):
        axes.axvline(cut, color=INK, linewidth=1.2, gid="cut")
        axes.annotate(
            f"cut at {measured(cut)}", (cut, 1.0), (0, 3), xycoords=("data", "axes fraction"),
            textcoords="offset points", ha="left" if cut < math.sqrt(begin * limit) else "right",
            fontweight="bold",
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlim(begin, limit)
    logarithmic_ticks(axes.xaxis)
    axes.grid(axis="x")
    axes.set_yticks(np.arange(len(rows)), [matrix_label(row.matrix, SMALL, NAME) for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel(words.axis)
    order = f"matrix, by role, {words.order}" if by_role else f"matrix, {words.order}"
    axes.set_ylabel(order if len(rows) > 12 else "matrix")
    axes.legend(
        handles=key, loc="lower left", ncols=across, borderaxespad=0.0, borderpad=0.0,
        bbox_to_anchor=(0.0, 1.0),
        bbox_transform=axes.transAxes + ScaledTranslation(0.0, 0.24, figure.dpi_scale_trans),
    )  # fmt: skip
    return figure


def _bars(axes: Axes, rows: Sequence[Row], rank_by: RankBy, begin: float, limit: float) -> None:
    """Draw one bar a matrix, from where the axis begins: for kappa the least it can be, 1."""
    for place, row in enumerate(rows):
        found = row.number(rank_by)
        chosen = is_selected(row)
        look = OPEN if found is None else CHOSEN if chosen else OTHERS
        outside = row.status == "outside"
        known = span(row, rank_by).low if outside else found
        end = limit if known is None else known
        axes.barh(place, end - begin, left=begin, height=THICK, linewidth=0.7, **look)
        if found is None and not outside:
            text = "singular, selected" if chosen else "singular"
            axes.annotate(
                text, (begin, place), (4, 0), textcoords="offset points", va="center_baseline"
            )
        value = "∞" if found is None else measured(found)
        if outside:
            value = f"> {measured(end)}"
        elif is_unresolved(row):
            value = f"* {value}"
        for text, offset, side in ((value, 40, "right"), (row.view.role.kind, 48, "left")):
            axes.annotate(
                text, (1.0, place), (offset, 0), xycoords=("axes fraction", "data"),
                textcoords="offset points", ha=side, va="center_baseline", annotation_clip=False,
                fontweight="bold" if chosen else "normal",
            )  # fmt: skip
    for text, offset, side in ((WORDS[rank_by].column, 40, "right"), ("role", 48, "left")):
        axes.annotate(
            text, (1.0, 1.0), (offset, 3), xycoords="axes fraction", textcoords="offset points",
            ha=side, color=QUIET,
        )  # fmt: skip


def _nulls(axes: Axes, rows: Sequence[Row], rank_by: RankBy) -> None:
    """Mark on each bar what a Gaussian matrix of its shape would have."""
    by_kappa = rank_by == "kappa"
    nulls = [kappa_null(row.view.rows, row.view.cols) if by_kappa else 1.0 for row in rows]
    axes.plot(nulls, np.arange(len(rows)), gid="null", **NULL)


def _limits(rows: Sequence[Row], rank_by: RankBy, cut: object) -> tuple[float, float]:
    """Return where the axis begins and ends."""
    values = [end for row in rows for end in span(row, rank_by) if math.isfinite(end)]
    values += [value for row in rows if (value := row.number(rank_by)) is not None]
    if isinstance(cut, int | float):
        values.append(float(cut))
    if rank_by == "kappa":
        values += [kappa_null(row.view.rows, row.view.cols) for row in rows]
    end = 10.0 ** min(math.log10(max([*values, 10.0])) * ROOM, 307.0)
    return (1.0 if rank_by == "kappa" else min([*values, 1.0]) / BEFORE), end


def _legend(rows: Sequence[Row], rank_by: RankBy) -> list[Artist]:
    """Return a key for the kinds of bars and marks on the page."""
    finite = [row for row in rows if row.number("kappa") is not None]
    marked = [is_selected(row) for row in finite]
    key: list[Artist] = []
    if any(marked):
        key.append(Patch(label="selected", **CHOSEN))
    if not all(marked):
        key.append(Patch(label="not selected" if any(marked) else "matrix", **OTHERS))
    if any(row.status == "outside" for row in rows):
        key.append(Patch(label=WORDS[rank_by].floor, **OPEN))
    if any(row.status == "singular" for row in rows):
        key.append(Patch(label="singular: κ is infinite", **OPEN))
    key.append(Line2D([], [], label=WORDS[rank_by].null, **NULL))
    return key


def _notes(result: Result, ranked: Sequence[Row], rows: Sequence[Row], by_role: bool) -> list[str]:
    """Say what the page leaves out, and what its marks mean."""
    notes = []
    if len(rows) < len(ranked):
        drawn = {row.matrix for row in rows}
        rest = [row for row in ranked if row.matrix not in drawn]
        chosen = sum(is_selected(row) for row in rest)
        also = f", {chosen:,} of them selected" if chosen else ""
        which = "around each role's cut" if by_role else "lowest"
        notes.append(
            f"The {len(rows)} {which} of {len(ranked):,}: {len(rest):,} more are not drawn{also}."
        )
    lost = len(result.rows) - len(ranked)
    if lost:
        notes.append(f"{counted(lost, 'matrix', 'matrices')} with NaN or Inf left out.")
    return [*([" ".join(notes)] if notes else []), *unresolved_told(rows)]
