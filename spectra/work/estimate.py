"""What an analysis will cost, from headers, and from what runs on this machine took before."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from spectra.analyzers import Analyzer, Row
from spectra.analyzers.analyzer import Composed, Foreseeing, InRounds, Round
from spectra.checkpoint.fingerprints import Ledger
from spectra.deferred import torch
from spectra.kernels.work import NO_WORK
from spectra.matrices.view import inner_of
from spectra.work.alike import read_once
from spectra.work.executor import Executor, key_of
from spectra.work.local import threads_of, usable_cores
from spectra.work.meter import NETWORK, source_of
from spectra.work.pace import ends_of
from spectra.work.planning.plan import Plan
from spectra.work.rates import Rates
from spectra.work.read import Read, distinct
from spectra.work.store import Store
from spectra.work.task import Task, bytes_of

CREWS = (4, 16, 64)  # workers that an estimate tells the time of
BEGIN = 0.15  # seconds that a run takes besides: libraries, threads and files begin and end
CACHED = 1 / 1.5e9  # seconds a byte, until a run has read some: of the system's cache
DECODED = 3e-9  # and a value, where it is decoded


@dataclass(frozen=True, slots=True)
class Estimate:
    """A plan's cost before it runs."""

    matrices: int
    tensors: int
    nbytes: int  # to read
    memory: int  # peak bytes, beside the program itself
    seconds: float | None  # about; None: nothing is known of the device
    skipped: int
    known: int = 0  # of the matrices, that were measured before: they are neither read nor measured
    workers: int = 1  # matrices at once
    start: float = 0.0  # of the seconds, until the first matrix is read
    reading: float | None = 0.0  # seconds; None: not known, and not in the sum
    longest: float | None = 0.0  # seconds of the one matrix that takes most
    work: Mapping[str, float] = field(default_factory=dict)  # share of the measuring, by kind
    others: Mapping[int, float] = field(default_factory=dict)  # seconds with so many workers
    basis: str = "runs"  # what tells this machine's speed: earlier `runs` here, a `probe`, `both`
    heads: int = 0  # of the matrices, that are one head of attention each
    busy: float = 1.0  # times longer than on an idle machine, while others use it

    def begun(self, seconds: float) -> "Estimate":
        """Return it with the seconds that a process takes until it runs."""
        whole = None if self.seconds is None else self.seconds + seconds
        others = {count: took + seconds for count, took in self.others.items()}
        return replace(self, start=self.start + seconds, seconds=whole, others=others)


class Job(NamedTuple):
    """A task to be measured, and how likely that is."""

    task: Task
    analyzer: Analyzer[Any]
    share: float = 1.0


class Speed(NamedTuple):
    """How fast one device is."""

    rates: Rates
    device: str = "cpu"
    probed: Mapping[str, float] | None = None  # slowness by kind, where runs do not tell all
    busy: float = 1.0
    basis: str = "runs"

    def seconds(self, task: Task, analyzer: Analyzer[Any], threads: int) -> float | None:
        """Return what measuring takes; None where nothing is known of the device."""
        found = self.rates.of_task(task, analyzer, self.device, threads)
        if found is None and self.probed is not None:
            work = task.work(analyzer)
            share = work.threaded(threads) / float(work) if float(work) else 1.0
            found = share * sum(self.probed[name] * took for name, took in work.kinds().items())
        return None if found is None else self.busy * found


def estimate(plan: Plan, analyzer: Analyzer[Any], executor: Executor) -> Estimate:
    """Estimate a plan from headers; reads no weights.

    Args:
        plan: What is to be measured.
        analyzer: What measures it.
        executor: Would run it, and may know some of it.
    """
    rounds = rounds_of(plan.tasks, analyzer, executor)
    tasks = list({key_of(job.task.place): job.task for jobs in rounds for job in jobs}.values())
    device, threads = (executor.device, torch.get_num_threads()) if any(rounds) else ("cpu", 1)
    widths = [[_width(job, device, threads) for job in jobs] for jobs in rounds]
    speed = speed_of(executor, rounds, widths)
    disk, network = _reading(tasks, speed)
    each = [
        [_took(job, speed, disk[id(job.task)], width, executor.ledger)
         for job, width in zip(jobs, wide, strict=True)]
        for jobs, wide in zip(rounds, widths, strict=True)
    ]  # fmt: skip
    crew = executor.crew if tasks else 1
    known = [one for jobs in each for one in jobs if one is not None]
    told = len(known) == sum(map(len, each))

    def whole(workers: int) -> float:
        spent = sum(
            max(ends_of([one or 0.0 for one in jobs], workers, wide), default=0.0)
            for jobs, wide in zip(each, widths, strict=True)
        )
        return (speed.busy * BEGIN + max(spent, network or 0.0)) if tasks else 0.0

    return Estimate(
        matrices=len(plan.tasks),
        tensors=len({
            one.own.key for task in plan.tasks for one in task.inputs
            if one.source is task.inputs[0].source  # as matrices are those of one model
        }),
        nbytes=bytes_of(tasks),
        memory=executor.peak(tasks, analyzer) if tasks else 0,
        seconds=whole(crew) if told else None,
        skipped=len(plan.skipped),
        known=len(plan.tasks) - len(tasks),
        workers=crew,
        reading=None if network is None else network + sum(disk.values()),
        longest=max(known, default=0.0) if told else None,
        work=_shares(rounds),
        others={count: whole(count) for count in CREWS if count > crew and told and tasks},
        basis=speed.basis,
        heads=sum(
            any(one.view.part.head is not None for one in task.inputs) for task in plan.tasks
        ),
        busy=speed.busy,
    )  # fmt: skip


