"""Folders that are whole or not there, and files of tensors that other readers read."""

import subprocess
import sys
import textwrap
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors import safe_open

from spectra.checkpoint.header import read_header
from spectra.checkpoint.local import LocalFile
from spectra.errors import OutputError
from spectra.writing.destination import Destination
from spectra.writing.folder import write_folder
from spectra.writing.peft import Module, config_of, patterns_of, targets_of
from spectra.writing.spool import Spool, raw
from spectra.writing.tensors import Slot, write_tensors


def fill(folder: Path) -> None:
    (folder / "a").write_text("new")


def fail(folder: Path) -> None:
    fill(folder)
    raise OSError(28, "No space left on device")


def test_a_folder_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    place = tmp_path / "out"
    with pytest.raises(OutputError, match="No space left"):
        write_folder(place, fail)
    assert [*tmp_path.iterdir()] == []
    write_folder(place, fill)
    assert (place / "a").read_text() == "new"
    assert [one.name for one in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("link", [False, True])
def test_one_that_is_there_is_replaced_in_one_step(tmp_path: Path, link: bool) -> None:
    place, real = tmp_path / "out", tmp_path / "real"
    real.mkdir()
    (real / "b").write_text("old")
    if link:
        place.symlink_to(real)
    else:
        real.rename(place)
    with pytest.raises(OutputError, match="No space left"):
        write_folder(place, fail)
    assert (place / "b").read_text() == "old"
    write_folder(place, fill)
    assert [one.name for one in place.iterdir()] == ["a"]
    assert place.is_symlink() is link
    assert {one.name for one in tmp_path.iterdir()} <= {"out", "real"}


def test_without_an_exchange_it_is_replaced_by_renames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "plan9")
    place = tmp_path / "out"
    place.mkdir()
    (place / "b").write_text("old")
    write_folder(place, fill)
    assert [one.name for one in place.iterdir()] == ["a"]
    assert [one.name for one in tmp_path.iterdir()] == ["out"]


def test_a_killed_writer_leaves_nothing_in_the_place(tmp_path: Path) -> None:
    code = textwrap.dedent(f"""
        import os, signal
        from pathlib import Path
        from spectra.writing.folder import write_folder
        def fill(folder):
            (folder / "a").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
        write_folder(Path({str(tmp_path / "out")!r}), fill)
    """)
    subprocess.run([sys.executable, "-c", code], check=False)
    assert not (tmp_path / "out").exists()
    assert all(one.name.startswith(".out.") for one in tmp_path.iterdir())


KILLED = """
import os, signal, shutil, sys
from pathlib import Path
from spectra.writing.folder import write_folder

sys.platform = "plan9"  # no two folders are exchanged there
place, at = Path(sys.argv[1]), sys.argv[2]
rename = Path.rename

def killed(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

def once(path, target):
    Path.rename = killed if at == "between" else rename
    return rename(path, target)

Path.rename = once
if at == "after":
    shutil.rmtree = killed
write_folder(place, lambda folder: (folder / "a").write_text("new"))
"""


@pytest.mark.parametrize(("at", "held"), [("between", "b"), ("after", "a")])
def test_a_writer_that_is_killed_between_two_renames_loses_nothing(
    tmp_path: Path, at: str, held: str
) -> None:
    """The next run finds what made room: it puts that back, or sweeps it where the new one came."""
    place = tmp_path / "out"
    place.mkdir()
    (place / "b").write_text("old")
    subprocess.run([sys.executable, "-c", KILLED, str(place), at], check=False)
    (aside,) = (one for one in tmp_path.iterdir() if one.name.endswith(".old"))
    assert [one.name for one in aside.iterdir()] == ["b"]
    assert place.exists() is (at == "after")
    there = Destination(place, own=("a", "b"))
    with pytest.raises(OutputError, match=f"exists and holds 1 file, e.g. '{held}'"):
        there.require(0)
    assert [one.name for one in place.iterdir()] == [held]
    replace(there, force=True).write(fill)
    assert [one.name for one in tmp_path.iterdir()] == ["out"]
    assert (place / "a").read_text() == "new"


