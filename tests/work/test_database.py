"""A file of entries that damage, other processes and full disks cannot make lie."""

import multiprocessing
import os
import re
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from spectra.errors import OutputError
from spectra.work import database
from spectra.work.database import Database
from spectra.work.exported import entries_of
from spectra.work.upkeep import clear

KIND = "row"
KNOWN = {f"entry {i}".encode(): bytes([i]) * (40 * i) for i in range(40)}


def filled(path: Path) -> Path:
    with closing(Database(path)) as base:
        for about, body in KNOWN.items():
            base.put(KIND, about, body)
            base.put("file", about, b"other")
    return path


def read(path: Path) -> tuple[dict[bytes, bytes], list[str]]:
    with closing(Database(path)) as base:
        found = {about: base.get(KIND, about) for about in KNOWN}
        listed = {one.about: one.body for one in base.entries(KIND)}
        base.put(KIND, b"new", b"one")
        base.drop(KIND, b"new")
        kept = {about: body for about, body in found.items() if body is not None}
        assert listed.items() <= KNOWN.items()
        return kept, list(base.troubles)


def test_entries_come_back(tmp_path: Path) -> None:
    path = filled(tmp_path / "deeper" / "a.sqlite")
    assert read(path) == (KNOWN, [])
    with closing(Database(path)) as base:
        assert base.count(KIND) == len(KNOWN)
        assert base.get(KIND, b"nothing") is None
        base.put(KIND, b"entry 3", b"anew")
        assert base.get(KIND, b"entry 3") == b"anew"
        assert base.get("file", b"entry 3") == b"other"


@pytest.mark.parametrize("seed", range(4))
def test_flipped_bits_lose_entries_and_change_none(tmp_path: Path, seed: int) -> None:
    whole = filled(tmp_path / "whole.sqlite").read_bytes()
    numbers = np.random.default_rng(seed)
    lost = 0
    for turn in range(40):
        raw = bytearray(whole)
        for place in numbers.integers(len(raw), size=(1, 8, 60)[turn % 3]):
            raw[place] ^= 1 << int(numbers.integers(8))
        path = tmp_path / f"{turn}" / "a.sqlite"
        path.parent.mkdir()
        path.write_bytes(raw)
        found, _ = read(path)
        assert found.items() <= KNOWN.items()
        lost += len(KNOWN) - len(found)
        assert read(path)[0].items() <= KNOWN.items()  # and again, whatever was set aside
    assert lost


def test_a_file_that_was_cut_or_is_none_is_set_aside(tmp_path: Path) -> None:
    whole = filled(tmp_path / "whole.sqlite").read_bytes()
    for name, raw in {"cut": whole[:5000], "text": b"hello\n" * 999, "torn": whole[:-4096]}.items():
        path = tmp_path / name / "a.sqlite"
        path.parent.mkdir()
        path.write_bytes(raw)
        found, troubles = read(path)
        assert found.items() <= KNOWN.items()
        aside = list(path.parent.glob("a.sqlite.aside-*"))
        assert len(troubles) == len([one for one in aside if one.suffix.startswith(".aside")]) == 1
        assert "is damaged" in troubles[0]
        assert aside[0].name in troubles[0]
        assert read(path)[1] == []


def test_another_layout_is_set_aside_whole(tmp_path: Path) -> None:
    path = filled(tmp_path / "a.sqlite")
    with closing(sqlite3.connect(path)) as base:
        base.execute(f"PRAGMA user_version = {database.LAYOUT + 1}")
    found, troubles = read(path)
    assert found == {}
    assert "is of another spectra (layout" in troubles[0]
    (aside,) = tmp_path.glob("a.sqlite.aside-*")
    with closing(sqlite3.connect(aside)) as base:
        assert base.execute("SELECT count(*) FROM entries").fetchone() == (2 * len(KNOWN),)


def test_a_full_disk_keeps_what_is_there_and_says_so(tmp_path: Path) -> None:
    path = filled(tmp_path / "a.sqlite")
    with closing(Database(path)) as base:
        assert base._base is not None
        pages = base._base.execute("PRAGMA page_count").fetchone()[0]
        base._base.execute(f"PRAGMA max_page_count = {pages}")
        for i in range(20):
            base.put(KIND, b"large %d" % i, b"x" * 100_000)
        assert {about: base.get(KIND, about) for about in KNOWN} == KNOWN
        assert len(base.troubles) == 1
        assert "full" in base.troubles[0]
    assert not list(tmp_path.glob("*.aside-*"))


