"""Everything a person or program reads: tables, documents, pictures."""

from pathlib import Path
from typing import TYPE_CHECKING

from spectra.work import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(result: Result) -> "Figure":
    """Draw a result as one figure."""
    from spectra.report.plots import draw as draw_plots  # noqa: PLC0415 - matplotlib is slow to load

    return draw_plots(result)


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG or SVG, the same bytes from run to run.

    Raises:
        OutputError: The suffix is neither, or the file cannot be written.
    """
    from spectra.report.plots import save_figure as save  # noqa: PLC0415 - matplotlib is slow

    save(figure, path)
