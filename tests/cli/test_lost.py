"""Runs that lose the network or the disk: what was measured is kept, and the rest comes later."""

import errno
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from examples import write_model
from loopback import Loopback, taken_for_the_hub
from spectra.analyzers import Spectrum
from spectra.analyzers.row import Measurement
from spectra.checkpoint.hub import remote
from spectra.matrices import Matrix

from .conftest import Command

COUNT, SIDE = 12, 96
NBYTES = 4 * SIDE * SIDE
KEPT = " What was measured is kept: the same command goes on from there.\n"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    monkeypatch.setenv("SPECTRA_CACHE_DIR", str(tmp_path / "store"))
    with taken_for_the_hub(tmp_path / "home") as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path, generator: torch.Generator) -> Path:
    values = torch.randn(COUNT, SIDE, SIDE, generator=generator)
    return write_model(tmp_path / "m", {f"layers.{i}.q": one for i, one in enumerate(values)})


@pytest.mark.parametrize("fails", ["dead", "silent", "busy", "refused"])
def test_a_server_that_is_lost(
    command: Command, hub: Loopback, folder: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    monkeypatch.setattr(remote, "TIMEOUT", 0.1)
    hub.add("org/m", folder)
    words = ("spectrum", "org/m", "--format", "csv")
    whole = command(*words, "--no-cache")
    hub.faults.fails, hub.faults.fails_from = fails, 6 * NBYTES
    lost = command(*words)
    assert (lost.code, lost.out) == (2, "")
    assert lost.err.startswith("error: org/m/model.safetensors: ")
    assert lost.err.endswith(KEPT)
    assert lost.err.count("\n") == 1
    for thread in threading.enumerate():  # in a process of its own they end with it
        if thread.name == "spectra-ahead":
            thread.join()
    hub.faults.fails_from = -1
    hub.forget()
    again = command(*words)
    assert (again.code, again.err) == (0, "")
    assert again.out == whole.out
    assert COUNT // 2 * NBYTES < hub.sent("model.safetensors") < (COUNT // 2 + 1) * NBYTES
    hub.forget()
    assert command(*words).out == whole.out
    assert hub.sent("model.safetensors") < NBYTES


def test_a_disk_without_room_for_what_is_written(
    command: Command, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPECTRA_CACHE_DIR", str(tmp_path / "store"))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.write_text", full)
        lost = command("spectrum", folder, "-o", tmp_path / "x.csv")
    assert lost.code == 2
    place = tmp_path / "x.csv"
    said = f"{place} cannot be written: No space left on device. Make room, or choose another"
    assert lost.err == f"error: {said} place.{KEPT}"
    assert not place.exists()
    assert command("ls", tmp_path / "none").err.count("kept") == 0  # by another command


def test_a_disk_without_room_for_the_store(command: Command, folder: Path, tmp_path: Path) -> None:
    code = "import sys; from spectra_cli.main import run; sys.exit(run(sys.argv[1:]))"
    words = [sys.executable, "-c", code, "spectrum", str(folder), "--format", "csv"]

    # What Python compiles would be cut short by the limit, and stay.
    environment = {"SPECTRA_CACHE_DIR": str(tmp_path / "store"), "PYTHONDONTWRITEBYTECODE": "1"}

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = subprocess.run(
        words, env=environment, preexec_fn=limit, capture_output=True, text=True, check=True
    )
    assert done.stdout == command("spectrum", folder, "--format", "csv", "--no-cache").out
    assert done.stderr.startswith(f"warning: {tmp_path}/store/store.sqlite cannot be written (")
    assert done.stderr.count("\n") == 1


def test_a_model_that_is_saved_again_meanwhile(
    command: Command, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPECTRA_CACHE_DIR", str(tmp_path / "store"))
    words = ("spectrum", folder, "--format", "csv")
    (path,) = folder.glob("*.safetensors")
    other = torch.randn(COUNT, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    measured, calls = Spectrum.measure, []

    def saved(self: Spectrum, subject: Matrix) -> Measurement:
        calls.append(subject)
        if len(calls) == COUNT // 2:
            write_model(folder, {f"layers.{i}.q": one for i, one in enumerate(other)})
        return measured(self, subject)

    with monkeypatch.context() as patch:
        patch.setattr(Spectrum, "measure", saved)
        lost = command(*words)
    assert (lost.code, lost.out) == (2, "")
    assert lost.err.startswith(f"error: {path} was written again after it was opened")
    assert lost.err.endswith(KEPT)
    again = command(*words)
    assert (again.code, again.err) == (0, "")
    assert again.out == command(*words, "--no-cache").out
