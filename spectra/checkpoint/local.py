"""Bytes of a file on this machine."""

import stat
from pathlib import Path

import torch
from torch import Tensor

from spectra.checkpoint.entry import FLOATING, TensorEntry
from spectra.checkpoint.quote import quote, shown
from spectra.errors import CheckpointError


class LocalFile:
    """One file, read by range; nothing is mapped, so nothing lingers in memory."""

    def __init__(self, path: Path) -> None:
        """Remember the file and its size."""
        self.path = path
        try:
            found = path.stat()
        except OSError as error:
            raise unreadable(path, error) from None
        if not stat.S_ISREG(found.st_mode):  # reading a pipe would wait for ever
            raise CheckpointError(f"{shown(path)} is no regular file, expected weights on disk.")
        self.size = found.st_size

    def read(self, start: int, stop: int) -> bytes:
        """Return a small range as bytes, for headers."""
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                return file.read(stop - start)
        except OSError as error:
            raise unreadable(self.path, error) from None

    def read_tensor(self, entry: TensorEntry) -> Tensor:
        """Return one tensor in its stored dtype, read straight into its own memory.

        Raises:
            CheckpointError: The file ended early or cannot be read.
        """
        if entry.dtype not in FLOATING:
            raise CheckpointError(
                f"tensor {quote(entry.name)} of {shown(self.path)} is {entry.dtype}, expected "
                f"{', '.join(FLOATING)}: leave it out, or give the model unquantised."
            )
        if max(entry.shape, default=0) >= 1 << 63:  # empty, but no tensor can have such an axis
            raise CheckpointError(
                f"tensor {quote(entry.name)} of {shown(self.path)} is {list(entry.shape)}, "
                "expected axes below 2^63. Leave it out."
            )
        raw = torch.empty(entry.nbytes, dtype=torch.uint8)
        rest = memoryview(raw.numpy().data)
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(entry.start)
                while rest:
                    count = file.readinto(rest)
                    if not count:
                        raise CheckpointError(
                            f"{shown(self.path)} ended inside tensor {quote(entry.name)}, "
                            f"{len(rest):,} bytes early: the file changed while it was read. "
                            "Run again."
                        )
                    rest = rest[count:]
        except OSError as error:
            raise unreadable(self.path, error) from None
        return raw.view(FLOATING[entry.dtype]).reshape(entry.shape)


def unreadable(path: Path, error: OSError) -> CheckpointError:
    """Return the one-line error for a file that the system will not give."""
    reason = error.strerror or type(error).__name__
    return CheckpointError(
        f"{shown(path)} cannot be read: {reason}. Expected a readable file or folder."
    )
