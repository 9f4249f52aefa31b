"""The ports: what identifies a row, a sink behind an executor, tasks and rows sent elsewhere."""

import json
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import spectra
from examples import write_model
from spectra.analyzers import Analyzer, Diff, Kappa, Measurement, Row, Spectrum
from spectra.checkpoint.fingerprints import MemoryLedger
from spectra.gate import plan_check
from spectra.gate.checkup import Checkup
from spectra.matrices import Matrix, Pair, Selection
from spectra.matrices.pair import Product
from spectra.policy import Policy
from spectra.runs.analysis import Analysis
from spectra.work import plan_model, plan_pair
from spectra.work.executor import Key, Sink, measured
from spectra.work.identity import identity
from spectra.work.load import Loader
from spectra.work.local import Local
from spectra.work.rates import Rates
from spectra.work.task import Task


def test_a_file_that_was_written_again_is_another(tmp_path: Path) -> None:
    ledger = MemoryLedger()
    for value in (1.0, 2.0):
        folder = write_model(tmp_path / "m", {"a.weight": torch.full((4, 4 + int(value)), value)})
        plan = plan_model(spectra.open(folder), Selection())
        assert identity(plan.tasks[0], Kappa(), ledger) is None
        measured(Local(ledger=ledger), plan.tasks, Kappa())
        assert identity(plan.tasks[0], Kappa(), ledger) is not None


