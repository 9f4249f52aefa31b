"""From the place of a tensor to its values, straight into memory of their own."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from spectra.checkpoint.codecs.composed import Product
from spectra.checkpoint.codecs.rounding import rounding_of
from spectra.checkpoint.entry import NARROW, STORED, Slab, TensorEntry, extent, torch_dtype
from spectra.checkpoint.fingerprints import BLOCK, Digest, Ledger, Watch
from spectra.checkpoint.pages import new_tensor
from spectra.checkpoint.source import Source
from spectra.deferred import Tensor, torch
from spectra.errors import CheckpointError
from spectra.text import quote

SHARE = 2 << 20  # bytes that are worth a thread of their own, and as many that come of them
SERIAL = (1 << 15) - 1  # entries that torch converts in one thread


def read_entry(
    files: Mapping[str, Source],
    entry: TensorEntry,
    slab: Slab = None,
    *,
    widen: bool = False,
    ledger: Ledger | None = None,
) -> Tensor:
    """Return one tensor's values, or those of a slab of its first axis.

    Args:
        files: By shard; those that `shards_of` names are enough.
        entry: What to read.
        slab: Start and stop on the first axis, such as one expert; nothing else is read.
        widen: Return float32 in place of float16 and bfloat16: quicker and smaller than
            reading those and widening them.
        ledger: Is told the digests of what is read of local files, so that `fingerprint_of`
            knows the tensor from then on. Without one nothing is digested.

    Returns:
        In the stored dtype and shape; what is quantised in a floating dtype that holds
        the decoded values.

    Raises:
        CheckpointError: The file ended early, cannot be read, or holds parts that do
            not fit each other.
    """
    if ledger is None:
        return _values(files, entry, slab, widen=widen)
    watch = Watch(entry, slab, files, ledger)
    values = _values(files, entry, slab, widen=widen, watch=watch)
    watch.note()
    return values


def read_factors(
    files: Mapping[str, Source], entry: TensorEntry, *, ledger: Ledger | None = None
) -> "tuple[Tensor, Tensor]":
    """Return the factors of a tensor that is stored as a product, which is not formed.

    Raises:
        CheckpointError: As for `read_entry`.
    """
    watch = Watch(entry, None, files, ledger) if ledger is not None else None

    def read(part: TensorEntry, inside: Slab) -> Tensor:
        return _values(files, part, inside, watch=watch)

    assert isinstance(entry.codec, Product)  # noqa: S101 - as callers look
    found = entry.codec.factors(read)
    if watch is not None:
        watch.note()
    return found


def read_rounded(
    files: Mapping[str, Source],
    entry: TensorEntry,
    slab: Slab = None,
    *,
    ledger: Ledger | None = None,
) -> "tuple[Tensor, Tensor | None]":
    """Return as `read_entry` does, and beside it how far quantising may have moved each value.

    Whatever is stored is read once for both; see `rounding_of`.

    Raises:
        CheckpointError: As for `read_entry`.
    """
    watch = Watch(entry, slab, files, ledger) if ledger is not None else None
    kept: dict[tuple[str, Slab], Tensor] = {}

    def read(part: TensorEntry, inside: Slab) -> Tensor:
        if (part.name, inside) not in kept:
            kept[part.name, inside] = _values(files, part, inside, watch=watch)
        found = kept[part.name, inside]
        return found.clone() if found.is_floating_point() else found  # which decoding may alter

    def again(part: TensorEntry, inside: Slab) -> Tensor:
        found = kept.pop((part.name, inside), None)
        return _values(files, part, inside) if found is None else found

    if entry.codec is None:
        return read_entry(files, entry, slab, ledger=ledger), None
    values = entry.codec.decode(read, slab)
    if watch is not None:
        watch.note()
    return values, rounding_of(entry, values, again, slab)


def _values(
    files: Mapping[str, Source],
    entry: TensorEntry,
    slab: Slab,
    *,
    widen: bool = False,
    watch: Watch | None = None,
) -> Tensor:
    if entry.codec is None:
        return _stored(files[entry.shard], entry, slab, widen=widen, watch=watch)

    def read(part: TensorEntry, inside: Slab) -> Tensor:
        return _values(files, part, inside, watch=watch)

    values = entry.codec.decode(read, slab)
    return values.float() if widen and values.element_size() < 4 else values


def _stored(
    source: Source, entry: TensorEntry, slab: Slab, *, widen: bool, watch: Watch | None
) -> Tensor:
    """Return a stored tensor, a view's values in order; what torch lacks as bytes, [nbytes]."""
    if max(entry.shape, default=0) >= 1 << 63:  # empty, but no tensor can have such an axis
        raise CheckpointError(
            f"tensor {quote(entry.name)} of {source.label} is {list(entry.shape)}, "
            "expected axes below 2^63. Leave it out."
        )
    shape = entry.shape if slab is None else (slab[1] - slab[0], *entry.shape[1:])
    if entry.strides:  # the span from the first to the last is read
        first = slab[0] * entry.strides[0] if slab is not None else 0
        span = replace(entry, shape=(extent(entry.shape, entry.strides),), strides=())
        inside = first, first + extent(shape, entry.strides)
        values = _stored(source, span, inside, widen=widen, watch=watch)
        return values.as_strided(shape, entry.strides).contiguous()
    start, stop = entry.stretch(slab)
    digest = watch.digest(entry.shard, start, stop) if watch is not None else None
    stretch = _Stretch(source, entry, start, digest)
    if widen and entry.dtype in NARROW:
        values = new_tensor(shape, torch.float32)
        stretch.widen(values)
        return values
    raw = new_tensor((stop - start,), torch.uint8)
    _share_out(len(raw), max(SHARE, source.chunk), lambda a, b: stretch.fill(a, raw[a:b]))
    if entry.dtype not in STORED:
        return raw
    return raw.view(torch_dtype(entry.dtype)).reshape(shape)


