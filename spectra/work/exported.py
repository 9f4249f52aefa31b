"""A file of entries that somebody else made, as it is taken in: all of it is looked at before."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from spectra.errors import OutputError
from spectra.text import printable
from spectra.work.database import FAILURES, LAYOUT, Entry, connection, kind_at, sum_of, there


def entries_of(path: Path, kind: str) -> Iterator[Entry | None]:
    """Yield the entries of a file that somebody else made, None for each that is damaged.

    Nothing of it is changed.

    Raises:
        OutputError: It is no such file, too damaged to tell its entries, or not all of them: a
            store that is in use lies in two files.
    """
    beside = path.parent / f"{path.name}-wal"
    if there(beside) and beside.stat().st_size:
        raise OutputError(
            f"{path} is in use, or was not closed: {beside.name} beside it holds what is newest, "
            "expected a file that `spectra cache export FILE` wrote. Write one there."
        )
    order = "SELECT about, body, sum, used FROM entries WHERE kind = ?"
    try:
        if not there(path):
            none = not os.path.lexists(path)
            raise sqlite3.DatabaseError(
                "there is no such file" if none else f"it is {kind_at(path)}"
            )
        with closing(connection(path, "?mode=ro&immutable=1")) as base:
            layout = base.execute("PRAGMA user_version").fetchone()[0]
            if layout != LAYOUT:
                raise sqlite3.DatabaseError(f"layout {layout}, expected {LAYOUT}")
            if (found := base.execute("PRAGMA quick_check(1)").fetchone()[0]) != b"ok":
                raise sqlite3.DatabaseError(found.decode(errors="replace").splitlines()[-1])
            for about, body, total, used in base.execute(order, (kind,)):
                sound = isinstance(about, bytes) and isinstance(body, bytes)
                if sound and total == sum_of(kind, about, body):
                    yield Entry(about, body, used if isinstance(used, int) else 0)
                else:
                    yield None
    except FAILURES as error:
        raise OutputError(
            f"{path} is no store of measurements ({printable(str(error))}), expected a file that "
            "`spectra cache export FILE` wrote."
        ) from error
