"""Pictures of results, and what is written on them."""

from matplotlib.figure import Figure
from matplotlib.text import Text

from spectra.report import draw
from spectra.work import Result


def picture(result: Result) -> Figure:
    """Draw a result that was just measured."""
    return draw(result.document(), result.arrays)


def written(figure: Figure) -> str:
    """Return everything that is written on a page."""
    found = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    return " ".join(text.get_text() for text in found if text.get_visible())
