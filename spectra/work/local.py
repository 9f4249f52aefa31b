"""Runs tasks here: one reader, several workers, within a memory budget."""

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Any

from spectra.analyzers import Analyzer, Row
from spectra.analyzers.analyzer import Ask, Composed, knows_products
from spectra.analyzers.row import Measurement
from spectra.checkpoint.fingerprints import Ledger
from spectra.deferred import Tensor, torch
from spectra.errors import CorruptError, NonFiniteError, SpectraError
from spectra.kernels.decomposed import THREADS
from spectra.matrices.part import Part
from spectra.text import printable
from spectra.words import UNMEASURED, Status
from spectra.work.device import meant
from spectra.work.executor import Key, Sink
from spectra.work.load import Loaded, Loader
from spectra.work.memory import (
    Budget,
    Weight,
    default_budget,
    given_budget,
    is_streamed,
    peak,
    share_of,
)
from spectra.work.meter import Meter, Stopwatch
from spectra.work.rates import Rates
from spectra.work.task import Task
from spectra.work.threads import threads_within, use_threads

ALONE = 0.08  # of a large matrix's work that more threads make no shorter
REASON = 200  # characters of what went wrong with a matrix

Made = tuple[Row, Mapping[str, Tensor]]  # and what measuring made


@dataclass(frozen=True, slots=True)
class Local:
    """This machine's processors, or its GPUs.

    The calling thread reads, one task ahead of the workers at most, and a matrix waits until what
    it needs fits beside those in work. How many threads each has, `threads_of` tells, so that its
    row is the same whatever runs beside it; what has all of them has the processors to itself.
    """

    workers: int | None = None  # matrices at once on a CPU; None: one per core
    wanted: str = "cpu"  # as users name it; of several GPUs the free one takes the next task
    ledger: Ledger | None = None  # is told the digests of what is read
    recall: Callable[[Task, Analyzer[Any]], Row | None] | None = None
    """Asked once a task is read: perhaps its bytes were measured before, in another file."""
    meter: Meter | None = None  # is told what reading and measuring take
    memory: int | None = None  # bytes that the process may take; None: by the largest matrix
    parts: Callable[[Task], Ask] | None = None  # knows what was measured of parts of a task

    @property
    def crew(self) -> int:
        """How many matrices are measured at once."""
        return (self.workers or usable_cores()) if self.device == "cpu" else len(self.devices)

    @property
    def device(self) -> str:
        """Where they are measured, `cpu` or GPUs; torch is asked what `auto` is."""
        return meant(self.wanted)

    @property
    def here(self) -> bool:
        """That it is this machine."""
        return True

    @property
    def devices(self) -> Sequence[str]:
        """Where they are measured."""
        return self.device.split(",")

    @property
    def rates(self) -> Rates:
        """Nothing: a store knows some."""
        return Rates()

    def known(self, tasks: Sequence[Task], analyzer: Analyzer[Any]) -> Mapping[Key, Row]:
        """Return nothing: all of the tasks are to be measured, whatever the analyzer."""
        del tasks, analyzer
        return {}

    def budget(self, tasks: Sequence[Task], analyzer: Analyzer[Any]) -> Budget:
        """Return how many bytes tasks may take together, and what each takes.

        Raises:
            UsageError: The largest does not fit into the memory that was given.
        """
        if self.memory is not None:
            return given_budget(tasks, analyzer, self.memory)
        if self.device != "cpu":  # what measuring takes lies there
            return Budget(sys.maxsize, [Weight()] * len(tasks))
        return default_budget(tasks, analyzer)

    def peak(self, tasks: Sequence[Task], analyzer: Analyzer[Any]) -> int:
        """Return about the bytes that a run takes at most, beside the program.

        Raises:
            UsageError: The largest task does not fit into the memory that was given.
        """
        if self.memory is None:
            return peak(tasks, analyzer, self.crew)
        budget = self.budget(tasks, analyzer)
        most = sorted((one.need + one.loaded for one in budget.weights), reverse=True)
        return min(budget.limit, max(sum(most[: self.crew]), budget.least)) + (budget.ahead or 0)

    def run(
        self, tasks: Sequence[Task], analyzer: Analyzer[Any], sink: Sink | None = None
    ) -> Iterator[Row]:
        """Yield the row of every task as it finishes.

        Raises:
            SpectraError: A file changed or ended while it was read, or `memory` is too little.
        """
        budget, threads = self.budget(tasks, analyzer), torch.get_num_threads()
        work = _Work(self.crew, self.devices, sink, bounded=self.memory is not None)
        loader = Loader(tasks, self.ledger, budget.ahead, self.meter)
        try:
            for task, weight in zip(tasks, budget.weights, strict=True):
                yield from work.ended(budget.limit - weight.alive)
                try:
                    job = loader.load(task)
                except CorruptError as error:
                    yield corrupted(task, analyzer, error)[0]
                    continue
                except SpectraError:
                    yield from work.ended(0, 0)  # what is in work is not lost with it
                    raise
                known = self.recall(task, analyzer) if self.recall and sink is None else None
                if known is not None:
                    yield known
                    continue
                alone = self.device == "cpu" and threads_of(task, analyzer, threads) > 1
                room = budget.limit - weight.alive - weight.need
                yield from work.ended(room, work.others(alone=alone))
                made = partial(self._measured, analyzer, job, threads)
                work.begin(task, made, weight.loaded + weight.need, alone=alone)
                del job, made
            yield from work.ended(0, 0)
        finally:
            loader.close()
            work.leave()
            torch.set_num_threads(threads)

    def _measured(self, analyzer: Analyzer[Any], job: Loaded, threads: int, device: str) -> Made:
        """Measure one task, and tell the meter what that took."""
        if self.parts is not None and isinstance(analyzer, Composed):
            analyzer = analyzer.asking(self.parts(job.task))
        with Stopwatch() as watch:
            made = measure_loaded(analyzer, job, device, threads=threads)
        if self.meter is not None and made[0].status not in UNMEASURED:  # which end early
            own = threads if device != "cpu" else threads_of(job.task, analyzer, threads)
            self.meter.measured(job.task, analyzer, watch.took, own)
        return made


