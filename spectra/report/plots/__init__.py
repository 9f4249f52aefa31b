"""Pictures: one page a command, drawn from its document and the arrays that a run still has."""

from collections.abc import Callable
from pkgutil import resolve_name
from typing import cast

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spectra.errors import SpectraError, UsageError
from spectra.report.kind import Document, kind_of, kinds, typed
from spectra.report.plots.page import Arrays, save_figure, settle
from spectra.report.plots.style import house_style

__all__ = ["Arrays", "draw", "draw_into", "drawer_of", "save_figure"]


def draw(document: Document, arrays: Arrays | None = None) -> Figure:
    """Draw an analysis on one page, 1200 pixels wide.

    Nothing of matplotlib's global state is kept or changed; names are drawn as they
    are, without mathtext, control characters escaped.

    Args:
        document: As `Result.document()` gives it or a file holds it.
        arrays: Tensors beside its rows, by matrix; what a page lacks without them it says.

    Raises:
        UsageError: There is no picture of this analysis.
        SpectraError: The package that draws it is broken.
    """
    drawer = drawer_of(document["command"])
    with house_style():
        figure = drawer(document, arrays or {})
        settle(figure)
    return figure


def draw_into(axes: Axes, document: Document) -> Figure:
    """Draw an analysis into axes of the caller's own, without a page around it.

    Raises:
        UsageError: Its picture is none of one axes.
    """
    drawer = drawer_of(document["command"])
    inner = getattr(resolve_name(drawer.__module__), "draw_into", None)
    if inner is None:
        raise UsageError(
            f"the picture of {document['command']} is of several axes, and ax= is for one. Draw it "
            "whole: .plot(), or make your own of .frame."
        )
    with house_style():
        inner(axes, document)
    return cast("Figure", axes.figure)


def _called(command: str) -> str:
    return typed(command).partition(" --")[0]


def drawer_of(command: str) -> Callable[[Document, Arrays], Figure]:
    """Return what draws a command's results.

    Raises:
        UsageError: There is no picture of them.
        SpectraError: The package that draws them is broken.
    """
    kind = kind_of(command)
    if kind.drawer is None:
        known = sorted({_called(one.command) for one in kinds() if one.drawer})
        raise UsageError(
            f"{_called(command)} has no picture. Expected a result of {', '.join(known)}."
        )
    try:
        found: Callable[[Document, Arrays], Figure] = resolve_name(kind.drawer)
    except (ImportError, AttributeError, ValueError) as error:
        raise SpectraError(
            f"The picture of {kind.command} cannot be drawn: {kind.drawer} fails to load "
            f"({type(error).__name__}: {error}). Update or remove the package that brings it."
        ) from error
    return found
