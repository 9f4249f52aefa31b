"""Running a plan: order, memory, failures, progress, devices."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest
import torch

import spectra
from examples import write_model
from spectra.analyzers import Diff, Measurement, Row, Spectrum, Summary
from spectra.analyzers.analyzer import Each, Takes
from spectra.errors import CheckpointError
from spectra.gate import plan_check
from spectra.kernels.work import NO_WORK
from spectra.matrices import Matrix, Selection, View
from spectra.policy import Policy
from spectra.work import plan_model, plan_pair
from spectra.work.estimate import estimate
from spectra.work.executor import Progress, measured
from spectra.work.local import Local


@dataclass(frozen=True, slots=True)
class Watcher:
    """Counts how many matrices, and bytes by its own claim, are in work at once."""

    name: ClassVar[str] = "watcher"
    version: ClassVar[int] = 1
    takes: ClassVar[Takes] = Each()
    keys: ClassVar[tuple[str, ...]] = ("seen",)

    need: int = 1 << 20
    lock: threading.Lock = field(default_factory=threading.Lock)
    running: list[int] = field(default_factory=lambda: [0])
    most: list[int] = field(default_factory=lambda: [0])

    def cost(self, view: View) -> float:
        return 1.0

    def memory(self, view: View) -> int:
        return self.need

    def measure(self, subject: Matrix) -> Measurement:
        with self.lock:
            self.running[0] += 1
            self.most[0] = max(self.most[0], self.running[0])
        threading.Event().wait(0.02)
        with self.lock:
            self.running[0] -= 1
        return Measurement({"seen": float(subject.values.sum())})

    def conclude(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Summary]:
        return rows, {}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(
        tmp_path, {f"layers.{i}.q.weight": torch.full((4, 4), float(i)) for i in range(12)}
    )


def test_several_matrices_are_measured_at_once_and_rows_stay_in_order(model: Path) -> None:
    watcher = Watcher()
    plan = plan_model(spectra.open(model), Selection())
    rows = measured(Local(workers=3), plan.tasks, watcher)
    assert [row.values["seen"] for row in rows] == [16.0 * i for i in range(12)]
    assert watcher.most == [3]


def test_the_largest_matrices_are_measured_one_at_a_time(model: Path) -> None:
    watcher = Watcher(need=1 << 40)
    plan = plan_model(spectra.open(model), Selection())
    measured(Local(workers=3), plan.tasks, watcher)
    assert watcher.most == [1]


def test_what_has_all_threads_has_the_processors_to_itself(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    plan = plan_model(spectra.open(model), Selection())
    for need, given, most in ((1 << 20, 1, 3), (1 << 40, 7, 1)):
        watcher = Watcher(need=need)
        measured(Local(workers=3), plan.tasks, watcher)
        assert threads == [*[given] * 12, 7]  # the last is the caller's, given back
        assert watcher.most == [most]
        threads.clear()


def test_a_change_as_factors_needs_less(minilm: Path) -> None:
    adapter = Path(__file__).parent.parent / "data" / "minilm-lora-r8"
    plan = plan_pair(spectra.open(minilm), spectra.open(adapter), Selection(layers="0"))
    question = Diff(intruders=True)
    for task in plan.tasks:
        view = task.inputs[0].view
        factors = task.inputs[0].change is not None
        expected = question.memory_of_factors(view) if factors else question.memory(view)
        assert task.need(question) == expected
    assert any(task.inputs[0].change is not None for task in plan.tasks)


def test_what_an_adapter_leaves_as_it_was_costs_no_comparison(minilm: Path) -> None:
    adapter = Path(__file__).parent.parent / "data" / "minilm-lora-r8"
    plan = plan_pair(spectra.open(minilm), spectra.open(adapter), Selection(layers="0"))
    for question in (Diff(), Diff(intruders=True)):
        for task in plan.tasks:
            view, changed = task.inputs[0].view, task.inputs[0].change is not None
            assert task.work(question) == (question.cost_of_factors(view) if changed else NO_WORK)
            assert float(question.cost_of_factors(view)) < float(question.cost(view))
    check = plan_check(str(adapter), Policy(base=str(minilm)))
    costs = {task.place.matrix: task.cost(check.checkup) for task in check.plan.tasks}
    assert 0.0 < costs["embeddings.word_embeddings.weight"] < 0.05 * sum(costs.values())


def test_progress_ends_at_the_total(model: Path) -> None:
    seen: list[Progress] = []
    plan = plan_model(spectra.open(model), Selection())
    measured(Local(), plan.tasks, Watcher(), seen.append)
    assert len(seen) == 12
    assert seen[-1].done == pytest.approx(seen[-1].total)


def test_the_callers_thread_count_is_given_back(model: Path) -> None:
    before = torch.get_num_threads()
    plan = plan_model(spectra.open(model), Selection())
    measured(Local(workers=2), plan.tasks, Watcher())
    assert torch.get_num_threads() == before


def test_an_error_in_a_worker_ends_the_run(tmp_path: Path) -> None:
    folder = write_model(tmp_path, {f"q{i}.weight": torch.ones(64, 64) for i in range(4)})
    plan = plan_model(spectra.open(folder), Selection())
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="ended inside tensor"):
        measured(Local(), plan.tasks, Watcher())


def test_one_bad_tensor_does_not_stop_the_rest(tmp_path: Path) -> None:
    bad = torch.ones(4, 4)
    bad[1, 2] = float("nan")
    folder = write_model(tmp_path, {"a.weight": torch.eye(4), "b.weight": bad})
    result = spectra.spectrum(folder)
    assert [row.status for row in result.rows] == ["ok", "non-finite"]
    assert result.rows[1].error == "1 NaN, the first at [1, 2]"
    assert all(value is None for value in result.rows[1].values.values())
    assert list(result.rows[1].values) == list(result.rows[0].values)
    assert result.summary["non_finite"] == 1


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_rows_do_not_depend_on_the_number_of_workers(minilm: Path, workers: int) -> None:
    chosen = spectra.Selection(layers="0-1", roles=["attn"])
    one = spectra.kappa(minilm, selection=chosen, workers=1)
    many = spectra.kappa(minilm, selection=chosen, workers=workers)
    for a, b in zip(one.rows, many.rows, strict=True):
        assert a.plain() == b.plain()


def test_estimates_come_from_headers_alone(model: Path) -> None:
    plan = plan_model(spectra.open(model), Selection())
    (model / "model.safetensors").write_bytes(b"")  # no weight can be read any more
    found = estimate(plan, Spectrum(), Local())
    assert (found.matrices, found.tensors, found.nbytes) == (12, 12, 12 * 64)
    assert found.seconds is not None
    assert found.seconds > 0
    assert found.memory > 0


def test_halves_and_doubles_are_read_as_they_are(tmp_path: Path) -> None:
    values = torch.randn(24, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        folder = write_model(tmp_path / str(dtype), {"w.weight": values.to(dtype)})
        row = spectra.spectrum(folder).rows[0]
        exact = torch.linalg.svdvals(values.to(dtype).double())
        assert row.number("sigma_max") == pytest.approx(float(exact[0]), rel=1e-9)
        assert row.number("sigma_min") == pytest.approx(float(exact[-1]), rel=1e-9)
