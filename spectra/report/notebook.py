"""A result as a notebook shows it: the sentence on top, and the table."""

from spectra.report.html.markup import plain_table, text
from spectra.report.kind import Document, kind_of
from spectra.report.screens import screen_of


def notebook(document: Document) -> str:
    """Return HTML that stands by itself; what comes from files is text in it and no more."""
    screen = screen_of(document)
    heads = [column.title for column in screen.columns]
    rows = [[text(cell) for cell in line.cells] for line in screen.lines]
    above = [f"<strong>{text(said)}</strong>" for said in (screen.reading, screen.under) if said]
    table = plain_table(kind_of(document["command"]).title, heads, rows) if rows else ""
    more = screen.more.replace("-v shows all", ".frame has all")
    below = [text(said) for said in (more, *screen.facts) if said]
    return "".join([*map("<p>{}</p>".format, above), table, *map("<p>{}</p>".format, below)])
