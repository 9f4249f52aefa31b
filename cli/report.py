"""spectra report: saved results as one page, a model card, or another format."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .guard import guarded
from .terminal import note

if TYPE_CHECKING:
    from spectra.report.saved import Saved

PAGE = (".html", ".htm")

Results = Annotated[
    list[Path],
    typer.Argument(
        metavar="RESULT.json",
        help="Results that other commands wrote with -o FILE.json.",
    ),
]
Output = Annotated[
    list[Path] | None,
    typer.Option(
        "--output", "-o", metavar="FILE", rich_help_panel=options.OUTPUT,
        help="Write here; repeatable; report.html by default. The suffix is the format: .html of "
        "any results; .json .jsonl .csv .md .parquet .txt of one; of a check also .sarif and "
        ".xml (JUnit).",
    ),
]  # fmt: skip
Card = Annotated[
    bool,
    typer.Option(
        "--card", rich_help_panel=options.OUTPUT,
        help="Print a section for the README of a model card, or write it with -o CARD.md.",
    ),
]  # fmt: skip


def report(
    result: Results,
    output: Output = None,
    card: Card = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a page from saved results.

    One file that needs no network: what was found, worst first, with heatmaps, tables and
    spectra to click on, the settings and the commands. No weights are read.

    Example: spectra report spectrum.json kappa.json -o report.html
    """
    targets = output or ([] if card else [Path("report.html")])

    def run() -> None:
        from spectra.report.saved import read_saved  # noqa: PLC0415
        from spectra.writing.atomic import require_writable  # noqa: PLC0415 - slow to load

        for path in targets:
            require_writable(path)
        saved = [read_saved(path) for path in result]
        for path in targets:
            _require_form(path, saved, card=card)
        for path in targets:
            _write(path, saved, card=card)
            note(f"wrote {path}", quiet=quiet)
        if card and not any(_is_card(path) for path in targets):
            sys.stdout.write(_card(saved))

    raise typer.Exit(guarded(run))


def _require_form(path: Path, saved: "Sequence[Saved]", *, card: bool) -> None:
    """Refuse, before anything is written, a format that these results do not have.

    Raises:
        OutputError: The suffix is none of a result's.
        UsageError: It is a format of one result, and there are several.
    """
    from spectra.errors import UsageError  # noqa: PLC0415 - as everywhere here
    from spectra.report.documents import format_of  # noqa: PLC0415

    if path.suffix.lower() in PAGE or (card and _is_card(path)):
        return
    first = saved[0].document["command"]
    format_of(path, findings=first == "check", others=PAGE[:1])
    if len(saved) > 1:
        raise UsageError(
            f"{path} holds one result, got {len(saved)}. Write one page of all: -o report.html; "
            "or run it for each."
        )


def _write(path: Path, saved: "Sequence[Saved]", *, card: bool) -> None:
    """Write one file."""
    from spectra.report.documents import write_saved, write_texts  # noqa: PLC0415 - slow to load

    if path.suffix.lower() in PAGE:
        from spectra.report.html import Source, render_page  # noqa: PLC0415

        page = render_page([Source(one.document, str(one.path)) for one in saved])
        write_texts({path: page})
    elif card and _is_card(path):
        write_texts({path: _card(saved)})
    else:
        write_saved(saved[0], path)


def _card(saved: "Sequence[Saved]") -> str:
    """Return the section of a model card."""
    from spectra.report.card import card  # noqa: PLC0415 - slow to load

    return card([one.document for one in saved])


def _is_card(path: Path) -> bool:
    """Say whether a file is Markdown."""
    return path.suffix.lower() == ".md"
