"""Results that Python has, written: one in any format, several as a page or a card."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spectra.errors import UsageError
from spectra.report.card import card as card_of
from spectra.report.formats import format_of, write_result, write_texts
from spectra.report.html import Source, render_page
from spectra.report.kinds import kind_of
from spectra.writing.atomic import require_writable

PAGE = (".html", ".htm")


def save(documents: Mapping[str, Mapping[str, Any]], path: Path, *, card: bool = False) -> None:
    """Write results in the format of a file's suffix.

    Args:
        documents: By what each is called on the page.
        path: The file.
        card: Write the section of a model card.

    Raises:
        UsageError: Several results are to go where one does, or there is none.
        OutputError: The suffix is unknown or the file cannot be written.
    """
    require_writable(path)
    if not documents:
        raise UsageError("no result was given. Expected one or more: spectra.report(result).")
    if card:
        write_texts({path: card_of([*documents.values()])})
    elif path.suffix.lower() in PAGE:
        write_texts({path: render_page([Source(one, name) for name, one in documents.items()])})
    else:
        first, *others = documents.values()
        format_of(path, findings=kind_of(first["command"]).judges, others=PAGE[:1])
        if others:
            raise UsageError(
                f"{path} holds one result, got {len(documents)}. Write one page of all: "
                "report.html; or save each."
            )
        write_result(first, path)
