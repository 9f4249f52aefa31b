"""Many small tensors read at once, those that lie together in one request."""

from collections.abc import Iterable, Mapping
from functools import partial

from spectra.checkpoint.entry import TensorEntry
from spectra.checkpoint.source import Source, at_once
from spectra.errors import CheckpointError
from spectra.text import quote

LARGEST = 1 << 16  # bytes of a tensor that still counts as small
GAP = 1 << 14  # bytes between two that cost less than another request
SPAN = 1 << 22  # bytes of one request


def read_small(
    files: Mapping[str, Source], concurrency: int, wanted: Iterable[TensorEntry]
) -> dict[str, bytes]:
    """Return the bytes of small tensors by name; what is not small is left out.

    Args:
        files: The files by shard.
        concurrency: How many requests are worth making at once.
        wanted: Stored tensors.

    Raises:
        CheckpointError: A file ended early or cannot be read.
    """
    runs: list[list[TensorEntry]] = []
    small = (entry for entry in wanted if entry.stop - entry.start <= LARGEST)
    for entry in sorted(small, key=lambda entry: (entry.shard, entry.start)):
        last = runs[-1] if runs else None
        together = (
            last is not None
            and last[0].shard == entry.shard
            and entry.start - last[-1].stop <= GAP
            and entry.stop - last[0].start <= SPAN
        )
        if last is not None and together:
            last.append(entry)
        else:
            runs.append([entry])
    read = at_once(partial(_read, files), runs, concurrency)
    return {name: raw for found in read for name, raw in found.items()}


def _read(files: Mapping[str, Source], run: list[TensorEntry]) -> dict[str, bytes]:
    source, start = files[run[0].shard], run[0].start
    raw = source.read(start, run[-1].stop)
    if len(raw) < run[-1].stop - start:
        raise CheckpointError(
            f"{source.label} ended inside tensor {quote(run[-1].name)}: the file changed while it "
            "was read. Run again."
        )
    return {entry.name: raw[entry.start - start : entry.stop - start] for entry in run}