def rounds_of(
    tasks: Sequence[Task], analyzer: Analyzer[Any], executor: Executor
) -> list[list[Job]]:
    """Return what is to be measured, round by round: what is known from before is left out.

    Of an analysis in several rounds the first that is not known ends what can be told for
    certain; what it then likely measures is told by shares.
    """
    if not isinstance(analyzer, InRounds):
        return [_unknown(tasks, Round(analyzer), executor)[0]]
    rows: dict[str, Row] = {}
    places = [task.place for task in tasks]
    while (part := analyzer.following(list(rows.values()), places)) is not None:
        jobs, known = _unknown(tasks, part, executor)
        if jobs:
            later = analyzer.likely(part, places) if isinstance(analyzer, Foreseeing) else {}
            found = [(job.task, later.get(job.task.place.matrix, 0.0)) for job in jobs]
            return [jobs, [Job(task, analyzer, share) for task, share in found if share]]
        rows.update((row.matrix, row) for row in known)
    return []


def speed_of(
    executor: Executor, rounds: Sequence[Sequence[Job]], widths: Sequence[Sequence[int]]
) -> Speed:
    """Return how fast the executor's device is: by what runs took, else by a blink of it.

    Args:
        executor: Who would measure.
        rounds: What; nothing is tried where that is nothing.
        widths: How many threads each has.
    """
    rates, device = executor.rates, executor.device if any(rounds) else "cpu"
    if device != "cpu" or not any(rounds):
        return Speed(rates, device)
    told = [
        rates.of_task(job.task, job.analyzer, device, width) is not None
        for jobs, wide in zip(rounds, widths, strict=True)
        for job, width in zip(jobs, wide, strict=True)
        if float(job.task.work(job.analyzer))
    ]
    from spectra.work import probe  # noqa: PLC0415 - takes a moment, and torch

    crew = executor.crew if executor.here else min(executor.crew, usable_cores())
    load = probe.busy(crew) if executor.here else 1.0
    if all(told):
        return Speed(rates, device, None, load)
    basis = "both" if any(told) else "probe"
    return Speed(rates, device, probe.slownesses(crew), load, basis)


def _unknown(
    tasks: Sequence[Task], part: Round, executor: Executor
) -> tuple[list[Job], Iterable[Row]]:
    chosen = [one for one in tasks if part.matrices is None or one.place.matrix in part.matrices]
    known = executor.known(chosen, part.analyzer)
    new = [one for one in chosen if key_of(one.place) not in known]
    jobs = [Job(one, part.analyzer) for one in read_once(new, executor.ledger)]
    return jobs, known.values()


def _reading(tasks: Sequence[Task], speed: Speed) -> tuple[dict[int, float], float | None]:
    """Return the seconds that reading each task from a disk takes, and all from a network."""
    disk = {id(task): 0.0 for task in tasks}
    remote, seen = 0, set()
    for task in tasks:
        for read in distinct(task.reads):
            if read.key in seen:
                continue
            seen.add(read.key)
            source = source_of(read)
            if source == NETWORK:
                remote += read.nbytes
            else:
                disk[id(task)] += speed.busy * _seconds(read, speed.rates.reading(source))
    if not remote:
        return disk, 0.0
    rate = speed.rates.reading(NETWORK)
    return disk, None if rate is None else rate * remote


def _seconds(read: Read, rate: float | None) -> float:
    """Return what reading from a disk takes, at so many seconds a byte where that is known."""
    if rate is not None:
        return rate * read.nbytes
    return CACHED * read.nbytes + (
        DECODED * read.numel if read.entry.codec and inner_of(read.entry) is None else 0.0
    )


def _width(job: Job, device: str, threads: int) -> int:
    """Return how many threads a matrix has: of a large one all, and then it is alone."""
    return threads_of(job.task, job.analyzer, threads) if device == "cpu" else 1


def _took(
    job: Job, speed: Speed, reading: float, threads: int, ledger: Ledger | None
) -> float | None:
    found = speed.seconds(job.task, job.analyzer, threads)
    if found is None:
        return None
    return job.share * (_unmeasured(job, ledger) * found + reading)


def _unmeasured(job: Job, ledger: Ledger | None) -> float:
    """Return the share of a task's work that nobody has done for another question."""
    task, analyzer = job.task, job.analyzer
    whole = task.cost(analyzer)
    if not (isinstance(analyzer, Composed) and isinstance(ledger, Store) and whole):
        return 1.0
    views = {one.role: one.view for one in task.inputs if not (one.paired and one.change is None)}
    parts = [(task.part(role), one) for role, one in analyzer.parts(views)]
    own = float(analyzer.beside(views, factors=task.by_factors))
    return (
        own + sum(part.cost(one) for part, one in parts if not ledger.recall(part, one))
    ) / whole


def _shares(rounds: Iterable[Iterable[Job]]) -> dict[str, float]:
    """Return the share of each kind of work, most first."""
    whole = sum(
        (job.share * job.task.work(job.analyzer) for jobs in rounds for job in jobs), NO_WORK
    )
    kinds = sorted(whole.kinds().items(), key=lambda one: -one[1])
    return {name: found / float(whole) for name, found in kinds}
