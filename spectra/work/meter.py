"""What work takes while a run does it: times of threads, and one figure of each kind of work."""

import math
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from spectra.analyzers import Analyzer
from spectra.analyzers.analyzer import Composed
from spectra.checkpoint.entry import shards_of
from spectra.checkpoint.local import LocalFile
from spectra.kernels.work import Work, size_of
from spectra.work.device import meant
from spectra.work.read import Read
from spectra.work.task import Task

MOST: Final = 30.0  # of the weight of one figure that counts: a long one is no better known
MAINLY: Final = 0.6  # of a matrix's time in one kind of work, for that kind to be told by it
TELLING: Final = 0.1  # of the time, from which on a kind of work is named in a question

DISK, NETWORK = "disk", "network"
Key = tuple[str, str, int, int]  # device, name, size class and threads


class Meter(Protocol):
    """Is told what work took, by several threads."""

    def measured(self, task: Task, analyzer: Analyzer[Any], took: "Took", threads: int) -> None:
        """Take what measuring one task took."""

    def read(self, read: Read, took: "Took") -> None:
        """Take what reading one tensor took."""


@dataclass(frozen=True, slots=True)
class Took:
    """A stretch of time of one thread: by the clock, and what it computed in it."""

    begun: float
    ended: float
    computed: float
    delayed: float = 0.0  # seconds in which it could have, and others had the cores

    @property
    def elapsed(self) -> float:
        """Seconds by the clock."""
        return self.ended - self.begun

    @property
    def own(self) -> float:
        """Seconds that it takes on an idle machine: it computes, or waits for a disk."""
        return max(self.elapsed - self.delayed, self.computed)


class Stopwatch:
    """Times the thread that starts it: `with Stopwatch() as watch: ...`, then `watch.took`."""

    def __enter__(self) -> "Stopwatch":
        """Start."""
        self._clock, self._own, self._delay = time.perf_counter(), time.thread_time(), _delay()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        computed, delayed = time.thread_time() - self._own, _delay() - self._delay
        self.took = Took(self._clock, time.perf_counter(), computed, delayed)


@dataclass(frozen=True, slots=True)
class Seen:
    """One figure: how many times what was expected it took, and how much work tells so.

    It weighs by what was expected: a run that took long has no more say for that.
    """

    ratio: float
    weight: float  # seconds of a reference core; of reading, gigabytes


@dataclass(slots=True)
class Observed:
    """What one run takes: the meter of an executor on one device."""

    wanted: str = "cpu"  # as users name it
    _seen: dict[Key, list[Seen]] = field(default_factory=lambda: defaultdict(list))
    _reads: dict[str, list[tuple[Took, int]]] = field(default_factory=lambda: defaultdict(list))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def measured(self, task: Task, analyzer: Analyzer[Any], took: Took, threads: int) -> None:
        """Take what measuring one task took."""
        if isinstance(analyzer, Composed) and analyzer.ask.known:
            return  # some of it took no time
        work = task.work(analyzer)
        device = meant(self.wanted)
        here = device == "cpu"
        # Of several threads this one takes part in all that they do, and waits for them awake.
        seconds = took.computed if here else took.elapsed
        expected = work.threaded(threads) if here else float(work)
        if expected <= 0.0 or seconds <= 0.0:
            return
        one = Seen(seconds / expected, expected)
        names = [question_of(analyzer, work), *_main_kind(work)]
        size = size_of(task.place.rows, task.place.cols)
        with self._lock:
            for name in names:
                self._seen[device, name, size, threads].append(one)

    def read(self, read: Read, took: Took) -> None:
        """Take what reading one tensor took."""
        with self._lock:
            self._reads[source_of(read)].append((took, read.nbytes))

    def take(self, *, over: bool = True) -> list[tuple[Key, Seen]]:
        """Return one figure of each kind of what was seen, and begin anew if the run is over."""
        with self._lock:
            seen = {key: list(some) for key, some in self._seen.items()}
            reads = {name: list(some) for name, some in self._reads.items()}
            if over:
                self._seen.clear()
                self._reads.clear()
        found = [(key, Seen(median_of(some), sum(one.weight for one in some)))
                 for key, some in seen.items()]  # fmt: skip
        for name, some in reads.items():
            nbytes, seconds = sum(size for _, size in some), _occupied(name, some)
            if nbytes and seconds:
                found.append((("cpu", name, 0, 1), Seen(seconds / nbytes, nbytes / 1e9)))
        return found


def question_of(analyzer: Analyzer[Any], work: Work) -> str:
    """Name a question with the kinds of work that make it: settings may change which they are."""
    whole = float(work)
    kinds = [name for name, found in work.kinds().items() if found > TELLING * whole]
    return f"{analyzer.name}: {' '.join(kinds)}"


def source_of(read: Read) -> str:
    """Say where a tensor is read from, `disk` or `network`; and from a disk what decodes it.

    What comes over a network waits longer for that than for its codec.
    """
    files, codec = read.source.files, read.entry.codec
    if not all(isinstance(files[shard], LocalFile) for shard in shards_of(read.entry)):
        return NETWORK
    return f"{DISK} {codec.name}" if codec else DISK


def median_of(seen: Sequence[Seen]) -> float:
    """Return the median of ratios, each with the seconds that tell it."""
    ranked = sorted(seen, key=lambda one: one.ratio)
    weights = [min(one.weight, MOST) for one in ranked]
    half, below = sum(weights) / 2.0, 0.0
    for index, weight in enumerate(weights):
        below += weight
        if math.isclose(below, half) and index + 1 < len(ranked):
            return math.sqrt(ranked[index].ratio * ranked[index + 1].ratio)
        if below > half:
            break
    return ranked[index].ratio


def _occupied(name: str, reads: Sequence[tuple[Took, int]]) -> float:
    """Return the seconds that reading took: of a network all in which any range was on its way.

    A disk is read by one thread.
    """
    if name.startswith(DISK):
        return sum(took.own for took, _ in reads)
    total, until = 0.0, -math.inf
    for took in sorted((took for took, _ in reads), key=lambda one: one.begun):
        total += max(0.0, took.ended - max(took.begun, until))
        until = max(until, took.ended)
    return total


def _main_kind(work: Work) -> list[str]:
    kinds = work.kinds()
    name = max(kinds, key=lambda one: kinds[one])
    return [kind_name(name)] if kinds[name] >= MAINLY * float(work) else []


def kind_name(name: str) -> str:
    """Name a figure of one kind of work, whatever was asked."""
    return f"~{name}"


def _delay() -> float:
    """Return the seconds that this thread waited for a core so far; 0 where no system tells."""
    try:
        with Path("/proc/thread-self/schedstat").open("rb", buffering=0) as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0
