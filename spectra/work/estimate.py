"""What an analysis will cost, from headers and a blink of this machine's time."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch

from spectra.analyzers import Analyzer
from spectra.kernels.singular import singular_values, singular_values_cost
from spectra.work.executor import Executor, key_of
from spectra.work.local import memory_budget, usable_cores
from spectra.work.pace import Pace, slowed
from spectra.work.planning.plan import Plan
from spectra.work.task import bytes_of

PROBE = 384  # side of the matrix whose decomposition is timed
PROBED = 0.3  # seconds; a scheduler's turns are a tenth of that
START = 0.1  # seconds that the first matrices take besides: libraries are loaded then
READ_RATE = 1e9  # bytes a second; a local disk's order of magnitude


@dataclass(frozen=True, slots=True)
class Estimate:
    """A plan's cost before it runs."""

    matrices: int
    tensors: int
    nbytes: int  # to read
    memory: int  # peak bytes, beside the program itself
    seconds: float  # about; the machine's speed is measured on small matrices
    skipped: int
    known: int = 0  # of the matrices, that were measured before: they are neither read nor measured


def estimate(
    plan: Plan,
    analyzer: Analyzer[Any],
    workers: int | None = None,
    executor: Executor | None = None,
) -> Estimate:
    """Estimate a plan from headers; reads no weights.

    Args:
        plan: What is to be measured.
        analyzer: What measures it.
        workers: Matrices at once on a CPU; None: one per core.
        executor: May know some of it.
    """
    crew = workers or usable_cores()
    known = executor.known(plan.tasks, analyzer) if executor else {}
    tasks = [task for task in plan.tasks if key_of(task.place) not in known]
    needs = sorted((task.need(analyzer) for task in tasks), reverse=True)
    together = min(sum(needs[:crew]), memory_budget(tasks, needs)) if tasks else 0
    ahead = 2 * max((task.memory for task in tasks), default=0)  # in work, and read meanwhile
    operations = Pace.of(tasks, analyzer, crew).ends[-1] if tasks else 0.0
    nbytes = bytes_of(tasks)
    return Estimate(
        matrices=len(plan.tasks),
        tensors=len({
            one.own.key for task in plan.tasks for one in task.inputs
            if one.source is task.inputs[0].source  # as matrices are those of one model
        }),
        nbytes=nbytes,
        memory=together + ahead,
        seconds=START
        + (operations / operations_per_second(crew) if tasks else 0.0)
        + nbytes / READ_RATE,
        skipped=len(plan.skipped),
        known=len(known),
    )  # fmt: skip


def operations_per_second(workers: int) -> float:
    """Decompose on so many threads for a while: what one does, beside the others and all else.

    The best of a few would be what the machine does alone, as it seldom is.
    """
    probe = torch.randn(PROBE, PROBE, generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    singular_values(probe)  # what loads at first
    until = time.perf_counter() + PROBED
    try:
        with ThreadPoolExecutor(workers) as pool:
            rates = list(pool.map(lambda _: _rate(probe, until), range(workers)))
    finally:
        torch.set_num_threads(before)
    return slowed(singular_values_cost(PROBE, PROBE), PROBE, PROBE) * sum(rates) / workers


def _rate(probe: torch.Tensor, until: float) -> float:
    """Return how many decompositions a second one thread did."""
    torch.set_num_threads(1)
    start, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() < until:
        singular_values(probe)
        count += 1
    return count / (time.perf_counter() - start)
