"""The zip archive that `torch.save` writes: where each of its records lies, and that none lies.

Records are stored as they are, so that one is read by range, like a tensor of safetensors.
"""

import struct
import zipfile
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from spectra.checkpoint.header import NEVER_WEIGHTS
from spectra.checkpoint.pickled.names import AGAIN, INSTEAD, PickleError
from spectra.checkpoint.source import Source
from spectra.text import quote

MAX_READ = 16_000_000  # bytes at once; a directory of some 200,000 records
TAIL = 1 << 16  # bytes at the end that hold a small directory, read at once
LOCAL = struct.Struct("<4s5H3L2H")  # a record's own header: its last two are lengths that follow
LOCAL_MAGIC: Final = b"PK\x03\x04"
ALIGNMENT = 64  # where torch begins a record's bytes
DESCRIPTORS: Final = (16, 24)  # bytes that follow a record, in small archives and in large ones
DESCRIBED, ENCRYPTED = 8, 1  # flags
LEGACY: Final = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # the magic number, pickled
TORCHSCRIPT: Final = "constants.pkl"
CONVERT: Final = "Save the model's state dict with safetensors (`safetensors.torch.save_file`)."
SAVE: Final = "`torch.save(torch.load(FILE, map_location='cpu', weights_only=True), FILE)`"


@dataclass(frozen=True, slots=True)
class Archive:
    """The records of one file, by name without the folder that all are in."""

    records: Mapping[str, tuple[int, int]]  # start and stop, bytes of the file

    def read(self, source: Source, name: str, limit: int) -> bytes:
        """Return one record's bytes; empty where there is none.

        Raises:
            PickleError: It has more bytes than the limit.
        """
        start, stop = self.records.get(name, (0, 0))
        if stop - start > limit:
            raise PickleError(
                f" has a record {name} of {stop - start:,} bytes, and at most {limit:,} are "
                f"read. {INSTEAD}"
            )
        return source.read(start, stop)


