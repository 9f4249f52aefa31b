"""What `spectra report` does once its options are read: pages, cards and files of saved results."""

import os
import shlex
import sys
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spectra.errors import UsageError
from spectra.report.card import card as card_of
from spectra.report.document import ForeignError
from spectra.report.formats import format_of, write_result, write_texts
from spectra.report.html import Source, render_page
from spectra.report.kinds import kind_of
from spectra.report.saved import Saved, intact, read_saved
from spectra.text import shown
from spectra.writing.atomic import require_writable

from .terminal import note

PAGE = (".html", ".htm")
SHOWING = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")  # what tells that a browser can show a page


@dataclass(frozen=True, slots=True)
class Form:
    """What is to be written, and how."""

    targets: Sequence[Path]
    card: bool
    opens: bool
    quiet: bool

    def require(self) -> None:
        """Refuse what cannot be written or opened, before any work.

        Raises:
            SpectraError: A target cannot be written, or --open has no page.
        """
        for path in self.targets:
            require_writable(path)
        if self.opens and not any(map(_is_page, self.targets)):
            raise UsageError("--open opens a page, and none is written. Add -o report.html.")


def report_saved(results: Sequence[Path], form: Form) -> None:
    """Read results, and write each target; a card without one goes to standard output.

    Raises:
        SpectraError: A result cannot be read, or a target cannot be written.
    """
    form.require()
    saved = _ours(results, quiet=form.quiet)
    for path in form.targets:
        _require_form(path, saved, card=form.card)
    _write_all(saved, form)


@dataclass(frozen=True, slots=True)
class Asked:
    """How a model is measured for its page."""

    base: str | None  # what it was trained from
    policy: Path | None  # by which it is checked; None: the one that is found
    device: str
    quiet: bool
    cache: bool
    tokens: bool = False  # its directions are told in tokens too

    @property
    def words(self) -> list[str]:
        """The options that make the same page again."""
        told = (("--base", self.base), ("--policy", self.policy))
        found = [str(word) for pair in told if pair[1] is not None for word in pair]
        return [*found, *["--tokens"] * self.tokens]


def report_model(given: Sequence[str], asked: Asked, form: Form) -> None:
    """Analyse a model and write a page of it, or a card.

    Raises:
        SpectraError: It cannot be read, more than one is given, or a target cannot be written.
    """
    form.require()
    if results := [one for one in given if is_saved(one)]:
        models = [one for one in given if one not in results]
        what = "--base asks for a page of a model"
        if asked.base is None:
            what = f"{shown(models[0])} is read as a model"
        model = shown(models[0]) if models else "MODEL"
        base = shown(asked.base) if asked.base is not None else "BASE"
        raise UsageError(
            f"{shown(results[0])} is a saved result, and {what}. Give one or the other: "
            f"spectra report {shown(results[0])}, or spectra report {model} --base {base}."
        )
    if len(given) != 1:
        of_two = f"spectra report {shown(given[-1])} --base {shown(given[0])}"
        raise UsageError(
            f"a page of a model is of one, got {len(given)}: {' '.join(map(shown, given))}. "
            f"{f'Of a model and its base: {of_two}. ' if len(given) == 2 else ''}"
            "Of others save the result of each command with -o FILE.json, and give those."
        )
    for path in form.targets:
        if not (_is_page(path) or (form.card and _is_card(path))):
            raise UsageError(
                f"{path} holds one result, and a report of a model is made of several. Write a "
                "page: -o report.html; or that result: spectra spectrum MODEL -o "
                f"{path.name}."
            )
    from .portrait import Portrait  # noqa: PLC0415 - takes torch

    saved = Portrait(given[0], asked).measured()
    words = [given[0], *asked.words, "-o", "report.html"]
    _write_all(saved, form, "spectra report " + shlex.join(words))


def _write_all(saved: Sequence[Saved], form: Form, again: str = "") -> None:
    for path in form.targets:
        _write(path, saved, card=form.card, again=again)
        note(f"wrote {path}", quiet=form.quiet)
    if form.card and not any(_is_card(path) for path in form.targets):
        sys.stdout.write(card_of([one.document for one in saved]))
    if form.opens:
        _open(next(filter(_is_page, form.targets)))


def _open(page: Path) -> None:
    """Open a page in the browser; where there is none, say where it lies."""
    # Browsers of a terminal run no scripts, and would take the terminal.
    shows = not sys.platform.startswith("linux") or any(map(os.environ.get, SHOWING))
    try:
        opened = shows and webbrowser.open(page.resolve().as_uri())
    except webbrowser.Error:
        opened = False
    if not opened:
        note(f"no browser could be opened here; the page is {page.resolve()}")


def _ours(results: Sequence[Path], *, quiet: bool) -> list[Saved]:
    """Read results, and pass over files that are none, as `*.json` may name; one is left.

    Raises:
        SavedError: None is left, or a result is damaged, of another version, or not there.
    """
    found, strangers = [], []
    for path in results:
        try:
            found.append(read_saved(path))
        except ForeignError as error:
            strangers.append((path, error))
    if not found:
        raise strangers[0][1]
    for path, _ in strangers:
        note(f"note: passed over {shown(path)}: it is no result of spectra", quiet=quiet)
    return found


def _require_form(path: Path, saved: Sequence[Saved], *, card: bool) -> None:
    """Refuse, before anything is written, a format that these results do not have."""
    if _is_page(path) or (card and _is_card(path)):
        return
    kind = kind_of(saved[0].document["command"])
    format_of(path, findings=kind.judges, others=PAGE[:1])
    if len(saved) > 1:
        raise UsageError(
            f"{path} holds one result, got {len(saved)}. Write one page of all: -o report.html; "
            "or run it for each."
        )


def _write(path: Path, saved: Sequence[Saved], *, card: bool, again: str) -> None:
    if _is_page(path):
        sources = [Source(one.document, str(one.path)) for one in saved]
        write_texts({path: render_page(sources, again)})
    elif card and _is_card(path):
        write_texts({path: card_of([one.document for one in saved])})
    else:
        with intact(saved[0].path):
            write_result(saved[0].document, path)


def is_saved(given: str) -> bool:
    """Say whether a word names a file that a command may have written its result to."""
    return given.lower().endswith(".json") and Path(given).is_file()


def _is_page(path: Path) -> bool:
    return path.suffix.lower() in PAGE


def _is_card(path: Path) -> bool:
    return path.suffix.lower() == ".md"
