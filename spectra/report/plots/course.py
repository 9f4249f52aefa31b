"""What fine-tuning changed over a run's checkpoints: a panel a quantity, a line a role."""
# ruff: noqa: RUF001 - the signs are the field's own

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from spectra.numbers import number, percent, whole
from spectra.report.kind import Document
from spectra.report.plots.lettering import role_label, tick
from spectra.report.plots.page import Arrays, message, page
from spectra.report.plots.style import INK, QUIET, SMALL
from spectra.report.plots.trend import HEIGHT, LOOKS, apart

PANELS = (
    ("delta_relative", "change / base\n(%)"),
    ("intruders", "intruders\n(count)"),
    ("sorsa_delta_sigma", "mean |σ₁ − σ₀|\n(weight units)"),
    ("sorsa_delta_d", "ΔD by index\n(0 to 1)"),
    ("matched_delta_d", "ΔD matched\n(0 to 1)"),
)
NOISE = {"sorsa_delta_d": "noise_delta_d", "matched_delta_d": "noise_matched_d"}
LEAST = 0.01  # of a panel's height: noise below is not drawn
MOST = len(LOOKS)


def draw_course(document: Document, _arrays: Arrays) -> Figure:
    """Draw every role at every checkpoint, and all together; noise of rounding where it shows."""
    summary = document["summary"]
    steps: Sequence[int] = summary["steps"]
    roles = [role for role in summary["roles"] if _points(steps, role["delta_relative"])]
    if not roles:
        return message(document, "Trend", "No pair could be measured.")
    drawn = [*roles[1 : MOST + 1], roles[0]]  # all together last, on top
    panels = [(key, title) for key, title in PANELS
              if any(value for role in drawn for value in role[key])]  # fmt: skip
    if not panels:
        return message(document, "Trend", "No checkpoint changed anything: nothing to draw.")
    notes = ["Thick: all matrices; thin: those of a role. Intruders are counted, ΔD is a mean."]
    if any(_shows(roles[0], key) for key, _ in panels):
        notes.append("Dotted: what rounding the base as it is stored gives.")
    if len(roles) > MOST + 1:
        left_out = ", ".join(str(role["role"]) for role in roles[MOST + 1 :])
        notes.append(f"Not drawn: {left_out}.")
    figure = page(document, "Trend", HEIGHT * len(panels) + 0.3, " ".join(notes))
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)
    for (key, title), axes in zip(panels, grid[:, 0], strict=True):
        _draw(axes, key, title, steps, drawn)
    low = grid[-1, 0]
    low.set_xlabel("training step" if summary["by_step"] else "checkpoint (in the order given)")
    low.xaxis.set_major_locator(
        FixedLocator(list(steps)) if len(steps) <= 8 else MaxNLocator(8, integer=True)
    )
    low.xaxis.set_major_formatter(FuncFormatter(lambda value, _position: whole(value)))
    return figure


def _draw(
    axes: Axes, key: str, title: str, steps: Sequence[int], roles: Sequence[Mapping[str, Any]]
) -> None:
    """Draw one quantity from zero, and name each line at its end."""
    scale = 100.0 if key == "delta_relative" else 1.0
    write = percent if key == "delta_relative" else number
    ends = []
    top = 0.0
    for (colour, dashes), role in zip([*LOOKS[: len(roles) - 1], (INK, "-")], roles, strict=False):
        points = _points(steps, role[key])
        if not points:
            continue
        x, y = zip(*[(step, scale * value) for step, value in points], strict=True)
        width = 2.2 if role is roles[-1] else 1.0
        axes.plot(x, y, color=colour, linestyle=dashes, linewidth=width, marker="o", markersize=2.5)
        ends.append((y[-1], f"{role_label(role['role'])}  {write(points[-1][1])}", colour))
        top = max(top, *y)
    axes.set_ylim(-0.04 * top, 1.08 * top)
    if _shows(roles[-1], key):
        noise = _noise(roles[-1], key)
        points = _points(steps, roles[-1][NOISE[key]])
        axes.plot(*zip(*points, strict=True), color=QUIET, linestyle=":", linewidth=1.4)
        axes.set_ylim(-0.04 * top, 1.08 * max(top, *noise))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=key == "intruders"))
    axes.yaxis.set_major_formatter(FuncFormatter(tick))
    axes.grid()
    axes.set_ylabel(title)
    low, high = axes.get_ylim()
    height = SMALL * 1.15 / 72 / (HEIGHT - 0.35)
    places = apart([(value - low) / (high - low) for value, _, _ in ends], height)
    for (_, text, colour), place in zip(ends, places, strict=True):
        axes.annotate(
            text, (1.0, place), (6, 0), xycoords="axes fraction", textcoords="offset points",
            va="center", color=colour, annotation_clip=False,
        )  # fmt: skip


def _noise(role: Mapping[str, Any], key: str) -> list[float]:
    return [value for value in role.get(NOISE.get(key, ""), ()) if value]


def _shows(role: Mapping[str, Any], key: str) -> bool:
    """Say whether noise is large enough to be seen beside what is drawn."""
    top = max((value for value in role[key] if value), default=0.0)
    return max(_noise(role, key), default=0.0) > LEAST * top


def _points(steps: Sequence[int], values: Sequence[float | None]) -> list[tuple[int, float]]:
    return [(step, v) for step, v in zip(steps, values, strict=True) if v is not None]
