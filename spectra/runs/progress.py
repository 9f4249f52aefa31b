"""How far a run is, told while it works: a bar, or a line now and then."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spectra.text import duration, printable, sizes
from spectra.work.executor import Progress

if TYPE_CHECKING:
    from IPython.display import DisplayHandle

EVERY = 30.0  # seconds between lines where no terminal is
REDRAWN = 0.2  # seconds between pictures of a bar
WIDTH, LEAST = 30, 10  # of a bar, in characters
NAME = 40  # of a matrix, likewise
USUAL = 80  # columns of a terminal that does not tell
CLEARED = "\r\x1b[K"  # the line of a terminal where a bar is

Show = Callable[["State"], None]


@dataclass(slots=True)
class State:
    """What was reported last, and when."""

    begun: float = field(default_factory=time.monotonic)
    last: Progress | None = None
    at: float = 0.0

    def take(self, progress: Progress) -> None:
        """Remember a report."""
        self.last, self.at = progress, time.monotonic()

    @property
    def share(self) -> float:
        """How much of the work is done."""
        return self.last.done / self.last.total if self.last else 0.0

    def told(self, *, short: bool = False) -> str:
        """Return count, bytes, share and time left in words, or in as few as a narrow line has."""
        one = self.last
        if one is None:
            return f"nothing done yet, {duration(time.monotonic() - self.begun)} so far"
        left = "time left unknown" if short else "time left not known yet"
        if one.left is not None:
            about = "" if short else "about "
            left = f"{about}{duration(one.left - (time.monotonic() - self.at))} left"
        count = f"{one.count:,} of {one.of:,}" + ("" if short else f" {one.noun}")
        if one.known:
            count += f" ({one.known:,} known{'' if short else ' from before'})"
        read = [sizes(one.read, one.to_read)] if one.to_read else []
        return ", ".join([count, *read, f"{100 * self.share:.0f} %", left])


@contextmanager
def told_while(show: Show, every: float) -> Iterator[Callable[[Progress], None]]:
    """Show the state every so many seconds, from a thread, whether or not a matrix ends."""
    state, over = State(), threading.Event()

    def tick() -> None:
        while not over.wait(every):
            with suppress(OSError, ValueError):  # whoever read it is gone
                show(state)

    thread = threading.Thread(target=tick, name="spectra-progress", daemon=True)
    thread.start()
    try:
        yield state.take
    finally:
        over.set()
        thread.join()


def line(state: State) -> None:
    """Write one line to standard error."""
    sys.stderr.write(f"{state.told()}\n")
    sys.stderr.flush()


def bar(state: State) -> None:
    """Draw a bar over the line of a terminal where the cursor is."""
    room = max(_columns() - len("^C"), 0)  # which a terminal shows behind it, and wraps no line
    told = next((text for text in (state.told(), state.told(short=True))
                 if len(text) + LEAST < room), state.told(short=True))  # fmt: skip
    wide = max(min(WIDTH, room - 1 - len(told)), 0)
    full = round(wide * state.share)
    text = f"{'━' * full}{'─' * (wide - full)} {told}".strip()
    name = printable(state.last.matrix)[-NAME:] if state.last else ""
    text = f"{text}  {name}" if len(text) + len(name) + 2 < room else text[:room]
    sys.stderr.write(f"{CLEARED}{text}")
    sys.stderr.flush()


@contextmanager
def shown(wanted: bool | None) -> Iterator[Callable[[Progress], None]]:
    """Show progress as it suits where Python runs.

    Args:
        wanted: True for a bar in a notebook or on a terminal, else lines; False for none; None for
            a bar in notebooks alone.
    """
    notebook = in_notebook()
    if wanted is False or (wanted is None and not notebook):
        yield lambda _progress: None
    elif notebook:
        with notebook_bar() as report:
            yield report
    else:
        with bar_or_lines(terminal=sys.stderr.isatty()) as report:
            yield report


@contextmanager
def bar_or_lines(*, terminal: bool) -> Iterator[Callable[[Progress], None]]:
    """Show a bar on a terminal that can redraw a line, and lines elsewhere: in a log, in CI."""
    if redraws(terminal=terminal):
        with terminal_bar() as report:
            yield report
    else:
        with told_while(line, EVERY) as report:
            yield report


def redraws(*, terminal: bool) -> bool:
    """Say whether a bar is drawn; some of CI's machines pretend a terminal, and keep each one."""
    dumb = os.environ.get("TERM") == "dumb"
    ci = os.environ.get("CI", "").casefold() not in {"", "0", "false"}
    return terminal and not dumb and not ci


@contextmanager
def terminal_bar() -> Iterator[Callable[[Progress], None]]:
    """Show a bar, and take it away at the end."""
    try:
        with told_while(bar, REDRAWN) as report:
            yield report
    finally:
        sys.stderr.write(CLEARED)
        sys.stderr.flush()


def in_notebook() -> bool:
    """Say whether a kernel of Jupyter shows what is displayed."""
    shell = sys.modules.get("IPython")
    found = shell.get_ipython() if shell else None
    return getattr(found, "kernel", None) is not None


@contextmanager
def notebook_bar() -> Iterator[Callable[[Progress], None]]:
    """Show a bar under the cell, and take it away at the end; none where that comes at once.

    As plain text, too: what has no HTML, such as a notebook that is printed, shows that.
    """
    from IPython.display import display  # noqa: PLC0415 - a notebook has it

    handle: DisplayHandle | None = None
    before = ""

    def draw(state: State) -> None:
        nonlocal handle, before
        told = state.told()
        if handle is None:
            handle = display(_pictured(state.share, told), raw=True, display_id=True)
        elif told != before:
            handle.update(_pictured(state.share, told), raw=True)
        before = told

    try:
        with told_while(draw, REDRAWN) as report:
            yield report
    finally:
        if handle is not None:
            handle.update({"text/html": "", "text/plain": ""}, raw=True)


def _pictured(share: float, told: str) -> dict[str, str]:
    bar = f"<progress max='1' value='{share:.3f}' style='width:20em'></progress>"
    return {"text/html": f"{bar} <span>{told}</span>", "text/plain": told}


def _columns() -> int:
    """Return the width of the terminal that the bar is on; what is piped on says nothing of it."""
    told = os.environ.get("COLUMNS", "")
    if told.isdecimal() and int(told):
        return int(told)
    with suppress(OSError, ValueError):
        return os.get_terminal_size(sys.stderr.fileno()).columns or USUAL
    return USUAL
