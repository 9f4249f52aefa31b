"""One stored tensor to read, or a slab of it."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from spectra.checkpoint import Checkpoint, TensorEntry
from spectra.checkpoint.entry import Slab
from spectra.checkpoint.fingerprints import Ledger, fingerprint_of
from spectra.checkpoint.reading import read_entry, read_factors, read_rounded
from spectra.deferred import Tensor
from spectra.matrices.view import inner_of


@dataclass(frozen=True, slots=True)
class Read:
    """One stored tensor to read, or a slab of it such as one expert."""

    source: Checkpoint
    entry: TensorEntry
    slab: Slab = None

    @property
    def key(self) -> Hashable:
        """What tells it from all others, whoever opened the file; by its content where known."""
        entry = self.entry
        codec = entry.codec.name if entry.codec else ""  # a weight's pieces have its name
        return (self._home, entry.name, entry.start, entry.shape, entry.dtype, codec, self.slab)

    @property
    def _home(self) -> Hashable:
        """Where the tensor lies; or what stands for it, wherever two revisions have one file."""
        entry, file = self.entry, self.source.files.get(self.entry.shard)
        content = file and file.fingerprint(0, 0)
        if content and (entry.codec or entry.strides):  # of several files, and by settings
            content = fingerprint_of(entry, None, self.source.files)
        return content or (self.source.resolved, entry.shard)

    @property
    def all(self) -> "Read":
        """The whole tensor."""
        return Read(self.source, self.entry)

    def values(self, ledger: Ledger | None = None) -> Tensor:
        """Return what is read; a ledger is told the digests of local files.

        Raises:
            CheckpointError: The file ended early or cannot be read.
        """
        return read_entry(self.source.files, self.entry, self.slab, ledger=ledger)

    def factors(self, ledger: Ledger | None = None) -> "tuple[Tensor, Tensor]":
        """Return both factors of what is stored as a product; the left one's rows of the slab.

        Raises:
            CheckpointError: As for `values`.
        """
        left, right = read_factors(self.source.files, self.entry, ledger=ledger)
        return (left if self.slab is None else left[slice(*self.slab)]), right

    def rounded(self, ledger: Ledger | None = None) -> "tuple[Tensor, Tensor | None]":
        """Return what is read, and how far quantising may have moved each value.

        Raises:
            CheckpointError: As for `values`.
        """
        return read_rounded(self.source.files, self.entry, self.slab, ledger=ledger)

    def fingerprint(self, ledger: Ledger | None = None) -> str | None:
        """Return what stands for the values; None while it is not known without reading.

        By digests where there are any: what the Hub's hashes tell stands for one file alone.
        """
        for known in (ledger, None):
            found = fingerprint_of(self.entry, self.slab, self.source.files, known)
            if found is None and self.slab is not None:  # perhaps it was cut out of the whole
                whole = fingerprint_of(self.entry, None, self.source.files, known)
                found = whole and f"{whole}[{self.slab[0]}:{self.slab[1]}]"
            if found is not None:
                return found
        return None

    @property
    def nbytes(self) -> int:
        """Bytes to read."""
        return self.entry.slab_bytes(self.slab)

    @property
    def memory(self) -> int:
        """Bytes that it takes, values that are decoded or put in order beside what they were."""
        inner = inner_of(self.entry)
        if inner is not None:
            return self.nbytes + 4 * inner * sum(self.entry.shape)
        plain = self.entry.codec is None and not self.entry.strides
        return self.nbytes if plain else self.nbytes + 4 * self.numel

    @property
    def numel(self) -> int:
        """Number of values."""
        entry, slab = self.entry, self.slab
        if slab is None or not entry.shape:
            return entry.numel
        return entry.numel * (slab[1] - slab[0]) // max(entry.shape[0], 1)


def distinct(reads: Iterable[Read]) -> tuple[Read, ...]:
    """Return reads each once; of a whole tensor no slab besides."""
    found = {read.key: read for read in reads}
    return tuple([
        read for read in found.values() if read.slab is None or read.all.key not in found
    ])  # fmt: skip
