"""A checkpoint: which tensors it holds, known from headers alone, read one at a time."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from spectra.checkpoint.entry import Skipped, Slab, TensorEntry
from spectra.checkpoint.reading import read_entry
from spectra.checkpoint.source import Folder, Source
from spectra.deferred import Tensor
from spectra.text import shown


@dataclass(frozen=True, slots=True, repr=False)
class Checkpoint:
    """Headers of one model; weights stay where they are until `read`."""

    spec: str  # as the user wrote it
    resolved: str  # what it means: the folder or file, or the Hub's commit
    entries: Mapping[str, TensorEntry]
    config: Mapping[str, Any]  # config.json, empty where there is none
    skipped: tuple[Skipped, ...] = ()
    files: Mapping[str, Source] = field(default_factory=dict, repr=False)  # by shard
    folder: Folder | None = field(default=None, repr=False)  # for what lies beside the weights
    unread: tuple[Skipped, ...] = ()
    """Files of weights in the folder that were not opened: their names in `tensor`, and why."""

    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What a single file says of itself beside its tensors: texts, or GGUF's values."""

    def __repr__(self) -> str:
        """Say what it is; all that it holds would fill pages."""
        return (
            f"<Checkpoint {shown(self.spec)}: {len(self.entries):,} tensors, {self.nbytes:,} bytes>"
        )

    def read(self, entry: TensorEntry, slab: Slab = None, *, widen: bool = False) -> Tensor:
        """Return one tensor's values, or those of a slab of its first axis: see `read_entry`."""
        return read_entry(self.files, entry, slab, widen=widen)

    @property
    def nbytes(self) -> int:
        """Stored size of all tensors, in bytes."""
        return sum(entry.nbytes for entry in self.entries.values())
