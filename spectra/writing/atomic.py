"""Writing files: checked before the work, never half-written after it."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from spectra.errors import OutputError
from spectra.text import guess, guess_path, shown
from spectra.writing.temporary import held, name_beside, remove, sweep

HANDED = Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd")  # what the system hands a process
FULL = errno.ENOSPC, errno.EDQUOT, errno.EFBIG


def require_writable(path: Path) -> None:
    """Refuse, before any work is done, a path that could not be written after it.

    Raises:
        OutputError: The folder is missing or closed, or the path is a folder, device or pipe.
    """
    folder = path.parent
    _require_replaceable(path)
    require_above(path, folder)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror or error}. Choose another place."
        ) from None


def _require_replaceable(path: Path) -> None:
    """Refuse what a file that is renamed to it would take away: `/dev/null` as well, from root."""
    with contextlib.suppress(OSError):  # what may not be seen is refused when it is written
        if path.absolute().parent in HANDED or (path.exists() and not path.is_file()):
            kind = "folder" if path.is_dir() else "device or pipe"
            raise OutputError(f"{shown(path)} is a {kind}; expected a file name to write to.")


def require_above(path: Path, folder: Path) -> None:
    """Refuse a place whose folder is not there, and `-`: nobody means a file of that name.

    Args:
        path: As it was asked for.
        folder: Where that is to lie.

    Raises:
        OutputError: It is missing, or a file is in its place or in that of one above it.
    """
    if path == Path("-"):
        raise OutputError(
            "- is no place to write to: this goes to no standard output. Expected another name."
        )
    there = next((one for one in (folder, *folder.parents) if one.exists()), folder)
    if there.exists() and not there.is_dir():
        raise OutputError(
            f"{shown(path)} cannot be written: {shown(there)} is a file; expected a folder."
        )
    if not folder.is_dir():
        raise OutputError(
            f"{shown(path)} cannot be written: the folder {shown(folder)} does not exist."
            f"{guess_path(path.parent) or ' Create it first.'}"
        )


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it.

    Raises:
        OutputError: The system refuses, or it is no file that may be replaced; what was at `path`
            before is still there.
    """
    _require_replaceable(path)
    with unfinished(path, _empty) as temporary:
        write(temporary)
        finished(path)
        temporary.replace(path)


def _empty(path: Path) -> None:
    path.touch(exist_ok=False)


@contextlib.contextmanager
def unfinished(path: Path, make: Callable[[Path], object]) -> Iterator[Path]:
    """Yield what is made beside `path` to become it; what is left under its name is removed.

    What earlier runs left there that were killed is removed too.

    Raises:
        OutputError: The system refuses something within.
    """
    temporary = name_beside(path)
    _unfinished[temporary] = path  # before it is there: an end at any instant finds it
    try:
        sweep(path)
        with held(temporary, make):
            yield temporary
    except OSError as error:
        full = "Make room, or choose" if error.errno in FULL else "Choose"
        raise OutputError(
            f"{path} cannot be written: {error.strerror or error}. {full} another place."
        ) from None
    finally:
        abandon(temporary)


def finished(path: Path) -> None:
    """Note that what is to become `path` is whole; to be called right before it is renamed."""
    _written.append(path)


def exchanged(temporary: Path) -> None:
    """Note that what was at its place before now lies under a temporary name."""
    _unfinished[temporary] = temporary


def abandon(*temporaries: Path) -> list[Path]:
    """Remove unfinished files, all by default, and return what this process has written."""
    for temporary in temporaries or [*_unfinished]:
        with contextlib.suppress(OSError):
            remove(temporary)  # fails where it was renamed
            if _unfinished[temporary] in _written:
                _written.remove(_unfinished[temporary])
        del _unfinished[temporary]
    return _written


_unfinished: dict[Path, Path] = {}  # temporary files, each with what it will be
_written: list[Path] = []


def require_picture_suffix(path: Path) -> None:
    """Refuse a picture format other than PNG and SVG.

    Raises:
        OutputError: The suffix is another.
    """
    require_suffix(path, (".png", ".svg"), "Pictures are written as .png or .svg.")


def require_suffix(path: Path, known: Sequence[str], expected: str) -> None:
    """Refuse a file whose name does not end as it should.

    Args:
        path: The file.
        known: The suffixes that may be, in lower case.
        expected: How the message ends.

    Raises:
        OutputError: The suffix is another.
    """
    if path.suffix.lower() not in known:
        raise wrong_suffix(path, known, expected)


def wrong_suffix(path: Path, known: Sequence[str], expected: str = "") -> OutputError:
    """Return the error for a name that ends with none of the known suffixes."""
    got = f"ends with {path.suffix!r}" if path.suffix else "has no suffix"
    near = guess(path.suffix.lower(), known, 0.7) if path.suffix and not expected else ""
    told = expected or f"Expected one of {', '.join(known)}."
    return OutputError(f"{shown(path)} {got}.{near} {told}")
