"""What measuring made, until it is known how much of it is kept: on disk, not in memory.

The header of a safetensors file comes first and tells every size, but ranks are known once all
matrices are measured. To measure them twice would take twice as long, so what they give is put
into a file without a name, which is gone with the process, however that ends.
"""

import contextlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from spectra.deferred import Tensor, torch
from spectra.errors import OutputError
from spectra.text import shown


class Measured(Protocol):
    """A task, as far as it matters here."""

    @property
    def place(self) -> Any:  # noqa: ANN401 - of a floor above
        """Of its row; `matrix` names it."""


class Spool:
    """A `Sink` that keeps each task's tensors on disk, to be read back by their leading rows."""

    def __init__(self, folder: Path) -> None:
        """Open it on the disk of a folder."""
        self._folder, self._end = folder, 0
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by `__exit__`
        self._held: dict[tuple[str, str], tuple[int, Tensor]] = {}  # start, and an empty row

    def __enter__(self) -> "Spool":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):  # of a full disk, which was told already
            self._file.close()

    def take(self, task: Measured, tensors: Mapping[str, Tensor]) -> None:
        """Take a task's tensors.

        Raises:
            OutputError: The disk is full.
        """
        for name, tensor in tensors.items():
            self._held[task.place.matrix, name] = self._end, tensor[:0].clone()
            try:
                self._file.seek(self._end)
                self._end += self._file.write(raw(tensor))
                self._file.flush()
            except OSError as error:
                raise OutputError(
                    f"{shown(self._folder)} cannot hold what is to be written: "
                    f"{error.strerror or error}. Make room, or choose another place."
                ) from None

    def rows(self, matrix: str, name: str, count: int) -> Tensor:
        """Return the leading rows of a tensor, of which there are at least so many."""
        start, none = self._held[matrix, name]
        shape = (count, *none.shape[1:])
        found = torch.empty(shape, dtype=none.dtype)
        if found.numel():
            self._file.seek(start)
            self._file.readinto(raw(found))
        return found


def raw(tensor: Tensor) -> memoryview:
    """Return the bytes of a tensor, row after row; of one without gaps its own memory."""
    flat = tensor.contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")
