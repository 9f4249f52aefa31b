"""Where bytes come from: files read by range, and the folder they lie in."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

from spectra.checkpoint.crew import Crew

Item = TypeVar("Item")
Found = TypeVar("Found")


NAMED = -1  # in place of a size: `path` is what stands for a file's bytes, wherever it lies


class Span(NamedTuple):
    """Bytes of a file, and when they were as they were."""

    path: str
    size: int  # of the file; or NAMED
    mtime_ns: int
    start: int
    stop: int
    how: str = ""
    """Of a part of a decoded tensor, what was decoded: which of its bytes that reads is known
    afterwards alone. Empty: all bytes from start to stop."""
    ctime_ns: int = 0  # which nobody sets back, as mtime can be
    inode: int = 0


class Source(Protocol):
    """One file, here or elsewhere, read by range; several threads may read at once.

    It can be pickled: what reads it in another process is made anew there.
    """

    @property
    def label(self) -> str:
        """How messages name it: printable, on one line."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def chunk(self) -> int:
        """Bytes that are worth asking for at once where the whole is not needed at once."""

    @property
    def ranges(self) -> int:
        """How many ranges are worth asking for at once; 1: each when its turn comes."""

    def read(self, start: int, stop: int) -> bytes:
        """Return a small range, for headers; shorter only where the file ends.

        Raises:
            CheckpointError: It cannot be read.
        """

    def fill(self, start: int, buffer: memoryview) -> int:
        """Read from `start` into the buffer; return the bytes got, fewer only at the end.

        Raises:
            CheckpointError: It cannot be read.
        """

    def fingerprint(self, start: int, stop: int) -> str | None:
        """Return what stands for the bytes of a range; nothing is read or asked for.

        The same text for the same bytes only. None of a file on this machine: what is known
        of that a ledger knows, by its span.
        """

    def span(self, start: int, stop: int, how: str = "") -> Span | None:
        """Return under what a ledger keeps the digest of a range, the file as it is now."""


class ByContent:
    """What sources have in common whose content has a name, such as the hash of the file."""

    content: str = ""  # empty: not known
    ranges = 1

    def fingerprint(self, start: int, stop: int) -> str | None:
        """Return what stands for the bytes of a range, where the content has a name."""
        return f"{self.content}:{start}-{stop}" if self.content else None

    def span(self, start: int, stop: int, how: str = "") -> Span | None:
        """Return under what a ledger keeps the digest of a range, where the content has a name."""
        return Span(self.content, NAMED, 0, start, stop, how) if self.content else None


class Folder(Protocol):
    """The files of one checkpoint, on this machine or on the Hub."""

    @property
    def spec(self) -> str:
        """As the user wrote it."""

    @property
    def resolved(self) -> str:
        """What it means: an absolute place, a commit pinned."""

    @property
    def label(self) -> str:
        """How messages name it: printable, on one line."""

    @property
    def prefix(self) -> str:
        """What the names of its tensors and files begin with, where it is a part of a model."""

    @property
    def concurrency(self) -> int:
        """How many of its files are worth opening at once."""

    def folders(self) -> Sequence[str]:
        """Return the names of the folders directly in it, sorted."""

    def inside(self, path: str, prefix: str = "") -> "Folder":
        """Return a folder in it, which may not be there.

        Args:
            path: Plain names with slashes between them.
            prefix: Of the names of its tensors and files.
        """

    def names(self) -> Sequence[str]:
        """Return the names of the files directly in it, sorted."""

    def has(self, name: str) -> bool:
        """Say whether something of this name is in it."""

    def file(self, name: str) -> Source:
        """Open a file by its name, a plain one without separators.

        Raises:
            CheckpointError: It cannot be read.
        """


def at_once(
    work: Callable[[Item], Found], items: Sequence[Item], concurrency: int
) -> Iterable[Found]:
    """Do the same with several, in order: several at once where each takes a request."""
    if concurrency == 1 or len(items) < 2:
        return map(work, items)
    crew = Crew(concurrency, "spectra-open")
    try:
        return [coming.result() for coming in [crew.submit(partial(work, one)) for one in items]]
    finally:
        crew.close()
