"""What was measured once: rows by the identity of what they are of, digests of local files."""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from platformdirs import user_cache_path

from spectra.analyzers import Analyzer, Row
from spectra.analyzers.analyzer import Contained
from spectra.analyzers.row import Measurement
from spectra.checkpoint.digest import SAMPLED
from spectra.checkpoint.source import NAMED, Span
from spectra.words import FAILED
from spectra.work.database import FOLDER, Database
from spectra.work.executor import Executor, Key, Sink, key_of
from spectra.work.identity import Named, identity
from spectra.work.meter import Observed
from spectra.work.packed import UNSOUND, packed, unpacked
from spectra.work.rates import Rates
from spectra.work.task import Task, together

NAME: Final = "store.sqlite"
ROW, FILE, SAMPLE = "row", "file", "sample"  # kinds of entries
CONCLUSION = "conclusion"  # from rows, which it is told from
PICTURE = "picture"  # of a result, as a file holds it
NAMED_FILE = "named"  # of files that are known by the hash of their content: as FILE of others
Answer = Mapping[str, Any]
"""To a question about several tasks together, as plain data."""
kept = False  # whether this process has kept a row
EVERY: Final = 5.0  # seconds after which what work took is kept again: a run may be killed
SETTLED: Final = 40.0
"""Seconds after which another change of a file has another time. The clock of files goes in steps;
and of a page that is mapped for writing the kernel notes the first change alone, until it has
written it out (Linux: after 30 s, asked every 5)."""


def place() -> Path:
    """Return where the store lies: in SPECTRA_CACHE_DIR, or the user's folder for caches.

    A `~` stands for the user's own folder where no shell saw it, as in a file of settings. It is
    absolute, lest it moves with the folder that a program works in.
    """
    given = os.path.expanduser(os.environ.get(FOLDER, ""))  # noqa: PTH111 - an unknown user stays
    folder = Path(given) if given else user_cache_path("spectra", appauthor=False)
    return folder.absolute() / NAME


class Store:
    """Rows and digests, on disk; a `Ledger` too.

    Source of the rule that a file must have settled: git's racy-git.txt, a file written again
    within the clock's step keeps its times.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Open the file, or begin it.

        Args:
            path: By default as `place` tells.
        """
        self.base = Database(path or place())
        self._unsettled: dict[Span, str] = {}  # what this process read of files that are too new
        self._rates: Rates | None = None

    @property
    def troubles(self) -> Sequence[str]:
        """What could not be read or written, a sentence each."""
        return self.base.troubles

    @property
    def rates(self) -> Rates:
        """What work took on this machine."""
        if self._rates is None:
            self._rates = Rates(self.base)
        return self._rates

    def close(self) -> None:
        """Close the file."""
        self.base.close()

    def row(self, key: str) -> Row | None:
        """Return the row of an identity, or None."""
        body = self.base.get(ROW, key.encode())
        if body is None:
            return None
        try:
            return Row.from_plain(unpacked(body))
        except UNSOUND:  # of a version with other rows
            self.base.drop(ROW, key.encode())
            return None

    def recall(self, task: Task, analyzer: Analyzer[Any]) -> Row | None:
        """Return what is known of a task; None, too, while what it reads is not known.

        Its own row goes before one that answers it with more: the same question says the same.
        """
        more = analyzer.answered_by() if isinstance(analyzer, Contained) else ()
        for one in (analyzer, *more):
            key = identity(task, one, self)
            row = None if key is None else self.row(key)
            if row is not None:
                return replace(row, place=task.place)
        return None

    def parts(self, task: Task) -> "Parts":
        """Return what knows the matrices of a task, each for itself."""
        return Parts(self, task)

    def keep(self, key: str, row: Row) -> None:
        """Keep the row of an identity."""
        global kept  # noqa: PLW0603 - for a word at the end, whoever it is that ends
        told = json.dumps(row.plain(), separators=(",", ":")).encode()
        self.base.put(ROW, key.encode(), packed(told))
        kept = kept or self.base.writes

    def known(self, span: Span) -> str | None:
        """Return the digest of a span, the file being as it is now; or None."""
        if span in self._unsettled:
            return self._unsettled[span]
        body = self.base.get(_kind(span), _about(span))
        if body is None:
            return None
        try:
            state, digest = content_of(body)
        except UNSOUND:  # of a version with others
            self.base.drop(_kind(span), _about(span))
            return None
        return digest if state == _state(span) else None

    def note(self, span: Span, digest: str) -> None:
        """Keep the digest of a span that was just read; of a file too new to tell, in memory."""
        if time.time() - span.ctime_ns / 1e9 <= SETTLED:
            self._unsettled[span] = digest
            return
        self.base.put(_kind(span), _about(span), json.dumps([_state(span), digest]).encode())