@dataclass(frozen=True, slots=True)
class _Stretch:
    source: Source
    entry: TensorEntry
    start: int
    digest: Digest | None

    def fill(self, position: int, raw: Tensor) -> None:
        buffer = memoryview(raw.numpy().data)
        start = self.start + position
        got = self.source.fill(start, buffer) if len(raw) else 0
        if got < len(raw):
            raise CheckpointError(
                f"{self.source.label} ended inside tensor {quote(self.entry.name)}, "
                f"{self.entry.stop - start - got:,} bytes early: the file changed while it was "
                "read. Run again."
            )
        if self.digest is not None:
            self.digest.add(position, buffer)

    def widen(self, values: Tensor) -> None:
        """Read 16-bit values piece by piece into float32; a piece stays in the cache."""
        dtype = torch_dtype(self.entry.dtype)
        flat = values.view(-1)
        most = self.source.chunk // 2
        # Each share widens in one thread: torch's own would share out every piece.
        step = SERIAL if torch.get_num_threads() > 1 else self.source.chunk

        def share(start: int, stop: int) -> None:
            first, last = start // 2, stop // 2
            piece = torch.empty(min(most, last - first), dtype=dtype)
            raw = piece.view(torch.uint8)
            for position in range(first, last, len(piece) or 1):
                size = min(len(piece), last - position)
                self.fill(2 * position, raw[: 2 * size])
                wide, narrow = (
                    flat[position : position + size].split(step),
                    piece[:size].split(step),
                )
                for into, out_of in zip(wide, narrow, strict=True):
                    into.copy_(out_of)

        _share_out(2 * len(flat), max(SHARE, self.source.chunk), share)


def _share_out(total: int, least: int, work: Callable[[int, int], None]) -> None:
    """Do work from byte 0 to total, in as many threads as torch has if each gets enough of it.

    Shares begin at multiples of BLOCK, so that each digests whole ones.
    """
    crew = max(1, min(torch.get_num_threads(), total // least))
    if crew == 1:
        work(0, total)
        return
    edges = [*(share * total // crew // BLOCK * BLOCK for share in range(crew)), total]
    with ThreadPoolExecutor(crew, thread_name_prefix="spectra-read") as pool:
        list(pool.map(work, edges, edges[1:]))
