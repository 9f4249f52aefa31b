"""Everything a person or program reads: tables, documents, pictures."""

import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase

    from spectra.report.plots import Arrays


class Room(ModuleType):
    """This room; called, it is the function `spectra.report`, which has the same name."""

    def __call__(self, *results: Any, **options: Any) -> Any:  # noqa: ANN401 - as the function
        """Write results as one page; `help(spectra.portrait.report)` tells more."""
        return import_module("spectra.portrait").report(*results, **options)

    @property
    def __signature__(self) -> Any:  # noqa: ANN401 - inspect's own
        import inspect  # noqa: PLC0415 - few ask

        return inspect.signature(import_module("spectra.portrait").report)


sys.modules[__name__].__class__ = Room


def draw(
    document: Mapping[str, Any],
    arrays: "Arrays | None" = None,
    place: "Axes | Iterable[Axes] | FigureBase | None" = None,
) -> "Figure":
    """Draw a result's document as one figure, with the arrays that a run has beside it.

    Raises:
        UsageError: Its picture has another number of panels than axes are given.
    """
    from spectra.report.plots import draw as draw_plots  # noqa: PLC0415 - matplotlib is slow to load
    from spectra.report.plots import draw_into  # noqa: PLC0415 - likewise

    return draw_plots(document, arrays) if place is None else draw_into(place, document, arrays)


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG or SVG, the same bytes from run to run.

    Raises:
        OutputError: The suffix is neither, or the file cannot be written.
    """
    from spectra.report.plots import save_figure as save  # noqa: PLC0415 - matplotlib is slow

    save(figure, path)
