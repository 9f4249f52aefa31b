"""The condition numbers as bars, lowest first, beside what their shapes alone would give."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.transforms import ScaledTranslation

from spectra.analyzers.choice import span
from spectra.kernels.gaussian import kappa_null
from spectra.numbers import number
from spectra.report import cells
from spectra.report.kind import Document, RowDoc
from spectra.report.kinds import kappa as told
from spectra.report.plots.lettering import role_label, width_of
from spectra.report.plots.page import Arrays, left_out, logarithmic_ticks, message, name_bars, page
from spectra.report.plots.style import DARK, INK, LIGHT, QUIET, SMALL
from spectra.report.sentences import unresolved_told
from spectra.words import UNMEASURED, RankBy

TITLE = "Condition numbers"
MOST = 60  # bars that one page holds
KEPT = 40  # lowest ones where there are more
BAR = 0.165  # inches
THICK = 0.78  # of that
NAME = 2.6  # inches that a name may take
ROOM = 1.03  # of the axis, in powers of ten, behind the longest bar
BEFORE = 1.5  # the least excess, or 1, over where its axis begins: each bar is seen
COLUMN, GAP = 40.0, 8.0  # points that the numbers beside the bars take at least, and behind them
LINE = 0.16  # inches that one more line of the key takes

CHOSEN: dict[str, Any] = {"facecolor": DARK, "edgecolor": "white", "hatch": "////"}
OTHERS: dict[str, Any] = {"facecolor": LIGHT, "edgecolor": "white"}
OPEN: dict[str, Any] = {"facecolor": "none", "edgecolor": QUIET, "linestyle": "--"}
NULL: dict[str, Any] = {
    "color": INK, "linestyle": "none", "marker": "|", "markersize": 72 * THICK * BAR,
    "markeredgewidth": 1.4, "path_effects": [withStroke(linewidth=3.6, foreground="white")],
}  # fmt: skip

LOG = "(dimensionless, logarithmic)"
WORDS: Mapping[str, tuple[str, str, str]] = {
    "kappa": (
        "κ", f"condition number κ = σ max / σ min {LOG}", "κ of a Gaussian matrix of this shape",
    ),
    "kappa_excess": (
        "excess", f"excess = κ / κ of a Gaussian matrix of this shape {LOG}",
        "a Gaussian matrix of this shape",
    ),
}  # fmt: skip
"""How a ranked quantity is called, what its axis says, and what the marks of the null are."""


def draw_kappa(document: Document, _arrays: Arrays) -> Figure:
    """Draw what every matrix was ranked by, or the lowest where a page cannot hold them all."""
    ranked, rows = _chosen(document)
    if not ranked:
        return message(document, TITLE, "No matrix could be measured.")
    by_role = told.selects_by_role(document)
    lines = -(-len(key := _legend(rows, document["settings"]["rank_by"])) // _across(key))
    height = 1.25 + BAR * len(rows) + LINE * (lines - 1)
    notes = _left(ranked, rows, "around each role's cut" if by_role else "lowest")
    notes += left_out(len(document["rows"]) - len(ranked))
    figure = page(document, TITLE, height, " ".join(notes), *unresolved_told(rows))
    _draw(figure.subplots(), document, rows, key)
    return figure


def _draw(axes: Axes, document: Document, rows: Sequence[RowDoc], key: Sequence[Artist]) -> None:
    rank_by, by_role = document["settings"]["rank_by"], told.selects_by_role(document)
    word, axis, _ = WORDS[rank_by]
    inches = cast("Figure", axes.figure).dpi_scale_trans
    cut = document["summary"].get("cut")
    nulls = [kappa_null(row["rows"], row["cols"]) if rank_by == "kappa" else 1.0 for row in rows]
    begin, limit = _limits(rows, rank_by, [*nulls, *([] if cut is None else [cut])])
    _bars(axes, rows, rank_by, begin, limit)
    axes.plot(nulls, np.arange(len(rows)), gid="null", **NULL)
    if cut is not None:
        axes.axvline(cut, color=INK, linewidth=1.2, gid="cut")
        axes.annotate(
            f"cut at {number(cut)}", (cut, 1.0), (0, 3), xycoords=("data", "axes fraction"),
            textcoords="offset points", ha="left" if cut < math.sqrt(begin * limit) else "right",
            fontweight="bold",
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlim(begin, limit)
    logarithmic_ticks(axes.xaxis)
    name_bars(axes, rows, NAME)
    axes.set_xlabel(axis)
    order = f"matrix, {'by role, ' if by_role else ''}lowest {word} first"
    axes.set_ylabel(order if len(rows) > 12 else "matrix")
    axes.legend(
        handles=key, loc="lower left", ncols=_across(key), borderaxespad=0.0, borderpad=0.0,
        bbox_to_anchor=(0.0, 1.0),
        bbox_transform=axes.transAxes + ScaledTranslation(0.0, 0.24, inches),
    )  # fmt: skip


def _chosen(document: Document) -> tuple[list[RowDoc], list[RowDoc]]:
    """Return the rows that have a rank, and those of them that one page holds."""
    by_role = told.selects_by_role(document)
    ordered = told.by_roles(document) if by_role else told.ranking(document)
    ranked = [row for row in ordered if row["status"] not in UNMEASURED]
    if len(ranked) <= MOST:
        return ranked, ranked
    return ranked, told.around_each_cut(ranked)[:MOST] if by_role else ranked[:KEPT]


def _across(key: Sequence[Artist]) -> int:
    return 3 if len(key) <= 3 else 2  # what is open has a long name


def _bars(axes: Axes, rows: Sequence[RowDoc], rank_by: RankBy, begin: float, limit: float) -> None:
    """Draw one bar a matrix, from where the axis begins: for kappa the least it can be, 1."""
    values = [_value(row, rank_by) for row in rows]
    column = max([COLUMN, *(72.0 * width_of(value, SMALL, "bold") + GAP for value in values)])
    for place, (row, value) in enumerate(zip(rows, values, strict=True)):
        found = row.get(rank_by)
        chosen = told.is_selected(row)
        look = OPEN if found is None else CHOSEN if chosen else OTHERS
        outside = row["status"] == "outside"
        known = span(row, rank_by).low if outside else found
        end = limit if known is None else known
        axes.barh(place, end - begin, left=begin, height=THICK, linewidth=0.7, **look)
        if found is None and not outside:
            text = "singular, selected" if chosen else "singular"
            axes.annotate(  # at the end, where bars are thin and neither cut nor null lies
                text, (1.0, place), (-6, 0), xycoords=("axes fraction", "data"), ha="right",
                textcoords="offset points", va="center_baseline",
                path_effects=NULL["path_effects"],
            )  # fmt: skip
        role = role_label(row["role"])
        for text, offset, side in ((value, column, "right"), (role, column + GAP, "left")):
            axes.annotate(
                text, (1.0, place), (offset, 0), xycoords=("axes fraction", "data"),
                textcoords="offset points", ha=side, va="center_baseline", annotation_clip=False,
                fontweight="bold" if chosen else "normal",
            )  # fmt: skip
    heads = ((WORDS[rank_by][0], column, "right"), ("role", column + GAP, "left"))
    for text, offset, side in heads:
        axes.annotate(
            text, (1.0, 1.0), (offset, 3), xycoords="axes fraction", textcoords="offset points",
            ha=side, color=QUIET,
        )  # fmt: skip


def _value(row: RowDoc, rank_by: RankBy) -> str:
    """Write what a row was ranked by, or is proven to lie above."""
    if row["status"] == "outside":
        return f"> {number(span(row, rank_by).low)}"
    found = row.get(rank_by)
    return f"{cells.MARK * cells.is_unresolved(row)}{'∞' if found is None else number(found)}"


def _limits(rows: Sequence[RowDoc], rank_by: RankBy, marks: Sequence[float]) -> tuple[float, float]:
    """Return where the axis begins and ends, all that is proven of a row and marks inside."""
    values = [*marks, 1.0]
    for row in rows:
        values += [end for end in span(row, rank_by) if math.isfinite(end)]
        values += [] if row.get(rank_by) is None else [row[rank_by]]
    end = 10.0 ** min(math.log10(max([*values, 10.0])) * ROOM, 307.0)
    return (1.0 if rank_by == "kappa" else min(values) / BEFORE), end


def _legend(rows: Sequence[RowDoc], rank_by: RankBy) -> list[Artist]:
    """Return a key for the kinds of bars and marks on the page."""
    word, _, null = WORDS[rank_by]
    marked = [told.is_selected(row) for row in rows if row.get("kappa") is not None]
    others = "not selected" if any(marked) else "matrix"
    status = {row["status"] for row in rows}
    kinds = (
        (any(marked), "selected", CHOSEN),
        (not all(marked), others, OTHERS),
        ("outside" in status, f"outside the cut: at least this {word}", OPEN),
        ("singular" in status, "singular: κ is infinite", OPEN),
    )
    key: list[Artist] = [Patch(label=label, **look) for there, label, look in kinds if there]
    return [*key, Line2D([], [], label=null, **NULL)]


def _left(ranked: Sequence[RowDoc], rows: Sequence[RowDoc], which: str) -> list[str]:
    """Say what has no bar, if anything."""
    if len(rows) == len(ranked):
        return []
    drawn = {row["matrix"] for row in rows}
    rest = [row for row in ranked if row["matrix"] not in drawn]
    chosen = sum(map(told.is_selected, rest))
    also = f", {chosen:,} of them selected" if chosen else ""
    return [f"The {len(rows)} {which} of {len(ranked):,}: {len(rest):,} more are not drawn{also}."]
