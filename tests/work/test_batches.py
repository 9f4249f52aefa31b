"""What is sent to a worker of a cluster together."""

from pathlib import Path

import pytest
import torch

import spectra
from examples import write_model
from spectra.analyzers import Kappa, Spectrum
from spectra.matrices import Selection
from spectra.work import plan_model
from spectra.work.batches import SHARES, STEP, WORTH, Batch, batched, rounded
from spectra.work.task import Task


def tasks_of(folder: Path) -> list[Task]:
    return list(plan_model(spectra.open(folder), Selection()).tasks)


def test_every_task_is_in_one_batch_and_the_costliest_goes_first(minilm: Path) -> None:
    tasks = tasks_of(minilm)
    found = batched(tasks, Kappa(), 2, 2)
    assert sorted(id(task) for batch in found for task in batch.tasks) == sorted(map(id, tasks))
    assert [batch.cost for batch in found] == sorted((one.cost for one in found), reverse=True)
    total = sum(batch.cost for batch in found)
    for batch in found:
        assert len(batch.tasks) == 1 or batch.cost <= max(WORTH, total / (2 * SHARES))


def test_small_matrices_go_together_until_they_are_worth_it(tmp_path: Path) -> None:
    small = {f"w{i:03}.weight": torch.ones(8, 8) for i in range(200)}
    tasks = tasks_of(write_model(tmp_path, small))
    found = batched(tasks, Spectrum(), 2, 2)
    assert 2 * SHARES <= len(found) < 100  # shared among workers, and far fewer than matrices
    assert [task for batch in found for task in batch.tasks if len(batch.tasks) < 2] == []
    assert len(batched(tasks[:1], Spectrum(), 64, 2)) == 1


@pytest.mark.parametrize("fused", [True, False])
def test_parts_of_one_tensor_are_read_by_one_worker(
    tmp_path: Path, fused: bool, generator: torch.Generator
) -> None:
    """GPT-2 stores q, k and v side by side: each is cut out of the whole."""
    for_q_k_v = {
        f"transformer.h.{i}.attn.c_attn.weight": torch.randn(96, 288, generator=generator)
        for i in range(12)
    } if fused else {
        f"layers.{i}.{name}.weight": torch.randn(96, 96, generator=generator)
        for i in range(12) for name in "qkv"
    }  # fmt: skip
    tasks = tasks_of(write_model(tmp_path, for_q_k_v, '{"model_type": "gpt2"}' if fused else ""))
    assert len(tasks) == 36
    crew = 36 // SHARES  # small shares: a matrix each
    batches = batched(tasks, Spectrum(), crew, 2)
    read = [{read.key for task in batch.tasks for read in task.reads} for batch in batches]
    assert sum(map(len, read)) == len(set().union(*read))


def test_memory_is_that_of_measuring_and_of_what_is_read_meanwhile(minilm: Path) -> None:
    one, two = tasks_of(minilm)[:2]
    single, both = (Batch.of(some, Kappa(), 2) for some in ([one], [one, two]))
    assert single.memory == one.need(Kappa()) + one.memory
    assert both.memory >= max(one.need(Kappa()), two.need(Kappa())) + one.memory + two.memory
    assert rounded(1) == STEP
    for exponent in range(20, 45):
        nbytes = 2**exponent + 12345
        assert nbytes <= rounded(nbytes) <= nbytes + max(STEP, nbytes // 8)
    assert len({rounded(nbytes) for nbytes in range(1 << 30, 1 << 31, 1 << 20)}) <= 9
