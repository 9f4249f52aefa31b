"""Tasks in batches, each as much as is worth sending to a worker of a cluster at once."""

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from spectra.analyzers import Analyzer
from spectra.work.local import threads_of
from spectra.work.task import Task

WORTH: Final = 0.2
"""Seconds of a reference core, beside which sending costs little: about a millisecond, and 10 KB
a task."""
SHARES: Final = 8  # batches that each worker gets at least, so that all end at about one time
STEP: Final = 256 << 20  # bytes that memory is asked for in, at least: what is equal is sent alike


@dataclass(frozen=True, slots=True)
class Batch:
    """Tasks that one worker measures, one after another, and what it needs for them."""

    tasks: tuple[Task, ...]
    cost: float  # seconds of a reference core
    threads: int
    memory: int  # bytes, of reading and measuring together

    @staticmethod
    def of(tasks: Sequence[Task], analyzer: Analyzer[Any], threads: int) -> "Batch":
        """Return tasks as one batch.

        While one is measured the next is read; what a later one reads too is held until then.

        Args:
            tasks: In the order of their bytes.
            analyzer: What measures them.
            threads: Of the run, as `threads_of` takes them.
        """
        reads = Counter(key for task in tasks for key in _read(task))
        held = {read.key: read.memory for task in tasks for read in task.reads}
        shared = sum(held.get(key, 0) for key, count in reads.items() if count > 1)
        ahead = max(task.memory for task in tasks) * min(2, len(tasks))
        return Batch(
            tuple(tasks),
            sum(task.cost(analyzer) for task in tasks),
            max(threads_of(task, analyzer, threads) for task in tasks),
            max(task.need(analyzer) for task in tasks) + ahead + shared,
        )


def batched(tasks: Sequence[Task], analyzer: Analyzer[Any], crew: int, threads: int) -> list[Batch]:
    """Return all tasks in batches, the costliest first: what is left at the end is small then.

    Small neighbours go together until they are worth it; neighbours that read the same tensor,
    such as the parts of a fused one, up to more than that or a worker's share, so that it is read
    once. What takes another number of threads goes apart.

    Args:
        tasks: In the order of their bytes.
        analyzer: What measures them.
        crew: How many workers there are.
        threads: Of the run.
    """
    total = sum(task.cost(analyzer) for task in tasks)
    share = total / (SHARES * max(crew, 1))
    found = [
        Batch.of(some, analyzer, threads) for some in _grouped(tasks, analyzer, share, threads)
    ]
    return sorted(found, key=lambda batch: -batch.cost)


def _grouped(
    tasks: Sequence[Task], analyzer: Analyzer[Any], share: float, threads: int
) -> Iterator[list[Task]]:
    some: list[Task] = []
    held: set[Hashable] = set()
    total, before = 0.0, 0
    for task in tasks:
        cost, needs, reads = task.cost(analyzer), threads_of(task, analyzer, threads), _read(task)
        most = max(WORTH, share) if held & reads else min(WORTH, share)
        if some and (total + cost > most or needs != before):
            yield some
            some, held, total = [], set(), 0.0
        some.append(task)
        held |= reads
        total, before = total + cost, needs
    if some:
        yield some


def _read(task: Task) -> set[Hashable]:
    """Return what tells the tensors that a task reads whole; a slab is nobody else's."""
    return {read.key for read in task.reads}


def rounded(memory: int) -> int:
    """Return bytes rounded up by an eighth at most, or to a step: few sizes are asked for then."""
    step = max(STEP, 1 << max(0, memory.bit_length() - 4))
    return -(-memory // step) * step
