"""What `spectra report` does once its options are read: pages, cards and files of saved results."""

import sys
from collections.abc import Sequence
from pathlib import Path

from spectra.errors import UsageError
from spectra.report.card import card as card_of
from spectra.report.formats import format_of, write_result, write_texts
from spectra.report.html import Source, render_page
from spectra.report.kinds import kind_of
from spectra.report.saved import Saved, intact, read_saved
from spectra.writing.atomic import require_writable

from .terminal import note

PAGE = (".html", ".htm")


def write_report(
    results: Sequence[Path], targets: Sequence[Path], *, card: bool, quiet: bool
) -> None:
    """Read results, and write each target; a card without one goes to standard output.

    Raises:
        SpectraError: A result cannot be read, or a target cannot be written.
    """
    for path in targets:
        require_writable(path)
    saved = [read_saved(path) for path in results]
    for path in targets:
        _require_form(path, saved, card=card)
    for path in targets:
        _write(path, saved, card=card)
        note(f"wrote {path}", quiet=quiet)
    if card and not any(_is_card(path) for path in targets):
        sys.stdout.write(card_of([one.document for one in saved]))


def _require_form(path: Path, saved: Sequence[Saved], *, card: bool) -> None:
    """Refuse, before anything is written, a format that these results do not have."""
    if path.suffix.lower() in PAGE or (card and _is_card(path)):
        return
    kind = kind_of(saved[0].document["command"])
    format_of(path, findings=kind.judges, others=PAGE[:1])
    if len(saved) > 1:
        raise UsageError(
            f"{path} holds one result, got {len(saved)}. Write one page of all: -o report.html; "
            "or run it for each."
        )


def _write(path: Path, saved: Sequence[Saved], *, card: bool) -> None:
    if path.suffix.lower() in PAGE:
        write_texts({path: render_page([Source(one.document, str(one.path)) for one in saved])})
    elif card and _is_card(path):
        write_texts({path: card_of([one.document for one in saved])})
    else:
        with intact(saved[0].path):
            write_result(saved[0].document, path)


def _is_card(path: Path) -> bool:
    return path.suffix.lower() == ".md"
