"""One file of entries with checksums, which several processes use at once and none can spoil.

What is damaged is not there: an entry whose checksum fails is dropped, and a file that SQLite
cannot read is set aside and begun anew. What cannot be written (a full disk, a folder of somebody
else) is not kept. Neither is an error; both are told in `troubles`.
"""

import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from spectra.text import printable

LAYOUT: Final = 1  # of the tables below; a file of another is set aside
TRIES: Final = 5  # to open it, where it is deleted meanwhile
PATIENCE: Final = 10.0  # seconds to wait for another process that writes
REST: Final = 60.0  # seconds after which a file is tried anew that could not be written
DAY: Final = 86_400
TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS entries (kind TEXT, about BLOB, body BLOB NOT NULL, "
    "sum BLOB NOT NULL, used INTEGER NOT NULL, PRIMARY KEY (kind, about))"
)
SUFFIXES: Final = "", "-wal", "-shm"  # of SQLite's files
ASIDE: Final = "{}.aside-*"  # what was set aside of a file
FOLDER: Final = "SPECTRA_CACHE_DIR"  # the variable that moves the store
UNWRITABLE: Final = frozenset({
    sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN,
})  # fmt: skip
"""What SQLite says of a file that may be sound and cannot be written now; all else is damage."""

FAILURES: Final = sqlite3.Error, UnicodeError  # text of a damaged file may stand in an error

Found = TypeVar("Found")


class OtherLayout(sqlite3.DatabaseError):
    """A sound file with other tables: of a version before, or after."""


class Entry(NamedTuple):
    """One entry, whose checksum held."""

    about: bytes
    body: bytes
    used: int  # seconds of the epoch, to a day


class Database:
    """Entries of several kinds, by what they are about."""

    def __init__(self, path: Path, *, shared: bool = True) -> None:
        """Open the file, or begin it.

        Args:
            path: Its folder is made.
            shared: Others may use it meanwhile; else one file is all there ever is of it.
        """
        self.path = path
        self._shared = shared
        self._modes = ("WAL", "NORMAL") if shared else ("MEMORY", "OFF")
        self.troubles: list[str] = []  # sentences, each once
        self._lock = threading.RLock()
        self.refused = ""  # why nothing can be written now
        self._stopped = 0.0  # when that was
        self._base: sqlite3.Connection | None = None
        self._inode = 0
        self._open()

    @property
    def writes(self) -> bool:
        """Say whether it keeps what it is given, as long as it can."""
        return not self.refused

    def close(self) -> None:
        """Close the file; nothing is known from then on."""
        with self._lock:
            base, self._base = self._base, None
            if base is not None:
                base.close()

    def entry(self, kind: str, about: bytes) -> Entry | None:
        """Return an entry; None where there is none, or a damaged one."""
        order = "SELECT body, sum, used FROM entries WHERE kind = ? AND about = ?"
        row = self._try(lambda base: base.execute(order, (kind, about)).fetchone())
        if row is None:
            return None
        body, total, used = row
        if not isinstance(body, bytes) or total != sum_of(kind, about, body):
            self.drop(kind, about)
            return None
        return Entry(about, body, used if isinstance(used, int) else 0)

    def get(self, kind: str, about: bytes) -> bytes | None:
        """Return the body of an entry, which is used with that; None where there is none.

        One that was used in the future, by a clock that was wrong then, would never be pruned.
        """
        found = self.entry(kind, about)
        if found and abs(time.time() - found.used) > DAY:
            order = "UPDATE entries SET used = ? WHERE kind = ? AND about = ?"
            self._order(order, (now(), kind, about))
        return found.body if found else None

    def put(self, kind: str, about: bytes, body: bytes, used: int | None = None) -> None:
        """Keep an entry in place of any before; what could not be written may be a minute later."""
        with self._lock:
            if self._shared and self.refused and time.monotonic() - self._stopped > REST:
                self.close()
                self.refused = ""
                self._open()
        row = kind, about, body, sum_of(kind, about, body), now() if used is None else used
        self._order("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?)", row)

    def drop(self, kind: str, about: bytes) -> None:
        """Forget an entry."""
        self._order("DELETE FROM entries WHERE kind = ? AND about = ?", (kind, about))

    def entries(self, kind: str) -> Iterator[Entry]:
        """Yield all that are sound, those used last first; damaged ones are dropped."""
        for about, _size, _used in self.sizes(kind):
            found = self.entry(kind, about) if isinstance(about, bytes) else None
            if found is not None:
                yield found

    def count(self, kind: str) -> int:
        """Return how many there are."""
        order = "SELECT count(*) FROM entries WHERE kind = ?"
        return self._try(lambda base: int(base.execute(order, (kind,)).fetchone()[0])) or 0

    def sizes(self, kind: str) -> list[tuple[bytes, int, int]]:
        """Return what entries are about, their bytes and last use, what was used last first."""
        order = (
            "SELECT about, length(about) + length(body) + length(sum), used FROM entries "
            "WHERE kind = ? ORDER BY used DESC, about"
        )
        return self._try(lambda base: base.execute(order, (kind,)).fetchall()) or []

    def empty(self) -> None:
        """Forget all entries; who else uses the file goes on with it."""
        self._order("DELETE FROM entries", ())
        self.shrink()

    def shrink(self) -> None:
        """Give back the room of what was dropped."""
        self._order("VACUUM", ())
        self._order("PRAGMA wal_checkpoint(TRUNCATE)", ())

    @property
    def pages(self) -> int:
        """Bytes of the file once all is written to it that others may still read as it was."""
        order = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
        return self._try(lambda base: int(base.execute(order).fetchone()[0])) or 0

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return sum(file.stat().st_size for file in self._files())

    def _order(self, order: str, values: tuple[object, ...]) -> None:
        if self.writes:
            self._follow()
            self._try(lambda base: base.execute(order, values))

    def _follow(self) -> bool:
        """Begin anew where the file was deleted or moved: nobody would find what is written."""
        with self._lock:
            if self._base is None or _inode_of(self.path) == self._inode:
                return False
            self.close()  # SQLite sees that it was moved, and leaves the files of others
            self._open()
            return True

    def _try(self, work: Callable[[sqlite3.Connection], Found]) -> Found | None:
        """Do something with the file; None where that fails."""
        with self._lock:
            for _ in range(2):
                if self._base is None:
                    return None
                try:
                    return work(self._base)
                except FAILURES as error:
                    if not self._follow():  # else it was deleted at this instant
                        self._failed(error)
                        return None
            return None

    def _failed(self, error: Exception) -> None:
        if _code(error) in UNWRITABLE:
            self._stop(str(error))
            return
        self.close()
        if self.writes:  # else it is not ours to move, or was never begun, and that is told
            self._set_aside(f"is damaged ({error})")
            self._open()

    def _open(self, *, again: bool = True) -> None:
        begun = time.monotonic()
        for left in reversed(range(TRIES)):
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._base = self._connected()
                self._inode = _inode_of(self.path)
                if self._inode:
                    return
                self.close()  # somebody deletes it at this instant
            except OSError as error:
                self._stop(_in_the_way(self.path) or error.strerror or str(error))
                return
            except FAILURES as error:
                if left and time.monotonic() - begun < PATIENCE:
                    time.sleep(0.01)  # it may be deleted or begun by others, which has many names
                elif _code(error) in UNWRITABLE:
                    self._open_to_read(error)
                    return
                else:
                    other = isinstance(error, OtherLayout)
                    self._set_aside(str(error) if other else f"is damaged ({error})")
        if again:
            self._open(again=False)

    def _connected(self) -> sqlite3.Connection:
        base = connection(self.path)
        try:
            layout = base.execute("PRAGMA user_version").fetchone()[0]
            if layout not in (0, LAYOUT):
                raise OtherLayout(f"is of another spectra (layout {layout}, expected {LAYOUT})")
            for name, mode in zip(("journal_mode", "synchronous"), self._modes, strict=True):
                base.execute(f"PRAGMA {name} = {mode}")
            if layout == 0:  # what writes has the disk wait for it at the end
                base.execute(TABLE)
                base.execute(f"PRAGMA user_version = {LAYOUT}")
        except FAILURES:
            base.close()
            raise
        return base

    def _open_to_read(self, error: Exception) -> None:
        """Read what a folder holds that may not be written: nobody else writes it either."""
        self._stop(str(error))
        if there(self.path):
            try:
                self._base = connection(self.path, "?immutable=1")
            except FAILURES:
                self._base = None

    def _stop(self, why: str) -> None:
        self.refused, self._stopped = why, time.monotonic()
        self._trouble(
            f"{self.path} cannot be written ({why}): what is measured is not kept; {FOLDER} names "
            "another folder"
        )

    def _set_aside(self, why: str) -> None:
        aside = f"{self.path.name}.aside-{time.time_ns():x}"
        for file in self._files():
            try:
                file.rename(file.with_name(aside + file.name.removeprefix(self.path.name)))
            except OSError:  # another process was first
                continue
        self._trouble(f"{self.path} {why}: it is set aside as {aside}")

    def _trouble(self, text: str) -> None:
        if (told := printable(text)) not in self.troubles:
            self.troubles.append(told)

    def _files(self) -> list[Path]:
        names = (self.path.name + suffix for suffix in SUFFIXES)
        return [path for path in map(self.path.with_name, names) if there(path)]


