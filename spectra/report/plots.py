"""Pictures: one page per analysis."""

from matplotlib.figure import Figure

from spectra.errors import UsageError
from spectra.report.diff_plots import draw_diff
from spectra.report.figure import save_figure, settle, style
from spectra.report.kappa_plots import draw_kappa
from spectra.report.spectrum_plots import draw_spectrum
from spectra.report.trend_plots import draw_trend
from spectra.report.width_plots import draw_width
from spectra.work import Result

DRAWERS = {
    "spectrum": draw_spectrum,
    "diff": draw_diff,
    "kappa": draw_kappa,
    "trend": draw_trend,
    "width": draw_width,
}

__all__ = ["draw", "save_figure"]


def draw(result: Result) -> Figure:
    """Draw an analysis on one page, 1200 pixels wide.

    Nothing of matplotlib's global state is kept or changed; names are drawn as they
    are, without mathtext, control characters escaped.

    Raises:
        UsageError: There is no picture of this analysis.
    """
    drawer = DRAWERS.get(result.command)
    if drawer is None:
        raise UsageError(
            f"{result.command} has no picture. Expected a result of {', '.join(DRAWERS)}."
        )
    with style():
        figure = drawer(result)
        settle(figure)
    return figure
