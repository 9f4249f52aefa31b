"""The largest singular values of a family against its width: a panel a role."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from spectra.analyzers.width_reading import COUPLED, FIXED
from spectra.matrices.layers import of_any_expert
from spectra.numbers import number, signed
from spectra.report.kind import Document, RowDoc
from spectra.report.plots.lettering import plain_text, role_label, shortened, width_of
from spectra.report.plots.page import ALL_ZERO, Arrays, logarithmic_ticks, message, page
from spectra.report.plots.style import DARK, QUIET, SMALL, WIDTH
from spectra.words import in_order

TITLE = "Largest singular values and width"
PANEL = 1.85  # inches of height, where there are several rows of panels
ALONE = 3.0  # where there is one
KEY = 0.18  # of a line of the legend
HANDLE = 0.52  # inches that a line's sample and the room about it take
DECADES = 2.0  # the most that a panel shows
LOW, HIGH = 1e-290, 1e290  # what an axis of doubles has room for
SIDES = 0.09  # share of the axis left free at either side
MARKS = 0.6  # inches of axis labels beside a panel

LAYER: dict[str, Any] = {
    "color": "#8fa3b8", "linestyle": "none", "marker": "o", "markersize": 3.0,
    "markeredgewidth": 0.0, "alpha": 0.75,
}  # fmt: skip
MEDIAN: dict[str, Any] = {
    "color": DARK, "linestyle": "none", "marker": "D", "markersize": 5.0,
    "markeredgecolor": "white", "markeredgewidth": 0.6,
}  # fmt: skip
FIT: dict[str, Any] = {"color": DARK, "linestyle": "-", "linewidth": 1.5}
PREDICTED: dict[str, Any] = {"color": "#6a3fb0", "linestyle": "--", "linewidth": 1.2}
FLAT: dict[str, Any] = {"color": QUIET, "linestyle": ":", "linewidth": 1.2}


class Trace(NamedTuple):
    """A line of a panel, from end to end: place on the axis, log10 of sigma."""

    label: str
    look: Mapping[str, Any]
    start: tuple[float, float]
    end: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Across:
    """The horizontal axis: widths, or models side by side where all have one width."""

    places: Mapping[str, float]  # log10 of the width, or the order, by model
    labels: Sequence[tuple[float, str]]
    scales: bool
    other: tuple[str, float] | None  # slope that eta and lambda lead to, and its name

    @property
    def limits(self) -> tuple[float, float]:
        """Both ends, in the units of `places`."""
        low, high = min(self.places.values()), max(self.places.values())
        side = SIDES * (high - low) or 0.5
        return (low - side, high + side) if self.scales else (low - 0.5, high + 0.5)


@dataclass(frozen=True, slots=True)
class Panel:
    """One role: its conclusion, and what was measured."""

    role: Mapping[str, Any]  # of the summary
    layers: Mapping[str, Sequence[float]]  # of each model
    across: Across

    @property
    def several(self) -> bool:
        """Say whether a model has more than one layer of it."""
        return any(len(values) > 1 for values in self.layers.values())

    @property
    def medians(self) -> dict[str, float]:
        """Of each model's layers."""
        return {model: median(values) for model, values in self.layers.items()}

    @property
    def traces(self) -> list[Trace]:
        """The fitted line and those to compare it with."""
        slope, across = self.role["slope"], self.across
        if slope is None or not across.scales:
            return []
        points = [
            (across.places[model], math.log10(value)) for model, value in self.medians.items()
        ]
        ends = min(x for x, _ in points), max(x for x, _ in points)
        at = [sum(values) / len(points) for values in zip(*points, strict=True)]
        narrow = [y for x, y in points if x == ends[0]]
        start = (ends[0], sum(narrow) / len(narrow))
        through = [("fitted", FIT, slope, (at[0], at[1]))]
        if self.role["counted"]:
            through.append(("matched: slope 0", FLAT, 0.0, start))
            if across.other and signed(across.other[1]) != signed(0.0):
                through.append((across.other[0], PREDICTED, across.other[1], start))
        return [
            Trace(label, look, *((x, y + tilt * (x - x0)) for x in ends))
            for label, look, tilt, (x0, y) in through
        ]

    @property
    def ends(self) -> tuple[float, float]:
        """The log10 of its least and largest value, lines included."""
        found = [math.log10(value) for values in self.layers.values() for value in values]
        found += [y for trace in self.traces for _, y in (trace.start, trace.end)]
        return min(found), max(found)

    def middle(self, span: float) -> float:
        """Return the log10 in its middle: of all, or of its medians if all are too many."""
        low, high = self.ends
        if high - low > span:
            medians = [math.log10(value) for value in self.medians.values()]
            low, high = min(medians), max(medians)
        return 0.5 * (low + high)


