"""What goes to which stream, and how it looks there."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from spectra.text import printable

if TYPE_CHECKING:
    from spectra.report.table import Screen
    from spectra.work.executor import Progress

STYLES = {"bad": "bold red", "good": "green", "warn": "yellow"}
WIDEST = 160  # columns; beyond, lines are hard to follow

_over = ""  # what takes a bar away, while there is one


def is_terminal(stream: object) -> bool:
    """Say whether a person reads this stream."""
    isatty = getattr(stream, "isatty", None)
    return bool(isatty and isatty())


def note(text: str, *, quiet: bool = False) -> None:
    """Write one line to standard error, over a bar that is drawn there."""
    if not quiet:
        sys.stderr.write(f"{_over}{text}\n")


def warn(text: str) -> None:
    """Write one line of a warning to standard error; `--quiet` does not keep it back."""
    note(f"warning: {text}")


def hear() -> None:
    """Show as warnings what the library logs, such as a server that has to be waited for."""
    import logging  # noqa: PLC0415 - not for what the door answers itself

    class Heard(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            warn(record.getMessage())

    log = logging.getLogger("spectra")
    if not log.handlers:
        log.addHandler(Heard())


def fail(text: str) -> None:
    """Write the one line of an error, control characters escaped."""
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    console.print(Text.assemble(("error:", "bold red"), " ", printable(" ".join(text.split()))))


def width() -> int | None:
    """Return how wide lines may be: as a terminal is, whatever they take in a pipe."""
    if not is_terminal(sys.stdout):
        return None
    return min(shutil.get_terminal_size().columns, WIDEST)


def show(screen: "Screen") -> None:
    """Print a screen: fitted and coloured on a terminal, whole and plain in a pipe."""
    from spectra.report.table import lay_out, render_text  # noqa: PLC0415 - not for `--help`

    console = Console(highlight=False, markup=False, soft_wrap=True)
    if not (is_terminal(sys.stdout) or os.environ.get("FORCE_COLOR")):
        sys.stdout.write(render_text(screen))
        return
    for line, style in lay_out(screen, width()):
        whole, _, first = style.partition(" ")
        text = Text(line, STYLES.get(whole, whole))
        if first:
            indent = len(line) - len(line.lstrip())
            text.stylize(STYLES[first], indent, indent + len(line.split()[0]))
        console.print(text)


@contextmanager
def progress_bar(*, quiet: bool) -> Iterator[Callable[["Progress"], None]]:
    """Show on standard error a bar with the time left; elsewhere than on a terminal lines."""
    if quiet:
        yield lambda _progress: None
        return
    from spectra.runs import progress  # noqa: PLC0415 - only what works needs it

    global _over  # noqa: PLW0603 - there is one standard error
    terminal = is_terminal(sys.stderr)
    with progress.bar_or_lines(terminal=terminal) as report:
        _over = progress.CLEARED if progress.redraws(terminal=terminal) else ""
        try:
            yield report
        finally:
            _over = ""
