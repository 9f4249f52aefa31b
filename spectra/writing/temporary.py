"""Names under which files and folders are filled, and what runs that were killed left there.

Whoever fills one holds a lock on it, which ends with the process, however that ends: what no
process holds is left over. Where the system has no such locks nothing is taken for that.
"""

import contextlib
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

if sys.platform != "win32":
    import fcntl

SIGNS = 8  # of a name's random part, hexadecimal
TRIES = 5  # to remove a folder
OLD = ".old"
"""The end of the name of a folder that makes room for a new one, where two cannot be exchanged."""


def name_beside(path: Path) -> Path:
    """Return a name beside a path for what is to become it."""
    return path.with_name(f".{path.stem}.{os.urandom(SIGNS // 2).hex()}{path.suffix}")


def name_aside(temporary: Path) -> Path:
    """Return the name under which a folder makes room for the one of a temporary name."""
    return temporary.with_name(f"{temporary.name}{OLD}")


@contextlib.contextmanager
def held(path: Path, make: Callable[[Path], object]) -> Iterator[None]:
    """Make a file or folder and hold its lock."""
    if sys.platform == "win32":
        make(path)
        yield
        return
    while True:
        make(path)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):  # a disk without locks
                fcntl.flock(descriptor, fcntl.LOCK_SH)
            if path.exists():  # or another run has swept it in this instant
                yield
                return
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a folder that is there, by whatever name it goes meanwhile."""
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a disk without locks
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def left_over(path: Path, end: str = "") -> Iterator[Path]:
    """Yield what was to become a path and is filled by none; each is locked while it is looked at.

    Args:
        path: What it was to become.
        end: Of its name; `OLD`: what was there and made room.

    Raises:
        OSError: The folder cannot be listed.
    """
    if sys.platform == "win32":
        return
    own = re.compile(
        rf"\.{re.escape(path.stem)}\.[0-9a-f]{{{SIGNS}}}{re.escape(path.suffix + end)}", re.DOTALL
    )
    for found in [one for one in path.parent.iterdir() if own.fullmatch(one.name)]:
        with contextlib.suppress(OSError):
            descriptor = os.open(found, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield found
            finally:
                os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that it holds.

    Raises:
        OSError: The system refuses.
    """
    if not path.is_dir():
        path.unlink()
        return
    for last in (False,) * (TRIES - 1) + (True,):
        # A thread that is not done yet may put a file there.
        shutil.rmtree(path, ignore_errors=not last)
        if not path.exists():
            return


def bytes_left(path: Path) -> int:
    """Return the bytes of what is left over of a path."""
    total = 0
    with contextlib.suppress(OSError):
        for found in chain(left_over(path), left_over(path, OLD)):
            inside = found.rglob("*") if found.is_dir() else [found]
            total += sum(one.lstat().st_size for one in inside)
    return total


def sweep(path: Path) -> None:
    """Remove what is left over of a path."""
    put_back(path)
    for found in chain(left_over(path), left_over(path, OLD)):
        with contextlib.suppress(OSError):
            remove(found)


def put_back(path: Path) -> None:
    """Give a path back what made room for something that never came: the run was killed."""
    with contextlib.suppress(OSError):
        for found in left_over(path, OLD):
            if not path.exists():
                found.rename(path)
