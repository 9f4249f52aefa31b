"""One file of another machine, fetched whole once its weights are read."""

from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

from spectra.checkpoint.hub.remote import NoRangesError, RemoteFile
from spectra.checkpoint.local import LocalFile
from spectra.checkpoint.source import ByContent


class DownloadedFile(ByContent):
    """A file whose header is read where it lies, and which is fetched whole for its weights."""

    chunk = LocalFile.chunk  # weights come from here

    def __init__(self, remote: RemoteFile, fetch: Callable[[], Path]) -> None:
        """Fetch nothing yet.

        Args:
            remote: Gives the header.
            fetch: Fetches the whole file and returns where it is then.
        """
        self.label = remote.label
        self._remote = remote
        self._fetch = fetch
        self._fetching = Lock()
        self._local: LocalFile | None = None

    @property
    def size(self) -> int:
        """Bytes."""
        return self._opened().size

    def read(self, start: int, stop: int) -> bytes:
        """Return a small range, for headers."""
        return self._opened().read(start, stop)

    def fill(self, start: int, buffer: memoryview) -> int:
        """Read from `start` into the buffer; return the bytes got, fewer only at the end."""
        return self._whole().fill(start, buffer)

    @property
    def content(self) -> str:  # type: ignore[override]  # as the server tells it
        """What stands for its bytes, fetched or not."""
        return self._remote.content

    def __getstate__(self) -> dict[str, Any]:
        """Return what is sent elsewhere: it is fetched there, or found in that cache."""
        return {**self.__dict__, "_fetching": None, "_local": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._fetching = Lock()

    def _opened(self) -> RemoteFile | LocalFile:
        if self._local is not None:
            return self._local
        try:
            _ = self._remote.size
        except NoRangesError:
            return self._whole()
        return self._remote

    def _whole(self) -> LocalFile:
        with self._fetching:
            if self._local is None:
                self._local = LocalFile(self._fetch())
            return self._local