def test_numerics_of_another_version_are_not_taken_for_these(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_model(tmp_path, {"a.weight": torch.ones(4, 4)})
    task = plan_model(spectra.open(folder), Selection()).tasks[0]
    ledger = MemoryLedger()
    Loader([task], ledger).load(task)

    checkup = Checkup(diff=Diff())
    before = [identity(task, one, ledger) for one in (Kappa(), checkup)]
    monkeypatch.setattr(Kappa, "version", Kappa.version + 1)
    monkeypatch.setattr(Diff, "version", Diff.version + 1)  # a part of a check
    assert not {identity(task, one, ledger) for one in (Kappa(), checkup)} & set(before)


def test_an_identity_is_the_same_in_every_process_and_place(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "a", {"a.weight": torch.randn(4, 4)})
    copied = shutil.copytree(folder, tmp_path / "b")
    ledger = MemoryLedger()
    found = set()
    for other in (folder, copied):
        (task,) = plan_pair(spectra.open(folder), spectra.open(other), Selection()).tasks
        Loader([task], ledger).load(task)
        found.add(identity(task, Diff(), ledger))
    assert len(found) == 1
    told = ("from spectra.checkpoint.fingerprints import plain; "
            "print(plain(frozenset({'model', 'baseline', 'base', 'proxy'})))")  # fmt: skip
    shown = {
        subprocess.run(
            [sys.executable, "-c", told], check=True, capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(shown) == 1


def test_what_is_cut_out_of_a_tensor_that_was_read_whole_is_known(
    tmp_path: Path, generator: torch.Generator
) -> None:
    shapes = {"gate_up_proj": (3, 4, 12), "down_proj": (3, 6, 4)}
    stacks = {
        f"model.layers.0.mlp.experts.{name}": torch.randn(*shape, generator=generator)
        for name, shape in shapes.items()
    }
    folder = write_model(tmp_path, stacks, '{"model_type": "gpt_oss"}')
    tasks = plan_model(spectra.open(folder), Selection()).tasks
    ledger = MemoryLedger()
    for task in tasks:
        assert task.inputs[0].own.slab is not None
        task.inputs[0].own.all.values(ledger)
    found = {identity(task, Kappa(), ledger) for task in tasks}
    assert None not in found
    assert len(found) == len(tasks)


def test_two_files_of_one_folder_are_not_taken_for_each_other(
    tmp_path: Path, generator: torch.Generator
) -> None:
    first, second = torch.randn(2, 8, 8, generator=generator)
    write_model(tmp_path, {"a.weight": first})
    write_model(tmp_path, {"a.weight": second}, name="model.fp16.safetensors")
    models = spectra.open(tmp_path), spectra.open(tmp_path, variant="fp16")
    (task,) = plan_pair(*models, Selection()).tasks
    for one in (task, pickle.loads(pickle.dumps(task.portable()))):
        pair = Loader([one]).load(one).subject("cpu")
        assert isinstance(pair, Pair)
        assert torch.equal(pair.base, first)
        assert torch.equal(pair.tuned_exact(), second)


def elsewhere(sent: bytes) -> str:
    """Measure a task in a process of its own."""
    task, analyzer = pickle.loads(sent)
    (row,) = Local().run([task], analyzer)
    return json.dumps(row.plain())


@dataclass
class Processes:
    """An executor whose tasks and rows go to other processes and back."""

    crew = 1
    here = True
    device = "cpu"
    rates = Rates()
    ledger = None

    def peak(self, tasks: Sequence[Task], analyzer: Analyzer[Any]) -> int:
        return 0

    def known(self, tasks: Sequence[Task], analyzer: Analyzer[Any]) -> Mapping[Key, Row]:
        return {}

    def run(
        self, tasks: Sequence[Task], analyzer: Analyzer[Any], sink: Sink | None = None
    ) -> Iterator[Row]:
        sent = [pickle.dumps((task.portable(), analyzer)) for task in tasks]
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            for told in pool.map(elsewhere, sent):
                yield Row.from_plain(json.loads(told))


def test_rows_that_other_processes_measured_are_those_of_this_one(tmp_path: Path) -> None:
    found = {f"layers.0.mlp.{name}.weight": torch.randn(6, 6) for name in ("up_proj", "down_proj")}
    base = write_model(tmp_path / "base", {**found, "bad.weight": torch.full((3, 3), torch.nan)})
    tuned = write_model(
        tmp_path / "tuned", {name: value + 0.1 for name, value in found.items()} |
        {"bad.weight": torch.ones(3, 3)},
    )  # fmt: skip
    analyzer = Diff(intruders=True, k=2)
    plan = plan_pair(spectra.open(base), spectra.open(tuned), Selection())
    here, there = (measured(one, plan.tasks, analyzer) for one in (Local(), Processes()))
    assert [row.plain() for row in there] == [row.plain() for row in here]
    assert {row.status for row in here} == {"ok", "non-finite"}
    check = plan_check(str(tuned), Policy(base=str(base)))
    sent, own = check.run(Processes()), check.run(Local())
    assert sent.document() == own.document()


def test_rows_go_to_plain_data_and_back(minilm: Path) -> None:
    for row in spectra.spectrum(minilm, selection=Selection(layers="0")).rows:
        back = Row.from_plain(json.loads(json.dumps(row.plain())))
        assert (back.place, back.status, back.error) == (row.place, row.status, row.error)
        assert back.values == row.values
        assert torch.equal(back.arrays["sigma"], row.arrays["sigma"])
        assert back.arrays["sigma"].dtype == row.arrays["sigma"].dtype


@pytest.mark.parametrize("shape", [(0,), (), (2, 3)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int64, torch.bool])
def test_arrays_keep_dtype_and_shape(
    minilm: Path, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    row = replace(spectra.ls(minilm).rows[0], arrays={"a": torch.ones(shape).to(dtype)})
    found = Row.from_plain(row.plain()).arrays["a"]
    assert (found.dtype, found.shape) == (dtype, shape)
    assert torch.equal(found, row.arrays["a"])


def test_a_task_is_sent_with_no_more_than_it_needs(minilm: Path, minilm_lora: Path) -> None:
    roles = Selection(roles=("attn.q",))
    plan = plan_pair(spectra.open(minilm), spectra.open(minilm_lora), roles)
    itself = plan_pair(spectra.open(minilm), spectra.open(minilm), roles)
    for task in (*plan.tasks[:3], itself.tasks[0]):
        assert all(not one.source.config for one in task.portable().inputs)
        sent = pickle.dumps(task.portable())
        assert len(sent) < 12_000 < len(pickle.dumps(task))
        back = pickle.loads(sent)
        (here,), (there,) = (measured(Local(), [one], Diff()) for one in (task, back))
        assert here.plain() == there.plain()


@dataclass
class Kept:
    """Takes what is made."""

    taken: dict[str, Tensor] = field(default_factory=dict)

    def take(self, task: Task, tensors: Mapping[str, Tensor]) -> None:
        self.taken[task.place.matrix] = tensors["half"]


class Halved(Spectrum):
    """Makes a tensor of every matrix."""

    def measure(self, matrix: Matrix | Product) -> Measurement:
        values = {**super().measure(matrix).values, "sigma_max": 1.0}
        return Measurement(values, tensors={"half": matrix.values / 2})


def test_a_sink_takes_what_measuring_made(tmp_path: Path) -> None:
    folder = write_model(tmp_path, {f"w{i}.weight": torch.full((3, 4), float(i)) for i in range(5)})
    plan = plan_model(spectra.open(folder), Selection())
    sink = Kept()
    rows = Analysis(Halved(), plan, Selection()).run(Local(workers=2), sink=sink).rows
    assert {name: float(half[0, 0]) for name, half in sink.taken.items()} == {
        f"w{i}.weight": i / 2 for i in range(5)
    }
    assert len(rows) == 5
    assert all(not row.arrays for row in rows)
