"""safetensors files: one, or several with an index."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from spectra.checkpoint.checkpoint import Checkpoint
from spectra.checkpoint.codecs import decoded, read_small
from spectra.checkpoint.codecs.beside import with_settings
from spectra.checkpoint.documents import read_object, read_weight_map
from spectra.checkpoint.entry import Skipped, TensorEntry
from spectra.checkpoint.header import read_header
from spectra.checkpoint.source import Folder, Source, at_once
from spectra.checkpoint.wrappers import plain_names
from spectra.errors import CheckpointError
from spectra.text import quote

OpenShard = Callable[[Folder, str], tuple[Source, Iterable[TensorEntry]]]
"""Opens one file of weights by its name and returns what its header lists."""

CONFIG = "config.json"
ABSENT = "named by the index, missing from its shard"


def open_file(folder: Folder, name: str) -> Checkpoint:
    """Open one safetensors file; a config.json beside it tells its family.

    Raises:
        CheckpointError: The file breaks the format.
    """
    file = folder.file(name)
    header = read_header(file, name)
    entries = {entry.name: entry for entry in header.entries}
    return replace(assemble(folder, entries, {name: file}), metadata=header.metadata)


def open_sharded(
    folder: Folder, index: str, suffix: str = ".safetensors", opener: OpenShard | None = None
) -> Checkpoint:
    """Open a folder's shards through its index; the shards' headers are the truth.

    Args:
        folder: Where they lie.
        index: Name of the file with the `weight_map`.
        suffix: What the shards' names must end with.
        opener: Opens one of them; as safetensors by default.

    Raises:
        CheckpointError: The index reaches outside its folder or names a file that is
            not there, or a shard breaks the format.
    """
    source = folder.file(index)
    weight_map = read_weight_map(source, suffix)
    shards = list(dict.fromkeys(weight_map.values()))
    for shard in shards:
        if not folder.has(shard):
            raise CheckpointError(
                f"{source.label} names {quote(shard)}, which is not in its folder. Fetch that "
                "shard, or the whole checkpoint, again."
            )
    entries, files = gather(folder, weight_map, shards, opener or open_shard)
    absent = [Skipped(name, ABSENT) for name in weight_map if name not in entries]
    return assemble(folder, entries, files, absent)


def gather(
    folder: Folder, weight_map: Mapping[str, str], shards: Sequence[str], opener: OpenShard
) -> tuple[dict[str, TensorEntry], dict[str, Source]]:
    """Open shards; return their tensors by name, and the files.

    Args:
        folder: Where they lie.
        weight_map: Shard by tensor; of two copies the one that it names counts.
        shards: Names of those that are there.
        opener: Opens one of them.

    Raises:
        CheckpointError: A tensor stands in two and the map names neither.
    """
    entries: dict[str, TensorEntry] = {}
    files: dict[str, Source] = {}
    opened = at_once(partial(opener, folder), shards, folder.concurrency)
    for shard, (file, found) in zip(shards, opened, strict=True):
        files[shard] = file
        for entry in found:
            if weight_map.get(entry.name, shard) == shard:
                if entry.name in entries:
                    raise CheckpointError(
                        f"tensor {quote(entry.name)} stands both in {entries[entry.name].shard} "
                        f"and in {shard} of {folder.label}, and the index names neither: which "
                        "one counts is unknown. Fetch the index again."
                    )
                entries[entry.name] = entry
    return entries, files


def assemble(
    folder: Folder,
    entries: Mapping[str, TensorEntry],
    files: Mapping[str, Source],
    skipped: Sequence[Skipped] = (),
    plain: Mapping[str, str] | None = None,
) -> Checkpoint:
    """Return a checkpoint of stored tensors, quantised ones put together from their parts.

    Args:
        folder: Where they lie.
        entries: By their stored names.
        files: By shard.
        skipped: Tensors that are not read, and why.
        plain: The model's own names by stored ones, where they are known already.
    """
    if plain is None:
        plain = plain_names(entries, [item.tensor for item in skipped])
    if plain or folder.prefix:
        entries, files, skipped = _renamed(entries, files, skipped, plain, folder.prefix)
    config = config_of(folder)
    whole, refused = decoded(entries, config, partial(read_small, files, folder.concurrency))
    return Checkpoint(
        spec=folder.spec,
        resolved=folder.resolved,
        entries=whole,
        config=config,
        skipped=(*skipped, *refused),
        files=files,
        folder=folder,
    )


def _renamed(
    entries: Mapping[str, TensorEntry],
    files: Mapping[str, Source],
    skipped: Sequence[Skipped],
    plain: Mapping[str, str],
    prefix: str,
) -> tuple[dict[str, TensorEntry], dict[str, Source], list[Skipped]]:
    """Return all of a checkpoint by the model's own names, and by the place of a module in it."""
    named = {
        prefix + plain.get(name, name): replace(
            entry, name=prefix + plain.get(name, name), shard=prefix + entry.shard
        )
        for name, entry in entries.items()
    }
    told = [replace(one, tensor=prefix + plain.get(one.tensor, one.tensor)) for one in skipped]
    return named, {prefix + shard: file for shard, file in files.items()}, told


def config_of(folder: Folder) -> dict[str, Any]:
    """Return the folder's config.json as data, settings of a quantisation beside it included.

    Empty where there is none.
    """
    config = read_object(folder.file(CONFIG)) if folder.has(CONFIG) else {}
    return with_settings(_worded(config), folder)


def _worded(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of which each model_type is a word; what is none names no family."""
    found = {key: _worded(inner) if isinstance(inner, dict) else inner
             for key, inner in config.items()}  # fmt: skip
    kind = found.get("model_type")
    return found if kind is None or isinstance(kind, str) else {**found, "model_type": str(kind)}


def open_shard(folder: Folder, name: str) -> tuple[Source, tuple[TensorEntry, ...]]:
    """Open one safetensors file and check its header.

    Raises:
        CheckpointError: The file breaks the format.
    """
    file = folder.file(name)
    return file, read_header(file, name).entries
