"""The analyses as functions: the same words as the command line."""

from spectra.api.changes import diff, match, trend
from spectra.api.family import width
from spectra.api.model import heads, kappa, shared, spectrum
from spectra.api.release import check

__all__ = ["check", "diff", "heads", "kappa", "match", "shared", "spectrum", "trend", "width"]
