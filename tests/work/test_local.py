"""This machine as an executor: threads by the task alone, devices, matrices that fail."""

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import spectra
from examples import write_model
from spectra.analyzers import Analyzer, Diff, Kappa, Measurement, Row, Spectrum
from spectra.analyzers.soundness import Soundness
from spectra.errors import UsageError
from spectra.gate import plan_check
from spectra.matrices import Matrix, Selection
from spectra.matrices.pair import Product
from spectra.policy import Policy
from spectra.work import local, memory, plan_model, plan_pair
from spectra.work.executor import Key, key_of
from spectra.work.load import Loaded, Loader, Subject
from spectra.work.local import Local, measure_loaded, threads_of
from spectra.work.task import Task
from spectra.work.threads import use_threads

SIDES = ((256, 320), (384, 384), (700, 660), (1100, 300), (64, 900))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base and what became of it, of matrices small and large."""
    source = torch.Generator().manual_seed(0)
    base = {
        f"{name}.weight": torch.randn(*shape, generator=source)
        for name, shape in zip(("q", "k", "up", "down", "o"), SIDES, strict=True)
    }
    tuned = {
        name: value + torch.randn(len(value), 4, generator=source)
        @ torch.randn(4, value.shape[1], generator=source) * 0.02
        for name, value in base.items()
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("local")
    return write_model(folder / "base", base), write_model(folder / "tuned", tuned)


def rows_of(executor: Local, tasks: Sequence[Task], analyzer: Analyzer[Any]) -> dict[Key, object]:
    return {key_of(row.place): row.plain() for row in executor.run(tasks, analyzer)}


def test_a_part_of_a_check_is_measured_as_it_is_alone(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In as many threads: its row is kept, and is the answer of `spectrum` and `diff` too."""
    found: list[tuple[str, int]] = []

    def threads(task: Task, analyzer: Analyzer[Any], count: int) -> int:
        return count if analyzer.name == "spectrum" else 1

    def noting(kind: type[Any]) -> Callable[..., Measurement]:
        measure = kind.measure

        def noted(analyzer: Analyzer[Any], subject: Any) -> Measurement:  # noqa: ANN401 - as it takes
            found.append((analyzer.name, torch.get_num_threads()))
            return measure(analyzer, subject)  # type: ignore[no-any-return]

        return noted

    monkeypatch.setattr(local, "threads_of", threads)
    for kind in (Spectrum, Diff, Soundness):
        monkeypatch.setattr(kind, "measure", noting(kind))
    before = torch.get_num_threads()
    use_threads(3)
    try:
        plan_check(str(pair[1]), Policy(base=str(pair[0]))).run(Local(2))
    finally:
        use_threads(before)
    assert set(found) == {("spectrum", 3), ("diff", 1), ("soundness", 1)}


