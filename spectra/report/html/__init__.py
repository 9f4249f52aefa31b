"""Saved or live results as one page that needs no network."""

from spectra.report.html.page import Source, render_page

__all__ = ["Source", "render_page"]
