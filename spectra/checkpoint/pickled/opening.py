"""PyTorch pickle files: which tensors of one are the model's, and where their bytes lie.

What a file says is never run. Its pickle is followed as data (`pickled_program`), and its
tensors are then read by range as those of safetensors are.
"""

from collections import Counter
from dataclasses import dataclass, replace
from math import prod
from typing import TypeAlias

from spectra.checkpoint.checkpoint import Checkpoint
from spectra.checkpoint.entry import BITS, Skipped, TensorEntry, extent, in_order
from spectra.checkpoint.pickled.archive import Archive, read_archive
from spectra.checkpoint.pickled.names import AGAIN, BYTES, INSTEAD, PickleError, Strided, Unread
from spectra.checkpoint.pickled.program import follow
from spectra.checkpoint.shards import assemble, open_sharded
from spectra.checkpoint.source import Folder, Source
from spectra.errors import CheckpointError
from spectra.text import quote

MAX_PICKLE = 64_000_000  # bytes; that of 100,000 tensors has some 12
MAX_LEVELS = 32  # of dicts in dicts
MAX_ITEMS = 4_000_000  # looked at; a dict inside several others counts each time
MAX_NAME = 4_096  # characters of a tensor's name
MAX_REPEATED = 1 << 26  # values of a view that repeats what is stored
WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
"""Where trainers put the model's own tensors, beside an optimizer's and the like."""

HOLDERS = (Strided, Unread, dict, list, tuple)

Tensors: TypeAlias = dict[tuple[str, ...], Strided | Unread]  # by the keys that lead to them


@dataclass(frozen=True, slots=True)
class Pickled:
    """What one file holds."""

    file: Source
    entries: tuple[TensorEntry, ...]
    skipped: tuple[Skipped, ...]


def open_pickled(folder: Folder, name: str) -> Checkpoint:
    """Open one PyTorch pickle file; nothing in it is run.

    Raises:
        CheckpointError: It names what weights do not need, is of an older or another
            format, is damaged, or holds no tensors by name.
    """
    found = read_pickled(folder, name)
    entries = {entry.name: entry for entry in found.entries}
    return assemble(folder, entries, {name: found.file}, found.skipped)


def open_pickled_shards(folder: Folder, index: str) -> Checkpoint:
    """Open PyTorch pickle files through their index; nothing in them is run.

    Raises:
        CheckpointError: The index reaches outside its folder, or a file is refused.
    """
    skipped: dict[str, Skipped] = {}

    def open_shard(inside: Folder, name: str) -> tuple[Source, tuple[TensorEntry, ...]]:
        """Open one file, and keep what is skipped in it."""
        found = read_pickled(inside, name)
        skipped.update((item.tensor, item) for item in found.skipped)
        return found.file, found.entries

    checkpoint = open_sharded(folder, index, ".bin", open_shard)
    told = [item for item in checkpoint.skipped if item.tensor not in skipped]
    return replace(checkpoint, skipped=(*told, *skipped.values()))


def read_pickled(folder: Folder, name: str) -> Pickled:
    """Read what one file says of its tensors.

    Raises:
        CheckpointError: It is refused, as by `open_pickled`.
    """
    file = folder.file(name)
    try:
        found = _described(file, name)
    except PickleError as error:
        raise CheckpointError(f"{file.label}{error}") from None
    entries = tuple(item for item in found if isinstance(item, TensorEntry))
    return Pickled(file, entries, tuple(item for item in found if isinstance(item, Skipped)))


def read_pickled_values(folder: Folder, name: str) -> object:
    """Return what one PyTorch pickle file holds, tensors as descriptions; nothing is run.

    Raises:
        CheckpointError: It is refused, as by `open_pickled`.
    """
    file = folder.file(name)
    try:
        return follow(read_archive(file).read(file, "data.pkl", MAX_PICKLE))
    except PickleError as error:
        raise CheckpointError(f"{file.label}{error}") from None


def refuse_foreign(file: Source) -> None:
    """Refuse what no permission would open: what is no zip archive of `torch.save`.

    Raises:
        CheckpointError: It is something else, by its first bytes or the names in it.
    """
    try:
        read_archive(file)
    except PickleError as error:
        raise CheckpointError(f"{file.label}{error}") from None


