"""The door: every error becomes one line and an exit code."""

import os
import sys
from collections.abc import Callable

from spectra.errors import NothingToAnalyseError, SpectraError

from .terminal import fail

DONE, UNUSABLE, NOTHING, INTERRUPTED = 0, 2, 3, 130
"""Exit codes; 1 is kept for findings."""


def guarded(run: Callable[[], int | None]) -> int:
    """Run a command and return its exit code; only SPECTRA_DEBUG=1 shows a traceback."""
    try:
        code = run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        fail("interrupted; nothing was written. Run the same command again.")
        return INTERRUPTED
    except BrokenPipeError:
        _close_stdout()  # the reader has what it wanted
        return DONE
    except NothingToAnalyseError as error:
        return _fail(error, NOTHING)
    except SpectraError as error:
        return _fail(error, UNUSABLE)
    except MemoryError as error:
        fail("out of memory. --workers 1 needs least; --dry-run tells how much.")
        return _debug(error, UNUSABLE)
    except Exception as error:  # noqa: BLE001 - the last door: exit 1 would mean findings
        fail(
            f"internal: {type(error).__name__}: {error}. This is a fault in spectra: set "
            "SPECTRA_DEBUG=1 for the traceback and report it."
        )
        return _debug(error, UNUSABLE)
    return code or DONE


def _fail(error: SpectraError, code: int) -> int:
    """Print a user's error."""
    fail(str(error))
    return _debug(error, code)


def _debug(error: BaseException, code: int) -> int:
    """Let the traceback out where it is asked for."""
    if os.environ.get("SPECTRA_DEBUG") == "1":
        raise error
    return code


def _close_stdout() -> None:
    """Point standard output at nothing, so that the interpreter's last flush succeeds."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
