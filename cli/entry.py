"""Where the program begins: an interrupt is answered from these lines on, whatever is in work.

Before them Python starts, reads its `site` and the lines that pip wrote around `main`: one or two
hundredths of a second in which an interrupt is Python's own, more where pip is older than 25.2
and has them import `re`. So nothing is imported here that Python has not loaded by then, and
nothing by the package.
"""

import _signal  # type: ignore[import-not-found]  # `signal` itself loads for milliseconds
import os
import sys

SAID = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "hung up"}
TO_LINE_START = b"\r\x1b[K"  # over a bar, and over the ^C that a terminal shows


def main() -> None:
    """Entry point of the console script."""
    for name in SAID:
        number = getattr(_signal, name, None)
        # What started this may want it ignored: nohup, or a script's `spectra ... &`.
        if number is not None and _signal.getsignal(number) != _signal.SIG_IGN:
            _signal.signal(number, leave)
    from .main import main as begin  # noqa: PLC0415 - what is loaded meets the answer above

    begin()


def leave(number: int, _frame: object) -> None:
    """End at once, with one line and nothing half-written.

    An exception would pass through whatever runs: imports that tell it as their own failure,
    finalizers that drop it, decompositions that cannot be stopped.
    """
    cluster = sys.modules.get("spectra.work.connection")
    if cluster is not None:
        cluster.abandon()
    said = next(said for name, said in SAID.items() if getattr(_signal, name, 0) == number)
    line = f"error: {told(said)}\n".encode()
    try:  # noqa: SIM105 - before anything is imported
        os.write(2, TO_LINE_START + line if os.isatty(2) else line)
    except OSError:  # nobody reads it
        pass
    os._exit(128 + number)


def told(said: str) -> str:
    """Return what an end before the end left behind, and remove what it left unfinished."""
    files = sys.modules.get("spectra.writing.atomic")
    written = [] if files is None else files.abandon()
    verb = "was" if len(written) == 1 else "were"
    left = (
        f"only {', '.join(map(str, written))} {verb} written" if written else "nothing was written"
    )
    return f"{said}; {left}.{kept() or ' Run the same command again.'}"


def kept() -> str:
    """Return what is said where an end before the end leaves measurements; else nothing."""
    store = sys.modules.get("spectra.work.store")
    if store is None or not store.kept:
        return ""
    return " What was measured is kept: the same command goes on from there."
