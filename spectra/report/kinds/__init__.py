"""One record a command: what is told of its results, and how.

A command of this package has a file here, found by its name; one from elsewhere an entry point of
the group `spectra.kinds`, whose name is the command's and whose value is a `Kind`.
"""

from spectra.report.kind import Document, Kind, RowDoc, kind_of, kinds

__all__ = ["Document", "Kind", "RowDoc", "kind_of", "kinds"]