class _Work:
    """The tasks in work: who measures them, and what they take."""

    def __init__(
        self, crew: int, devices: Sequence[str], sink: Sink | None, *, bounded: bool
    ) -> None:
        self.crew, self.sink, self.bounded = crew, sink, bounded
        self.pending: dict[Future[Made], tuple[Task, int]] = {}  # and the bytes of each
        self.kept = 0  # bytes of rows
        self.alone = False  # what began last is to have the processors to itself
        self.free: SimpleQueue[str] = SimpleQueue()
        for index in range(crew):
            self.free.put(devices[index % len(devices)])
        self.pool = ThreadPoolExecutor(crew, thread_name_prefix="spectra")
        # What has all threads always runs in one: with the helpers of two, none would wait awake.
        self.lone = ThreadPoolExecutor(1, thread_name_prefix="spectra-alone")

    def others(self, *, alone: bool) -> int:
        """Return how many may be in work when one begins."""
        return 0 if alone or self.alone else self.crew - 1

    def begin(self, task: Task, made: Callable[[str], Made], nbytes: int, *, alone: bool) -> None:
        """Measure one more, on the device that is free."""

        def measured() -> Made:
            device = self.free.get()
            try:
                return made(device)
            finally:
                self.free.put(device)

        threads = self.lone if alone or self.crew == 1 else self.pool
        self.pending[threads.submit(measured)] = task, nbytes
        self.alone = alone

    def ended(self, room: int, most: int = sys.maxsize) -> Iterator[Row]:
        """Yield finished rows until at most so many others are in work, in so much room."""
        while self.pending and (
            len(self.pending) > most
            or sum(nbytes for _, nbytes in self.pending.values()) > room - self.kept
        ):
            finished, _ = wait(self.pending, return_when=FIRST_COMPLETED)
            for future in finished:
                (task, _), (row, tensors) = self.pending.pop(future), future.result()
                if self.sink is not None and tensors:
                    self.sink.take(task, tensors)
                if self.bounded:
                    self.kept += sum(array.nbytes for array in row.arrays.values())
                yield row

    def leave(self) -> None:
        """Begin nothing more, and wait for nothing."""
        for threads in (self.pool, self.lone):
            threads.shutdown(wait=False, cancel_futures=True)


