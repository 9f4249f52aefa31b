"""Places that are looked at before the work, and what runs that were killed left beside them."""

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest

from spectra.errors import OutputError
from spectra.writing.destination import Destination
from spectra.writing.temporary import held, name_beside

OWN = ("a", "b")
KILLED = """
import os, signal
from pathlib import Path
from spectra.writing.destination import Destination
def fill(place):
    (place / "a" if place.is_dir() else place).write_bytes(bytes(3 << 20))
    os.kill(os.getpid(), signal.SIGKILL)
Destination(Path({path!r}), {own!r}, False, (".gguf",)).write(fill)
"""


def fill(folder: Path) -> int:
    return (folder / "a").write_text("new")


def test_what_is_there_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "out"
    Destination(place, OWN).require(0)
    place.mkdir()
    Destination(place, OWN).require(0)
    (place / "a").touch()
    with pytest.raises(OutputError, match=r"holds 1 file, e\.g\. 'a'; nothing is overwritten"):
        Destination(place, OWN).require(0)
    Destination(place, OWN, force=True).require(0)
    (place / "optimizer.pt").touch()
    with pytest.raises(OutputError, match=r"holds 'optimizer\.pt', which was not written here"):
        Destination(place, OWN, force=True).require(0)
    with pytest.raises(OutputError, match="is a file; expected a folder"):
        Destination(place / "a", OWN, force=True).require(0)
    with pytest.raises(OutputError, match="does not exist"):
        Destination(tmp_path / "no" / "out", OWN).require(0)
    with pytest.raises(OutputError, match="- is no place to write to"):
        Destination(Path("-"), OWN).require(0)


class Disk(NamedTuple):
    total: int
    used: int
    free: int


def test_a_disk_without_room_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Disk(10, 0, 5 << 20))
    Destination(tmp_path / "out", OWN).require(5 << 20)
    with pytest.raises(OutputError, match=r"may take 6\.0 MiB .* and 5\.0 MiB are free"):
        Destination(tmp_path / "out", OWN).require(6 << 20)


@pytest.mark.parametrize(("name", "own"), [("out", OWN), ("out.gguf", ())])
def test_what_a_killed_run_left_is_room_and_is_swept(
    name: str, own: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    other = tmp_path / f".{name}.deadbeef.mine"
    other.touch()
    script = textwrap.dedent(KILLED.format(path=str(path), own=own))
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert len([*tmp_path.iterdir()]) == 2
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Disk(10, 0, 5 << 20))
    place = Destination(path, own, suffixes=(".gguf",))
    place.require(8 << 20)
    with pytest.raises(OutputError, match=r"9\.0 MiB while it is written, and 8\.0 MiB are free"):
        place.require(9 << 20)
    assert place.write(lambda where: len((where / "a" if own else where).name)) > 0
    assert sorted(tmp_path.iterdir()) == sorted([path, other])


def test_what_another_run_fills_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "out"
    alive = name_beside(path)
    with held(alive, Path.mkdir):
        (alive / "a").write_text("half")
        assert Destination(path, OWN).write(fill) == 3
        assert (alive / "a").read_text() == "half"
    Destination(path, OWN, force=True).write(fill)
    assert [*tmp_path.iterdir()] == [path]


def test_what_was_put_there_meanwhile_stays(tmp_path: Path) -> None:
    place = Destination(tmp_path / "out", OWN)
    place.require(0)

    def late(folder: Path) -> None:
        fill(folder)
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "precious").write_text("mine")

    with pytest.raises(OutputError, match="nothing is overwritten without"):
        place.write(late)
    assert [one.name for one in tmp_path.rglob("*")] == ["out", "precious"]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="Linux alone has such a folder")
def test_a_folder_that_takes_no_files_is_refused() -> None:
    with pytest.raises(OutputError, match=r"/proc/self/out cannot be written: "):
        Destination(Path("/proc/self/out"), OWN).require(0)


def test_the_disk_is_that_of_the_folder_that_a_link_leads_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "far" / "out").mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "far" / "out")
    free = {tmp_path: 0, tmp_path / "far": 9}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk(10, 0, free[path]))
    place = Destination(tmp_path / "out", OWN)
    place.require(9)
    place.write(fill)
    assert (tmp_path / "out").readlink() == tmp_path / "far" / "out"
    assert (tmp_path / "far" / "out" / "a").is_file()