def test_a_file_that_another_process_locks_is_waited_for_and_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = filled(tmp_path / "a.sqlite")
    monkeypatch.setattr(database, "PATIENCE", 0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        with closing(Database(path)) as base:
            other.execute("BEGIN IMMEDIATE")
            base.put(KIND, b"new", b"one")
            assert "locked" in base.troubles[0]
            assert base.get(KIND, b"entry 5") == KNOWN[b"entry 5"]
        other.execute("ROLLBACK")
    assert read(path) == (KNOWN, [])


@pytest.mark.parametrize("late", [False, True], ids=["opened before", "opened meanwhile"])
def test_a_file_that_was_locked_for_long_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    path = tmp_path / "a.sqlite"
    monkeypatch.setattr(database, "PATIENCE", 0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        if not late:
            filled(path)
        other.execute("BEGIN EXCLUSIVE" if late else "BEGIN IMMEDIATE")
        with closing(Database(path)) as base:
            base.put(KIND, b"first", b"1")
            assert "locked" in base.refused
            other.execute("ROLLBACK")
            base.put(KIND, b"second", b"2")
            assert base.refused, "it is left alone for a while"
            monkeypatch.setattr(database, "REST", -1.0)
            base.put(KIND, b"third", b"3")
            assert base.writes
            assert len(base.troubles) == 1
        with closing(Database(path)) as base:
            found = [one.about for one in base.entries(KIND) if one.about not in KNOWN]
            assert found == [b"third"]


@pytest.mark.parametrize(
    ("lies", "told"),
    [
        ("a file", "{place} is a file, not a folder"),
        ("a link", "{place} is a link that leads nowhere, not a folder"),
        ("a circle", "{place} is a link that leads nowhere, not a folder"),
        ("a pipe", "{place} is a device or pipe, not a folder"),
        ("a folder of its name", "unable to open database file"),
    ],
)
def test_where_nothing_can_be_written_nothing_is_kept(tmp_path: Path, lies: str, told: str) -> None:
    place = tmp_path / "a"
    path = place / "within" / "b.sqlite"
    if lies == "a file":
        place.write_text("")
    elif lies == "a pipe":
        os.mkfifo(place)
    elif lies == "a folder of its name":
        path.mkdir(parents=True)
    else:
        place.symlink_to("a" if lies == "a circle" else "nowhere")
    found, troubles = read(path)
    assert found == {}
    assert " ".join(troubles) == (
        f"{path} cannot be written ({told.format(place=place)}): what is measured is not kept; "
        "SPECTRA_CACHE_DIR names another folder"
    )


@pytest.mark.parametrize(
    ("lies", "told"),
    [
        ("nothing", "there is no such file"),
        ("a folder", "it is a folder"),
        ("a pipe", "it is a device or pipe"),
        ("a device", "it is a device or pipe"),
        ("a link", "it is a link that leads nowhere"),
        ("an empty file", "layout 0, expected 1"),
    ],
)
def test_what_is_no_file_of_entries_is_called_by_its_name(
    tmp_path: Path, lies: str, told: str
) -> None:
    path = Path("/dev/null") if lies == "a device" else tmp_path / "a"
    if lies == "a folder":
        path = Path()  # whose name is empty
    elif lies == "a pipe":
        os.mkfifo(path)
    elif lies == "a link":
        path.symlink_to("nowhere")
    elif lies == "an empty file":
        path.touch()
    with pytest.raises(OutputError, match=re.escape(f"no store of measurements ({told})")):
        list(entries_of(path, KIND))


def test_a_folder_that_may_only_be_read_serves_what_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = filled(tmp_path / "a.sqlite")

    def refused(_self: Database) -> sqlite3.Connection:
        error = sqlite3.OperationalError("attempt to write a readonly database")
        error.sqlite_errorcode = sqlite3.SQLITE_READONLY
        raise error

    monkeypatch.setattr(Database, "_connected", refused)
    found, troubles = read(path)
    assert found == KNOWN
    assert len(troubles) == 1


def put_many(path: Path, first: int) -> None:
    with closing(Database(path)) as base:
        for i in range(first, first + 150):
            base.put(KIND, b"%d" % i, b"%d" % (i * i))
        assert not base.troubles


def test_several_processes_write_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    path = tmp_path / "a.sqlite"
    crew = [context.Process(target=put_many, args=(path, 100 * i)) for i in range(3)]
    for one in crew:
        one.start()
    for one in crew:
        one.join()
        assert one.exitcode == 0
    with closing(Database(path)) as base:
        assert {one.about: one.body for one in base.entries(KIND)} == {
            b"%d" % i: b"%d" % (i * i) for i in range(350)
        }


def test_a_file_of_somebody_else_is_read_and_left(tmp_path: Path) -> None:
    path = filled(tmp_path / "a.sqlite")
    assert {one.about: one.body for one in entries_of(path, KIND) if one} == KNOWN
    whole = path.read_bytes()
    path.write_bytes(whole.replace(bytes([30]) * 1200, bytes([31]) * 1200))
    found = [*entries_of(path, KIND)]
    assert found.count(None) == 1, "one that is damaged is told"
    assert {one.about: one.body for one in found if one}.items() < KNOWN.items()
    for size in range(4096, len(whole), 4096):
        path.write_bytes(whole[:size])
        with pytest.raises(OutputError, match="is no store of measurements"):
            list(entries_of(path, KIND))
    path.write_bytes(b"notes, and no store")
    with pytest.raises(OutputError, match="is no store of measurements"):
        list(entries_of(path, KIND))
    with pytest.raises(OutputError, match=r"nope\.sqlite is no store"):
        list(entries_of(tmp_path / "nope.sqlite", KIND))
    assert path.read_bytes() == b"notes, and no store"


def deleted(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


@pytest.mark.parametrize("other", [False, True], ids=["gone", "begun anew by another"])
def test_a_file_that_is_deleted_meanwhile_is_begun_anew(tmp_path: Path, other: bool) -> None:
    path = filled(tmp_path / "deeper" / "a.sqlite")
    with closing(Database(path)) as base:
        base.put(KIND, b"before", b"1")
        deleted(path)
        if other:
            filled(path)
        base.put(KIND, b"after", b"2")
        path.parent.rename(tmp_path / "moved")
        base.put(KIND, b"later", b"3")
        assert base.troubles == []
    with closing(Database(path)) as base:
        assert [one.about for one in base.entries(KIND)] == [b"later"]
    with closing(Database(tmp_path / "moved" / "a.sqlite")) as base:
        held = {one.about: one.body for one in base.entries(KIND)}
        assert held == {**(KNOWN if other else {}), b"after": b"2"}
        assert base.troubles == []


def test_a_file_that_is_deleted_at_this_instant_is_begun_anew(tmp_path: Path) -> None:
    path = filled(tmp_path / "a.sqlite")
    once = iter([True])
    with closing(Database(path)) as base:

        def lost(connection: sqlite3.Connection) -> int:
            if next(once, False):
                deleted(path)
                raise sqlite3.OperationalError("disk I/O error")
            return int(connection.execute("PRAGMA user_version").fetchone()[0])

        assert base._try(lost) == 1
        base.put(KIND, b"after", b"1")
        assert (base.troubles, base.writes) == ([], True)
    assert [one.about for one in entries_of(path, KIND) if one] == [b"after"]


def test_a_store_is_emptied_for_all_who_use_it(tmp_path: Path) -> None:
    path = filled(tmp_path / "a.sqlite")
    with closing(Database(path)) as base:
        base.put(KIND, b"before", b"1")
        (tmp_path / "a.sqlite.aside-1").write_text("damaged")
        assert clear(path) > 40_000
        assert base.get(KIND, b"before") is None
        base.put(KIND, b"after", b"2")
        with closing(Database(path)) as other:
            assert other.get(KIND, b"after") == b"2"
    assert [one.name for one in tmp_path.iterdir()] == ["a.sqlite"]


def _used(path: Path, seconds: float) -> None:
    goal = time.monotonic() + seconds
    while time.monotonic() < goal:
        with closing(Database(path)) as base:
            for number in range(20):
                base.put(KIND, b"%d" % number, KNOWN[b"entry 5"])
                assert base.get(KIND, b"%d" % number) in {None, KNOWN[b"entry 5"]}
            assert base.troubles == []


def test_clearing_disturbs_nobody(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    others = [multiprocessing.Process(target=_used, args=(path, 1.5)) for _ in range(2)]
    for one in others:
        one.start()
    while any(one.is_alive() for one in others):
        clear(path)
        time.sleep(0.002)
    for one in others:
        one.join()
        assert one.exitcode == 0
