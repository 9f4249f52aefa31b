"""The spectra of a model: one eigenvalue density, all screes, alpha and kappa by layer."""

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from spectra.numbers import number
from spectra.report.kind import Document, RowDoc
from spectra.report.plots.heatmap import GRID_LABELS, Grid, draw_grid, grid_notes, grid_of
from spectra.report.plots.lettering import shortened
from spectra.report.plots.page import Arrays, left_out, logarithmic_ticks, message, page
from spectra.report.plots.scree import (
    draw_screes,
    has_sigma,
    is_sampled,
    profile_of,
    scree_of,
    sigma_of,
)
from spectra.report.plots.style import DARK, INK, LIGHT, NORMAL, WIDTH
from spectra.report.shades import OF_KAPPA, conditioning
from spectra.words import UNMEASURED

TITLE = "Singular spectra"
SAMPLED = "A saved result holds 65 singular values of a matrix: what is drawn between is estimated."
NOT_KEPT = "Singular values were not kept."
DENSITY = 1.8  # inches, height
SIDES = (2.65, 3.35)  # inches of the columns of alpha, and of kappa, which has longer numbers
FEWEST = 3  # values of a bar: it is as wide as it takes
RANGE = (1e-100, 1e100)  # of singular values whose squares can be drawn
LABELS = 0.6  # inches that its title and axis need


def draw_spectrum(document: Document, arrays: Arrays) -> Figure:
    """Draw one representative eigenvalue density, screes by role, alpha and kappa by layer."""
    rows = [row for row in document["rows"] if row["status"] not in UNMEASURED]
    drawable = [row for row in rows if has_sigma(row, arrays)]
    both = all({"alpha", "kappa"} <= row.keys() for row in rows)
    grids = _grids(document["rows"]) if len(rows) > 1 and both else []
    if not drawable and not grids:
        return message(document, TITLE, NOT_KEPT if rows else "No matrix could be measured.")
    scree = scree_of(drawable, arrays)
    # Each with its titles and labels: every place is a grid of its own.
    heights = [DENSITY + LABELS] if drawable else []
    heights += [scree.height] if scree.panels else []
    heights += [grids[0].height + GRID_LABELS] if grids else []
    notes = [*scree.notes, *grid_notes(*grids)]
    notes += [f"κ: grey is {OF_KAPPA[0]}; dark red, {OF_KAPPA[1]}."] if grids else []
    notes += [*left_out(len(document["rows"]) - len(rows))]
    if any(is_sampled(row, arrays) for row in drawable):
        notes.append(SAMPLED)
    notes += [] if drawable else [NOT_KEPT]
    figure = page(document, TITLE, sum(heights), " ".join(notes))
    layout = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    if drawable:
        # A grid of its own: the legend beside it must not squeeze the panels below.
        axes = figure.add_subplot(layout[0].subgridspec(1, 1)[0, 0])
        row, why = representative(drawable)
        reason = f"  ({why})"
        name = row["matrix"].removesuffix(".weight")
        axes.set_title(shortened(name, NORMAL, WIDTH - 0.9 - 0.068 * len(reason)) + reason)
        _density(axes, row, arrays)
    if scree.panels:
        draw_screes(figure, layout[1], scree)
    titles = (
        ("Power-law exponent α of the tail", "α (dimensionless)"),
        ("Condition number κ = σ max / σ min", "κ (dimensionless)"),
    )
    beside = layout[-1].subgridspec(1, len(titles), width_ratios=SIDES)
    for place, grid in enumerate(grids):
        axes = figure.add_subplot(beside[0, place])
        draw_grid(axes, grid, *titles[place], "log", _shades(document["rows"]) if place else None)
        if place:  # the same roles as beside it
            axes.set_ylabel("")
            axes.set_yticks([])
    return figure


def representative(rows: Sequence[RowDoc]) -> tuple[RowDoc, str]:
    """Return the row whose alpha is nearest the median, and why it was chosen."""
    if len(rows) == 1:
        return rows[0], "the only matrix"
    fitted = [(alpha, row) for row in rows if (alpha := row.get("alpha")) is not None]
    if not fitted:
        largest = max(rows, key=lambda row: min(row["rows"], row["cols"]))
        return largest, "the largest matrix; no power law fits any"
    middle = median(alpha for alpha, _ in fitted)
    _, row = min(fitted, key=lambda pair: (abs(pair[0] - middle), pair[1]["matrix"]))
    return row, f"α nearest the median of {len(fitted):,} matrices, {number(middle)}"