def test_what_made_room_comes_back_where_the_new_folder_cannot_be_put_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "plan9")
    place, rename = tmp_path / "out", Path.rename
    place.mkdir()
    (place / "b").write_text("old")

    def refusing(path: Path, target: Path) -> Path:
        if target == place and not path.name.endswith(".old"):
            raise OSError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refusing)
    with pytest.raises(OutputError, match="Permission denied"):
        write_folder(place, fill)
    assert [one.name for one in tmp_path.iterdir()] == ["out"]
    assert (place / "b").read_text() == "old"


def given(tensor: torch.Tensor) -> list[memoryview]:
    return [raw(tensor)]


def test_a_file_of_tensors_is_what_the_formats_own_library_reads(tmp_path: Path) -> None:
    tensors = {
        "b": torch.randn(3, 5).bfloat16(), "a": torch.randn(2), "none": torch.zeros(0, 4),
        "c": torch.arange(3), "d": torch.randn(()),
    }  # fmt: skip
    words = {torch.bfloat16: "BF16", torch.float32: "F32", torch.int64: "I64"}
    slots = {
        name: Slot(words[t.dtype], tuple(t.shape), t.numel() * t.element_size(), partial(given, t))
        for name, t in tensors.items()
    }
    path = tmp_path / "x.safetensors"
    size = write_tensors(path, slots, {"format": "pt", "who": "ö"})
    assert size == path.stat().st_size
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt", "who": "ö"}
        for name, tensor in tensors.items():
            assert torch.equal(file.get_tensor(name), tensor)
    assert read_header(LocalFile(path), path.name)  # and ours, which looks for holes and overlaps


def test_a_tensor_that_gives_other_bytes_is_an_error(tmp_path: Path) -> None:
    slots = {"a": Slot("F32", (2,), 8, lambda: [b"1234"])}
    with pytest.raises(OutputError, match="tensor 'a' gave 4 bytes, expected 8"):
        write_tensors(tmp_path / "x", slots, {})


class Row(NamedTuple):
    matrix: str


class Done(NamedTuple):
    place: Row


def test_a_spool_gives_back_leading_rows_and_leaves_no_file(tmp_path: Path) -> None:
    first, second = torch.randn(6, 4), torch.randn(3, 2).bfloat16()
    with Spool(tmp_path) as spool:
        spool.take(Done(Row("m")), {"left": first})
        spool.take(Done(Row("n")), {"left": second})
        assert torch.equal(spool.rows("m", "left", 2), first[:2])
        spool.take(Done(Row("m")), {"right": first.mT})
        assert torch.equal(spool.rows("n", "left", 3), second)
        assert torch.equal(spool.rows("m", "right", 4), first.mT)
        assert spool.rows("m", "left", 0).shape == (0, 4)
    assert [*tmp_path.iterdir()] == []


def test_names_that_others_end_with_are_anchored() -> None:
    names = ["a.b.q", "x.a.b.q", "c"]
    assert patterns_of(names) == {"a.b.q": r"^a\.b\.q", "x.a.b.q": "x.a.b.q", "c": "c"}
    assert targets_of(["c", "x.a.b.q"]) == ["c", "x.a.b.q"]
    assert targets_of(["a.b.q"], names) == r"(?:a\.b\.q)"


def test_ranks_that_differ_take_alpha_with_them() -> None:
    modules = [Module("a", 4), Module("b", 4), Module("c", 2)]
    config = config_of(modules, {"r": 64, "use_rslora": True, "task_type": "CAUSAL_LM"})
    told = {key: config[key] for key in ("r", "lora_alpha", "rank_pattern", "alpha_pattern")}
    assert told == {
        "r": 4, "lora_alpha": 4, "rank_pattern": {"c": 2}, "alpha_pattern": {"c": 2},
    }  # fmt: skip
    assert config["use_rslora"] is False
    assert config["task_type"] == "CAUSAL_LM"
