"""The condition numbers as bars, lowest first, and where the selection cuts."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.transforms import ScaledTranslation

from spectra.analyzers import Row
from spectra.analyzers.analyzer import counted
from spectra.analyzers.kappa import rank_key
from spectra.engine import Result
from spectra.report.figure import DARK, INK, LIGHT, QUIET, SMALL, logarithmic_ticks, message, page
from spectra.report.lettering import matrix_label, measured

MOST = 60  # bars that one page holds
KEPT = 40  # lowest ones where there are more
BAR = 0.165  # inches
NAME = 2.6  # inches that a name may take
ROOM = 1.03  # of the axis, in powers of ten, behind the longest bar

CHOSEN: dict[str, Any] = {"facecolor": DARK, "edgecolor": "white", "hatch": "////"}
OTHERS: dict[str, Any] = {"facecolor": LIGHT, "edgecolor": "white"}
OPEN: dict[str, Any] = {"facecolor": "none", "edgecolor": QUIET, "linestyle": "--"}


def draw_kappa(result: Result) -> Figure:
    """Draw every matrix's kappa, or the lowest where a page cannot hold them all."""
    ranked = sorted((row for row in result.rows if row.status != "non-finite"), key=rank_key)
    if not ranked:
        return message(result, "Condition numbers", "No matrix could be measured.")
    rows = ranked if len(ranked) <= MOST else ranked[:KEPT]
    height = 1.25 + BAR * len(rows)
    figure = page(result, "Condition numbers", height, _notes(result, ranked, len(rows)))
    axes = figure.subplots()
    cut = result.summary.get("cut")
    limit = _limit(rows, cut)
    _bars(axes, rows, limit)
    if isinstance(cut, int | float):
        axes.axvline(cut, color=INK, linewidth=1.2, gid="cut")
        axes.annotate(
            f"cut at {measured(cut)}", (cut, 1.0), (0, 3), xycoords=("data", "axes fraction"),
            textcoords="offset points", ha="left" if cut < math.sqrt(limit) else "right",
            fontweight="bold",
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlim(1.0, limit)
    logarithmic_ticks(axes.xaxis)
    axes.grid(axis="x")
    axes.set_yticks(np.arange(len(rows)), [matrix_label(row.matrix, SMALL, NAME) for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("condition number κ = σ max / σ min (dimensionless, logarithmic)")
    axes.set_ylabel("matrix, lowest κ first" if len(rows) > 12 else "matrix")
    axes.legend(
        handles=_legend(rows), loc="lower left", ncols=3, borderaxespad=0.0, borderpad=0.0,
        bbox_to_anchor=(0.0, 1.0),
        bbox_transform=axes.transAxes + ScaledTranslation(0.0, 0.24, figure.dpi_scale_trans),
    )  # fmt: skip
    return figure


def _bars(axes: Axes, rows: Sequence[Row], limit: float) -> None:
    """Draw one bar a matrix, from 1, the least a condition number can be."""
    for place, row in enumerate(rows):
        kappa = row.number("kappa")
        chosen = row.values.get("selected") is True
        look = OPEN if kappa is None else CHOSEN if chosen else OTHERS
        outside = row.status == "outside"
        known = row.number("kappa_low") if outside else kappa
        end = limit if known is None else known
        axes.barh(place, end - 1.0, left=1.0, height=0.78, linewidth=0.7, **look)
        if kappa is None and not outside:
            text = "singular, selected" if chosen else "singular"
            axes.annotate(
                text, (1.0, place), (4, 0), textcoords="offset points", va="center_baseline"
            )
        value = "∞" if kappa is None else measured(kappa)
        if outside:
            value = f"> {measured(end)}"
        for text, offset, side in ((value, 40, "right"), (row.view.role.kind, 48, "left")):
            axes.annotate(
                text, (1.0, place), (offset, 0), xycoords=("axes fraction", "data"),
                textcoords="offset points", ha=side, va="center_baseline", annotation_clip=False,
                fontweight="bold" if chosen else "normal",
            )  # fmt: skip
    for text, offset, side in (("κ", 40, "right"), ("role", 48, "left")):
        axes.annotate(
            text, (1.0, 1.0), (offset, 3), xycoords="axes fraction", textcoords="offset points",
            ha=side, color=QUIET,
        )  # fmt: skip


def _limit(rows: Sequence[Row], cut: object) -> float:
    """Return where the axis ends."""
    values = [
        kappa
        for row in rows
        for key in ("kappa", "kappa_low")
        if (kappa := row.number(key)) is not None
    ]
    if isinstance(cut, int | float):
        values.append(float(cut))
    highest = max([*values, 10.0])
    return float(10.0 ** min(math.log10(highest) * ROOM, 307.0))


def _legend(rows: Sequence[Row]) -> list[Patch]:
    """Return a key for the kinds of bars on the page."""
    finite = [row for row in rows if row.number("kappa") is not None]
    marked = [row.values.get("selected") is True for row in finite]
    key = []
    if any(marked):
        key.append(Patch(label="selected", **CHOSEN))
    if not all(marked):
        key.append(Patch(label="not selected" if any(marked) else "matrix", **OTHERS))
    if any(row.status == "outside" for row in rows):
        key.append(Patch(label="outside the cut: at least this κ", **OPEN))
    if any(row.status == "singular" for row in rows):
        key.append(Patch(label="singular: κ is infinite", **OPEN))
    return key


def _notes(result: Result, ranked: Sequence[Row], shown: int) -> list[str]:
    """Say what the page leaves out."""
    notes = []
    if shown < len(ranked):
        rest = ranked[shown:]
        chosen = sum(row.values.get("selected") is True for row in rest)
        also = f", {chosen:,} of them selected" if chosen else ""
        notes.append(
            f"The {shown} lowest of {len(ranked):,}: {len(rest):,} more are not drawn{also}."
        )
    lost = len(result.rows) - len(ranked)
    if lost:
        notes.append(f"{counted(lost, 'matrix', 'matrices')} with NaN or Inf left out.")
    return [" ".join(notes)] if notes else []
