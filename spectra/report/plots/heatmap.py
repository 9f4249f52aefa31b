"""One value per layer and role, or head, as a table of coloured cells."""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from spectra.numbers import DIGITS, OF_ESTIMATE, OF_SHARE, number
from spectra.report.colours import BAD, SIGNED
from spectra.report.kind import RowDoc
from spectra.report.plots.lettering import role_label, tick, width_of
from spectra.report.plots.page import logarithmic_ticks
from spectra.report.plots.style import INK, QUIET, SMALL, ramp
from spectra.words import MATRIX, UNMEASURED, in_order

CELL = 0.23  # inches, height
LARGEST = 1e300  # leaves room above it on a logarithmic scale
GRID_LABELS = 0.75  # inches that title and axis need
INSIDE = 6.6  # inches that the columns share
MOST_TICKS = 24
STEPS = (1, 2, 4, 5, 8, 10, 20, 50, 100)

Scale = Literal["from zero", "count", "log"]
AGAINST_TO_ALIKE = LinearSegmentedColormap.from_list("cosine", SIGNED)
"""Colours of numbers from -1 to 1."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Values by role and layer; the median where several matrices share a cell."""

    roles: Sequence[str]
    layers: Sequence[int | None]  # None: matrices of no layer
    values: NDArray[np.float64]  # roles x layers; NaN: no value, inf: singular
    counts: NDArray[np.int64]  # matrices of each cell
    broken: NDArray[np.bool_]  # cells of which a matrix has no numbers
    inside: float = INSIDE  # inches that its columns share
    by: str = "role"  # what its lines are
    names: Sequence[str] = ()  # of its columns, where these are no layers
    across: str = "layer (index)"  # what its columns are

    @property
    def height(self) -> float:
        """Inches that its cells need."""
        return max(CELL * len(self.roles), 0.5)


def grid_of(
    rows: Sequence[RowDoc], value: Callable[[RowDoc], float | None], by: str = "role"
) -> Grid:
    """Arrange rows by role and layer.

    Args:
        rows: Matrices, those among them that could not be measured.
        value: A row's number, infinite where singular, None where there is none.
        by: Another key in place of the role, of whole numbers; rows without it have no cell.
    """
    lines: list[str | int]
    if by == "role":
        lines = [*in_order(row["role"] for row in rows)]
    else:
        rows = [row for row in rows if row.get(by) is not None]
        lines = sorted({row[by] for row in rows})
    roles = [str(line) for line in lines]
    layers = sorted({row["layer"] for row in rows}, key=lambda layer: (layer is None, layer or 0))
    cells: dict[tuple[int, int], list[float]] = defaultdict(list)
    counts = np.zeros((len(roles), len(layers)), dtype=np.int64)
    broken = np.zeros(counts.shape, dtype=np.bool_)
    for row in rows:
        place = (lines.index(row[by]), layers.index(row["layer"]))
        counts[place] += 1
        found = value(row)
        if found is None:
            broken[place] |= row["status"] in UNMEASURED
        else:
            cells[place].append(found if math.isinf(found) else min(found, LARGEST))
    values = np.full(counts.shape, np.nan)
    for place, found_here in cells.items():
        # Between a finite value and infinity lies no number: half are singular.
        values[place] = median(found_here)
    values[broken] = np.nan  # none hides behind the middle of many experts
    return Grid(roles, layers, values, counts, broken, by=by)


