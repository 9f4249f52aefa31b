"""What an analysis will cost, from headers and a blink of this machine's time."""

import time
from dataclasses import dataclass
from typing import Any

import torch

from spectra.analyzers import Analyzer
from spectra.kernels.singular import singular_values, singular_values_cost
from spectra.work.local import memory_budget, usable_cores
from spectra.work.pace import slowed
from spectra.work.planning.plan import Plan

PROBE = 384  # side of the matrix whose decomposition is timed
READ_RATE = 1e9  # bytes a second; a local disk's order of magnitude


@dataclass(frozen=True, slots=True)
class Estimate:
    """A plan's cost before it runs."""

    matrices: int
    tensors: int
    nbytes: int  # to read
    memory: int  # peak bytes, beside the program itself
    seconds: float  # about; the machine's speed is measured on one small matrix
    skipped: int


def estimate(plan: Plan, analyzer: Analyzer[Any], workers: int | None = None) -> Estimate:
    """Estimate a plan from headers; reads no weights."""
    crew = workers or usable_cores()
    rate = operations_per_second() * crew
    needs = sorted((task.need(analyzer) for task in plan.tasks), reverse=True)
    together = min(sum(needs[:crew]), memory_budget(plan.tasks, needs))
    ahead = 2 * max(task.memory for task in plan.tasks)  # in work, and read meanwhile
    cost = sum(slowed(task.cost(analyzer), task.place.rows, task.place.cols) for task in plan.tasks)
    return Estimate(
        matrices=len(plan.tasks),
        tensors=len({
            one.own.key for task in plan.tasks for one in task.inputs
            if one.source is task.inputs[0].source  # as matrices are those of one model
        }),
        nbytes=plan.nbytes,
        memory=together + ahead,
        seconds=cost / rate + plan.nbytes / READ_RATE,
        skipped=len(plan.skipped),
    )  # fmt: skip


def operations_per_second() -> float:
    """Time one decomposition on one thread; the best of three."""
    probe = torch.randn(PROBE, PROBE, generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        best = min(_seconds(probe) for _ in range(3))
    finally:
        torch.set_num_threads(before)
    return slowed(singular_values_cost(PROBE, PROBE), PROBE, PROBE) / best


def _seconds(probe: torch.Tensor) -> float:
    start = time.perf_counter()
    singular_values(probe)
    return time.perf_counter() - start