def _inode_of(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def _in_the_way(path: Path) -> str:
    """Return what lies where a folder above a file is to be; empty where nothing does."""
    found = next((one for one in path.parents if os.path.lexists(one)), None)
    return "" if found is None or found.is_dir() else f"{found} is {kind_at(found)}, not a folder"


def kind_at(path: Path) -> str:
    """Return what lies at a path, with its article."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return "a link that leads nowhere" if path.is_symlink() else "not to be seen"
    if stat.S_ISREG(mode):
        return "a file"
    return "a folder" if stat.S_ISDIR(mode) else "a device or pipe"


def there(path: Path) -> bool:
    """Say whether a file is there, as far as this user may know."""
    try:
        return path.is_file()
    except OSError:  # in a folder that may not be entered
        return False


def now() -> int:
    """Return the seconds of the epoch."""
    return int(time.time())


def connection(path: Path, how: str = "") -> sqlite3.Connection:
    """Open a file as SQLite's, whatever it holds.

    Args:
        path: Of the file.
        how: What SQLite is told of it, as the query of an address.
    """
    base = sqlite3.connect(
        path.absolute().as_uri() + how, uri=True, timeout=PATIENCE, isolation_level=None,
        check_same_thread=False,
    )  # fmt: skip
    base.text_factory = bytes  # what is damaged may be no text
    base.execute("PRAGMA cell_size_check = ON")
    base.execute("PRAGMA trusted_schema = OFF")
    return base


def _code(error: Exception) -> int:
    """Return SQLite's own code, without what it adds of the circumstances."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF


def sum_of(kind: str, about: bytes, body: bytes) -> bytes:
    """Return the checksum of an entry."""
    return sha256(f"{kind} {len(about)} ".encode() + about + body).digest()
