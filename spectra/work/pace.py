"""How long a run will take yet, by what its tasks cost and by those that are done."""

import heapq
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from spectra.analyzers import Analyzer
from spectra.work.task import Task

SMALL = 600  # a side at which an operation takes twice its time
TELLING = 0.05  # of the whole, under which what is done tells nothing


@dataclass(slots=True)
class Pace:
    """When each task of a run ends, in operations of one worker, and when the run began."""

    ends: Sequence[float]
    begun: float = field(default_factory=time.perf_counter)
    before: float = 0.0  # what was done then

    @classmethod
    def of(cls, tasks: Sequence[Task], analyzer: Analyzer[Any], workers: int) -> "Pace":
        """Share tasks among workers in their order, as a run does.

        What is in work when a task ends, and a large matrix that is the last, count so for what
        they are.
        """
        busy = [0.0] * workers
        ends = []
        for task in tasks:
            end = busy[0] + slowed(task.cost(analyzer), task.place.rows, task.place.cols)
            heapq.heapreplace(busy, end)
            ends.append(end)
        return cls(sorted(ends))

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


def slowed(cost: float, rows: int, cols: int) -> float:
    """Return a cost as small matrices have it, which take more of their time for each operation."""
    return cost * (1.0 + SMALL / min(rows, cols))
