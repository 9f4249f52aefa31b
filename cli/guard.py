"""The door: every error becomes one line and an exit code."""

import os
import sys
import traceback
from collections.abc import Callable

import typer

from spectra.errors import NothingToAnalyseError, SpectraError
from spectra.wording import typed

from .entry import kept
from .terminal import fail

DONE, FINDINGS, UNUSABLE, NOTHING, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes; 1 is of findings alone."""


def guarded(run: Callable[[], int | None]) -> int:
    """Run a command and return its exit code; only SPECTRA_DEBUG=1 shows a traceback."""
    if store := sys.modules.get("spectra.work.store"):
        vars(store)["kept"] = False  # by this command
    try:
        with typed():
            code = run()
        sys.stdout.flush()
    except (typer.Exit, typer.Abort, typer.TyperException):
        raise  # the parser's own, for the outermost door
    except KeyboardInterrupt:
        fail("interrupted. Run the same command again.")
        return INTERRUPTED
    except BrokenPipeError:
        _close_stdout()  # the reader has what it wanted
        return DONE
    except Exception as error:  # noqa: BLE001 - the last door: exit 1 would mean findings
        if os.environ.get("SPECTRA_DEBUG") == "1":
            traceback.print_exc()
        with typed():
            fail(_sentence(error) + kept())
        if isinstance(error, OSError):
            _close_stdout()
        return NOTHING if isinstance(error, NothingToAnalyseError) else UNUSABLE
    return code or DONE


def _sentence(error: Exception) -> str:
    if isinstance(error, SpectraError):
        return str(error)
    if isinstance(error, OSError):
        return f"the output cannot be written: {error.strerror or error}. Send it elsewhere."
    if isinstance(error, MemoryError):
        return (
            "out of memory. --workers 1 needs least, and --memory 4GB keeps to a bound; --dry-run "
            "tells how much."
        )
    return (
        f"internal: {type(error).__name__}: {error}. This is a fault in spectra: set "
        "SPECTRA_DEBUG=1 for the traceback and report it."
    )


def _close_stdout() -> None:
    """Point standard output at nothing, so that the interpreter's last flush succeeds."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
