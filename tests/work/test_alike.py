"""What two models are known to have in common is read in one of them."""

from pathlib import Path

import torch

import spectra
from examples import write_model
from spectra.analyzers import Diff
from spectra.checkpoint.fingerprints import MemoryLedger
from spectra.matrices import Selection
from spectra.runs.analysis import plan_for
from spectra.work.alike import read_once
from spectra.work.local import Local

VALUES = {f"layers.{index}.q": torch.randn(8, 8, generator=torch.Generator().manual_seed(index))
          for index in range(3)}  # fmt: skip
CHANGED = "layers.1.q"


def test_a_task_reads_what_both_have_once_wherever_it_is_sent(tmp_path: Path) -> None:
    other = {name: one + (name == CHANGED) for name, one in VALUES.items()}
    models = [
        spectra.open(write_model(tmp_path / name, values))
        for name, values in (("base", VALUES), ("tuned", other))
    ]
    analyzer = Diff()
    tasks, ledger = plan_for(analyzer, models, Selection()).tasks, MemoryLedger()
    assert read_once(tasks, None) == [*tasks]
    assert read_once(tasks, ledger) == [*tasks], "nothing is known of what was never read"
    rows = [row.plain() for row in Local(1, "cpu", ledger).run(tasks, analyzer)]
    once = read_once(tasks, ledger)
    reads = {task.place.matrix: len(task.reads) for task in once}
    assert reads == {name: 1 + (name == CHANGED) for name in VALUES}
    sent = [task.portable() for task in once]
    assert [row.plain() for row in Local(1, "cpu").run(sent, analyzer)] == rows
    assert [task.place for task in sent] == [task.place for task in tasks]