def _described(file: Source, shard: str) -> list[TensorEntry | Skipped]:
    archive = read_archive(file)
    if archive.read(file, "byteorder", 16) == b"big":
        raise PickleError(
            " was saved on a big-endian machine, expected little-endian numbers. Save it with "
            "safetensors there."
        )
    tensors, beside = _of_the_model(_flat(follow(archive.read(file, "data.pkl", MAX_PICKLE))))
    found: dict[str, TensorEntry | Skipped] = {}
    for path, tensor in tensors.items():
        name = ".".join(path)
        if name in found:
            raise PickleError(f" holds two tensors {quote(name)}. {INSTEAD}")
        found[name] = _entry(name, tensor, archive, shard)
    return [*found.values(), *beside]


def _flat(found: object) -> Tensors:
    """Return every tensor in nested dicts and lists, by the keys that lead to it."""
    if isinstance(found, Strided | Unread):
        raise PickleError(f" holds one tensor without a name, expected a state dict. {INSTEAD}")
    tensors: Tensors = {}
    looked = 0
    rest: list[tuple[tuple[str, ...], object]] = [((), found)]
    while rest:
        path, value = rest.pop()
        if isinstance(value, Strided | Unread):
            tensors[path] = value
        if not isinstance(value, dict | list | tuple):
            continue
        looked += len(value)
        if len(path) >= MAX_LEVELS or looked > MAX_ITEMS:
            raise PickleError(
                f" nests {quote('.'.join(path[:4]))} deeper or more often than weights do. "
                f"{INSTEAD}"
            )
        items = value.items() if isinstance(value, dict) else enumerate(value)
        inner = [((*path, _text(key)), item) for key, item in items if isinstance(item, HOLDERS)]
        rest += reversed(inner)
    if not tensors:
        raise PickleError(f" holds no tensors, expected a state dict. {INSTEAD}")
    return tensors


def _text(key: object) -> str:
    text = str(key)
    if len(text) > MAX_NAME:
        raise PickleError(
            f" has a key of {len(text):,} characters, expected at most {MAX_NAME:,}. {INSTEAD}"
        )
    return text


def _of_the_model(tensors: Tensors) -> tuple[Tensors, list[Skipped]]:
    skipped: list[Skipped] = []
    while True:
        held = Counter(path[0] for path in tensors if len(path) > 1)
        inner = next((key for key in WRAPPERS if key in held), None)
        if inner is None:
            return tensors, skipped
        beside = Counter(path[0] for path in tensors if path[0] != inner)
        skipped += [
            Skipped(key, f"beside the model's {inner!r}: {count:,} tensors")
            for key, count in beside.items()
        ]
        tensors = {path[1:]: found for path, found in tensors.items() if path[0] == inner}


def _entry(
    name: str, tensor: Strided | Unread, archive: Archive, shard: str
) -> TensorEntry | Skipped:
    if isinstance(tensor, Unread):
        return Skipped(name, tensor.reason)
    if tensor.unread or tensor.dtype not in BITS:
        return Skipped(name, tensor.unread or f"not floating point ({tensor.dtype})")
    start, count = _place(name, tensor, archive)
    stop = start + count * (BITS[tensor.dtype] // 8)
    shape, values = tensor.shape, prod(tensor.shape)
    if not count or in_order(shape, tensor.stride):
        return TensorEntry(name, tensor.dtype, shape, shard, start, stop)
    if values > max(count, MAX_REPEATED):
        return Skipped(name, f"a view of {values:,} values that repeats {count:,}")
    return TensorEntry(name, tensor.dtype, shape, shard, start, stop, strides=tensor.stride)


def _place(name: str, tensor: Strided, archive: Archive) -> tuple[int, int]:
    """Return the byte where a tensor begins, and the elements from its first to its last."""
    storage, size = tensor.storage, BITS[tensor.dtype] // 8
    start, stop = archive.records.get(f"data/{storage.key}", (0, -1))
    held = storage.count if storage.dtype == BYTES else storage.count * size
    if stop - start != held:
        lies = f"has {stop - start:,}" if stop >= start else "is not there"
        raise PickleError(
            f" says that its storage {quote(storage.key)} has {held:,} bytes, but it {lies}. "
            f"{AGAIN}"
        )
    count = extent(tensor.shape, tensor.stride)
    if count and (tensor.offset + count) * size > held:
        raise PickleError(
            f": tensor {quote(name)} of shape {list(tensor.shape)} with strides "
            f"{list(tensor.stride)} from element {tensor.offset:,} on reaches outside its "
            f"storage of {held // size:,}. {AGAIN}"
        )
    return start + (tensor.offset * size if count else 0), count
