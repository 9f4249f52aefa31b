"""Where bytes come from: files read by range, and the folder they lie in."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from spectra.checkpoint.entry import NARROW, STORED, Slab, TensorEntry, extent
from spectra.checkpoint.pages import new_tensor
from spectra.errors import CheckpointError
from spectra.text import quote

if TYPE_CHECKING:
    from torch import Tensor


SHARE = 1 << 20  # entries that are worth a thread of their own
SERIAL = (1 << 15) - 1  # entries that torch converts in one thread


class Source(Protocol):
    """One file, here or elsewhere, read by range; several threads may read at once."""

    @property
    def label(self) -> str:
        """How messages name it: printable, on one line."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def chunk(self) -> int:
        """Bytes that are worth asking for at once where the whole is not needed at once."""

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


def read_stored(
    source: Source, entry: TensorEntry, slab: Slab = None, *, widen: bool = False
) -> "Tensor":
    """Return one stored tensor, or a slab of its first axis, straight into its own memory.

    Args:
        source: The file that holds it.
        entry: Where it lies.
        slab: Start and stop on the first axis; None: all.
        widen: Return float32 in place of float16 and bfloat16, without a copy of those.

    Returns:
        Its stored dtype and shape, a view's values in order; dtypes that torch lacks as bytes,
        [nbytes].

    Raises:
        CheckpointError: The file ended early or cannot be read.
    """
    import torch  # noqa: PLC0415 - headers alone need none of it

    if max(entry.shape, default=0) >= 1 << 63:  # empty, but no tensor can have such an axis
        raise CheckpointError(
            f"tensor {quote(entry.name)} of {source.label} is {list(entry.shape)}, "
            "expected axes below 2^63. Leave it out."
        )
    if entry.strides:
        return read_view(source, entry, slab, widen=widen)
    start, stop, shape = entry.start, entry.stop, entry.shape
    if slab is not None:
        row = (stop - start) // shape[0]
        start, stop = start + slab[0] * row, start + slab[1] * row
        shape = (slab[1] - slab[0], *shape[1:])
    if widen and entry.dtype in NARROW:
        values = new_tensor(shape, torch.float32)
        _fill_widened(source, entry, start, values)
        return values
    raw = new_tensor((stop - start,), torch.uint8)

    def fill(first: int, last: int) -> None:
        """Read one share."""
        _fill(source, entry, start + first, raw[first:last])

    _share_out(len(raw), max(2 * SHARE, source.chunk), fill)
    if entry.dtype not in STORED:
        return raw
    return raw.view(getattr(torch, STORED[entry.dtype])).reshape(shape)


def read_view(source: Source, entry: TensorEntry, slab: Slab, *, widen: bool) -> "Tensor":
    """Return the values of a view in order; its span is read, from its first to its last."""
    shape, first = entry.shape, 0
    if slab is not None:
        shape = (slab[1] - slab[0], *shape[1:])
        first = slab[0] * entry.strides[0]
    count = extent(shape, entry.strides)
    span = replace(entry, shape=(extent(entry.shape, entry.strides),), strides=())
    values = read_stored(source, span, (first, first + count), widen=widen)
    return values.as_strided(shape, entry.strides).contiguous()


def _fill_widened(source: Source, entry: TensorEntry, start: int, values: "Tensor") -> None:
    """Read 16-bit values piece by piece into float32; a piece stays in the processor's cache."""
    import torch  # noqa: PLC0415 - as above

    dtype = getattr(torch, STORED[entry.dtype])
    flat = values.view(-1)
    threads = torch.get_num_threads()
    # Each share widens in one thread: torch's own would share out every piece.
    step = SERIAL if threads > 1 else source.chunk

    def widen(first: int, last: int) -> None:
        """Read and widen one share."""
        piece = torch.empty(min(source.chunk // 2, last - first), dtype=dtype)
        raw = piece.view(torch.uint8)
        for position in range(first, last, len(piece) or 1):
            size = min(len(piece), last - position)
            _fill(source, entry, start + 2 * position, raw[: 2 * size])
            wide, narrow = flat[position : position + size].split(step), piece[:size].split(step)
            for into, out_of in zip(wide, narrow, strict=True):
                into.copy_(out_of)

    _share_out(len(flat), max(SHARE, source.chunk // 2), widen)


def _share_out(total: int, least: int, work: Callable[[int, int], None]) -> None:
    """Do work from 0 to total, in as many threads as torch has if each gets enough of it."""
    import torch  # noqa: PLC0415 - as above

    crew = max(1, min(torch.get_num_threads(), total // least))
    if crew == 1:
        work(0, total)
        return
    edges = [share * total // crew for share in range(crew + 1)]
    with ThreadPoolExecutor(crew, thread_name_prefix="spectra-read") as pool:
        list(pool.map(work, edges, edges[1:]))


def _fill(source: Source, entry: TensorEntry, start: int, raw: "Tensor") -> None:
    """Fill bytes from a place in the file.

    Raises:
        CheckpointError: The file ends before.
    """
    got = source.fill(start, memoryview(raw.numpy().data)) if len(raw) else 0
    if got < len(raw):
        raise CheckpointError(
            f"{source.label} ended inside tensor {quote(entry.name)}, "
            f"{entry.stop - start - got:,} bytes early: the file changed while it was read. "
            "Run again."
        )
