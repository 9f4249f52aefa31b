"""Grids of scales over a weight: how many rows and columns share one."""

from collections.abc import Iterable

from spectra.checkpoint.codecs.parts import MisfitError, Shape
from spectra.checkpoint.codecs.settings import Blocks


def blocks_of(weight: Shape, scale: Shape, given: Iterable[Blocks]) -> Blocks:
    """Return how many rows and columns of a weight share one scale.

    Args:
        weight: [..., rows, cols].
        scale: One value, [rows], or a grid with as many axes as the weight.
        given: Sizes that the settings name; the last block of an axis may be cut.

    Raises:
        MisfitError: The grid does not cover the weight, or in more than one way.
    """
    rows, cols = weight[-2:]
    if all(extent == 1 for extent in scale):
        return rows, cols
    if len(weight) == 2 and scale == (rows,):
        return 1, cols
    reason = f"scales {list(scale)} do not cover weights {list(weight)}"
    if len(scale) != len(weight) or scale[:-2] != weight[:-2] or 0 in scale:
        raise MisfitError(reason)
    down, across = scale[-2:]
    fitting = {
        (min(high, rows), min(wide, cols))
        for high, wide in given
        if (-(-rows // high), -(-cols // wide)) == (down, across)
    }
    if len(fitting) > 1:
        raise MisfitError(f"{reason} in one way alone")
    if fitting:
        return fitting.pop()
    if rows % down or cols % across:
        raise MisfitError(reason)
    return rows // down, cols // across
