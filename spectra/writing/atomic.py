"""Writing files: checked before the work, never half-written after it."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from spectra.errors import OutputError


def require_writable(path: Path) -> None:
    """Refuse, before any work is done, a path that could not be written after it.

    Raises:
        OutputError: The folder is missing or closed, or the path is itself a folder.
    """
    folder = path.parent
    if path.is_dir():
        raise OutputError(f"{path} is a folder; expected a file name to write to.")
    if not folder.is_dir():
        raise OutputError(
            f"{path} cannot be written: the folder {folder} does not exist. Create it first."
        )
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror or error}. Choose another place."
        ) from None


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it.

    Raises:
        OutputError: The system refuses; what was at `path` before is still there.
    """
    try:
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent
        )
        os.close(handle)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from None
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from None
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    """Return the process's umask, which only setting it tells."""
    current = os.umask(0)
    os.umask(current)
    return current


def require_picture_suffix(path: Path) -> None:
    """Refuse a picture format other than PNG and SVG.

    Raises:
        OutputError: The suffix is another.
    """
    if path.suffix.lower() not in (".png", ".svg"):
        raise OutputError(
            f"{path} ends with {path.suffix or 'no suffix'!r}; pictures are written as .png or "
            ".svg."
        )
