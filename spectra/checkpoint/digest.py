"""The digest of a model's weights: which bytes a result is about."""

import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import TypeVar

from spectra.checkpoint.fingerprints import Ledger
from spectra.checkpoint.local import LocalFile
from spectra.checkpoint.source import Source, Span

EXACT = 1 << 20  # bytes of weights that are digested whole
PIECES, PIECE = 1024, 1024  # read of larger ones, over all their files, and bytes of each
SAMPLED = "sample"  # how a ledger keeps it
File = TypeVar("File", bound=Source)
SHA256 = re.compile(r"[0-9a-f]{64}")


def weights_digest(files: Mapping[str, Source], ledger: Ledger | None = None) -> str | None:
    """Return what tells these files of weights from others; their names play no part.

    A file of the Hub has a hash that opening it told. One on this machine has none, and to read
    all of it for a name would take as long as to measure it: 1024 pieces of 1 KiB are digested,
    evenly spread, with the size. Weights that were trained, merged, cast or quantised anew differ
    there; a few changed entries may lie between, and the numbers of the result tell those.

    Args:
        files: Those of a checkpoint, as it was opened.
        ledger: Keeps what was sampled of local files.

    Returns:
        `sha256:` and 64 hexadecimal digits of all bytes, of one file what `sha256sum` prints, of
        several the digest of their digests; `sample:` and 16 of sizes and pieces; None where that
        would ask something of a server.

    Raises:
        CheckpointError: A file is gone.
    """
    sources = [files[name] for name in sorted(files)]
    known = [_content(source) for source in sources]
    unknown = [source for source, digest in zip(sources, known, strict=True) if digest is None]
    here = [source for source in unknown if isinstance(source, LocalFile)]
    if not sources or len(here) < len(unknown):
        return None
    if sum(source.size for source in here) > EXACT:
        sampled = len(here) == len(sources)
        return f"sample:{_known(here, ledger, _sampled)}" if sampled else None
    parts = [
        digest or _known([source], ledger, _whole)
        for source, digest in zip(sources, known, strict=True)
    ]
    whole = parts[0] if len(parts) == 1 else sha256("\n".join(parts).encode()).hexdigest()
    return f"sha256:{whole}"


def _content(source: Source) -> str | None:
    """Return the SHA-256 of a file that tells it."""
    told = (source.fingerprint(0, source.size) or "").split(":")[0].strip('"')
    return told if SHA256.fullmatch(told) else None


def _known(
    sources: Sequence[File], ledger: Ledger | None, make: Callable[[Sequence[File]], str]
) -> str:
    """Return a digest of local files, made where a ledger does not know it; it is told then."""
    span = _span_of(sources) if ledger is not None else None
    if ledger is None or span is None:
        return make(sources)
    digest = ledger.known(span)
    if digest is None:
        digest = make(sources)
        ledger.note(span, digest)
    return digest


def _whole(sources: Sequence[Source]) -> str:
    (source,) = sources
    return sha256(source.read(0, source.size)).hexdigest()


def _sampled(sources: Sequence[LocalFile]) -> str:
    found, total = sha256(), sum(source.size for source in sources)
    for source in sources:
        count = max(PIECES * source.size // total, 2)
        found.update(f"{source.size};".encode())
        starts = [max(source.size - PIECE, 0) * place // (count - 1) for place in range(count)]
        for piece in source.pieces((start, min(start + PIECE, source.size)) for start in starts):
            found.update(piece)
    return found.hexdigest()[:16]


def _span_of(sources: Sequence[Source]) -> Span | None:
    """Return what stands for all files together: the one that changed last, and which it is of."""
    spans = [span for source in sources if (span := source.span(0, source.size)) is not None]
    last = max(spans, key=lambda span: span.ctime_ns, default=None)
    return last and last._replace(how=f"{SAMPLED} of {spans}")
