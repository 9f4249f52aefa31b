"""Everything a person or program reads: tables, documents, pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from spectra.report.plots import Arrays


def draw(document: Mapping[str, Any], arrays: "Arrays | None" = None) -> "Figure":
    """Draw a result's document as one figure, with the arrays that a run has beside it."""
    from spectra.report.plots import draw as draw_plots  # noqa: PLC0415 - matplotlib is slow to load

    return draw_plots(document, arrays)


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG or SVG, the same bytes from run to run.

    Raises:
        OutputError: The suffix is neither, or the file cannot be written.
    """
    from spectra.report.plots import save_figure as save  # noqa: PLC0415 - matplotlib is slow

    save(figure, path)