def threads_of(task: Task, analyzer: Analyzer[Any], threads: int) -> int:
    """Return how many threads measure a task on a CPU: one, or all.

    It hangs on the task alone, never on what else is measured, how many at once, or in how much
    memory: other threads would give other last digits. Decompositions are bound by memory and
    by steps that wait for each other, so that several matrices with one thread each take less
    than one after the other with all. Measured on two cores in processor seconds, which a busy
    machine changes little, of two matrices of a 7B layer in bfloat16, 4096 x 4096 and
    11008 x 4096, with a thread each and with both threads one after the other: `kappa` 3.1 and
    3.8, 7.4 and 8.9; `spectrum` 11.6 and 18.7, 14.0 and 19.3; `diff --intruders` of an adapter
    2.8 and 5.1, 4.4 and 6.4, of a full fine-tune 5.3 and 8.7, 28.7 and 32.7. So a matrix has one
    thread, unless so few of its size fit beside each other, in `share_of` bytes, that all
    threads on one do more: of n threads 1 / (0.08 + 0.92 / n) of one, by Amdahl's law and those
    figures.

    The pair of a vocabulary has one too: its change is formed a few rows at a time, where two
    wait for each other longer than they work: `check --base` of 128256 x 4096 took 199 s with one
    thread, and with two it was not done after 420 s.
    """
    if is_streamed(task):
        return 1
    beside = share_of(task, analyzer) // max(task.need(analyzer), 1)
    return 1 if beside >= threads / (1.0 + ALONE * (threads - 1)) else threads


def measure_loaded(
    analyzer: Analyzer[Any], job: Loaded, device: str = "cpu", *, threads: int | None = None
) -> Made:
    """Measure one task that was read, wherever that is.

    What is not finite becomes a row that says so, and so does whatever goes wrong: a decomposition
    that does not converge, memory that is not there. On a GPU that has too little of it a matrix
    is tried once more, when what torch keeps there is given back, and then on the CPU.

    Args:
        analyzer: What measures it.
        job: What was read.
        device: One device of torch.
        threads: Of the run, by default those that torch has in this thread; of these `threads_of`
            says how many it takes. The thread that calls keeps that many.

    Returns:
        The row and what measuring made; of one task, analyzer and number of threads always the
        same, bit by bit.

    Raises:
        SpectraError: It cannot be meant, or be read.
    """
    task, every = job.task, threads or torch.get_num_threads()
    THREADS.set(every)
    use_threads(every if device != "cpu" else threads_of(task, analyzer, every))
    if device == "cpu" and isinstance(analyzer, Composed):
        analyzer = analyzer.asking(_Alone(analyzer.ask, task, every))
    tries = [device] if device == "cpu" else [device, device, "cpu"]
    while True:
        try:
            subject = job.subject(tries.pop(0), products=knows_products(analyzer))
            return _row(task, analyzer.measure(subject))
        except NonFiniteError as error:
            whole = len(task.inputs) > 1 or task.views[0].part == Part()
            place = "" if whole else " of the matrix shown (row = output)"
            return _without(task, analyzer, "non-finite", f"{error}{place}")
        except SpectraError:
            raise
        except Exception as error:  # noqa: BLE001 - one matrix is not the run
            if tries and isinstance(error, torch.OutOfMemoryError):
                error.__traceback__ = None  # what the last try held
                torch.cuda.empty_cache()
                continue
            if os.environ.get("SPECTRA_DEBUG") == "1":
                traceback.print_exc()
            return _without(task, analyzer, "failed", _reason(error))


@dataclass(frozen=True, slots=True)
class _Alone:
    """Has each part of a task measured in the threads that it has for itself: its row is kept."""

    ask: Ask
    task: Task
    threads: int  # of the run

    @property
    def known(self) -> int:
        """How many were known from before."""
        return self.ask.known

    def __call__(self, role: str, analyzer: Analyzer[Any], subject: Any) -> Measurement:  # noqa: ANN401 - as `Ask`
        """Return what it finds, and go back to the task's own threads."""
        with threads_within(threads_of(self.task.part(role), analyzer, self.threads)):
            return self.ask(role, analyzer, subject)


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _row(task: Task, found: Measurement) -> Made:
    """Return a measurement as a row; nothing of it stays on the device."""
    arrays = {name: array.cpu() for name, array in found.arrays.items()}
    return Row(task.place, found.status, None, found.values, arrays), found.tensors


def _without(task: Task, analyzer: Analyzer[Any], status: Status, why: str) -> Made:
    return Row(task.place, status, why, dict.fromkeys(analyzer.keys)), {}


def corrupted(task: Task, analyzer: Analyzer[Any], error: CorruptError) -> Made:
    """Return the row of a task whose stored values cannot be meant."""
    return _without(task, analyzer, "failed", str(error).removesuffix("."))


def _reason(error: Exception) -> str:
    """Say in one line what went wrong with a matrix."""
    told = printable(" ".join(str(error).split()))
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in told:
        return "out of memory"
    told = f"{told[:REASON]}..." if len(told) > REASON else told
    name = type(error).__name__.removeprefix("_")
    return f"{name}: {told}" if told else name
