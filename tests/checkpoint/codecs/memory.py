"""Checkpoints written to memory by the safetensors library, whose every read is noted."""

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from spectra.checkpoint import Checkpoint
from spectra.checkpoint.entry import shards_of
from spectra.checkpoint.fingerprints import MemoryLedger, fingerprint_of
from spectra.checkpoint.reading import read_entry
from spectra.checkpoint.shards import open_file, open_sharded
from spectra.checkpoint.source import Source, Span

INDEX = "model.safetensors.index.json"


@dataclass
class MemoryFile:
    """Bytes that count as a file."""

    label: str
    raw: bytes
    reads: list[tuple[int, int]] = field(default_factory=list)  # start and stop
    chunk: int = 1 << 16
    ranges: int = 1

    @property
    def size(self) -> int:
        return len(self.raw)

    def read(self, start: int, stop: int) -> bytes:
        self.reads.append((start, stop))
        return self.raw[start:stop]

    def fill(self, start: int, buffer: memoryview) -> int:
        found = self.read(start, start + len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def fingerprint(self, start: int, stop: int) -> None:
        """Unknown, as of a local file."""

    def span(self, start: int, stop: int, how: str = "") -> Span:
        return Span(self.label, self.size, 0, start, stop, how)


@dataclass
class MemoryFolder:
    """Files that count as a folder."""

    files: dict[str, MemoryFile]
    spec: str = "memory"
    resolved: str = "/memory"
    label: str = "memory"
    prefix: str = ""
    concurrency: int = 1

    def folders(self) -> list[str]:
        return []

    def inside(self, path: str, prefix: str = "") -> "MemoryFolder":
        return MemoryFolder({}, spec=path, prefix=prefix)

    def names(self) -> list[str]:
        return sorted(self.files)

    def has(self, name: str) -> bool:
        return name in self.files

    def file(self, name: str) -> Source:
        return self.files[name]


def folder_of(
    *shards: Mapping[str, Tensor],
    quantization: Mapping[str, Any] | None = None,
    mlx: Mapping[str, Any] | None = None,
    **config: object,
) -> MemoryFolder:
    """Write one file, or several with an index."""
    names = [f"model-{number}.safetensors" for number in range(len(shards))]
    raw = {
        name: save({key: value.contiguous().clone() for key, value in shard.items()})
        for name, shard in zip(names, shards, strict=True)
    }
    where = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
    raw[INDEX] = json.dumps({"weight_map": where}).encode()
    if quantization is not None:
        config["quantization_config"] = quantization
    if mlx is not None:
        config["quantization"] = mlx
    raw["config.json"] = json.dumps(config).encode()
    return MemoryFolder({name: MemoryFile(name, data) for name, data in raw.items()})


def stored(
    *shards: Mapping[str, Tensor],
    quantization: Mapping[str, Any] | None = None,
    mlx: Mapping[str, Any] | None = None,
    **config: object,
) -> Checkpoint:
    """Write tensors and open them."""
    folder = folder_of(*shards, quantization=quantization, mlx=mlx, **config)
    if len(shards) == 1:
        return open_file(folder, "model-0.safetensors")
    return open_sharded(folder, INDEX)


def codec_of(checkpoint: Checkpoint, name: str = "a.weight") -> str:
    """Return the name of a weight's codec."""
    codec = checkpoint.entries[name].codec
    assert codec is not None
    return codec.name


def weight(checkpoint: Checkpoint, name: str = "a.weight") -> Tensor:
    """Return one decoded weight, after checks that hold for all of them."""
    assert not checkpoint.skipped, checkpoint.skipped
    entry = checkpoint.entries[name]
    assert entry.codec is not None
    values = checkpoint.read(entry)
    assert tuple(values.shape) == entry.shape
    assert values.dtype == torch.float32
    rows = entry.shape[0]
    sent, ledger = pickle.loads(pickle.dumps((checkpoint.files, entry))), MemoryLedger()
    files = {shard: file for shard, file in sent[0].items() if shard in shards_of(entry)}
    prints, slabs = set(), {None, (0, 1), (rows // 2, rows), (rows - 1, rows)}
    for slab in slabs:
        part = values if slab is None else values[slab[0] : slab[1]]
        assert torch.equal(checkpoint.read(entry, slab), part)
        assert torch.equal(read_entry(files, sent[1], slab, ledger=ledger), part)
        prints.add(fingerprint_of(entry, slab, checkpoint.files, ledger))
    assert None not in prints
    assert len(prints) == len(slabs)
    return values


def reason(*shards: Mapping[str, Tensor], quantization: Mapping[str, Any] | None = None) -> str:
    """Return why the one weight is left out; its parts must not come back as weights."""
    checkpoint = stored(*shards, quantization=quantization)
    assert not checkpoint.entries, checkpoint.entries
    (skipped,) = checkpoint.skipped
    assert skipped.reason.isprintable()
    return skipped.reason


def nan_equal(a: Tensor, b: Tensor) -> bool:
    """Say whether two tensors are equal to the bit, NaN counting as equal."""
    return (
        a.dtype == b.dtype
        and torch.equal(torch.isnan(a), torch.isnan(b))
        and torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))
    )
