"""What a reader should look at first, over all results of a page."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from spectra.report.kind import Document, Worst, kind_of
from spectra.text import printable
from spectra.words import SEVERITIES

MOST = 12  # lines of the page's list


def worst_of(documents: Sequence[tuple[str, Document]]) -> list[Worst]:
    """Return the worst lines, errors first; results in the order given, nothing twice.

    Args:
        documents: The section and the document of each result.
    """
    found: dict[tuple[str | None, str], Worst] = {}
    for section, document in documents:
        for line in (*_broken(document), *kind_of(document["command"]).worst(document)):
            found.setdefault((line.matrix, line.text), replace(line, section=section))
    return sorted(found.values(), key=lambda line: SEVERITIES.index(line.mark))


def _broken(document: Document) -> Iterator[Worst]:
    """Yield matrices that hold NaN or Inf, but for those that a finding tells of."""
    judges = kind_of(document["command"]).judges
    told = {item.get("matrix") for item in document["summary"]["findings"]} if judges else set()
    for row in document["rows"]:
        if row["status"] == "non-finite" and row["matrix"] not in told:
            text = f"no numbers: {printable(row['error'] or 'it holds NaN or Inf')}"
            yield Worst("error", row["matrix"], text)
