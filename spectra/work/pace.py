"""How long a run will take yet, by what its tasks cost and by those that are done."""

import heapq
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from spectra.analyzers import Analyzer
from spectra.work.task import Task

TELLING = 0.05  # of the whole, under which what is done tells nothing


@dataclass(slots=True)
class Pace:
    """When each task of a run ends, by what it is expected to take, and when the run began."""

    ends: Sequence[float]
    begun: float = field(default_factory=time.perf_counter)
    before: float = 0.0  # what was done then
    seconds: bool = False  # whether ends are seconds, or tell of each other alone

    @classmethod
    def of(cls, tasks: Sequence[Task], analyzer: Analyzer[Any], workers: int) -> "Pace":
        """Share tasks among workers in their order, as a run does.

        What is in work when a task ends, and a large matrix that is the last, count so for what
        they are.
        """
        return cls(sorted(ends_of((task.cost(analyzer) for task in tasks), workers)))

    def left(self, count: int) -> float | None:
        """Return about how many seconds are left; None while too little is done to tell.

        The first matrices also wait for libraries to be loaded, and tell nothing of the others:
        the clock starts after them, but for one that is a large part of the whole.
        """
        done, whole, now = self.ends[count - 1], self.ends[-1], time.perf_counter()
        if done <= TELLING * whole:
            self.begun, self.before = now, done
        told = done - self.before
        if not whole:  # nothing that costs anything, such as what an adapter left as it was
            return 0.0
        if told < TELLING * whole:
            return None
        return (now - self.begun) * (whole - done) / told


def ends_of(costs: Iterable[float], workers: int) -> list[float]:
    """Return when each of several tasks ends, each begun as soon as a worker is free."""
    busy = [0.0] * workers
    ends = []
    for cost in costs:
        end = busy[0] + cost
        heapq.heapreplace(busy, end)
        ends.append(end)
    return ends


def makespan(costs: Sequence[float], workers: int) -> float:
    """Return when the last of several tasks ends."""
    return max(ends_of(costs, workers), default=0.0)
