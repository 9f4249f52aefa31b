"""Care of the store: what it holds, what may go, and moving it to another machine."""

import time
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from spectra.analyzers import Row
from spectra.checkpoint.fingerprints import digest_of_file
from spectra.errors import OutputError
from spectra.text import counted
from spectra.work.database import ASIDE, FOLDER, SUFFIXES, Database, Entry, there
from spectra.work.exported import entries_of
from spectra.work.packed import UNSOUND, unpacked
from spectra.work.rates import RATE
from spectra.work.store import (
    CONCLUSION,
    FILE,
    NAMED_FILE,
    PICTURE,
    ROW,
    SAMPLE,
    Store,
    content_of,
    span_of,
)
from spectra.writing.atomic import require_writable, write_atomically

CLEAR = "`spectra cache clear` deletes all of it, and needs no room."
PORTABLE = ROW, CONCLUSION, NAMED_FILE  # kinds of entries that say the same on every machine


class Held(NamedTuple):
    """What a store holds."""

    path: Path
    rows: int  # measurements
    conclusions: int  # from all rows of a run together
    pictures: int  # that were drawn
    files: int  # tensors of local files whose content is known
    rates: int  # figures of what work takes, on this machine and others that use the store
    nbytes: int  # on disk
    aside: tuple[Path, ...]  # files that were damaged, or of another layout


class Taken(NamedTuple):
    """What an import brought."""

    rows: int  # measurements that are new here
    damaged: int  # entries that were left out: their checksum failed, or they are none


class Verified(NamedTuple):
    """What a check of the store found."""

    rows: int  # that are sound
    damaged: int  # entries that were dropped: their checksum failed
    files: int  # tensors whose bytes are what they were
    changed: int  # whose bytes are others: forgotten
    gone: int  # whose file is not there, or is another by its times: forgotten
    unread: int  # of decoded tensors, which only reading them again tells: forgotten


def held(store: Store) -> Held:
    """Return what a store holds."""
    base = store.base
    aside = _aside(base.path)
    kinds = ROW, CONCLUSION, PICTURE, FILE, RATE
    rows, conclusions, pictures, files, rates = map(base.count, kinds)
    return Held(base.path, rows, conclusions, pictures, files, rates, base.nbytes, aside)


def _aside(path: Path) -> tuple[Path, ...]:
    """Return what was set aside of a store, as far as its folder tells."""
    try:
        return tuple(sorted(path.parent.glob(ASIDE.format(path.name))))
    except OSError:
        return ()


def clear(path: Path) -> int:
    """Empty a store, and delete what was set aside of it; return the bytes that took.

    Its file stays, as others may use it or be about to; one that cannot be written is deleted.

    Raises:
        OutputError: It is not ours to change.
    """
    files = [path.with_name(path.name + suffix) for suffix in SUFFIXES]
    try:
        before = {file: file.stat().st_size for file in [*files, *_aside(path)] if file.is_file()}
        if path in before:
            with closing(Database(path)) as base:
                base.empty()
            files = [] if base.writes else files
        for file in [*files, *_aside(path)]:
            file.unlink(missing_ok=True)
        left = sum(file.stat().st_size for file in before if file.is_file())
    except OSError as error:
        raise OutputError(
            f"{path} cannot be deleted: {error.strerror or error}. {FOLDER} names another."
        ) from error
    return max(0, sum(before.values()) - left)


