"""A folder of several files that is whole or not there; one of the same kind may be replaced."""

import ctypes
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

from spectra.errors import OutputError
from spectra.text import counted, guess_path, quote, shown, size
from spectra.writing.atomic import exchanged, finished, unfinished

HERE = -100  # AT_FDCWD of Linux: paths are as they are elsewhere
EXCHANGE = 2  # RENAME_EXCHANGE


def require_new_folder(path: Path, own: Collection[str], *, force: bool) -> None:
    """Refuse, before any work is done, a folder that could not be written after it.

    Args:
        path: Not there, or an empty folder; with `force` it may hold what this writes.
        own: Places of files that are written into such folders: nothing else is ever deleted.
        force: Replace one that is there.

    Raises:
        OutputError: The place above is missing or closed, or what is there would be lost.
    """
    above = path.absolute().parent
    if path.exists() and not path.is_dir():
        raise OutputError(f"{shown(path)} is a file; expected a folder to write to.")
    if not above.is_dir():
        raise OutputError(
            f"{shown(path)} cannot be written: the folder {shown(above)} does not exist."
            f"{guess_path(path.parent) or ' Create it first.'}"
        )
    inside = (one for one in path.rglob("*") if not one.is_dir() or one.is_symlink())
    held = sorted(one.relative_to(path).as_posix() for one in inside) if path.exists() else []
    if held and not force:
        raise OutputError(
            f"{shown(path)} exists and holds {counted(len(held), 'file')}, e.g. {quote(held[0])}; "
            "nothing is overwritten without --force. Choose another place."
        )
    if strange := [name for name in held if name not in own]:
        raise OutputError(
            f"{shown(path)} holds {quote(strange[0])}, which was not written here: --force "
            "replaces what such a run writes, and nothing else. Choose another place."
        )
    try:
        with tempfile.TemporaryDirectory(dir=above):
            pass
    except OSError as error:
        raise OutputError(
            f"{shown(path)} cannot be written: {error.strerror or error}. Choose another place."
        ) from None


def require_room(
    path: Path, nbytes: int, instead: str = "Choose another place, or a lower rank."
) -> None:
    """Refuse a disk that has no room for so many bytes.

    Raises:
        OutputError: It has less.
    """
    free = shutil.disk_usage(path.absolute().parent).free
    if nbytes > free:
        raise OutputError(
            f"{shown(path)} may take {size(nbytes)} while it is written, and {size(free)} are free "
            f"there. {instead}"
        )


def write_folder(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary folder beside `path`, then put it in the place of that.

    What is there is replaced in one step where the system can do so. `require_new_folder` says
    what may be there.

    Raises:
        OutputError: The system refuses; what was at `path` before is still there.
    """
    place = path.resolve()  # a link stays one
    with unfinished(place) as temporary:
        temporary.mkdir()
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
    old = temporary.with_name(f"{temporary.name}.old")
    place.rename(old)
    temporary.rename(place)
    shutil.rmtree(old)