def draw_grid(
    axes: Axes,
    grid: Grid,
    title: str,
    label: str,
    scale: Scale | Normalize,
    shades: Grid | None = None,
) -> None:
    """Draw a grid with its colour bar; numbers inside the cells where they fit.

    A cell without a matrix stays white; a dash stands for a matrix without this value,
    hatching for one without numbers. An amount that is neither good nor bad is blue.

    Args:
        axes: Where.
        grid: The numbers.
        title: Above it.
        label: What they are, with the unit.
        scale: Of the colours of an amount; or what has a sign.
        shades: How bad each of them is, from 0 to 1, dark red: not how large.
    """
    rows, columns = len(grid.roles), len(grid.layers)
    signed = isinstance(scale, Normalize)
    norm = scale if isinstance(scale, Normalize) else _norm(
        grid.values[np.isfinite(grid.values)], scale
    )  # fmt: skip
    coloured, colours = grid.values, AGAINST_TO_ALIKE if signed else ramp(None)
    if shades is not None:
        norm, coloured, colours = Normalize(0.0, 1.0), shades.values, ramp("high")
    digits = 2 if signed else OF_SHARE if label.endswith("(%)") else DIGITS
    mesh = axes.pcolormesh(
        np.ma.masked_invalid(coloured), cmap=colours, norm=norm, edgecolors="white",
        linewidth=0.8 if columns <= 9 * grid.inside else 0.2,
    )  # fmt: skip
    texts = _texts(grid, digits)
    numbered = bool(texts)
    for (i, j), value in np.ndenumerate(grid.values):
        if not grid.counts[i, j]:
            continue
        if grid.broken[i, j]:
            axes.add_patch(
                Rectangle((j, i), 1, 1, hatch="/////", facecolor="white", edgecolor=BAD, lw=0.4)
            )
        elif math.isnan(value):
            axes.text(j + 0.5, i + 0.5, "–", ha="center", va="center", color=QUIET)
        elif numbered or math.isinf(value):
            red, green, blue, filled = colours(norm(coloured[i, j]))  # of 0, no logarithm: none
            dark = filled and 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
            axes.text(
                j + 0.5, i + 0.5, texts.get((i, j), "∞"), ha="center", va="center",
                color="white" if dark else INK,
            )  # fmt: skip
    names = grid.names or ["none" if layer is None else str(layer) for layer in grid.layers]
    label_cells(axes, names, int(MOST_TICKS * grid.inside / INSIDE))
    axes.set_yticks(np.arange(rows) + 0.5, [role_label(role) for role in grid.roles])
    axes.set_ylim(rows, 0)
    axes.set_xlabel(grid.across)
    axes.set_ylabel(grid.by)
    axes.set_title(title)
    if numbered and grid.inside < INSIDE:
        return  # the numbers say it, and take the room of a scale
    if scale == "log" and not (grid.values[np.isfinite(grid.values)] > 0).any():
        return  # nothing has a colour
    _number_bar(axes, mesh, label, scale, grid, shades)


def _number_bar(
    axes: Axes, mesh: QuadMesh, label: str, scale: Scale | Normalize, grid: Grid,
    shades: Grid | None,
) -> None:  # fmt: skip
    """Draw the scale of a grid's colours."""
    bar = axes.figure.colorbar(mesh, ax=axes, label=label, fraction=0.035, pad=0.012, aspect=12)
    bar.outline.set_visible(False)
    if shades is not None:
        bar.set_label("how far off")
        bar.set_ticks([0.0, 1.0], labels=["as its like", "SPC202"])
    elif isinstance(scale, Normalize):
        bar.set_ticks([-1.0, 0.0, 1.0])
    elif scale == "log":
        logarithmic_ticks(bar.ax.yaxis)
    else:
        bar.ax.yaxis.set_major_locator(
            MaxNLocator(4 if len(grid.roles) > 3 else 2, integer=scale == "count")
        )
        bar.ax.yaxis.set_major_formatter(FuncFormatter(tick))


def _texts(grid: Grid, digits: int) -> dict[tuple[int, ...], str]:
    """Write the numbers in as many digits as there is room for in every cell; none: in none."""
    for some in (digits, OF_ESTIMATE):
        texts = {place: number(float(value), some) for place, value in np.ndenumerate(grid.values)}
        widest = max((width_of(text, SMALL) for text in texts.values()), default=0.0)
        if widest + 0.04 <= grid.inside / len(grid.layers):
            return texts
    return {}


def label_cells(axes: Axes, names: Sequence[str], most: int = MOST_TICKS) -> None:
    """Name columns of cells, as many as there is room for, and the last where it has no number."""
    count = len(names)
    step = next((step for step in STEPS if count / step <= most), count)
    shown = [at for at, name in enumerate(names) if at % step == 0 or name == "none"]
    axes.set_xticks(np.asarray(shown) + 0.5, [names[at] for at in shown])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def grid_notes(*grids: Grid, several: str = MATRIX[1]) -> list[str]:
    """Say what the marks in these grids mean, where there are such; of rows, which are several."""
    values = np.concatenate([np.empty(0), *(grid.values.ravel() for grid in grids)])
    counts = np.concatenate([np.empty(0), *(grid.counts.ravel() for grid in grids)])
    broken = np.concatenate([np.empty(0, bool), *(grid.broken.ravel() for grid in grids)])
    crowded = int(counts.max(initial=0))
    notes = (
        (crowded > 1, f"A cell shows the median of its {several} (up to {crowded:,} share one)."),
        (np.isinf(values).any(), "∞: singular, no finite condition number."),
        (broken.any(), "Hatched: no numbers, such as of NaN or Inf."),
        ((np.isnan(values) & ~broken & (counts > 0)).any(), "–: a matrix that has no such value."),
        ((counts == 0).any(), "White: no such matrix."),
    )
    return [note for said, note in notes if said]


def _norm(finite: NDArray[np.float64], scale: Scale) -> Normalize:
    """Return what maps values to colours; never of zero length."""
    if scale == "log":
        finite = finite[finite > 0]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (1.0, 1.0)
    if scale == "log":
        return LogNorm(low / 1.5, high * 1.5) if high < 2 * low else LogNorm(low, high)
    return Normalize(0.0, high if high > 0 else 1.0)
