"""Runs tasks here: one reader, several workers, within a memory budget."""

import heapq
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from spectra.analyzers import Analyzer, Row
from spectra.analyzers.row import Measurement
from spectra.checkpoint.fingerprints import Ledger
from spectra.errors import NonFiniteError, SpectraError
from spectra.matrices.part import Part
from spectra.work.executor import Key, Sink
from spectra.work.load import Loaded, Loader
from spectra.work.rates import Meter, Rates, Stopwatch
from spectra.work.task import Task
from spectra.work.threads import use_threads

ROOM = 256 << 20  # bytes that small matrices may share, however small the largest is
SHARE = 16  # bytes per entry of the largest matrix that those in work may share, of each side

LARGE = 1 << 22  # entries of a matrix that gains from threads
SOON = 0.1  # of its cost, that the last one waits for all threads

Made = tuple[Row, Mapping[str, torch.Tensor]]  # and what measuring made


@dataclass(frozen=True, slots=True)
class Local:
    """This machine's processors, or one of its GPUs.

    The calling thread reads, one task ahead of the workers at most. Decompositions are bound by
    memory and gain little from threads, so each worker computes with one, and a matrix waits
    until what it needs fits beside those in work. One so large that no second would fit is
    measured alone, with all threads, and so is a large one after which none follows, unless
    another would keep it waiting: by their costs, not by the clock, so that reruns are equal.
    """

    workers: int | None = None  # matrices at once; None: one per core
    device: str = "cpu"
    ledger: Ledger | None = None  # is told the digests of what is read
    recall: Callable[[Task, Analyzer[Any]], Row | None] | None = None
    """Asked once a task is read: perhaps its bytes were measured before, in another file."""
    meter: Meter | None = None  # is told what reading and measuring take

    @property
    def crew(self) -> int:
        """How many matrices are measured at once."""
        return 1 if self.device != "cpu" else self.workers or usable_cores()

    @property
    def rates(self) -> Rates:
        """Nothing: a store knows some."""
        return Rates()

    def known(self, tasks: Sequence[Task], analyzer: Analyzer[Any]) -> Mapping[Key, Row]:
        """Return nothing: all of the tasks are to be measured, whatever the analyzer."""
        del tasks, analyzer
        return {}

    def run(
        self, tasks: Sequence[Task], analyzer: Analyzer[Any], sink: Sink | None = None
    ) -> Iterator[Row]:
        """Yield the row of every task as it finishes."""
        workers = self.crew
        needs = {id(task): task.need(analyzer) for task in tasks}
        budget = memory_budget(tasks, list(needs.values()))
        pending: dict[Future[Made], Task] = {}
        pool = ThreadPoolExecutor(workers, thread_name_prefix="spectra")
        # What has all threads always runs in one: with the helpers of two, none would wait awake.
        lone = ThreadPoolExecutor(1, thread_name_prefix="spectra-alone")

        def collect(room: int) -> Iterator[Row]:
            """Yield finished rows until a worker is free and the others need at most `room`."""
            while pending and (
                len(pending) >= workers or sum(needs[id(task)] for task in pending.values()) > room
            ):
                finished, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in finished:
                    task, (row, tensors) = pending.pop(future), future.result()
                    if sink is not None and tensors:
                        sink.take(task, tensors)
                    yield row

        before = torch.get_num_threads()
        after = False  # nothing starts beside what has all threads
        loader = Loader(tasks, self.ledger, meter=self.meter)
        try:
            for task, alone in zip(tasks, _alone(tasks, analyzer, budget, workers), strict=True):
                try:
                    job, need = loader.load(task), needs[id(task)]
                except SpectraError:
                    yield from collect(-1)  # what is in work is not lost with it
                    raise
                known = self.recall(task, analyzer) if self.recall and sink is None else None
                if known is not None:
                    yield known
                    continue
                yield from collect(-1 if alone or after else budget - need)
                crew, threads = (lone, before) if alone else (pool, 1)
                measure = partial(_timed, self.meter) if self.meter else _measure
                pending[crew.submit(measure, analyzer, job, self.device, threads=threads)] = task
                after = alone
                del job
            yield from collect(-1)
        finally:
            loader.close()
            for crew in (pool, lone):
                crew.shutdown(wait=False, cancel_futures=True)
            torch.set_num_threads(before)


def memory_budget(tasks: Sequence[Task], needs: Sequence[int]) -> int:
    """Return the bytes that the matrices in work at one time may need together."""
    largest = max(
        (1 + one.paired) * one.view.rows * one.view.cols for task in tasks for one in task.inputs
    )
    return max(*needs, ROOM + SHARE * largest)


def _alone(
    tasks: Sequence[Task], analyzer: Analyzer[Any], budget: int, workers: int
) -> Iterator[bool]:
    """Say of each task whether it is to have all threads."""
    busy = [0.0] * workers  # a heap: until when each worker is, by what tasks cost
    for task in tasks:
        cost = task.cost(analyzer)
        # The last of all leaves no other for the cores that are free then.
        last = task is tasks[-1] and task.place.numel >= LARGE
        soon = max(busy) - busy[0] <= SOON * cost
        alone = workers == 1 or 2 * task.need(analyzer) > budget or (last and soon)
        if alone:
            busy = [max(busy) + cost / workers] * workers
        else:
            heapq.heapreplace(busy, busy[0] + cost)
        yield alone


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _timed(
    meter: Meter, analyzer: Analyzer[Any], job: Loaded, device: str, *, threads: int
) -> Made:
    """Measure one task, and tell what that took."""
    with Stopwatch() as watch:
        made = _measure(analyzer, job, device, threads=threads)
    if made[0].status != "non-finite":  # which ends early
        meter.measured(job.task, analyzer, watch.took, threads)
    return made


def _measure(analyzer: Analyzer[Any], job: Loaded, device: str, *, threads: int) -> Made:
    """Measure one task; what is not finite becomes a row that says so."""
    use_threads(threads)
    task = job.task
    try:
        return _row(task, analyzer.measure(job.subject(device)))
    except NonFiniteError as error:
        whole = len(task.inputs) > 1 or task.views[0].part == Part()
        place = "" if whole else " of the matrix shown (row = output)"
        none = dict.fromkeys(analyzer.keys)
        return Row(task.place, "non-finite", f"{error}{place}", none), {}


def _row(task: Task, found: Measurement) -> Made:
    """Return a measurement as a row; nothing of it stays on the device."""
    arrays = {name: array.cpu() for name, array in found.arrays.items()}
    return Row(task.place, found.status, None, found.values, arrays), found.tensors
