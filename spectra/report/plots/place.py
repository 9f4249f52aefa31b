"""Where a picture is drawn that has no page of its own: axes or a figure that somebody has."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase

PLACE: ContextVar[FigureBase | None] = ContextVar("place", default=None)
"""What `page` returns in place of a page; None: it makes one."""
BAR = "<colorbar>"  # matplotlib's label of the axes of a scale, which stands beside its panel


@contextmanager
def drawn_in(place: FigureBase) -> Iterator[None]:
    """Draw there what asks for a page."""
    before = PLACE.set(place)
    try:
        yield
    finally:
        PLACE.reset(before)


def panels_of(figure: Figure) -> int:
    """Return how many axes a picture was drawn into; scales beside them are none."""
    return sum(axes.get_label() != BAR for axes in figure.axes)


class Lent(Figure):
    """A figure whose panels are somebody's axes, one after the other as they are added.

    Where they stand is theirs; what is drawn beside one, as a scale is, goes into their figure.
    """

    def __init__(self, axes: Sequence[Axes]) -> None:
        """Take as many as the picture has panels."""
        super().__init__()
        self._lent = iter(axes)

    def add_subplot(
        self, *_where: Any, sharex: Axes | None = None, sharey: Axes | None = None, **_: Any  # noqa: ANN401 - as Figure's
    ) -> Axes:  # fmt: skip
        """Return the next; what is to be on one scale is, where no other axes share theirs."""
        axes = next(self._lent)
        for share, other, groups in (
            (axes.sharex, sharex, axes.get_shared_x_axes()),
            (axes.sharey, sharey, axes.get_shared_y_axes()),
        ):
            if other is not None and len(groups.get_siblings(axes)) == 1:
                share(other)
        return axes
