"""Bad is dark red on pages and in pictures, and every ramp falls in lightness alone."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from spectra.report.colours import RAMPS, Ramp
from spectra.report.plots.style import ramp


def luminance(colour: str) -> float:
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot([0.2126, 0.7152, 0.0722], parts))


@pytest.mark.parametrize("name", RAMPS)
def test_ramps_fall_in_lightness(name: Ramp) -> None:
    shades = [luminance(colour) for colour in RAMPS[name]]
    assert shades == sorted(shades, reverse=True)
    assert (shades[0] + 0.05) / (shades[-1] + 0.05) > 7


def test_the_bad_end_is_the_same_colour_whichever_end_is_bad() -> None:
    dark = to_rgb(RAMPS["bad"][-1])
    assert ramp("high")(1.0)[:3] == pytest.approx(dark, abs=0.01)
    assert ramp("low")(0.0)[:3] == pytest.approx(dark, abs=0.01)
    red, _, blue = ramp(None)(1.0)[:3]
    assert blue > red  # an amount is not bad
