"""The questions: one file each; they neither read files nor know each other."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from spectra.analyzers.analyzer import Analyzer, Summary
from spectra.analyzers.row import Measurement, Row, Value

if TYPE_CHECKING:
    from spectra.analyzers.diff import Diff
    from spectra.analyzers.kappa import Kappa
    from spectra.analyzers.soundness import Soundness
    from spectra.analyzers.spectrum import Spectrum
    from spectra.analyzers.trend import Trend
    from spectra.analyzers.width import Width

ANALYZERS = {
    "Spectrum": "spectrum",
    "Diff": "diff",
    "Kappa": "kappa",
    "Soundness": "soundness",
    "Trend": "trend",
    "Width": "width",
}
"""Every analyzer and its file."""

__all__ = [
    "ANALYZERS",
    "Analyzer",
    "Diff",
    "Kappa",
    "Measurement",
    "Row",
    "Soundness",
    "Spectrum",
    "Summary",
    "Trend",
    "Value",
    "Width",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a class
    """Load an analyzer, and torch with it, when it is asked for: listing needs neither."""
    if name in ANALYZERS:
        return getattr(import_module(f"spectra.analyzers.{ANALYZERS[name]}"), name)
    raise AttributeError(f"module 'spectra.analyzers' has no attribute {name!r}")
