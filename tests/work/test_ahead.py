"""What comes from another machine is asked for before its turn: bounded, in order, let go."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import spectra
from examples import write_model
from loopback import Loopback, taken_for_the_hub
from spectra.checkpoint import Checkpoint
from spectra.checkpoint.hub import remote
from spectra.errors import CheckpointError
from spectra.matrices import Matrix, Selection
from spectra.work import ahead, plan_model
from spectra.work.load import Loader
from spectra.work.task import Task

COUNT, SIDE = 24, 64
NBYTES = 4 * SIDE * SIDE


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Loopback]:
    with taken_for_the_hub(tmp_path / "home") as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path, generator: torch.Generator) -> Path:
    shape = SIDE, SIDE
    tensors = {
        f"layers.{i}.q.weight": torch.randn(shape, generator=generator) for i in range(COUNT)
    }
    return write_model(tmp_path / "m", tensors)


def tasks_of(spec: str | Path) -> tuple[Task, ...]:
    opened = spectra.open(spec)
    assert isinstance(opened, Checkpoint)
    return plan_model(opened, Selection()).tasks


def values(loader: Loader, task: Task) -> torch.Tensor:
    subject = loader.load(task).subject("cpu")
    assert isinstance(subject, Matrix)
    return subject.values


def test_several_ranges_are_on_their_way_and_each_comes_once(hub: Loopback, folder: Path) -> None:
    hub.add("org/m", folder)
    tasks = tasks_of("org/m")
    hub.forget()
    hub.faults.together = remote.RANGES
    loader = Loader(tasks)
    for task, near in zip(tasks, tasks_of(folder), strict=True):
        assert torch.equal(values(loader, task), values(Loader([near]), near))
    assert len({one.range for one in hub.on("cdn")}) == len(hub.on("cdn")) == COUNT
    assert hub.most == remote.RANGES


@pytest.mark.parametrize("fit", [0, 1, 3])
def test_no_more_waits_than_there_is_room_for(hub: Loopback, folder: Path, fit: int) -> None:
    hub.add("org/m", folder)
    tasks = tasks_of("org/m")
    hub.forget()
    loader = Loader(tasks, room=fit * NBYTES)
    values(loader, tasks[0])
    quiet(hub)
    assert len(hub.on("cdn")) == 1 + fit
    loader.close()


def quiet(hub: Loopback) -> None:
    """Wait until nothing has been asked for a while."""
    before = -1
    while before != (before := len(hub.requests)):
        time.sleep(0.1)


def test_what_goes_wrong_ahead_is_told_at_its_turn(
    hub: Loopback, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/m", folder)
    tasks = tasks_of("org/m")
    monkeypatch.setattr(remote, "RANGES", 1)
    loader = Loader(tasks)
    whole = loader._ahead._read

    def failing(read: ahead.Read) -> object:
        if read.key == tasks[3].inputs[0].own.key:
            raise CheckpointError("the fourth.")
        return whole(read)

    monkeypatch.setattr(loader._ahead, "_read", failing)
    for task in tasks[:3]:
        values(loader, task)
    with pytest.raises(CheckpointError, match="the fourth"):
        loader.load(tasks[3])
    loader.close()


def test_closing_leaves_nothing_that_keeps_a_process_alive(hub: Loopback, folder: Path) -> None:
    hub.add("org/m", folder)
    tasks = tasks_of("org/m")
    hub.forget()
    hub.faults.latency = 0.3
    loader = Loader(tasks)
    values(loader, tasks[0])
    loader.close()
    own = [one for one in threading.enumerate() if one.name == "spectra-ahead"]
    assert own
    assert all(one.daemon for one in own)
    for one in own:
        one.join()
    assert remote.RANGES <= len(hub.on("cdn")) < COUNT  # what waited is not asked for


def test_a_large_tensor_comes_in_several_ranges(
    hub: Loopback, tmp_path: Path, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "PIECE", 10_000)
    large = torch.randn(101, 331, generator=generator)
    hub.add("org/m", write_model(tmp_path / "m", {"a.weight": large}))
    (task,) = tasks_of("org/m")
    hub.forget()
    hub.faults.together = remote.RANGES
    hub.faults.cut, hub.faults.cuts = 5_000, 2
    assert torch.equal(values(Loader([task]), task), large)
    assert len(hub.on("cdn")) == remote.RANGES + 2
    assert hub.most == remote.RANGES
