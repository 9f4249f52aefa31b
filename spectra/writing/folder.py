"""A folder of several files that is whole or not there; one of the same kind may be replaced."""

import ctypes
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from spectra.writing.atomic import exchanged, finished, unfinished
from spectra.writing.temporary import locked, name_aside

HERE = -100  # AT_FDCWD of Linux: paths are as they are elsewhere
EXCHANGE = 2  # RENAME_EXCHANGE


def write_folder(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary folder beside `path`, then put it in the place of that.

    What is there is replaced in one step where the system can do so. `Destination` says
    what may be there.

    Raises:
        OutputError: The system refuses; what was at `path` before is still there.
    """
    place = path.resolve()  # a link stays one
    with unfinished(place, Path.mkdir) as temporary:
        write(temporary)
        finished(place)
        if place.exists() and any(place.iterdir()):
            _exchange(temporary, place)
        else:
            temporary.replace(place)


def _exchange(temporary: Path, place: Path) -> None:
    """Put one folder in the place of another, which is left under the temporary name."""
    if sys.platform == "linux":
        names = [os.fsencode(path) for path in (temporary, place)]
        rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
        if rename is not None and not rename(HERE, names[0], HERE, names[1], EXCHANGE):
            exchanged(temporary)
            return
    old = name_aside(temporary)
    with locked(place):  # whoever finds it aside while none holds it puts it back, or sweeps it
        place.rename(old)
        try:
            temporary.rename(place)
        except OSError:
            old.rename(place)
            raise
        shutil.rmtree(old)
