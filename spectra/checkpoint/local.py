"""Files and folders of this machine."""

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from spectra.checkpoint.source import ByContent, Span
from spectra.errors import CheckpointError
from spectra.text import shown

SECOND: Final = 1_000_000_000  # nanoseconds; some file systems keep no less


class LocalFile(ByContent):
    """One file, read by range; nothing is mapped, so nothing lingers in memory.

    Pickled, it is the file at the same absolute path of whatever machine reads it then.
    """

    chunk = 1 << 20  # small enough for a processor's cache
    _step = 1  # nanoseconds in which times are compared

    def __init__(self, path: Path, content: str = "") -> None:
        """Remember the file and its size.

        Args:
            path: Where it is.
            content: What stands for its bytes, where that is known.

        Raises:
            CheckpointError: It is no regular file or cannot be read.
        """
        self.path = path
        self.label = shown(path)
        self.content = content
        with legible(path):
            found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # reading a pipe would wait for ever
            raise CheckpointError(f"{shown(path)} is no regular file, expected weights on disk.")
        self.size = found.st_size
        self._mtime = found.st_mtime_ns

    def read(self, start: int, stop: int) -> bytes:
        """Return a small range as bytes, for headers."""
        with legible(self.path), self.path.open("rb") as file:
            file.seek(start)
            return file.read(stop - start)

    def pieces(self, ranges: Iterable[tuple[int, int]]) -> Iterator[bytes]:
        """Yield many small ranges of the file, which is opened once."""
        with legible(self.path), self.path.open("rb", buffering=0) as file:
            for start, stop in ranges:
                file.seek(start)
                yield file.read(stop - start)

    def fill(self, start: int, buffer: memoryview) -> int:
        """Read from `start` into the buffer; return the bytes got, fewer only at the end.

        Raises:
            CheckpointError: It cannot be read, or was written since it was opened: no two models
                are to be in one result.
        """
        rest = buffer
        with legible(self.path), self.path.open("rb", buffering=0) as file:
            file.seek(start)
            while rest and (count := file.readinto(rest)):
                rest = rest[count:]
            now = os.fstat(file.fileno())
        if not rest and (now.st_size, now.st_mtime_ns // self._step) != (self.size, self._mtime):
            raise CheckpointError(
                f"{self.label} was written again after it was opened, expected a file that stays "
                "as it is while it is read. Run again."
            )
        return len(buffer) - len(rest)

    def span(self, start: int, stop: int, how: str = "") -> Span | None:
        """Return under what a ledger keeps the digest of a range, the file as it is now.

        Raises:
            CheckpointError: The file is gone.
        """
        if self.content:
            return super().span(start, stop, how)
        with legible(self.path):
            now = self.path.stat()
        size, mtime, ctime = now.st_size, now.st_mtime_ns, now.st_ctime_ns
        return Span(self._place, size, mtime, start, stop, how, ctime, now.st_ino)

    @cached_property
    def _place(self) -> str:
        """Where it lay when it was first asked; of a link led elsewhere since, the inode tells."""
        return os.path.realpath(self.path)

    def __getstate__(self) -> dict[str, Any]:
        """Return what is sent elsewhere: other folders, and fractions of seconds, may be there."""
        seconds = self._mtime * self._step // SECOND
        own = {**self.__dict__, "path": self.path.absolute(), "_mtime": seconds, "_step": SECOND}
        own.pop("_place", None)
        return own


@dataclass(frozen=True, slots=True)
class LocalFolder:
    """A folder of this machine; links in it are its owner's, and lead where they lead.

    Pickled, it is the folder at the same absolute path.
    """

    spec: str  # as the user wrote it
    path: Path
    given: str = ""  # a file that the user named
    prefix: str = ""  # of names, where it is a part of a model

    @property
    def resolved(self) -> str:
        """The folder, or the file in it that was named."""
        return str(self.path / self.given)

    @property
    def label(self) -> str:
        """How messages name it."""
        return shown(self.path)

    @property
    def concurrency(self) -> int:
        """A disk gains nothing from opening several."""
        return 1

    def folders(self) -> Sequence[str]:
        """Return the names of the folders directly in it, sorted."""
        return self._held(folders=True)

    def inside(self, path: str, prefix: str = "") -> "LocalFolder":
        """Return a folder in it."""
        return LocalFolder(f"{self.spec.rstrip('/')}/{path}", self.path / path, "", prefix)

    def names(self) -> Sequence[str]:
        """Return the names directly in it that are no folders, sorted.

        Links to nothing and pipes are among them: whoever opens one is told what it is.
        """
        return self._held(folders=False)

    def _held(self, *, folders: bool) -> Sequence[str]:
        with legible(self.path), suppress(FileNotFoundError):
            return sorted(path.name for path in self.path.iterdir() if path.is_dir() == folders)
        return ()  # a part of a model that is not there

    def has(self, name: str) -> bool:
        """Say whether something of this name is in it."""
        with legible(self.path / name):
            return (self.path / name).exists()

    def file(self, name: str) -> LocalFile:
        """Open a file by its name."""
        return LocalFile(self.path / name)

    def __reduce__(self) -> tuple[Any, ...]:
        return LocalFolder, (self.spec, self.path.absolute(), self.given, self.prefix)


@contextmanager
def legible(path: Path) -> Iterator[None]:
    """Say in one line why the system does not give a file or folder.

    Raises:
        CheckpointError: It does not.
    """
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"{shown(path)} cannot be read: {error.strerror or type(error).__name__}. Expected a "
            "readable file or folder."
        ) from None
