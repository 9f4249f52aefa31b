"""The largest singular values of a family against its width: a panel a role."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from spectra.analyzers.width import Layers, Member, layers_by_role
from spectra.analyzers.width_reading import COUPLED, FIXED, two_digits
from spectra.report.figure import (
    DARK,
    QUIET,
    SMALL,
    WIDTH,
    logarithmic_ticks,
    message,
    page,
)
from spectra.report.lettering import plain_text, shortened, width_of
from spectra.work import Result

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
PREDICTED: dict[str, Any] = {"color": "#b5541c", "linestyle": "--", "linewidth": 1.2}
FLAT: dict[str, Any] = {"color": QUIET, "linestyle": ":", "linewidth": 1.2}


@dataclass(frozen=True, slots=True)
class Panel:
    """One role: its conclusion, and what was measured."""

    role: Mapping[str, Any]  # of the summary
    found: Sequence[tuple[Member, Layers]]

    @property
    def several(self) -> bool:
        """Say whether a model has more than one layer of it."""
        return any(len(layers) > 1 for _, layers in self.found)

    @property
    def values(self) -> list[float]:
        """All positive values."""
        layers = [value for _, layers in self.found for value in layers.values()]
        return [*layers, *(self.median(member) for member, _ in self.found)]

    def median(self, member: Member) -> float:
        """Return the median over a model's layers."""
        return median(next(layers for one, layers in self.found if one is member).values())


@dataclass(frozen=True, slots=True)
class Across:
    """The horizontal axis: widths, or models side by side where all have one width."""

    places: Mapping[str, float]  # log10 of the width, or the order, by model
    labels: Sequence[tuple[float, str]]
    scales: bool
    other: tuple[str, float] | None = None  # slope that eta and lambda lead to, and its name

    @property
    def limits(self) -> tuple[float, float]:
        """Both ends, in the units of `places`."""
        low, high = min(self.places.values()), max(self.places.values())
        side = SIDES * (high - low) or 0.5
        return (low - side, high + side) if self.scales else (low - 0.5, high + 0.5)


