"""What stands for the bytes of a tensor, known without reading them again.

Bytes are digested while they are first read, and a `Ledger` keeps the digest: of a local file
against its path, size, times of change and inode, as git's index does (written again, it is
another file), of a file of the Hub against the hash that opening it told. So one tensor is the
same in two files of the Hub, and here and there, once both were read. Of what was not read the
Hub's hash stands for the whole file: the same tensor of another one is not known by it.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from spectra.checkpoint.entry import Slab, TensorEntry
from spectra.checkpoint.source import Source, Span

BLOCK = 1 << 20  # bytes digested at once, from the start of a range on

APART = frozenset({"name", "shard", "start", "stop", "note"})
"""Where a tensor lies and what it is called: its values do not depend on that."""


class Ledger(Protocol):
    """Digests of what was read; may be kept on disk, and asked by several threads."""

    def known(self, span: Span) -> str | None:
        """Return the digest of a span, or None."""

    def note(self, span: Span, digest: str) -> None:
        """Keep the digest of a span that was just read."""


class MemoryLedger:
    """A ledger that lasts as long as the process."""

    def __init__(self) -> None:
        self._digests: dict[Span, str] = {}

    def known(self, span: Span) -> str | None:
        """Return the digest of a span, or None."""
        return self._digests.get(span)

    def note(self, span: Span, digest: str) -> None:
        """Keep the digest of a span."""
        self._digests[span] = digest


def fingerprint_of(
    entry: TensorEntry, slab: Slab, files: Mapping[str, Source], ledger: Ledger | None = None
) -> str | None:
    """Return what stands for the values of a tensor, or of a slab of its first axis.

    It is made of the fingerprints of all stored parts, dtype, shape and the codec's own
    settings; not of names. Nothing is read.

    Args:
        entry: One of a checkpoint's.
        slab: Start and stop on the first axis; None: all.
        files: Those of the checkpoint, by shard; `shards_of` tells which it takes.
        ledger: Knows the digests of what was read. Without one the Hub's hashes alone count,
            and nothing stands for what a local file holds.

    Returns:
        64 hexadecimal digits, the same for the same values only; None while not known.
    """
    found = []
    for shard, start, stop, how in _stretches(entry, slab):
        file = files[shard]
        if ledger is None:
            known = file.fingerprint(start, stop)
        else:
            span = file.span(start, stop, how)
            known = None if span is None else ledger.known(span)
        if known is None:
            return None
        found.append(known)
    return _digest((plain(entry), slab, found))


class Digest:
    """That of one range, whose blocks may come in any order and from several threads."""

    def __init__(self) -> None:
        self._blocks: dict[int, bytes] = {}

    def add(self, position: int, piece: memoryview) -> None:
        """Take bytes from a position in the range on, a multiple of BLOCK."""
        for start in range(0, len(piece), BLOCK):
            block = sha256(piece[start : start + BLOCK])
            self._blocks[position + start] = block.digest()

    def text(self) -> str:
        """Return the digest of the whole."""
        return sha256(b"".join(self._blocks[at] for at in sorted(self._blocks))).hexdigest()


def digest_of_file(path: Path, start: int, stop: int) -> str:
    """Return what a ledger is told of a range of a file that is no part of a decoded tensor.

    Raises:
        OSError: It cannot be read.
    """
    found = Digest()
    with path.open("rb") as file:
        file.seek(start)
        for position in range(0, stop - start, BLOCK):
            found.add(position, memoryview(file.read(min(BLOCK, stop - start - position))))
    return _digest([(0, stop - start, found.text())])


class Watch:
    """Sees what reading one tensor takes from its files, and tells a ledger."""

    def __init__(
        self, entry: TensorEntry, slab: Slab, files: Mapping[str, Source], ledger: Ledger
    ) -> None:
        self._files, self._ledger = files, ledger
        self._stretches = _stretches(entry, slab)
        self._before = self._spans()
        self._reads: list[tuple[str, int, int, Digest]] = []

    def digest(self, shard: str, start: int, stop: int) -> Digest | None:
        """Return what is to take the bytes of a range; None where nothing needs them."""
        if all(span is None for span in self._before):
            return None
        self._reads.append((shard, start, stop, Digest()))
        return self._reads[-1][-1]

    def note(self) -> None:
        """Keep the digests, where no file changed meanwhile."""
        for (shard, start, stop, _), before, after in zip(
            self._stretches, self._before, self._spans(), strict=True
        ):
            if before is None or before != after:
                continue
            inside = [
                (first - start, last - start, digest.text())
                for where, first, last, digest in self._reads
                if where == shard and start <= first and last <= stop
            ]
            self._ledger.note(before, _digest(sorted(inside)))

    def _spans(self) -> list[Span | None]:
        return [
            self._files[shard].span(start, stop, how) for shard, start, stop, how in self._stretches
        ]


def _stretches(entry: TensorEntry, slab: Slab) -> list[tuple[str, int, int, str]]:
    """Return the shard, start and stop of each stored part, and how it is decoded."""
    if entry.codec is None and not entry.strides:
        return [(entry.shard, *entry.stretch(slab), "")]
    how = _digest((plain(entry), slab))
    return [(part.shard, part.start, part.stop, how) for part in entry.parts]


def plain(value: Any, *, concluding: bool = False) -> Any:  # noqa: ANN401 - whatever a codec or an analyzer holds
    """Return settings as nested tuples of plain values, the same in every process.

    Of an entry without where it lies; of an analyzer with the version of its numerics, and
    with the settings that only its conclusion takes where these are asked for.
    """
    if value is None or isinstance(value, (str, int, float)):  # most are, and told at once
        return value
    own = partial(plain, concluding=concluding)
    if is_dataclass(value):
        late = () if concluding else getattr(value, "concluding", ())
        apart = APART if isinstance(value, TensorEntry) else late
        return (
            type(value).__name__,
            getattr(value, "version", 0),
            [
                (field.name, own(getattr(value, field.name)))
                for field in fields(value)
                if field.name not in apart
            ],
        )
    if isinstance(value, Mapping):
        return [(key, own(one)) for key, one in value.items()]
    if isinstance(value, tuple | list):
        return [own(one) for one in value]
    if isinstance(value, set | frozenset):  # whose order differs from process to process
        return sorted(own(one) for one in value)
    return value


def _digest(plain: object) -> str:
    return sha256(repr(plain).encode()).hexdigest()
