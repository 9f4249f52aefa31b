"""The spectra of a model: one eigenvalue density, all screes, alpha and kappa by layer."""

import math
from collections.abc import Sequence
from statistics import median

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from spectra.analyzers import Row
from spectra.report.figure import DARK, INK, LIGHT, NORMAL, WIDTH, logarithmic_ticks, message, page
from spectra.report.heatmap import GRID_LABELS, Grid, draw_grid, grid_notes, grid_of
from spectra.report.lettering import measured, shortened
from spectra.report.scree import draw_screes, scree_of
from spectra.text import counted
from spectra.work import Result

DENSITY = 2.1  # inches, height
RANGE = (1e-100, 1e100)  # of singular values whose squares can be drawn
LABELS = 0.6  # inches that its title and axis need


def draw_spectrum(result: Result) -> Figure:
    """Draw one representative eigenvalue density, screes by role, alpha and kappa by layer."""
    measured = [row for row in result.rows if row.number("sigma_max") is not None]
    drawable = [row for row in measured if "sigma" in row.arrays]
    if not drawable:
        why = "No matrix could be measured." if not measured else "Singular values were not kept."
        return message(result, "Singular spectra", why)
    scree = scree_of(drawable)
    grids = _grids(measured) if len(measured) > 1 else []
    heights = [DENSITY]
    heights += [scree.height] if scree.panels else []
    heights += [grid.height for grid in grids]
    room = sum(heights) + LABELS + GRID_LABELS * len(grids)
    lost = len(result.rows) - len(measured)
    notes = [*scree.notes, *(grid_notes(*grids) if grids else [])]
    if lost:
        notes.append(f"{counted(lost, 'matrix', 'matrices')} with NaN or Inf left out.")
    figure = page(result, "Singular spectra", room, [" ".join(notes)] if notes else [])
    layout = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    row, why = representative(drawable)
    # A grid of its own: the legend beside it must not squeeze the panels below.
    _density(figure.add_subplot(layout[0].subgridspec(1, 1)[0, 0]), row, why)
    if scree.panels:
        draw_screes(figure, layout[1], scree)
    if grids:
        _heatmaps(figure, [figure.add_subplot(layout[-2]), figure.add_subplot(layout[-1])], grids)
    return figure


def representative(rows: Sequence[Row]) -> tuple[Row, str]:
    """Return the row whose alpha is nearest the median, and why it was chosen."""
    if len(rows) == 1:
        return rows[0], "the only matrix"
    fitted = [(alpha, row) for row in rows if (alpha := _alpha(row)) is not None]
    if not fitted:
        largest = max(rows, key=lambda row: min(row.view.rows, row.view.cols))
        return largest, "the largest matrix; no power law fits any"
    middle = median(alpha for alpha, _ in fitted)
    _, row = min(fitted, key=lambda pair: (abs(pair[0] - middle), pair[1].matrix))
    return row, f"α nearest the median of {len(fitted):,} matrices, {measured(middle)}"


def _density(axes: Axes, row: Row, why: str) -> None:
    """Draw the density of a matrix's eigenvalues with its power law and noise edge."""
    room = WIDTH - 0.9
    reason = f"  ({why})"
    name = shortened(row.matrix.removesuffix(".weight"), NORMAL, room - 0.068 * len(reason))
    axes.set_title(name + reason)
    axes.set_xlabel("eigenvalue λ = σ² (weight units squared, logarithmic)")
    axes.set_ylabel("density (per unit of λ)")
    sigma = row.arrays["sigma"].double().numpy()
    rank = int(row.number("resolved_rank") or 0)
    drawn = sigma[:rank]
    eigenvalues = np.square(drawn[(drawn > RANGE[0]) & (drawn < RANGE[1])])
    if not eigenvalues.size:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "no eigenvalue above rounding", transform=axes.transAxes, ha="center")
        return
    edges = _edges(eigenvalues, row.number("alpha_xmin"))
    heights = np.histogram(eigenvalues, edges)[0] / (np.diff(edges) * len(sigma))
    axes.set(xscale="log", yscale="log")
    zeros = len(sigma) - len(eigenvalues)
    label = f"{len(sigma):,} eigenvalues" + (
        f"\n({zeros:,} not drawn:\nzero to rounding)" if zeros else ""
    )
    axes.stairs(heights, edges, fill=True, color=LIGHT, label=label)
    axes.stairs(heights, edges, color=DARK, linewidth=0.7, baseline=None)
    top, low = float(heights.max()), float(heights[heights > 0].min())
    _power_law(axes, row, eigenvalues, len(sigma))
    edge = row.number("mp_edge")
    if edge and RANGE[0] < edge < RANGE[1]:
        above = int(row.number("spikes") or 0)
        axes.axvline(
            edge * edge, color=INK, linestyle="--", linewidth=1.2, gid="mp_edge",
            label=f"squared Marchenko–\nPastur edge {measured(edge * edge)}\n({above:,} spikes)",
        )  # fmt: skip
    axes.set_ylim(low / 3, top * 3)
    logarithmic_ticks(axes.xaxis)
    logarithmic_ticks(axes.yaxis)
    # Beside the axes, where it covers nothing.
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), labelspacing=1.0)


def _power_law(axes: Axes, row: Row, eigenvalues: NDArray[np.float64], count: int) -> None:
    """Draw the fitted law over the tail, at the share of the values that the tail has."""
    alpha, start = _alpha(row), row.number("alpha_xmin")
    if alpha is None or start is None:
        return
    tail = int((eigenvalues >= start * (1 - 1e-9)).sum())
    x = np.geomspace(start, max(float(eigenvalues[0]), start * 1.01), 50)
    density = tail / count * (alpha - 1) / start * (x / start) ** -alpha
    distance = row.number("alpha_ks")
    fit = "" if distance is None else f", KS {measured(distance)}"
    label = f"power law α = {measured(alpha)}\nabove λ = {measured(start)}\n({tail:,} values{fit})"
    axes.plot(x, density, color=INK, linewidth=2.0, gid="power_law", label=label)


def _alpha(row: Row) -> float | None:
    """Return the fitted exponent where it is a number."""
    alpha = row.number("alpha")
    return alpha if alpha is not None and math.isfinite(alpha) else None


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


def _grids(rows: Sequence[Row]) -> list[Grid]:
    """Return alpha and kappa by role and layer."""

    def kappa(row: Row) -> float | None:
        """Return a condition number, infinite where singular."""
        return math.inf if row.status == "singular" else row.number("kappa")

    return [grid_of(rows, _alpha), grid_of(rows, kappa)]


def _heatmaps(figure: Figure, places: Sequence[Axes], grids: Sequence[Grid]) -> None:
    """Draw alpha and kappa by role and layer."""
    alpha, kappa = grids
    draw_grid(
        figure,
        places[0],
        alpha,
        "Power-law exponent α of the eigenvalue tail",
        "α (dimensionless)",
        "log",
    )
    draw_grid(
        figure, places[1], kappa, "Condition number κ = σ max / σ min", "κ (dimensionless)", "log"
    )
