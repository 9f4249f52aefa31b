"""The questions: one file each; they neither read files nor know each other."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from spectra.analyzers.analyzer import Analyzer, Summary
from spectra.analyzers.row import Measurement, Row, Value

if TYPE_CHECKING:
    from spectra.analyzers.diff import Diff
    from spectra.analyzers.heads import Heads
    from spectra.analyzers.kappa import Kappa
    from spectra.analyzers.match import Match
    from spectra.analyzers.shared import Shared
    from spectra.analyzers.soundness import Soundness
    from spectra.analyzers.spectrum import Spectrum
    from spectra.analyzers.trend import Trend
    from spectra.analyzers.width import Width

__all__ = [
    "Analyzer",
    "Diff",
    "Heads",
    "Kappa",
    "Match",
    "Measurement",
    "Row",
    "Shared",
    "Soundness",
    "Spectrum",
    "Summary",
    "Trend",
    "Value",
    "Width",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a class
    """Load an analyzer of the file of its name, and torch with it, when it is asked for."""
    if name in __all__:
        return getattr(import_module(f"spectra.analyzers.{name.lower()}"), name)
    raise AttributeError(f"module 'spectra.analyzers' has no attribute {name!r}")
