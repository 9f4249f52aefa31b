"""The ports: a store before an executor, a sink behind it, tasks and rows sent elsewhere."""

import json
import pickle
from collections.abc import Iterator, Mapping, Sequence
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
from spectra.matrices import Matrix, Selection
from spectra.runs.analysis import Analysis
from spectra.work import plan_model, plan_pair
from spectra.work.executor import Executor, Sink, identity, measured
from spectra.work.load import Loader
from spectra.work.local import Local
from spectra.work.task import Task


@dataclass
class Remembering:
    """A store in memory: rows that are known are not measured again."""

    inner: Executor
    ledger: MemoryLedger
    rows: dict[str, str] = field(default_factory=dict)

    def run(
        self, tasks: Sequence[Task], analyzer: Analyzer[Any], sink: Sink | None = None
    ) -> Iterator[Row]:
        new = []
        for task in tasks:
            key = identity(task, analyzer, self.ledger)
            if key in self.rows:
                row = Row.from_plain(json.loads(self.rows[key]))
                yield replace(row, place=task.place)
            else:
                new.append(task)
        by_name = {task.place.matrix: task for task in new}
        for row in self.inner.run(new, analyzer, sink):
            key = identity(by_name[row.matrix], analyzer, self.ledger)
            assert key is not None
            self.rows[key] = json.dumps(row.plain())
            yield row


@dataclass
class Broken:
    """Measures nothing."""

    def run(
        self, tasks: Sequence[Task], analyzer: Analyzer[Any], sink: Sink | None = None
    ) -> Iterator[Row]:
        assert not tasks, [task.place.matrix for task in tasks]
        yield from ()


def test_a_store_stands_before_an_executor(minilm: Path, minilm_lora: Path) -> None:
    plan = plan_pair(
        spectra.open(minilm), spectra.open(minilm_lora), Selection(layers="0", roles=("attn",))
    )
    ledger = MemoryLedger()
    analyzer = Diff(intruders=True)
    assert {identity(task, analyzer, ledger) for task in plan.tasks} == {None}
    store = Remembering(Local(ledger=ledger), ledger)
    first = measured(store, plan.tasks, analyzer)
    again = measured(replace(store, inner=Broken()), plan.tasks, analyzer)
    assert [row.plain() for row in again] == [row.plain() for row in first]
    assert torch.equal(again[0].arrays["cosines"], first[0].arrays["cosines"])
    # Opened anew, the same bytes are the same rows; another setting or version is another row.
    anew = plan_pair(
        spectra.open(minilm), spectra.open(minilm_lora), Selection(layers="0", roles=("attn",))
    )
    measured(replace(store, inner=Broken()), anew.tasks, analyzer)
    keys = {
        identity(anew.tasks[0], one, ledger)
        for one in (analyzer, Diff(intruders=True, k=5), Diff())
    }
    assert None not in keys
    assert len(keys) == 3


def test_a_file_that_was_written_again_is_another(tmp_path: Path) -> None:
    ledger = MemoryLedger()
    for value in (1.0, 2.0):
        folder = write_model(tmp_path / "m", {"a.weight": torch.full((4, 4 + int(value)), value)})
        plan = plan_model(spectra.open(folder), Selection())
        assert identity(plan.tasks[0], Kappa(), ledger) is None
        measured(Local(ledger=ledger), plan.tasks, Kappa())
        assert identity(plan.tasks[0], Kappa(), ledger) is not None


def test_numerics_of_another_version_are_not_taken_for_these(tmp_path: Path) -> None:
    folder = write_model(tmp_path, {"a.weight": torch.ones(4, 4)})
    task = plan_model(spectra.open(folder), Selection()).tasks[0]
    ledger = MemoryLedger()
    Loader([task], ledger).load(task)

    class Later(Kappa):
        version = 2

    assert identity(task, Kappa(), ledger) != identity(task, Later(), ledger)


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

    def measure(self, matrix: Matrix) -> Measurement:
        return Measurement({"sigma_max": 1.0}, tensors={"half": matrix.values / 2})


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
