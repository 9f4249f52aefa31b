"""How pictures look: sizes, colours, and the settings of matplotlib behind them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Colormap, LinearSegmentedColormap

from spectra.report.colours import RAMPS, Worst, ramp_of
from spectra.report.plots.lettering import FONT

WIDTH = 8.0  # inches
SMALL, NORMAL, TITLE = 8.0, 9.0, 11.0  # points

INK = "#1a1a1a"
QUIET = "#5f6670"
DARK = "#1f4e79"  # dark and light differ in greyscale too
LIGHT = "#c3d0dd"
SEQUENTIAL = "viridis"  # of layers, which are no better or worse

SETTINGS: dict[Any, Any] = {
    "font.family": FONT, "font.size": SMALL,
    "axes.titlesize": NORMAL, "axes.titlelocation": "left", "axes.labelsize": SMALL,
    "axes.edgecolor": QUIET, "axes.labelcolor": INK, "axes.linewidth": 0.7,
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    "xtick.labelsize": SMALL, "xtick.color": QUIET, "xtick.labelcolor": INK,
    "ytick.labelsize": SMALL, "ytick.color": QUIET, "ytick.labelcolor": INK,
    "grid.color": "#e3e6ea", "grid.linewidth": 0.6,
    "legend.fontsize": SMALL, "legend.frameon": False, "hatch.linewidth": 0.8,
    "text.color": INK, "text.parse_math": False,  # a `$` in a name is a `$`
    "svg.hashsalt": "spectra", "svg.fonttype": "path",  # the same ids from run to run
}  # fmt: skip


@contextmanager
def house_style() -> Iterator[None]:
    """Draw so, whatever the user's matplotlibrc says; nothing stays."""
    with matplotlib.style.context(["default", SETTINGS]):
        yield


def shades(name: str, low: float, high: float, count: int) -> Colormap:
    """Return a part of a colour map, in steps: its ends would be lost on white or black."""
    return LinearSegmentedColormap.from_list(name, colormaps[name](np.linspace(low, high, count)))


def ramp(worst: Worst | None) -> Colormap:
    """Return the colours of a quantity from its lowest to its highest: its bad end is dark red.

    Args:
        worst: Which end is bad; of an amount that is neither good nor bad, none.
    """
    kind = ramp_of(worst)
    colours = LinearSegmentedColormap.from_list(kind, RAMPS[kind])
    return colours.reversed() if worst == "low" else colours
