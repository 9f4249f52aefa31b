"""One run's spectra over its training steps: a panel a quantity, a line a role."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from spectra.numbers import number, whole
from spectra.report.kind import Document
from spectra.report.plots.lettering import role_label
from spectra.report.plots.page import ALL_ZERO, Arrays, logarithmic_ticks, message, page
from spectra.report.plots.style import INK, QUIET, SMALL

PANELS = (
    ("sigma_max", "σ max\n(weight units)"),
    ("stable_rank", "stable rank\n(dimensionless)"),
    ("kappa", "condition number κ\n(dimensionless)"),
)
HEIGHT = 1.9  # inches of a panel
LOOKS = (
    ("#1f4e79", "-"), ("#6a3fb0", "-"), ("#2e7d4f", "-"), ("#a0308a", "-"), ("#8a7a12", "-"),
    ("#1f4e79", "--"), ("#6a3fb0", "--"), ("#2e7d4f", "--"), ("#a0308a", "--"), ("#8a7a12", "--"),
    (INK, ":"), (QUIET, "-."),
)  # fmt: skip
MOST = len(LOOKS)


def draw_trend(document: Document, _arrays: Arrays) -> Figure:
    """Draw the median of every role at every step."""
    steps: Sequence[int] = document["summary"]["steps"]
    roles = [role for role in document["summary"]["roles"] if _points(steps, role["sigma_max"])]
    if not roles:
        return message(document, "Trend", ALL_ZERO)
    drawn = roles[:MOST]
    panels = [
        (key, title) for key, title in PANELS if any(_points(steps, role[key]) for role in drawn)
    ]
    notes = ["A line is the median over a role's matrices, at each checkpoint given."]
    if len(roles) > MOST:
        left_out = ", ".join(str(role["role"]) for role in roles[MOST:])
        notes.append(f"Not drawn: {left_out}.")
    figure = page(document, "Trend", HEIGHT * len(panels) + 0.3, " ".join(notes))
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)
    for (key, title), axes in zip(panels, grid[:, 0], strict=True):
        _draw(axes, key, title, steps, drawn)
    low = grid[-1, 0]
    low.set_xlabel("training step")
    low.xaxis.set_major_locator(
        FixedLocator(list(steps)) if len(steps) <= 8 else MaxNLocator(8, integer=True)
    )
    low.xaxis.set_major_formatter(FuncFormatter(lambda value, _position: whole(value)))
    return figure


def _draw(
    axes: Axes, key: str, title: str, steps: Sequence[int], roles: Sequence[Mapping[str, Any]]
) -> None:
    """Draw one quantity, and name each line at its end."""
    ends = []
    values: list[float] = []
    for (colour, dashes), role in zip(LOOKS, roles, strict=False):
        points = _points(steps, role[key])
        if not points:
            continue
        x, y = zip(*points, strict=True)
        axes.plot(x, y, color=colour, linestyle=dashes, linewidth=1.3, marker="o", markersize=2.5)
        ends.append((y[-1], role_label(role["role"]), colour))
        values += y
    low, high = min(values), max(values)
    room = max(math.log10(high / low) * 0.08, 0.02)
    axes.set_yscale("log")
    axes.set_ylim(low / 10.0**room, high * 10.0**room)
    logarithmic_ticks(axes.yaxis)
    axes.grid()
    axes.set_ylabel(title)
    bottom, top = (math.log10(limit) for limit in axes.get_ylim())
    height = SMALL * 1.15 / 72 / (HEIGHT - 0.35)
    places = apart([(math.log10(y) - bottom) / (top - bottom) for y, _, _ in ends], height)
    for (value, name, colour), place in zip(ends, places, strict=True):
        axes.annotate(
            f"{name}  {number(value)}", (1.0, place), (6, 0), xycoords="axes fraction",
            textcoords="offset points", va="center", color=colour, annotation_clip=False,
        )  # fmt: skip


def _points(steps: Sequence[int], values: Sequence[float | None]) -> list[tuple[int, float]]:
    """Return the steps that have a value above zero."""
    return [(step, v) for step, v in zip(steps, values, strict=True) if v is not None and v > 0.0]


def apart(places: Sequence[float], least: float) -> list[float]:
    """Move heights apart until neighbours differ by `least`; their order stays."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    moved = [places[i] for i in order]
    for _ in range(200):
        before = list(moved)
        for i in range(len(moved) - 1):
            lacking = least - (moved[i + 1] - moved[i])
            if lacking > 1e-4:
                moved[i] -= lacking / 2
                moved[i + 1] += lacking / 2
        if moved == before:
            break
    return [moved[order.index(i)] for i in range(len(places))]
