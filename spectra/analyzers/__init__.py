"""The questions: one file each; they neither read files nor know each other."""

from spectra.analyzers.analyzer import Analyzer, Summary
from spectra.analyzers.diff import Diff
from spectra.analyzers.kappa import Kappa
from spectra.analyzers.row import Measurement, Row, Value
from spectra.analyzers.spectrum import Spectrum

ANALYZERS = (Spectrum, Diff, Kappa)

__all__ = [
    "ANALYZERS",
    "Analyzer",
    "Diff",
    "Kappa",
    "Measurement",
    "Row",
    "Spectrum",
    "Summary",
    "Value",
]