def draw_width(result: Result) -> Figure:
    """Draw every hidden role's layers, medians, fitted and predicted lines."""
    members = [
        Member(str(model.labels["model"]), int(model.labels["width"])) for model in result.models
    ]
    rows = [row for row in result.rows if LOW < (row.number("sigma_max") or 0.0) < HIGH]
    roles = {str(role["role"]): role for role in result.summary["roles"]}
    panels = [
        Panel(roles[kind], found) for kind, found in layers_by_role(rows, members) if kind in roles
    ]
    drawn = _chosen(panels)
    if not drawn:
        return message(result, TITLE, "No matrix that could be measured is other than zero.")
    columns = _columns(len(drawn))
    lines = -(-len(drawn) // columns)
    room = WIDTH / columns - MARKS
    across = replace(_across(members, room), other=_other(result.summary["overall"]))
    span = min(max(_range(panel, across) for panel in drawn), DECADES)
    looks = _looks(drawn, across)
    handles = [Line2D([], [], label=label, **look) for label, look in looks.items()]
    several = _inches(looks) > WIDTH - 0.4
    key, height = KEY * (1 + several) + 0.08, PANEL if lines > 1 else ALONE
    figure = page(result, TITLE, height * lines + key, _notes(result, panels, drawn, across, span))
    grid = figure.add_gridspec(lines + 1, columns, height_ratios=[key] + [height] * lines)
    above = figure.add_subplot(grid[0, :])
    above.set_axis_off()
    for index, panel in enumerate(drawn):
        axes = figure.add_subplot(grid[1 + index // columns, index % columns])
        _draw(axes, panel, across, span)
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


def _draw(axes: Axes, panel: Panel, across: Across, span: float) -> None:
    """Draw one role."""
    for _, look, start, end in _lines(panel, across):
        axes.plot([start[0], end[0]], [10.0 ** start[1], 10.0 ** end[1]], **look)
    if panel.several:
        dots = [
            (across.places[member.model], value)
            for member, layers in panel.found
            for value in layers.values()
        ]
        axes.plot(*zip(*dots, strict=True), gid="layers", zorder=1.9, **LAYER)
    medians = [(across.places[member.model], panel.median(member)) for member, _ in panel.found]
    axes.plot(*zip(*medians, strict=True), gid="medians", zorder=2.5, **MEDIAN)
    axes.set_yscale("log")
    middle = _middle(panel, across, span)
    axes.set_ylim(10.0 ** (middle - 0.55 * span), 10.0 ** (middle + 0.55 * span))
    logarithmic_ticks(axes.yaxis)
    axes.set_xlim(*across.limits)
    axes.xaxis.set_major_locator(FixedLocator([place for place, _ in across.labels]))
    axes.xaxis.set_major_formatter(FixedFormatter([text for _, text in across.labels]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid()
    role = panel.role
    name = str(role["role"]) if role["counted"] else f"{role['role']} (not counted)"
    axes.set_title(f"{name}\n{_told(role)}", fontsize=SMALL)


def _looks(drawn: Sequence[Panel], across: Across) -> dict[str, dict[str, Any]]:
    """Return what a legend has to explain."""
    several = any(panel.several for panel in drawn)
    looks = {"layer": LAYER, "median of layers": MEDIAN} if several else {"matrix": MEDIAN}
    for panel in drawn:
        looks |= {label: look for label, look, *_ in _lines(panel, across)}
    return looks


def _inches(labels: Iterable[str]) -> float:
    """Return how long a legend in one line is."""
    return sum(width_of(label, SMALL) + HANDLE for label in labels)


Point = tuple[float, float]


def _lines(panel: Panel, across: Across) -> list[tuple[str, dict[str, Any], Point, Point]]:
    """Return the fitted line and those to compare it with, from end to end, in log10."""
    slope = panel.role["slope"]
    if slope is None or not across.scales:
        return []
    points = [
        (across.places[member.model], math.log10(panel.median(member)))
        for member, _ in panel.found
        if member.width > 0
    ]
    ends = min(x for x, _ in points), max(x for x, _ in points)
    at = [sum(values) / len(points) for values in zip(*points, strict=True)]
    narrow = [y for x, y in points if x == ends[0]]
    start = (ends[0], sum(narrow) / len(narrow))
    through = [("fitted", FIT, slope, (at[0], at[1]))]
    if panel.role["counted"]:
        through.append(("matched: slope 0", FLAT, 0.0, start))
        if across.other and two_digits(across.other[1]) != two_digits(0.0):
            through.append((across.other[0], PREDICTED, across.other[1], start))
    return [
        (label, look, *((x, y + tilt * (x - x0)) for x in ends))  # type: ignore[misc]
        for label, look, tilt, (x0, y) in through
    ]


def _other(overall: Mapping[str, Any] | None) -> tuple[str, float] | None:
    """Return the slope to compare with beside 0, and what leads to it; the same in all panels."""
    if overall is None or overall["slope"] is None:
        return None
    expected = overall["expected"]
    if expected is not None:
        return f"predicted from eta and lambda: {two_digits(expected)}", expected
    if overall["slope"] >= 0.0:
        return f"weight decay held fixed: {two_digits(FIXED)}", FIXED
    return f"eta * lambda held fixed: {two_digits(COUPLED)}", COUPLED


def _told(role: Mapping[str, Any]) -> str:
    """Write a role's slope and interval, or its ratio where there is no slope."""
    if role["slope"] is None:
        return "" if role["ratio"] is None else f"ratio {role['ratio']:.2f}"
    text = f"slope {two_digits(role['slope'])}"
    if role["low"] is None:
        return text
    return f"{text} [{two_digits(role['low'])}, {two_digits(role['high'])}]"


def _chosen(panels: Sequence[Panel]) -> list[Panel]:
    """Return the hidden roles, and others where the grid has room."""
    counted = [panel for panel in panels if panel.role["counted"]]
    others = [panel for panel in panels if not panel.role["counted"]]
    free = -len(counted) % _columns(len(counted)) if counted else len(others)
    return [*counted, *others[:free]]


def _columns(count: int) -> int:
    """Return how many panels stand side by side."""
    return {0: 3, 1: 1, 2: 2, 4: 2}.get(count, 3)


def _across(members: Sequence[Member], room: float) -> Across:
    """Return the horizontal axis; labels that would touch are left out.

    Args:
        members: Every model.
        room: Inches that the axis has.
    """
    wide = [member for member in members if member.width > 0]
    widths = sorted({member.width for member in wide})
    if len(widths) < 2 or len(wide) < len(members):
        inches = room / len(members) - 0.08
        order = {member.model: float(place) for place, member in enumerate(members)}
        return Across(
            order,
            [(at, shortened(name, SMALL, inches)) for name, at in order.items()],
            scales=False,
        )
    places = {member.model: math.log10(member.width) for member in members}
    low, high = math.log10(widths[0]), math.log10(widths[-1])
    inch = room * (1.0 - 2.0 * SIDES) / (high - low)
    kept: list[int] = []
    for width in (widths[0], widths[-1], *widths[1:-1]):
        clear = all(
            abs(math.log10(width / other)) * inch > 0.5 * (_size(width) + _size(other)) + 0.06
            for other in kept
        )
        kept += [width] if clear or len(kept) < 1 else []
    return Across(places, [(math.log10(width), f"{width}") for width in sorted(kept)], scales=True)


def _size(width: int) -> float:
    """Return how many inches a width's label takes."""
    return width_of(str(width), SMALL)


def _range(panel: Panel, across: Across) -> float:
    """Return how many decades a panel needs."""
    low, high = _ends(panel, across)
    return max(high - low, 0.1)


def _middle(panel: Panel, across: Across, span: float) -> float:
    """Return the log10 in the middle of a panel: of all, or of its medians if all are too many."""
    low, high = _ends(panel, across)
    if high - low > span:
        medians = [math.log10(panel.median(member)) for member, _ in panel.found]
        low, high = min(medians), max(medians)
    return 0.5 * (low + high)


def _ends(panel: Panel, across: Across) -> tuple[float, float]:
    """Return the log10 of the least and the largest value of a panel, its lines included."""
    found = [math.log10(value) for value in panel.values]
    found += [y for *_, start, end in _lines(panel, across) for y in (start[1], end[1])]
    return min(found), max(found)


def _notes(
    result: Result, panels: Sequence[Panel], drawn: Sequence[Panel], across: Across, span: float
) -> list[str]:
    """Say what the picture is of and what it leaves out."""
    notes = ["All panels span the same ratio."]
    if across.scales:
        notes.append("Broken lines start at the median of the narrowest model.")
    left = [plain_text(str(p.role["role"])) for p in panels if p not in drawn]
    if left:
        notes.append(f"Not drawn: {', '.join(left)}.")
    if span == DECADES:
        notes.append("A panel shows two powers of ten; what is outside is not seen.")
    zero = result.summary.get("zero", 0)
    if zero:
        notes.append(f"Zero and left out: {zero:,}.")
    broken = result.summary.get("non_finite", 0)
    if broken:
        notes.append(f"NaN or Inf and left out: {broken:,}.")
    return [" ".join(notes)]
