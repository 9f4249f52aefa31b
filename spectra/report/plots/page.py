"""The page that pictures are drawn on: its heading, axes, notes and file."""

import io
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from spectra.analyzers.row import Packed, numbers
from spectra.deferred import Tensor
from spectra.errors import UsageError
from spectra.report.kind import Document, RowDoc
from spectra.report.plots.lettering import matrix_label, shortened, tick, wrapped
from spectra.report.plots.place import PLACE
from spectra.report.plots.style import NORMAL, QUIET, SMALL, TITLE, WIDTH, house_style
from spectra.report.sentences import made_of, models_named
from spectra.text import counted
from spectra.words import MATRIX
from spectra.writing.atomic import require_picture_suffix, write_atomically

Arrays: TypeAlias = Mapping[str, Mapping[str, "np.ndarray[Any, Any] | Tensor"]]
"""What a run measured beside its document, by matrix and name; a saved result has none."""

DPI = 150  # 1200 pixels across
MARGIN = 0.12  # inches, at every side
PAD = 0.06  # inches around each axes
MOST_TICKS = 7  # powers of ten on an axis
ALL_ZERO = "No matrix that could be measured is other than zero."
FORMATS: dict[str, dict[str, None]] = {
    ".png": {"Software": None},  # no version in the file
    ".svg": {"Date": None, "Creator": None},
}

LINES = 8  # of the answer: what it says last may be what was asked


def page(document: Document, title: str, body: float, *notes: str) -> Figure:
    """Return an empty page whose axes will fill the room between heading and notes.

    Where a picture is drawn into a place of somebody's, that, as it is.

    Args:
        document: Its models and `summary["reading"]` make the heading.
        title: What the picture shows.
        body: Height left for the axes, in inches.
        notes: Paragraphs below; empty ones take no room.
    """
    if (place := PLACE.get()) is not None:
        return cast("Figure", place)
    width = WIDTH - 2 * MARGIN
    head = shortened(f"{title}: {models_named(document, owners=False)}", TITLE, width, "bold")
    reading = wrapped(str(document["summary"].get("reading", "")), NORMAL, width, lines=LINES)
    # No date: a picture of the same numbers is the same to the byte.
    made = made_of(document, date=False)
    below = [line for note in (*notes, made) for line in wrapped(note, SMALL, width, lines=5)]
    line, small = NORMAL * 1.4 / 72, SMALL * 1.4 / 72
    top = MARGIN + TITLE * 1.6 / 72 + len(reading) * line + 0.06
    bottom = (0.04 + len(below) * small if below else 0.0) + MARGIN
    height = top + body + bottom
    figure = Figure(figsize=(WIDTH, height), dpi=DPI)
    FigureCanvasAgg(figure)
    left = MARGIN / WIDTH
    figure.suptitle(
        head, x=left, y=1 - MARGIN / height, ha="left", va="top", fontsize=TITLE, fontweight="bold"
    ).set_in_layout(False)
    for index, text in enumerate(reading):
        y = 1 - (MARGIN + TITLE * 1.6 / 72 + index * line) / height
        figure.text(left, y, text, va="top", fontsize=NORMAL).set_in_layout(False)
    for index, text in enumerate(below):
        y = (MARGIN + (len(below) - 1 - index) * small) / height
        figure.text(left, y, text, va="bottom", fontsize=SMALL, color=QUIET).set_in_layout(False)
    figure.set_layout_engine(
        ConstrainedLayoutEngine(
            w_pad=PAD, h_pad=PAD, rect=(0.005, bottom / height, 0.99, body / height)
        )
    )
    return figure


def message(document: Document, title: str, text: str) -> Figure:
    """Return a page that says why there is nothing to draw.

    Raises:
        UsageError: It says so, where a page is not asked for.
    """
    if PLACE.get() is not None:
        raise UsageError(text)
    figure = page(document, title, body=1.0)
    for index, line in enumerate(wrapped(text, NORMAL, WIDTH - 1.0, lines=3)):
        y = 0.5 - 0.2 * index / figure.get_figheight()
        figure.text(0.5, y, line, ha="center", va="center", fontsize=NORMAL, color=QUIET)
    return figure


def array_of(row: RowDoc, arrays: Arrays, name: str) -> NDArray[np.float64] | None:
    """Return what a run still has of a matrix beside its document."""
    held = arrays.get(row["matrix"], {})
    if name not in held:
        return None
    if isinstance(held, Packed):  # a tensor of it would load torch
        return np.array(numbers(held, name), dtype=np.float64).reshape(held.plain[name]["shape"])
    return np.asarray(held[name], dtype=np.float64)


def left_out(lost: int, noun: tuple[str, str] = MATRIX) -> list[str]:
    """Say how many matrices are not drawn because they have no numbers, if any."""
    return [f"{counted(lost, *noun)} without numbers left out."] if lost else []


def name_bars(axes: Axes, rows: Sequence[RowDoc], inches: float) -> None:
    """Name horizontal bars by their matrices, the first on top."""
    axes.set_yticks(
        np.arange(len(rows)), [matrix_label(row["matrix"], SMALL, inches) for row in rows]
    )
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="x")


def logarithmic_ticks(axis: Axis) -> None:
    """Number a logarithmic axis whose limits are set, without mathtext."""
    low, high = sorted(axis.get_view_interval())
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    powers = [exponent for exponent in range(first, last + 1) if low <= 10.0**exponent <= high]
    ticks = [10.0**exponent for exponent in powers[:: -(-len(powers) // MOST_TICKS) or 1]]
    if len(ticks) < 3:
        between = [digit * 10.0**power for power in range(first, last + 1) for digit in (1, 2, 5)]
        ticks = [value for value in between if low <= value <= high]
    axis.set_major_locator(FixedLocator(ticks) if len(ticks) > 1 else MaxNLocator(3))
    axis.set_major_formatter(FuncFormatter(tick))
    axis.set_minor_formatter(NullFormatter())


def settle(figure: Figure) -> None:
    """Lay the page out once and keep it so: saving again changes nothing.

    The solver of the layout works in no fixed order, so its last digits vary from run to
    run; they are rounded off, to about a hundredth of a pixel.
    """
    engine = figure.get_layout_engine()
    if engine is not None and figure.axes:  # as drawing does, which goes through every text again
        engine.execute(figure)
    figure.set_layout_engine(None)  # with "none", which remembers it, saving draws twice
    for axes in figure.axes:
        left, bottom, width, height = (
            round(share * 2**16) / 2**16 for share in axes.get_position(original=True).bounds
        )
        axes.set_position((left, bottom, width, height))
        axes.set_in_layout(True)  # setting a position takes it out


def bytes_of(figure: Figure, suffix: str) -> bytes:
    """Return what a file of a figure holds, `.png` or `.svg`: the same from run to run."""
    buffer = io.BytesIO()
    with house_style():
        figure.savefig(buffer, format=suffix[1:], metadata=FORMATS[suffix])
    return buffer.getvalue()


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG or SVG, the same bytes from run to run; all or nothing.

    Raises:
        OutputError: The suffix is neither, or the file cannot be written.
    """
    require_picture_suffix(path)
    body = bytes_of(figure, path.suffix.lower())
    write_atomically(path, partial(Path.write_bytes, data=body))
