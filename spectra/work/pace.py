"""How long a run will take yet, by what its tasks cost and by those that are done."""

import heapq
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

from spectra.analyzers import Analyzer
from spectra.work.rates import Rates
from spectra.work.task import Task

TELLING = 0.05  # of the whole, under which what is done tells nothing
LONG = 3.0  # seconds


@dataclass(slots=True)
class Pace:
    """When each task of a run ends, by what it is expected to take, and when the run began."""

    ends: Sequence[float]
    begun: float = field(default_factory=time.perf_counter)
    before: float = 0.0  # what was done then
    seconds: bool = False  # whether ends are seconds, or tell of each other alone
    later: float = 0.0  # what rounds after these tasks take, likely
    busy: float = 1.0  # times longer than on an idle machine, as it began

    @classmethod
    def of(
        cls,
        tasks: Sequence[Task],
        analyzer: Analyzer[Any],
        workers: int,
        rates: Rates | None = None,
        device: str = "cpu",
        later: Sequence[tuple[Task, Analyzer[Any], float]] = (),
    ) -> "Pace":
        """Share tasks among workers in their order, as a run does.

        What is in work when a task ends, and a large matrix that is the last, count so for what
        they are.

        Args:
            tasks: In their order.
            analyzer: What measures them.
            workers: How many at once.
            rates: What earlier runs took; where they know the device, ends are in seconds.
            device: Where it measures.
            later: What the next round likely measures, by what, and how likely.
        """
        known = rates is not None and rates.knows(device)
        every = [*((task, analyzer, 1.0) for task in tasks), *later]
        found = [rates.of_task(task, one, device) if rates and known else None
                 for task, one, _ in every]  # fmt: skip
        costs = [one for one in found if one is not None] if known else []
        if len(costs) < len(every):
            known, costs = False, [task.cost(one) for task, one, _ in every]
        costs = [cost * share for cost, (_, _, share) in zip(costs, every, strict=True)]
        now, then = costs[: len(tasks)], costs[len(tasks) :]
        after = max(ends_of(then, workers), default=0.0)
        return cls(sorted(ends_of(now, workers)), seconds=known, later=after)

    @property
    def long(self) -> bool:
        """Say whether it takes so many seconds that it matters who else uses the machine."""
        return self.seconds and self.whole > LONG

    @property
    def whole(self) -> float:
        """What everything takes."""
        return (self.ends[-1] if self.ends else 0.0) + self.later

    def left(self, count: int) -> float | None:
        """Return about how many seconds are left; None while too little is known to tell.

        The first matrices also wait for libraries to be loaded, and tell nothing of the others:
        the clock starts after them, but for one that is a large part of the whole. Until some
        are done that tell, it is what earlier runs took, if there were any.
        """
        done = self.ends[count - 1] if count else 0.0
        whole, now = self.whole, time.perf_counter()
        if done <= TELLING * whole:
            self.begun, self.before = now, done
        told = done - self.before
        if not whole:  # nothing that costs anything, such as what an adapter left as it was
            return 0.0
        if told < TELLING * whole:
            return self.busy * (whole - done) if self.seconds else None
        slower = (now - self.begun) / told  # than was expected; of other work it tells half
        return slower * (self.ends[-1] - done) + math.sqrt(slower) * self.later


def ends_of(
    costs: Iterable[float], workers: int, widths: Iterable[int] | None = None
) -> list[float]:
    """Return when each of several tasks ends, each begun as soon as workers are free.

    Args:
        costs: What each takes, in their order.
        workers: How many there are.
        widths: How many workers each takes; None: one.
    """
    busy = [0.0] * workers  # a heap
    ends = []
    for cost, width in zip(costs, repeat(1) if widths is None else widths, strict=False):
        taken = [heapq.heappop(busy) for _ in range(min(width, workers))]
        end = taken[-1] + cost
        for _ in taken:
            heapq.heappush(busy, end)
        ends.append(end)
    return ends