def prune(store: Store, older: float | None = None, most: int | None = None) -> int:
    """Drop entries that were not used lately, and of the others the first until they fit.

    Args:
        store: Of what.
        older: Seconds since an entry was used.
        most: Bytes that the file may have then; an empty one has some 20 KB.

    Returns:
        How many measurements were dropped.

    Raises:
        OutputError: Some were to go, and the store cannot be written.
    """
    base, before = store.base, store.base.count(ROW)
    left = _keeping(store, older, most)
    base.shrink()
    while most is not None and left and base.pages > most and base.writes:
        left = _keeping(store, None, left * most // base.pages)  # a file is more than its entries
        base.shrink()
    return before - base.count(ROW)


def _keeping(store: Store, older: float | None, most: int | None) -> int:
    """Drop entries by age, and all but so many bytes; return the bytes of those that stay.

    Raises:
        OutputError: Some were to go, and the store cannot be written.
    """
    base, total, left = store.base, 0, 0
    sizes = [
        (used, kind, about, nbytes)
        for kind in (ROW, CONCLUSION, PICTURE, FILE, NAMED_FILE, SAMPLE, RATE)
        for about, nbytes, used in base.sizes(kind)
    ]
    for used, kind, about, nbytes in sorted(sizes, reverse=True):
        total += nbytes
        if (older is not None and time.time() - used > older) or (
            most is not None and total > most
        ):
            base.drop(kind, about)
            if not base.writes:
                why = store.troubles[0]
                raise OutputError(f"not all that was to go is dropped: {why}. {CLEAR}")
        else:
            left = total
    return left


def export(store: Store, path: Path) -> int:
    """Write all measurements into one file, for another machine; return how many.

    What files of the Hub hold goes with them; what local files hold, and how long work takes, does
    not: another machine has others.

    Raises:
        OutputError: It cannot be written, or is the store itself, or there is no store to read.
    """
    require_writable(path)
    if path.exists() and store.base.path.exists() and path.samefile(store.base.path):
        raise OutputError(f"{path} is the store itself, expected another file. Name one.")
    if store.base.refused and not there(store.base.path):  # lest it takes the place of one before
        raise OutputError(f"there is nothing to export: {store.troubles[0]}.")
    count = 0

    def write(place: Path) -> None:
        nonlocal count
        with closing(Database(place, shared=False)) as copy:
            for kind in PORTABLE:
                for entry in store.base.entries(kind):
                    if kind != NAMED_FILE or b"/" not in entry.about:  # a hash has none, a name has
                        copy.put(kind, *entry)
                        count += kind == ROW
            if copy.refused:
                raise OutputError(
                    f"{path} cannot be written: {copy.refused}. Make room, or choose another place."
                )

    write_atomically(path, write)
    return count


def take_in(store: Store, path: Path) -> Taken:
    """Keep what another store exported and this one does not know.

    Raises:
        OutputError: It is no exported store, or this one cannot be written.
    """
    rows = damaged = 0
    for kind in PORTABLE:
        for entry in entries_of(path, kind):
            if entry is None or not _means(kind, entry):
                damaged += 1
            elif store.base.entry(kind, entry.about) is None:
                store.base.put(kind, *entry)
                if not store.base.writes:
                    raise OutputError(f"not all of {path} was kept: {store.troubles[0]}.")
                rows += kind == ROW
    return Taken(rows, damaged)


def _means(kind: str, entry: Entry) -> bool:
    """Say whether an entry whose checksum held is one: anybody can make a checksum."""
    try:
        if kind == ROW:
            Row.from_plain(unpacked(entry.body))
        elif kind == CONCLUSION:
            unpacked(entry.body)
        else:
            content_of(entry.body)
    except UNSOUND:
        return False
    return True


def verify(store: Store) -> Verified:
    """Check every entry's checksum, and read again what local files are said to hold.

    Raises:
        OutputError: Some are to be dropped, and the store cannot be written.
    """
    base = store.base
    for entry in base.entries(SAMPLE):  # quickly taken again
        base.drop(SAMPLE, entry.about)
    kinds = ROW, CONCLUSION, PICTURE, NAMED_FILE, RATE
    before = sum(map(base.count, (*kinds, FILE)))
    rows, *others = (sum(1 for _ in base.entries(kind)) for kind in kinds)
    files = list(base.entries(FILE))
    found = {"same": 0, "changed": 0, "gone": 0, "unread": 0}
    for about, body, _used in files:
        told = _judged(about, body)
        found[told] += 1
        if told != "same":
            base.drop(FILE, about)
    damaged = before - sum((rows, len(files), *others))
    wrong = damaged + len(files) - found["same"]
    if wrong and not base.writes:
        raise OutputError(f"{counted(wrong, 'entry', 'entries')} of {before:,} no longer true or "
                          f"sound, and not dropped: {store.troubles[0]}. {CLEAR}")  # fmt: skip
    return Verified(rows, damaged, found["same"], found["changed"], found["gone"], found["unread"])


def _judged(about: bytes, body: bytes) -> str:
    known = span_of(about, body)
    if known is None:
        return "gone"
    span, digest = known
    if span.how:
        return "unread"
    try:
        now = digest_of_file(Path(span.path), span.start, span.stop)
    except OSError:  # no longer ours to read
        return "gone"
    return "same" if now == digest else "changed"