@dataclass(frozen=True, slots=True)
class Remembering:
    """An executor before another, whose rows are kept; what is known needs no measuring.

    The other is to tell the store the digests of what it reads, and may ask it again then.
    """

    inner: Executor
    store: Store
    observed: Observed | None = None  # of the other; what it saw is kept when a run ends

    @property
    def crew(self) -> int:
        """How many matrices the other measures at once."""
        return self.inner.crew

    @property
    def here(self) -> bool:
        """Whether the other measures them on this machine."""
        return self.inner.here

    @property
    def device(self) -> str:
        """Where the other measures them."""
        return self.inner.device

    @property
    def rates(self) -> Rates:
        """What earlier runs took, as the store keeps it."""
        return self.store.rates

    @property
    def ledger(self) -> Store:
        """The store, which knows the digests of what was read."""
        return self.store

    def known(self, tasks: Sequence[Task], analyzer: Analyzer[Any]) -> Mapping[Key, Row]:
        """Return the rows that the store has, by `key_of` their places."""
        found = ((task, self.store.recall(task, analyzer)) for task in tasks)
        return {key_of(task.place): row for task, row in found if row is not None}

    def peak(self, tasks: Sequence[Task], analyzer: Analyzer[Any]) -> int:
        """Return about the bytes that the other takes at most."""
        return self.inner.peak(tasks, analyzer)

    def run(
        self, tasks: Sequence[Task], analyzer: Analyzer[Any], sink: Sink | None = None
    ) -> Iterator[Row]:
        """Yield rows as the other measures them, kept by then; not those of what a sink takes.

        Whoever asks again needs that anew, and is told of no row.
        """
        by_place = {key_of(task.place): task for task in tasks}
        before, told = self.store.rates.told(), time.monotonic()
        try:
            for row in self.inner.run(tasks, analyzer, sink):
                kept = sink is None and row.status != FAILED  # perhaps it goes well next time
                task = by_place[key_of(row.place)]
                key = identity(task, analyzer, self.store) if kept else None
                if key is not None:
                    self.store.keep(key, row)
                if self.observed is not None and time.monotonic() - told > EVERY:
                    self.store.rates.keep(self.observed.take(over=False), before)
                    told = time.monotonic()
                yield row
        finally:
            if self.observed is not None:
                self.store.rates.keep(self.observed.take(), before)


class Parts:
    """Knows, of a task that was read, what was measured of one of its matrices for itself.

    What was not it has measured, and keeps: so a check measures no spectrum that `spectrum` told,
    and the other way round.
    """

    def __init__(self, store: Store, task: Task) -> None:
        """Ask nothing yet."""
        self._store, self._task = store, task
        self.known = 0  # how many were

    def __call__(self, role: str, analyzer: Analyzer[Any], subject: Any) -> Measurement:  # noqa: ANN401 - as analyzers take
        """Return what is known, or measure.

        Raises:
            NonFiniteError: It holds NaN or Inf.
        """
        alone = self._task.part(role)
        row = self._store.recall(alone, analyzer)
        if row is not None and row.error is None:
            self.known += 1
            return Measurement(row.values, row.status, row.arrays)
        found = analyzer.measure(subject)
        key = identity(alone, analyzer, self._store)
        if key is not None:
            arrays = {name: array.cpu() for name, array in found.arrays.items()}
            self._store.keep(key, Row(alone.place, found.status, None, found.values, arrays))
        return found


def recalled(executor: Executor, tasks: Sequence[Task], question: Named) -> Answer | None:
    """Return what was answered before of tasks together; None where nothing is known.

    Args:
        executor: Whose store is asked, if it has one.
        tasks: What is read for it.
        question: All else that the answer hangs on, as fields.
    """
    base = executor.ledger
    if not isinstance(base, Store) or not tasks:
        return None
    key = identity(together(tasks), question, base)
    row = None if key is None else base.row(key)
    return None if row is None else row.values


def keep(executor: Executor, tasks: Sequence[Task], question: Named, answer: Answer) -> None:
    """Keep an answer as plain data, where anything is kept and what was read is known by then."""
    base = executor.ledger
    if isinstance(base, Store) and tasks:
        whole = together(tasks)
        key = identity(whole, question, base)
        if key is not None:
            base.keep(key, Row(whole.place, "ok", None, answer))


def span_of(about: bytes, body: bytes) -> tuple[Span, str] | None:
    """Return the span of an entry and its digest; None where the file is gone, or another."""
    try:
        path, start, stop, how = json.loads(about)
        state, digest = content_of(body)
        now = Path(path).stat()
    except (OSError, *UNSOUND):
        return None
    span = Span(path, now.st_size, now.st_mtime_ns, start, stop, how, now.st_ctime_ns, now.st_ino)
    return (span, digest) if _state(span) == state else None


def content_of(body: bytes) -> tuple[list[int], str]:
    """Return how a file was when bytes of it were read, and their digest.

    Raises:
        ValueError: It is no such entry; or another of `UNSOUND`.
    """
    state, digest = json.loads(body)
    if not isinstance(state, list) or not isinstance(digest, str):
        raise ValueError(f"{body[:40]!r} is no state and digest")  # noqa: TRY004 - of what is read
    return state, digest


def _kind(span: Span) -> str:
    if span.how.startswith(SAMPLED):
        return SAMPLE
    return NAMED_FILE if span.size == NAMED else FILE


def _about(span: Span) -> bytes:
    return json.dumps([span.path, span.start, span.stop, span.how]).encode()


def _state(span: Span) -> list[int]:
    return [span.size, span.mtime_ns, span.ctime_ns, span.inode]
