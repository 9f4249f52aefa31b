"""What a run may hold in memory at one time, and what of its tasks counts."""

import math
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from spectra.analyzers import Analyzer
from spectra.analyzers.analyzer import Keeping
from spectra.errors import UsageError
from spectra.kernels.work import is_long
from spectra.matrices import View
from spectra.text import exact_size, quote
from spectra.work.ahead import ROOM as AHEAD
from spectra.work.ahead import at_once
from spectra.work.read import distinct
from spectra.work.task import Task

ROOM = 448 << 20  # bytes that small matrices may share, however small the largest is
SHARE = 16  # bytes an entry that matrices like one may share, of each side
LATER = 128 << 20  # bytes that the program takes yet: libraries load with the first matrices
WIDE, SQUARE = 4, 25  # bytes an entry, and one of the square of the shorter side
"""What is taken at most where small singular values are looked for by inverse iteration: measured
at 4096 x 4096, which took 0.1 more than spectra say they need."""


@dataclass(frozen=True, slots=True)
class Weight:
    """Bytes of one task."""

    need: int = 0  # that measuring it holds
    loaded: int = 0  # that what is read for it takes
    alive: int = 0  # that all of it takes which is read by then and not yet done with


@dataclass(frozen=True, slots=True)
class Budget:
    """The bytes that all tasks in work may take together, and what each takes.

    Without a bound that users gave, what was read is not counted but of a vocabulary: one task is
    read ahead.
    """

    limit: int
    weights: Sequence[Weight]  # in the order of the tasks
    ahead: int | None = None  # bytes that may be read ahead besides; None: as `Loader` has it

    @property
    def least(self) -> int:
        """What it takes to measure each task with nothing beside it."""
        return max((one.alive + one.need for one in self.weights), default=0)


def default_budget(tasks: Sequence[Task], analyzer: Analyzer[Any]) -> Budget:
    """Return the budget of a run for which users gave none."""
    weights = [_weight(task, analyzer) for task in tasks]
    shares = [share_of(task, analyzer) for task in tasks]
    limit = max([one.need + one.alive for one in weights] + shares, default=0)
    return Budget(limit, weights)


def _weight(task: Task, analyzer: Analyzer[Any]) -> Weight:
    """Return what a task takes; what was read counts where it is most: two are never there."""
    read = task.memory if _has_long(task) else 0
    return Weight(task.need(analyzer), read, read)


def is_streamed(task: Task) -> bool:
    """Say whether it is a pair as long as a vocabulary, whose change is never held."""
    return any(one.paired and is_long(one.view.rows, one.view.cols) for one in task.inputs)


def _has_long(task: Task) -> bool:
    return any(is_long(view.rows, view.cols) for view in task.views)


def given_budget(tasks: Sequence[Task], analyzer: Analyzer[Any], memory: int) -> Budget:
    """Return the budget of a process that may take so many bytes, those that it has included.

    Raises:
        UsageError: The largest task does not fit.
    """
    weights = weights_of(tasks, analyzer)
    stays = kept_by(tasks, analyzer)
    now = resident()
    taken = max(now, min(_begun(), now) + LATER) + stays
    budget = Budget(memory - taken, weights)
    if any(at_once(read) > 1 for task in tasks for read in task.reads):  # of another machine
        ahead = min(AHEAD, max(budget.limit - budget.least, 0) // 3)
        budget = Budget(budget.limit - ahead, weights, ahead)
    if budget.least > budget.limit:
        most = max(range(len(tasks)), key=lambda i: weights[i].alive + weights[i].need)
        name = quote(tasks[most].place.matrix)
        # Where not even the program fits, nothing that is left out helps.
        other = f", or leave it out: --exclude {name}" if budget.limit > 0 else ""
        raise UsageError(
            f"--memory {exact_size(memory)} is too little: {name} takes "
            f"{_megabytes(budget.least)} beside {_megabytes(taken)} of the program"
            f"{' and of what stays of all' * bool(stays)}. Give at least "
            f"{_megabytes(1.01 * (budget.least + taken))}{other}."
        )
    return budget


def peak(tasks: Sequence[Task], analyzer: Analyzer[Any], crew: int) -> int:
    """Return about the bytes that a run takes at most, beside the program, unless users say."""
    budget = default_budget(tasks, analyzer)
    plain = [task for task in tasks if not _has_long(task)]
    needs = sorted((task.need(analyzer) for task in plain), reverse=True)
    together = min(sum(needs[:crew]), budget.limit)
    ahead = max((task.memory for task in plain), default=0)  # one is read meanwhile
    long = max((one.alive for one in budget.weights), default=0)
    others = max(budget.least, min(together + long, budget.limit) if long else 0)
    return max(together + ahead, others) + ahead


def kept_by(tasks: Sequence[Task], analyzer: Analyzer[Any]) -> int:
    """Return the bytes of what stays of all tasks until the last is measured."""
    if not isinstance(analyzer, Keeping):
        return 0
    return analyzer.kept([task.views if task.about is None else task.about for task in tasks])


def share_of(task: Task, analyzer: Analyzer[Any]) -> int:
    """Return the bytes that matrices like this one may need together, unless users say.

    A vocabulary's shares with none: it is measured alone, by all threads where it is no pair.
    """
    shapes = [((one.view.rows, one.view.cols), 1 + one.paired) for one in task.inputs]
    largest = max((of * math.prod(shape) for shape, of in shapes if not is_long(*shape)), default=0)
    return max(task.need(analyzer), ROOM + SHARE * largest)


def weights_of(tasks: Sequence[Task], analyzer: Analyzer[Any]) -> list[Weight]:
    """Return what every task takes, in their order; what several read is held until the last."""
    kept = {read.key for read in distinct(read for task in tasks for read in task.reads)}
    items: list[dict[object, int]] = []
    for task in tasks:
        own: dict[object, int] = {}
        for one in task.inputs:
            for read in one.reads:
                source = read if read.key in kept else read.all
                own[source.key] = source.memory
            coded = sum(4 * read.numel for read in one.coded)
            own["made", one.key] = coded + one.made
        items.append(own)
    first: dict[object, int] = {}
    last: dict[object, int] = {}
    for index, own in enumerate(items):
        for key in own:
            first.setdefault(key, index)
            last[key] = index
    found, held = [], 0
    for index, (task, own) in enumerate(zip(tasks, items, strict=True)):
        held += sum(nbytes for key, nbytes in own.items() if first[key] == index)
        need = max(task.need(analyzer), *(_searching(view) for view in task.views))
        found.append(Weight(need, sum(own.values()), held))
        held -= sum(nbytes for key, nbytes in own.items() if last[key] == index)
    return found


def _megabytes(nbytes: float) -> str:
    return f"{math.ceil(nbytes / 1e6)}MB"  # as options take it


def _searching(view: View) -> int:
    wide = 0 if is_long(view.rows, view.cols) else WIDE * view.rows * view.cols
    return wide + SQUARE * min(view.rows, view.cols) ** 2


@cache
def _begun() -> int:
    """Return what the process held when it was first asked: libraries load once after that."""
    return resident()


def resident() -> int:
    """Return the bytes that this process holds in memory."""
    with suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    if sys.platform == "win32":
        return 0
    import resource  # noqa: PLC0415 - not everywhere

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
