"""Singular values against their index: a panel per role, a line per layer."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from numpy.typing import NDArray

from spectra.numbers import number
from spectra.report.kind import RowDoc
from spectra.report.plots.lettering import plain_text, role_label
from spectra.report.plots.page import Arrays, array_of, logarithmic_ticks
from spectra.report.plots.style import INK, QUIET, SEQUENTIAL, shades
from spectra.text import counted
from spectra.words import in_order

PANELS = 8
DECADES = 3  # below the largest value of all; the rest would flatten what layers differ in
LIMITS = (1e-290, 1e290)  # what an axis of doubles has room for
COLOURS = 8  # of lines that can be told apart
GREY = "#c4c9d0"  # of the lines between
MOST_NAMED = 6  # layers
POINTS = 240  # of a line: more would not be seen, and an SVG holds each


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a panel."""

    layer: int | None
    index: NDArray[np.int64]  # from 1: the axis is logarithmic
    sigma: NDArray[np.float64]  # positive


@dataclass(frozen=True, slots=True)
class Scree:
    """What the panels show."""

    panels: Mapping[str, Sequence[Line]]  # by role
    notes: Sequence[str]
    zeros: Mapping[str, Sequence[int]]  # layers of a role that hold nothing but zeros

    @property
    def columns(self) -> int:
        """Panels side by side."""
        count = len(self.panels)
        return {1: 1, 2: 2, 4: 2, 7: 4, 8: 4}.get(count, 3)

    @property
    def limits(self) -> tuple[float, float]:
        """The largest value, and the smallest that is drawn."""
        lines = [line for lines in self.panels.values() for line in lines]
        tops = [max(float(line.sigma[0]) for line in lines) for lines in self.panels.values()]
        low = min(float(line.sigma[-1]) for line in lines)
        return max(tops), max(low, min(max(tops) / 10.0**DECADES, min(tops) / 10.0))

    @property
    def height(self) -> float:
        """Inches that the panels need."""
        rows = -(-len(self.panels) // self.columns)
        return 0.5 + 1.4 * rows if rows > 1 else 2.3

    @property
    def layers(self) -> list[int]:
        """All layers that have a line."""
        lines = (line for lines in self.panels.values() for line in lines)
        return sorted({line.layer for line in lines if line.layer is not None})

    @property
    def coloured(self) -> list[int]:
        """The layers with a colour of their own: all, or some at even steps with both ends."""
        layers = self.layers
        if len(layers) <= COLOURS:
            return layers
        return [layers[at * (len(layers) - 1) // (COLOURS - 1)] for at in range(COLOURS)]


def has_sigma(row: RowDoc, arrays: Arrays) -> bool:
    """Say whether a matrix's singular values are there, all or some."""
    return bool(row.get("sigma_profile")) or array_of(row, arrays, "sigma") is not None


def is_sampled(row: RowDoc, arrays: Arrays) -> bool:
    """Say whether only some of them are."""
    shorter = min(row["rows"], row["cols"])
    return array_of(row, arrays, "sigma") is None and len(row["sigma_profile"]) < shorter


def profile_of(row: RowDoc) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the singular values that a document keeps, and their ranks from 0."""
    profile = np.asarray(row["sigma_profile"], dtype=np.float64)
    last, steps = min(row["rows"], row["cols"]) - 1, max(len(profile) - 1, 1)
    return profile, (2 * np.arange(len(profile)) * last + steps) // (2 * steps)


def sigma_of(row: RowDoc, arrays: Arrays) -> NDArray[np.float64]:
    """Return a matrix's singular values, descending.

    Those of a document are `sigma_profile`, at even ranks; between them sigma goes as a power
    of its index, a straight line on logarithmic axes.
    """
    kept = array_of(row, arrays, "sigma")
    if kept is not None:
        return kept
    profile, ranks = profile_of(row)
    sigma = np.zeros(min(row["rows"], row["cols"]))
    filled = profile > 0.0
    if filled.any():
        till = int(ranks[filled][-1]) + 1
        known = np.log(ranks[filled] + 1.0), np.log(profile[filled])
        sigma[:till] = np.exp(np.interp(np.log(np.arange(1, till + 1)), *known))
    return sigma


def scree_of(rows: Sequence[RowDoc], arrays: Arrays) -> Scree:
    """Choose roles and lines; experts of one layer become one line, their median."""
    groups: dict[tuple[str, int | None, str], list[RowDoc]] = defaultdict(list)
    for row in rows:
        alone = "" if row["expert"] is not None else row["matrix"]
        groups[row["role"], row["layer"], alone].append(row)
    lines: dict[str, list[Line]] = defaultdict(list)
    zeros: dict[str, list[int | None]] = defaultdict(list)
    for (kind, layer, _), members in groups.items():
        line = _line(layer, members, arrays)
        lines[kind] += [line] if line else []
        zeros[kind] += [] if line else [layer]
    drawable = in_order(kind for kind, found in lines.items() if found)
    chosen = sorted(drawable, key=lambda kind: -len(lines[kind]))[:PANELS]
    chosen.sort(key=drawable.index)
    most = max(map(len, groups.values()), default=0)
    notes = []
    if len(drawable) > len(chosen):
        rest = ", ".join(kind for kind in drawable if kind not in chosen)
        notes.append(f"Singular values are drawn for the {PANELS} commonest roles, not for {rest}.")
    if most > 1:
        notes.append(
            f"A line of singular values is the median of its layer's experts (up to {most:,})."
        )
    if zeros := {kind: layers for kind, layers in zeros.items() if layers}:
        notes.append(f"All zero, so without a line: {_placed(zeros)}.")
    whole = {kind: [at for at in layers if at is not None] for kind, layers in zeros.items()}
    scree = Scree({kind: lines[kind] for kind in chosen}, notes, whole)
    if chosen:
        low = scree.limits[1]
        layered = {line.layer is not None for kind in chosen for line in lines[kind]}
        if len(scree.layers) > COLOURS:
            notes.append("Grey: the layers between those with a colour.")
        if any(_outermost(scree, kind) for kind in chosen):
            notes.append("Highest, lowest: the layers by σ max.")
        if len(layered) > 1:
            notes.append("Dotted: of no layer.")
        cut = any(line.sigma[-1] < low for kind in chosen for line in lines[kind])
        notes += [f"Singular values below {number(low)} run off the panels."] if cut else []
    return scree


def draw_screes(figure: Figure, place: SubplotSpec, scree: Scree) -> None:
    """Draw a panel per role on common axes, layers told by colour, the outermost by number."""
    count, columns = len(scree.panels), scree.columns
    top, low = scree.limits
    grid = place.subgridspec(-(-count // columns), columns)
    told = scree.coloured
    shade = shades(SEQUENTIAL, 0.0, 0.9, 64)
    palette = [shade(at / max(len(told) - 1, 1)) for at in range(len(told))]
    colours = dict(zip(told, palette, strict=True))
    panels: list[Axes] = []
    for index, (kind, lines) in enumerate(scree.panels.items()):
        first = panels[0] if panels else None
        axes = figure.add_subplot(
            grid[index // columns, index % columns], sharex=first, sharey=first
        )
        panels.append(axes)
        for line in lines:
            own = line.layer is None or line.layer in colours
            axes.plot(
                line.index, line.sigma, linestyle=":" if line.layer is None and told else "-",
                color=INK if line.layer is None else colours.get(line.layer, GREY),
                linewidth=1.1 if own else 0.6, zorder=2.0 if own else 1.9,
            )  # fmt: skip
        _label(axes, kind, lines, left=index % columns == 0, low=index + columns >= count)
        if outermost := _outermost(scree, kind):
            axes.set_title(axes.get_title("left"), pad=17)
            axes.annotate(
                outermost, (0.0, 1.0), (0, 3), xycoords="axes fraction", color=QUIET,
                textcoords="offset points",
            )  # fmt: skip
    panels[0].set_ylim(low / 1.3, top * 1.3)
    for axes in panels:
        logarithmic_ticks(axes.xaxis)
        logarithmic_ticks(axes.yaxis)
    if len(told) > 1:
        steps = BoundaryNorm(np.arange(len(told) + 1) - 0.5, len(told))
        bar = panels[0].figure.colorbar(
            ScalarMappable(steps, ListedColormap(palette)), ax=panels, label="layer", fraction=0.03,
            pad=0.012, aspect=25,
        )  # fmt: skip
        bar.set_ticks(list(range(len(told))), labels=[str(layer) for layer in told])
        bar.ax.tick_params(length=0)
        bar.outline.set_visible(False)


def _outermost(scree: Scree, kind: str) -> str:
    """Say which layers have the largest and the smallest sigma_max; zero is smaller than all."""
    lines = scree.panels[kind]
    found = [(float(line.sigma[0]), line.layer) for line in lines if line.layer is not None]
    found += [(0.0, layer) for layer in scree.zeros.get(kind, ())]
    if len({layer for _, layer in found}) < 2:
        return ""
    return f"highest {max(found)[1]}, lowest {min(found)[1]}"


def _placed(zeros: Mapping[str, Sequence[int | None]]) -> str:
    """Name the layers of each role."""
    told = []
    for kind, layers in zeros.items():
        known = [str(layer) for layer in layers if layer is not None]
        which = f" of layer {', '.join(known[:MOST_NAMED])}" if known else ""
        more = f" and {len(known) - MOST_NAMED:,} more" if len(known) > MOST_NAMED else ""
        told.append(f"{plain_text(kind)}{which}{more}")
    return "; ".join(told)


def _label(axes: Axes, kind: str, lines: Sequence[Line], *, left: bool, low: bool) -> None:
    """Label a panel; the numbers of common axes stand at the outer panels only."""
    axes.set(xscale="log", yscale="log")
    by_layer = len({line.layer for line in lines} - {None}) == len(lines)
    count = counted(len(lines), *(("layer",) if by_layer else ("matrix", "matrices")))
    axes.set_title(f"{role_label(kind)}  ({count})")
    axes.grid()
    if low:
        axes.set_xlabel("index of singular value")
    if left:
        axes.set_ylabel("singular value σ\n(weight units)")
    axes.tick_params(labelbottom=low, labelleft=left)


def _line(layer: int | None, rows: Sequence[RowDoc], arrays: Arrays) -> Line | None:
    """Return the median of these rows' singular values, thinned; None if all are zero."""
    spectra = [sigma_of(row, arrays) for row in rows]
    length = min(map(len, spectra))
    sigma = np.median(np.stack([one[:length] for one in spectra]), axis=0)
    sigma = sigma[(sigma > LIMITS[0]) & (sigma < LIMITS[1])]
    if not sigma.size:
        return None
    # Steps even on the logarithmic axis, and the steep end of the spectrum as it is.
    spread = np.geomspace(1, sigma.size, POINTS).round().astype(np.int64)
    last = np.arange(max(sigma.size - 20, 1), sigma.size + 1)
    index = np.unique(np.concatenate([spread, last]))
    return Line(layer, index, sigma[index - 1])