def _density(axes: Axes, row: RowDoc, arrays: Arrays) -> None:
    """Draw the density of a matrix's eigenvalues with its power law and noise edge."""
    sigma, sampled = sigma_of(row, arrays), is_sampled(row, arrays)
    axes.set_xlabel("eigenvalue λ = σ² (weight units squared, logarithmic)")
    axes.set_ylabel("density (per unit of λ)")
    drawn = sigma[: int(row.get("resolved_rank", len(sigma)) or 0)]
    eigenvalues = np.square(drawn[(drawn > RANGE[0]) & (drawn < RANGE[1])])
    if not eigenvalues.size:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "no eigenvalue above rounding", transform=axes.transAxes, ha="center")
        return
    edges = _edges(eigenvalues, row.get("alpha_xmin"))
    counts = np.histogram(eigenvalues, edges)[0]
    if sampled:  # how many lie between two that are known is known, but not where
        known, ranks = profile_of(row)
        spread = -np.diff(np.interp(edges, np.square(known.clip(*RANGE))[::-1], ranks[::-1]))
        counts = spread if spread.any() else counts
    places = np.searchsorted(edges, eigenvalues, "right").clip(1, len(counts)) - 1
    alone = eigenvalues[counts[places] < FEWEST]
    edges, counts = _merged(edges, counts, row.get("alpha_xmin"))
    heights = counts / (np.diff(edges) * len(sigma))
    axes.set(xscale="log", yscale="log")
    zeros = len(sigma) - len(eigenvalues)
    label = f"{len(sigma):,} eigenvalues" + (
        f"\n({zeros:,} not drawn:\nzero to rounding)" if zeros else ""
    )
    axes.stairs(heights, edges, fill=True, color=LIGHT, label=label)
    axes.stairs(heights, edges, color=DARK, linewidth=0.7, baseline=None)
    top, low = float(heights.max()), float(heights[heights > 0].min())
    if alone.size and not sampled:
        axes.plot(
            alone, np.full(alone.size, 0.03), transform=axes.get_xaxis_transform(), marker="|",
            linestyle="none", color=INK, markersize=6, markeredgewidth=0.9, gid="alone",
            label="an eigenvalue, where\nthey are few",
        )  # fmt: skip
    _power_law(axes, row, eigenvalues, len(sigma), "about " if sampled else "")
    edge = row.get("mp_edge")
    if edge and RANGE[0] < edge < RANGE[1]:
        above = int(row.get("spikes") or 0)
        axes.axvline(
            edge * edge, color=INK, linestyle="--", linewidth=1.2, gid="mp_edge",
            label=f"squared Marchenko–\nPastur edge {number(edge * edge)}\n({above:,} spikes)",
        )  # fmt: skip
    axes.set_ylim(low / 3, top * 3)
    logarithmic_ticks(axes.xaxis)
    logarithmic_ticks(axes.yaxis)
    # Beside the axes, where it covers nothing.
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), labelspacing=1.0)


def _power_law(
    axes: Axes, row: RowDoc, eigenvalues: NDArray[np.float64], count: int, about: str
) -> None:
    """Draw the fitted law over the tail, at the share of the values that the tail has."""
    alpha, start, distance = (row.get(key) for key in ("alpha", "alpha_xmin", "alpha_ks"))
    if alpha is None or start is None:
        return
    tail = int((eigenvalues >= start * (1 - 1e-9)).sum())
    x = np.geomspace(start, max(float(eigenvalues[0]), start * 1.01), 50)
    density = tail / count * (alpha - 1) / start * (x / start) ** -alpha
    fit = f"{about}{tail:,} values" + ("" if distance is None else f", KS {number(distance)}")
    label = f"power law α = {number(alpha)}\nabove λ = {number(start)}\n({fit})"
    axes.plot(x, density, color=INK, linewidth=2.0, gid="power_law", label=label)


def _edges(eigenvalues: NDArray[np.float64], cut: float | None) -> NDArray[np.float64]:
    """Return logarithmic bins that hold every eigenvalue; one begins where the tail does."""
    low, high = float(eigenvalues[-1]), float(eigenvalues[0])
    if high < low * 1.01:
        low, high = low / 1.5, high * 1.5
    bins = min(max(2 * math.isqrt(eigenvalues.size), 5), 70)
    if cut is not None:
        # The cut is one of the eigenvalues, but went through a logarithm on its way.
        cut = float(eigenvalues[np.abs(np.log(eigenvalues / cut)).argmin()])
    if cut is None or not low < cut < high:
        return np.geomspace(low, high, bins + 1)
    below = max(round(bins * math.log(cut / low) / math.log(high / low)), 1)
    above = max(bins - below, 1)
    head, tail = np.geomspace(low, cut, below + 1), np.geomspace(cut, high, above + 1)
    return np.concatenate([head[:-1], tail])


def _merged(
    edges: NDArray[np.float64], counts: NDArray[np.float64], cut: float | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Join bins from both ends inward until each holds `FEWEST` values: none is empty.

    A bar of one value would be as high as its bin is narrow, far from all others. Both ends meet
    where the tail begins, which stays an edge, else at the fullest bin.
    """
    at = int(np.argmax(counts)) + 1
    if cut is not None and edges[0] < cut < edges[-1]:
        at = int(np.abs(np.log(edges / cut)).argmin())
    if counts[at:].sum() < FEWEST:
        at = len(counts)
    elif counts[:at].sum() < FEWEST:
        at = 0
    kept = [*_full(counts[:at], 0, 1), at, *_full(counts[at:][::-1], len(counts), -1)]
    inner = sorted({*kept, 0, len(counts)})
    return edges[inner], np.add.reduceat(counts, inner[:-1])


def _full(counts: NDArray[np.float64], start: int, step: int) -> list[int]:
    """Return the edges, from an outer one inward, between which there are enough values."""
    found, held = [], 0.0
    left = float(counts.sum())
    for place, count in enumerate(counts, 1):
        held += float(count)
        left -= float(count)
        if held >= FEWEST and left >= FEWEST:
            found.append(start + step * place)
            held = 0.0
    return found


def _grids(rows: Sequence[RowDoc]) -> list[Grid]:
    """Return alpha, and kappa that is infinite where singular."""

    def kappa(row: RowDoc) -> float | None:
        return math.inf if row["status"] == "singular" else row.get("kappa")

    grids = grid_of(rows, lambda row: row.get("alpha")), grid_of(rows, kappa)
    return [replace(grid, inside=inside) for grid, inside in zip(grids, SIDES, strict=True)]


def _shades(rows: Sequence[RowDoc]) -> Grid:
    """Return how bad each kappa is."""
    bad = dict(zip((row["matrix"] for row in rows), conditioning(rows), strict=True))
    return grid_of(rows, lambda row: bad[row["matrix"]])
