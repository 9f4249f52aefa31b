"""A section for a model card: what the weights say, ready to paste into a README."""

import re
from collections.abc import Sequence

from spectra.report.cells import CODE, NONE
from spectra.report.command_line import command_line
from spectra.report.kind import Document, Listing, kind_of
from spectra.report.ranking import ranked
from spectra.report.sentences import figures, models_named, noted
from spectra.text import printable

MOST = 5  # rows of each table
MEANT = re.compile(
    r"[<>*`\[\]|~\\$]|(?<![^\W_])_|_(?![^\W_])|\A[#+-](?=[\s#])|\A=(?==*\Z)|(?<=:)/|(?<=www)\."
)
"""What Markdown gives a meaning, so that it stands after a backslash."""
NUMBERED = re.compile(r"\A([0-9]{1,9})([.)])(?=\s|\Z)")
"""What would begin a list."""


def card(documents: Sequence[Document]) -> str:
    """Return a Markdown section of one or more results, the same for the same results.

    Args:
        documents: Checked results, as `Result.document()` gives them or as they were saved.
    """
    several = len(documents) > 1
    blocks = ["## What the weights say", ""]
    for document in documents:
        blocks += _result(document, heading=several)
    versions = ", ".join(dict.fromkeys(str(document["spectra"]) for document in documents))
    commands = [command_line(document) for document in documents]
    told = "Measured from the weights alone"
    blocks += [f"{told} by spectra {text(versions)}:", "", *_fenced(commands)]
    return "\n".join(blocks) + "\n"


def text(value: object) -> str:
    """Return what a file says as text that Markdown gives no other meaning."""
    plain = printable(" ".join(str(value).split()))
    marked = MEANT.sub(lambda found: "\\" + found[0], plain.replace("&", "&amp;"))
    return NUMBERED.sub(r"\1\\\2", marked)


def code(value: object) -> str:
    """Return a name as code; in a table a bar would end its cell."""
    plain = printable(" ".join(str(value).split())) or " "
    fence = "`" * (max((len(run) for run in re.findall("`+", plain)), default=0) + 1)
    gap = " " if plain.startswith("`") or plain.endswith("`") else ""
    return f"{fence}{gap}{plain}{gap}{fence}".replace("|", "\\|")


def _result(document: Document, *, heading: bool) -> list[str]:
    kind = kind_of(document["command"])
    lines = [f"### {text(kind.title)}", ""] if heading else []
    names = code(models_named(document))
    word, gap, rest = str(document["summary"]["reading"]).partition("  ")
    reading = f"**{text(word)}** {text(rest)}" if gap else text(word)
    lines += [f"{names}: {reading}", ""]
    advice = [text(line) for line in [*kind.advice(document), *noted(document)]]
    lead = "- " if len(advice) > 1 else ""  # lines alone would run together as one paragraph
    lines += [*(lead + line for line in advice), ""] if advice else []
    told = " · ".join(f"{text(name)} **{text(value)}**" for name, value in figures(document))
    rows, _ = ranked(document, kind)
    plain = Listing([CODE, *kind.columns], rows) if kind.columns else None
    listing = kind.card(document, rows) if kind.card else plain
    return [*lines, told, "", *(_table(listing) if listing else ())]


def _table(listing: Listing) -> list[str]:
    """Return a table, without columns that say nothing, and how much it leaves out."""
    shown = listing.few(MOST)
    if not shown:
        return []
    columns = [
        [text(column.title), "---", *((code if column.flexible else text)(column.cell(row))
                                      for row in shown)]
        for column in listing.columns
        if any(column.cell(row) != NONE for row in shown)
    ]  # fmt: skip
    rest = len(listing.rows) - len(shown)
    lines = [f"| {' | '.join(row)} |" for row in zip(*columns, strict=True)]
    return [*lines, "", *([f"{rest:,} more.", ""] if rest > 0 else ())]


def _fenced(lines: Sequence[str]) -> list[str]:
    """Return commands as a block of code that none of them ends."""
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(longest + 1, 3)
    return [f"{fence}sh", *lines, fence]