def draw_width(document: Document, _arrays: Arrays) -> Figure:
    """Draw every hidden role's layers, medians, fitted and predicted lines."""
    widths = {str(model["model"]): int(model["width"]) for model in document["models"]}
    summary = document["summary"]
    roles = {str(role["role"]): role for role in summary["roles"]}
    found = {kind: of for kind, of in _layers(document["rows"], widths).items() if kind in roles}
    drawn = _chosen([roles[kind] for kind in found])
    if not drawn:
        return message(document, TITLE, ALL_ZERO)
    columns = _columns(len(drawn))
    lines = -(-len(drawn) // columns)
    across = _across(widths, WIDTH / columns - MARKS, _other(summary["overall"]))
    panels = [Panel(role, found[str(role["role"])], across) for role in drawn]
    span = min(max(0.1, *(high - low for low, high in (panel.ends for panel in panels))), DECADES)
    looks = _looks(panels)
    handles = [Line2D([], [], label=label, **look) for label, look in looks.items()]
    several = sum(width_of(label, SMALL) + HANDLE for label in looks) > WIDTH - 0.4
    key, height = KEY * (1 + several) + 0.08, PANEL if lines > 1 else ALONE
    left = [plain_text(kind) for kind in found if roles[kind] not in drawn]
    notes = _notes(summary, left, scales=across.scales, cut=span == DECADES)
    figure = page(document, TITLE, height * lines + key, " ".join(notes))
    grid = figure.add_gridspec(lines + 1, columns, height_ratios=[key] + [height] * lines)
    above = figure.add_subplot(grid[0, :])
    above.set_axis_off()
    for index, panel in enumerate(panels):
        axes = figure.add_subplot(grid[1 + index // columns, index % columns])
        _draw(axes, panel, span)
        low = index + columns >= len(drawn)
        axes.tick_params(labelbottom=low)
        if low:
            axes.set_xlabel("width d" if across.scales else "model")
        if index % columns == 0:
            axes.set_ylabel("σ max (weight units)")
    above.legend(
        handles=handles, loc="upper left", ncols=-(-len(handles) // (1 + several)),
        borderaxespad=0.0, borderpad=0.0, columnspacing=1.4,
    ).set_in_layout(False)  # fmt: skip
    return figure


def _layers(rows: Iterable[RowDoc], models: Iterable[str]) -> dict[str, dict[str, list[float]]]:
    """Return every layer's value by role and model; experts of one layer count once."""
    groups: dict[tuple[str, str], dict[str, list[float]]] = {}
    for row in rows:
        value = row.get("sigma_max") or 0.0
        if LOW < value < HIGH:
            part = re.sub(r"(?:expert|group)=\d+,?", "", row["matrix"].removeprefix(row["tensor"]))
            values = groups.setdefault((row["role"], str(row["model"])), {})
            values.setdefault(of_any_expert(row["tensor"]) + part, []).append(value)
    return {
        kind: {
            model: [median(values) for values in groups[kind, model].values()]
            for model in models
            if (kind, model) in groups
        }
        for kind in in_order(kind for kind, _ in groups)
    }


def _draw(axes: Axes, panel: Panel, span: float) -> None:
    across, role = panel.across, panel.role
    for _, look, (x0, y0), (x1, y1) in panel.traces:
        axes.plot([x0, x1], [10.0**y0, 10.0**y1], **look)
    if panel.several:
        dots = [
            (across.places[model], value)
            for model, values in panel.layers.items()
            for value in values
        ]
        axes.plot(*zip(*dots, strict=True), gid="layers", zorder=1.9, **LAYER)
    medians = [(across.places[model], value) for model, value in panel.medians.items()]
    axes.plot(*zip(*medians, strict=True), gid="medians", zorder=2.5, **MEDIAN)
    axes.set_yscale("log")
    middle = panel.middle(span)
    axes.set_ylim(10.0 ** (middle - 0.55 * span), 10.0 ** (middle + 0.55 * span))
    logarithmic_ticks(axes.yaxis)
    axes.set_xlim(*across.limits)
    axes.xaxis.set_major_locator(FixedLocator([place for place, _ in across.labels]))
    axes.xaxis.set_major_formatter(FixedFormatter([text for _, text in across.labels]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid()
    aside = "" if role["counted"] else " (not counted)"
    axes.set_title(f"{role_label(role['role'])}{aside}\n{_told(role)}", fontsize=SMALL)


def _looks(panels: Sequence[Panel]) -> dict[str, Mapping[str, Any]]:
    """Return what a legend has to explain."""
    several = any(panel.several for panel in panels)
    looks: dict[str, Mapping[str, Any]] = (
        {"layer": LAYER, "median of layers": MEDIAN} if several else {"matrix": MEDIAN}
    )
    return looks | {trace.label: trace.look for panel in panels for trace in panel.traces}


def _other(overall: Mapping[str, Any] | None) -> tuple[str, float] | None:
    """Return the slope to compare with beside 0, and what leads to it; the same in all panels."""
    if overall is None or overall["slope"] is None:
        return None
    expected = overall["expected"]
    if expected is not None:
        return f"predicted from eta and lambda: {signed(expected)}", expected
    if overall["slope"] >= 0.0:
        return f"weight decay held fixed: {signed(FIXED)}", FIXED
    return f"eta * lambda held fixed: {signed(COUPLED)}", COUPLED


def _told(role: Mapping[str, Any]) -> str:
    """Write a role's slope and interval, or its ratio where there is no slope."""
    if role["slope"] is None:
        return "" if role["ratio"] is None else f"ratio {number(role['ratio'])}"
    low, high = role["low"], role["high"]
    between = "" if low is None else f" [{signed(low)}, {signed(high)}]"
    return f"slope {signed(role['slope'])}{between}"


def _chosen(roles: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the hidden roles, and others where the grid has room."""
    counted = [role for role in roles if role["counted"]]
    others = [role for role in roles if not role["counted"]]
    free = -len(counted) % _columns(len(counted)) if counted else len(others)
    return [*counted, *others[:free]]


def _columns(count: int) -> int:
    return {1: 1, 2: 2, 4: 2}.get(count, 3)


def _across(models: Mapping[str, int], room: float, other: tuple[str, float] | None) -> Across:
    """Return the horizontal axis, so many inches long; labels that would touch are left out."""
    widths = sorted(set(models.values()))
    if len(widths) < 2 or widths[0] <= 0:
        inches = room / len(models) - 0.08
        order = {model: float(place) for place, model in enumerate(models)}
        labels = [(at, shortened(name, SMALL, inches)) for name, at in order.items()]
        return Across(order, labels, scales=False, other=other)
    places = {model: math.log10(width) for model, width in models.items()}
    low, high = math.log10(widths[0]), math.log10(widths[-1])
    inch = room * (1.0 - 2.0 * SIDES) / (high - low)
    size = {width: width_of(str(width), SMALL) for width in widths}
    kept: list[int] = []
    for width in (widths[0], widths[-1], *widths[1:-1]):
        clear = all(
            abs(math.log10(width / other)) * inch > 0.5 * (size[width] + size[other]) + 0.06
            for other in kept
        )
        kept += [width] if clear else []
    labels = [(math.log10(width), f"{width}") for width in sorted(kept)]
    return Across(places, labels, scales=True, other=other)


def _notes(
    summary: Mapping[str, Any], left: Sequence[str], *, scales: bool, cut: bool
) -> list[str]:
    zero, broken = summary.get("zero", 0), summary.get("non_finite", 0)
    notes = (
        (True, "All panels span the same ratio."),
        (scales, "Broken lines start at the median of the narrowest model."),
        (left, f"Not drawn: {', '.join(left)}."),
        (cut, "A panel shows two powers of ten; what is outside is not seen."),
        (zero, f"Zero and left out: {zero:,}."),
        (broken, f"NaN or Inf and left out: {broken:,}."),
    )
    return [note for said, note in notes if said]
