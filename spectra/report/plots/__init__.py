"""Pictures: one page a command, drawn from its document and the arrays that a run still has."""

from collections.abc import Callable, Iterable, Iterator
from pkgutil import resolve_name
from typing import cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase

from spectra.errors import SpectraError, UsageError
from spectra.report.kind import Document, called, drawer_named
from spectra.report.plots.page import Arrays, bytes_of, save_figure, settle
from spectra.report.plots.place import Lent, drawn_in, panels_of
from spectra.report.plots.style import house_style
from spectra.text import counted

__all__ = ["Arrays", "bytes_of", "draw", "draw_into", "drawer_of", "save_figure"]


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


def draw_into(
    place: Axes | Iterable[Axes] | FigureBase, document: Document, arrays: Arrays | None = None
) -> Figure:
    """Draw an analysis into a place of the caller's own, without a page around it.

    Args:
        place: A figure or part of one, which holds any picture; or as many axes as it has panels.
            Of a picture whose module has a `draw_into` one is enough: that says what it shows.
        document: As `Result.document()` gives it or a file holds it.
        arrays: Tensors beside its rows, by matrix.

    Returns:
        The whole figure.

    Raises:
        UsageError: It has another number of panels, or there is nothing to draw.
    """
    drawer = drawer_of(document["command"])
    arrays = arrays or {}
    with house_style():
        if isinstance(place, FigureBase):
            with drawn_in(place):
                drawer(document, arrays)
            return cast("Figure", place.figure)
        given = _axes_of(place)
        inner = getattr(resolve_name(drawer.__module__), "draw_into", None)
        if inner is not None and len(given) == 1:
            inner(given[0], document)
            return given[0].figure.figure
        wanted = panels_of(drawer(document, arrays))
        if wanted and len(given) != wanted:
            raise UsageError(
                f"the picture of this {called(document['command'])} has "
                f"{counted(wanted, 'panel')}, and ax= holds {len(given):,} axes. Give "
                f"{'one' if wanted == 1 else f'a list of {wanted:,}'}, or a figure or subfigure, "
                "which holds them all."
            )
        with drawn_in(Lent(given)):
            drawer(document, arrays)
        return given[0].figure.figure


def _axes_of(place: object) -> list[Axes]:
    """Return one axes or several, as they come from `subplots`, in a list.

    Raises:
        UsageError: It is something else, or axes that no picture can be drawn into.
    """
    held = [*place] if isinstance(place, Iterator) else place
    given = [held] if isinstance(held, Axes) else [*np.ravel(np.asarray(held, dtype=object))]
    odd = [one for one in given if not isinstance(one, Axes)]
    if odd or not given:
        what = "empty" if not given else f"of type {type(odd[0]).__name__}"
        raise UsageError(
            f"ax= is {what}. Expected axes of matplotlib, a list of them, or a figure or subfigure."
        )
    bent = next((one.name for one in given if one.name != "rectilinear"), None)
    if bent is not None:
        raise UsageError(
            f"ax= holds axes of the projection {bent!r}, into which no picture here can be drawn. "
            "Expected plain ones, as `subplots()` makes them."
        )
    if len({id(one) for one in given}) < len(given):
        raise UsageError(
            f"ax= holds the same axes twice among its {len(given):,}. Expected as many different "
            "ones as the picture has panels."
        )
    if any(one.figure is None for one in given):
        raise UsageError(
            "ax= holds axes that were removed from their figure. Expected axes of a figure."
        )
    return given


def drawer_of(command: str) -> Callable[[Document, Arrays], Figure]:
    """Return what draws a command's results.

    Raises:
        UsageError: There is no picture of them.
        SpectraError: The package that draws them is broken.
    """
    name = drawer_named(command)
    try:
        found: Callable[[Document, Arrays], Figure] = resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SpectraError(
            f"The picture of {command} cannot be drawn: {name} fails to load "
            f"({type(error).__name__}: {error}). Update or remove the package that brings it."
        ) from error
    return found
