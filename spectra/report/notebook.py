"""A result as Python shows it: the sentence on top, and the table."""

import shutil
from dataclasses import replace

from spectra.report.html.markup import plain_table, text
from spectra.report.kind import Document, kind_of
from spectra.report.screens import LIMIT, screen_of
from spectra.report.table import Screen, render_text
from spectra.wording import in_python

WIDEST = 140  # columns


def notebook(document: Document) -> str:
    """Return HTML that stands by itself; what comes from files is text in it and no more."""
    screen = _screen(document)
    heads = [column.title for column in screen.columns]
    rows = [[text(cell) for cell in line.cells] for line in screen.lines]
    above = [f"<strong>{text(said)}</strong>" for said in (screen.reading, screen.under) if said]
    table = plain_table(kind_of(document["command"]).title, heads, rows) if rows else ""
    below = [text(said) for said in (screen.more, *screen.facts) if said]
    return "".join([*map("<p>{}</p>".format, above), table, *map("<p>{}</p>".format, below)])


def one_screen(document: Document) -> str:
    """Return plain text of the terminal's width, or of a usual one."""
    columns = shutil.get_terminal_size((100, 24)).columns
    return render_text(_screen(document), min(columns, WIDEST)).strip("\n")


def _screen(document: Document) -> Screen:
    """Return what is seen of a result, in Python's words."""
    found = screen_of(document)
    left = len(found.lines) - LIMIT  # a list of matrices shows all of them elsewhere
    more = f"... {left:,} more (-v shows all)" if left > 0 and not found.more else found.more
    return replace(
        found,
        lines=found.lines[:LIMIT],
        more=more.replace("-v shows all", ".frame has all"),
        facts=[in_python(told) for told in found.facts],
        reading=in_python(found.reading),
    )