class _Seekable:
    """A source as zipfile wants it: with a position, and the end already read."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.position = 0
        self.tail_start = max(0, source.size - TAIL)
        self.tail = source.read(self.tail_start, source.size)

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        position = offset + (0, self.position, self.source.size)[whence]
        if position < 0:
            raise ValueError
        self.position = position
        return position

    def tell(self) -> int:
        return self.position

    def read(self, count: int = -1) -> bytes:
        """Return the next bytes; a directory that claims too much is refused here."""
        start = self.position
        stop = self.source.size if count < 0 else min(self.source.size, start + count)
        if stop - start > MAX_READ:
            raise PickleError(
                f" has a zip directory of {stop - start:,} bytes, and at most {MAX_READ:,} are "
                f"read. {AGAIN}"
            )
        if start >= self.tail_start:
            found = self.tail[start - self.tail_start : max(0, stop - self.tail_start)]
        else:
            found = self.source.read(start, stop)
        self.position += len(found)
        return found


def read_archive(source: Source) -> Archive:
    """Find the records of a file that `torch.save` wrote, and check that they are plain.

    Raises:
        PickleError: The file is something else, is cut, or holds records that are
            compressed, overlap or reach outside.
    """
    opening = source.read(0, 64)
    if not opening.startswith(LOCAL_MAGIC):
        raise PickleError(_something_else(opening, source.size))
    try:
        with zipfile.ZipFile(_Seekable(source)) as archive:
            found, end = archive.infolist(), archive.start_dir
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError, struct.error):
        raise PickleError(
            f" is a zip archive without a readable directory: the download was cut. {AGAIN}"
        ) from None
    found.sort(key=lambda info: info.header_offset)
    root = found[0].filename.split("/", 1)[0] + "/" if found else ""
    names = {info.filename for info in found}
    if f"{root}data.pkl" not in names or f"{root}{TORCHSCRIPT}" in names:
        raise PickleError(_another_archive(names, root))
    records: dict[str, tuple[int, int]] = {}
    ends = [info.header_offset for info in found[1:]] + [end]
    for info, limit in zip(found, ends, strict=True):
        name = info.filename.removeprefix(root)
        fault = _fault(info, limit) or ("is there twice" if name in records else "")
        if not info.filename.startswith(root):
            fault = "is outside the folder of the others"
        if fault:
            raise PickleError(
                f" is a zip archive whose record {quote(info.filename)} {fault}, which torch.save "
                f"does not write. {AGAIN}"
            )
        start = _start(source, info, limit)
        records[name] = (start, start + info.file_size)
    return Archive(records)


def _another_archive(names: AbstractSet[str], root: str) -> str:
    """Say what a zip archive is that `torch.save` did not write."""
    if f"{root}{TORCHSCRIPT}" in names:
        return (
            " is a TorchScript program, expected weights. Save its state dict: "
            "`torch.save(torch.jit.load(FILE, map_location='cpu').state_dict(), 'model.pt')`."
        )
    if names and all(name.endswith(".npy") for name in names):
        return f" holds NumPy arrays, expected weights by torch.save or safetensors. {CONVERT}"
    if "model.weights.h5" in names:
        return f" is a Keras model, expected weights by torch.save or safetensors. {CONVERT}"
    if f"{root}archive_format" in names or "serialized_exported_program.json" in names:
        return f" is a program of torch.export, expected weights. {INSTEAD}"
    if any(name.startswith("MAR-INF/") for name in names):
        return " is an archive of TorchServe, expected weights. Give the weights that are in it."
    return f" is a zip archive without a data.pkl, expected one that torch.save wrote. {AGAIN}"


def _something_else(opening: bytes, size: int) -> str:
    text = opening.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for prefix, meaning in NEVER_WEIGHTS.items():
        if text.startswith(prefix):
            return f" {meaning}."
    if opening.startswith(LEGACY):
        return (
            " is in the format of PyTorch before 1.6, expected the zip format since then. "
            f"Rewrite it: {SAVE}."
        )
    if opening.startswith(b"\x80"):
        return f" is a bare pickle, expected a zip archive of PyTorch. {INSTEAD}"
    if size < LOCAL.size:
        return f" has {size} bytes: the download was cut or the file is something else. {AGAIN}"
    return f" is no PyTorch file: it begins with {quote(opening[:8])}, expected 'PK'. {AGAIN}"


def _fault(info: zipfile.ZipInfo, limit: int) -> str:
    """Say what is wrong with a record by the archive's directory; empty where nothing is."""
    if info.flag_bits & ENCRYPTED:
        return "is encrypted"
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        return "is compressed"
    if info.header_offset < 0 or _least(info) + info.file_size > limit:
        return "overlaps what follows it"
    return ""


def _least(info: zipfile.ZipInfo) -> int:
    """Return where a record's bytes begin at the earliest."""
    utf_8 = info.flag_bits & 0x800
    return (
        info.header_offset
        + LOCAL.size
        + len(info.orig_filename.encode("utf-8" if utf_8 else "cp437", "replace"))
    )


def _start(source: Source, info: zipfile.ZipInfo, limit: int) -> int:
    """Return where a record's bytes begin.

    In an archive as torch writes it every record ends at the next one's header, so that its
    beginning follows from the directory alone; that spares a request for each tensor of a
    file on the Hub. In any other its own header is read.
    """
    least = _least(info)
    if not info.file_size:
        return least
    if info.flag_bits & DESCRIBED:
        for descriptor in DESCRIPTORS:
            start = limit - descriptor - info.file_size
            if start % ALIGNMENT == 0 and 4 <= start - least < 2 * ALIGNMENT:
                return start
    header = source.read(info.header_offset, info.header_offset + LOCAL.size)
    if len(header) == LOCAL.size and header.startswith(LOCAL_MAGIC):
        *_, name, extra = LOCAL.unpack(header)
        start = info.header_offset + LOCAL.size + int(name) + int(extra)
        if start + info.file_size <= limit:
            return start
    raise PickleError(
        f" is a zip archive whose record {quote(info.filename)} is not where its directory says. "
        f"{AGAIN}"
    )