@pytest.mark.parametrize("analyzer", [Kappa(), Spectrum(), Diff(intruders=True, k=4)])
def test_a_row_is_the_same_in_any_company(
    pair: tuple[Path, Path], analyzer: Analyzer[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "ROOM", 8 << 20)  # so that the large ones have all threads
    monkeypatch.setattr(memory, "SHARE", 0)
    base, tuned = (spectra.open(one) for one in pair)
    whole = Selection()
    plan = plan_pair(base, tuned, whole) if isinstance(analyzer, Diff) else plan_model(base, whole)
    tasks, source = list(plan.tasks), random.Random(0)  # noqa: S311 - any will do
    given = {threads_of(task, analyzer, 2) for task in tasks}
    assert given == {1, 2}
    expected = rows_of(Local(workers=2), tasks, analyzer)
    for workers, spare in ((1, None), (2, None), (3, None), (2, 64 << 20), (3, 1 << 40)):
        some = source.sample(tasks, source.randrange(1, len(tasks) + 1))
        for few in (some, tasks[::-1]):
            limit = spare and memory.resident() + memory.LATER + spare
            found = rows_of(Local(workers, memory=limit), few, analyzer)
            assert found == {key: expected[key] for key in found}
            assert len(found) == len(few)
    alone = Loader(tasks[:1]).load(tasks[0])
    row, _ = measure_loaded(analyzer, alone)
    assert row.plain() == expected[key_of(row.place)]


def test_threads_are_one_or_all_by_how_many_of_a_size_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_model(tmp_path, {"q.weight": torch.ones(400, 400)})
    (task,) = plan_model(spectra.open(folder), Selection()).tasks
    need = task.need(Kappa())
    assert [threads_of(task, Kappa(), n) for n in (1, 2, 64)] == [1, 1, 1]
    monkeypatch.setattr(memory, "SHARE", 0)
    monkeypatch.setattr(memory, "ROOM", 4 * need)  # four beside each other do what 4.2 would
    assert [threads_of(task, Kappa(), n) for n in (1, 2, 4, 5, 6, 64)] == [1, 1, 1, 1, 6, 64]
    monkeypatch.setattr(memory, "ROOM", 0)
    assert [threads_of(task, Kappa(), n) for n in (1, 2, 64)] == [1, 2, 64]
    monkeypatch.setattr("spectra.kernels.work.LONG", 1)
    monkeypatch.setattr("spectra.kernels.work.RATIO", 1)
    opened = spectra.open(folder)
    (pair,) = plan_pair(opened, opened, Selection()).tasks
    assert threads_of(pair, Diff(), 64) == 1  # its change is streamed


@dataclass(frozen=True, slots=True)
class Failing(Spectrum):
    """Cannot measure matrices of three rows."""

    error: Callable[[], BaseException] = RuntimeError

    def measure(self, matrix: Matrix | Product) -> Measurement:
        if matrix.view.rows == 3:
            raise self.error()
        return Spectrum.measure(self, matrix)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (lambda: np.linalg.LinAlgError("did not\n  converge"), "LinAlgError: did not converge"),
        (lambda: MemoryError, "out of memory"),
        (lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
         "out of memory"),
        (lambda: torch.OutOfMemoryError("CUDA out of memory. Tried"), "out of memory"),
        (lambda: KeyError("\x1b[31m"), "KeyError: '\\x1b[31m'"),
        (ZeroDivisionError, "ZeroDivisionError"),
        (lambda: ValueError("x" * 500), f"ValueError: {'x' * 200}..."),
    ],
)  # fmt: skip
def test_what_goes_wrong_with_one_matrix_is_its_row(
    tmp_path: Path, error: Callable[[], BaseException], told: str
) -> None:
    folder = write_model(tmp_path, {"a.weight": torch.eye(4), "b.weight": torch.ones(3, 2)})
    tasks = plan_model(spectra.open(folder), Selection()).tasks
    rows = {row.matrix: row for row in Local(2).run(tasks, Failing(error=error))}
    assert rows["a.weight"].status == "ok"
    bad = rows["b.weight"]
    assert (bad.status, bad.error) == ("failed", told)
    assert list(bad.values) == list(Spectrum().keys)
    assert not any(bad.values.values())


@pytest.mark.parametrize("error", [UsageError, KeyboardInterrupt])
def test_what_is_no_fault_of_a_matrix_ends_the_run(
    tmp_path: Path, error: Callable[[], BaseException]
) -> None:
    folder = write_model(tmp_path, {"b.weight": torch.ones(3, 2)})
    tasks = plan_model(spectra.open(folder), Selection()).tasks
    with pytest.raises(error):  # type: ignore[call-overload]
        list(Local(1).run(tasks, Failing(error=error)))


def test_the_traceback_is_shown_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = write_model(tmp_path, {"b.weight": torch.ones(3, 2)})
    tasks = plan_model(spectra.open(folder), Selection()).tasks
    for wanted in ("", "1"):
        monkeypatch.setenv("SPECTRA_DEBUG", wanted)
        list(Local(1).run(tasks, Failing()))
        assert ("Traceback" in capfd.readouterr().err) == bool(wanted)


def test_each_task_takes_the_device_that_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_model(tmp_path, {f"w{i}.weight": torch.eye(4) for i in range(12)})
    tasks = plan_model(spectra.open(folder), Selection()).tasks
    used: list[str] = []
    both = threading.Barrier(2)

    def measured(_analyzer: Analyzer[Any], job: Loaded, device: str, *, threads: int) -> local.Made:
        used.append(device)
        both.wait(10)  # two are in work at once, on two devices
        assert {used[-1], used[-2]} == {"cuda:0", "cuda:1"} or len(used) % 2
        return Row(job.task.place, "ok", None, {}), {}

    monkeypatch.setattr(local, "measure_loaded", measured)
    executor = Local(wanted="cuda:0,cuda:1")
    assert executor.crew == 2
    assert len(list(executor.run(tasks, Spectrum()))) == 12
    assert sorted(used) == ["cuda:0"] * 6 + ["cuda:1"] * 6


def test_a_device_without_memory_leaves_a_matrix_to_the_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_model(tmp_path, {"a.weight": torch.eye(4)})
    (task,) = plan_model(spectra.open(folder), Selection()).tasks
    job = Loader([task]).load(task)
    tried: list[str] = []
    subject = Loaded.subject

    def short(self: Loaded, device: str, *, products: bool) -> Subject:
        tried.append(device)
        if device != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return subject(self, device, products=products)

    monkeypatch.setattr(Loaded, "subject", short)
    row, _ = measure_loaded(Spectrum(), job, "cuda:1")
    assert row.status == "ok"
    assert tried == ["cuda:1", "cuda:1", "cpu"]
