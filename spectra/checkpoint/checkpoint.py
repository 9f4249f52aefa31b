"""A checkpoint: which tensors it holds, known from headers alone, read one at a time."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from spectra.checkpoint.documents import read_object, read_weight_map
from spectra.checkpoint.entry import Skipped, TensorEntry
from spectra.checkpoint.header import Header, read_header
from spectra.checkpoint.local import LocalFile
from spectra.checkpoint.quote import quote, shown
from spectra.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Headers of one model; weights stay on disk until `read`."""

    spec: str  # as the user wrote it
    resolved: str  # the folder or file it means
    entries: Mapping[str, TensorEntry]
    config: Mapping[str, Any]  # config.json, empty where there is none
    skipped: tuple[Skipped, ...] = ()
    files: Mapping[str, LocalFile] = field(default_factory=dict, repr=False)  # by shard

    def read(self, entry: TensorEntry) -> Tensor:
        """Return one tensor in its stored dtype and shape.

        Raises:
            CheckpointError: The file ended early or cannot be read.
        """
        return self.files[entry.shard].read_tensor(entry)

    @property
    def nbytes(self) -> int:
        """Stored size of all tensors, in bytes."""
        return sum(entry.nbytes for entry in self.entries.values())


def open_file(spec: str, path: Path) -> Checkpoint:
    """Open one safetensors file; a config.json beside it tells its family.

    Raises:
        CheckpointError: The file breaks the format.
    """
    file, header = _shard(path, path.name)
    return Checkpoint(
        spec=spec,
        resolved=str(path),
        entries={entry.name: entry for entry in header.entries},
        config=_config(path.parent),
        files={path.name: file},
    )


def open_sharded(spec: str, index: Path) -> Checkpoint:
    """Open a folder's shards through its index; the shards' headers are the truth.

    Raises:
        CheckpointError: The index reaches outside its folder or names a file that is
            not there, or a shard breaks the format.
    """
    weight_map = read_weight_map(index)
    folder = index.parent
    entries: dict[str, TensorEntry] = {}
    files: dict[str, LocalFile] = {}
    for shard in dict.fromkeys(weight_map.values()):
        path = folder / shard
        if not path.exists():
            raise CheckpointError(
                f"{shown(index)} names {quote(shard)}, which is not in its folder. Fetch that "
                "shard, or the whole checkpoint, again."
            )
        _stay_inside(folder, path)
        files[shard], header = _shard(path, shard)
        for entry in header.entries:
            if weight_map.get(entry.name, shard) == shard:
                if entry.name in entries:
                    raise CheckpointError(
                        f"tensor {quote(entry.name)} stands both in {entries[entry.name].shard} "
                        f"and in {shard} of {shown(folder)}, and the index names neither: which "
                        "one counts is unknown. Fetch the index again."
                    )
                entries[entry.name] = entry
    absent = [Skipped(name, "named by the index, missing from its shard")
              for name in weight_map if name not in entries]  # fmt: skip
    return Checkpoint(
        spec=spec,
        resolved=str(folder),
        entries=entries,
        config=_config(folder),
        skipped=tuple(absent),
        files=files,
    )


def _shard(path: Path, name: str) -> tuple[LocalFile, Header]:
    """Open one file and check its header."""
    file = LocalFile(path)
    return file, read_header(file.read, file.size, shown(path), name)


def _config(folder: Path) -> dict[str, Any]:
    """Return the folder's config.json as data."""
    path = folder / "config.json"
    return read_object(path) if path.is_file() else {}


def _stay_inside(folder: Path, path: Path) -> None:
    """Refuse a link out of the folder, save into the blobs of a Hub cache."""
    target = path.resolve()
    home = folder.resolve()
    # The cache's layout: models--x/snapshots/<sha>[/subfolder] and models--x/blobs.
    blobs = [above.parent / "blobs" for above in home.parents if above.name == "snapshots"]
    if home not in target.parents and target.parent not in blobs:
        raise CheckpointError(
            f"{shown(path)} is a link to {shown(target)}, outside its folder. Refused: copy the "
            "file in."
        )
