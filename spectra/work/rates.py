"""How long work takes on this machine, against a reference core: kept from what runs took.

A run's measurements become one figure for each kind of question and size class; the median of
the last few runs counts, so that one run beside other work moves little. A matrix is timed by
what its thread computed, not by the clock: what else the machine does at the time plays no part.
"""

import json
import math
import os
import platform
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, Protocol

from spectra.analyzers import Analyzer
from spectra.analyzers.analyzer import Composed
from spectra.checkpoint.entry import shards_of
from spectra.checkpoint.local import LocalFile
from spectra.kernels.work import Work, size_of
from spectra.numbers import kept
from spectra.work.database import Database, Entry
from spectra.work.task import Read, Task

RATE: Final = "rate"  # the kind of entry
RUNS: Final = 9  # that count, the last ones
MOST: Final = 30.0  # of the weight of one run that counts: a long one is no better known
NEAR: Final = 1  # classes of sizes: on a CPU one further off tells less than a probe does
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

    device: str = "cpu"
    _seen: dict[Key, list[Seen]] = field(default_factory=lambda: defaultdict(list))
    _reads: dict[str, list[tuple[Took, int]]] = field(default_factory=lambda: defaultdict(list))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def measured(self, task: Task, analyzer: Analyzer[Any], took: Took, threads: int) -> None:
        """Take what measuring one task took."""
        if isinstance(analyzer, Composed) and analyzer.ask.known:
            return  # some of it took no time
        work = task.work(analyzer)
        here = self.device == "cpu"
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
                self._seen[self.device, name, size, threads].append(one)

    def read(self, read: Read, took: Took) -> None:
        """Take what reading one tensor took."""
        with self._lock:
            self._reads[source_of(read)].append((took, read.nbytes))

    def take(self) -> list[tuple[Key, Seen]]:
        """Return one figure of each kind of what was seen, and begin anew."""
        with self._lock:
            seen, reads = dict(self._seen), dict(self._reads)
            self._seen.clear()
            self._reads.clear()
        found = [(key, Seen(_median(some), sum(one.weight for one in some)))
                 for key, some in seen.items()]  # fmt: skip
        for name, some in reads.items():
            nbytes, seconds = sum(size for _, size in some), _occupied(name, some)
            if nbytes and seconds:
                found.append((("cpu", name, 0, 1), Seen(seconds / nbytes, nbytes / 1e9)))
        return found


class Rates:
    """What earlier runs on this machine took."""

    def __init__(self, base: Database | None = None) -> None:
        """Read them once.

        Args:
            base: The store's file; None: nothing is known.
        """
        self._known: dict[Key, list[Seen]] = {}
        self._base = base
        for entry in base.entries(RATE) if base is not None else ():
            try:
                where, key, seen = _read(entry)
            except (ValueError, TypeError):  # of a version that kept others
                continue
            if where == machine() and seen and all(_sound(one) for one in seen):
                self._known[key] = seen

    def keep(self, figures: Iterable[tuple[Key, Seen]]) -> None:
        """Keep what a run took beside what those before it did."""
        if self._base is None:
            return
        for key, one in figures:
            if not _sound(one):
                continue
            seen = [*self._known.get(key, []), one][-RUNS:]
            self._known[key] = seen
            about = json.dumps([machine(), *key]).encode()
            body = json.dumps([[kept(s.ratio), kept(s.weight)] for s in seen])
            self._base.put(RATE, about, body.encode())

    def seconds(
        self, work: Work, question: str, size: int, device: str = "cpu", threads: int = 1
    ) -> float | None:
        """Return what work takes; None where nothing like it was timed on this device.

        Args:
            work: By kind.
            question: As `question_of` names it.
            size: As `size_of` tells it.
            device: `cpu`, or a GPU.
            threads: That a matrix has.
        """
        for count in dict.fromkeys((threads, 1)):
            plain = work.threaded(threads) if threads > 1 and device == "cpu" else float(work)
            known = self._nearest(device, question, size, count)
            if known is not None:
                return plain * known
        kinds = work.kinds()
        found = {name: self._nearest(device, _kind(name), size, 1) for name in kinds}
        others = [one for one in found.values() if one is not None] or self._all(device, size)
        if not others:
            return None
        usual = math.exp(sum(map(math.log, others)) / len(others))
        share = plain / float(work) if float(work) else 1.0
        return share * sum(kinds[name] * (found[name] or usual) for name in kinds)

    def of_task(
        self, task: Task, analyzer: Analyzer[Any], device: str = "cpu", threads: int = 1
    ) -> float | None:
        """Return the seconds that measuring a task takes; None where nothing is known."""
        work = task.work(analyzer)
        if not float(work):
            return 0.0
        size = size_of(task.place.rows, task.place.cols)
        return self.seconds(work, question_of(analyzer, work), size, device, threads)

    def reading(self, name: str) -> float | None:
        """Return seconds a byte; None where no run read from there."""
        seen = self._known.get(("cpu", name, 0, 1))
        return _median(seen) if seen else None

    def knows(self, device: str) -> bool:
        """Say whether any work was measured there."""
        return any(key[0] == device and key[1].startswith(_kind("")) for key in self._known)

    def __len__(self) -> int:
        """Return how many figures there are."""
        return len(self._known)

    def _nearest(self, device: str, name: str, size: int, threads: int) -> float | None:
        sizes = [key[2] for key in self._known if key[:2] == (device, name) and key[3] == threads]
        if not sizes:
            return None
        near = min(sizes, key=lambda one: (abs(one - size), one))
        if device == "cpu" and abs(near - size) > NEAR:
            return None
        return _median(self._known[device, name, near, threads])

    def _all(self, device: str, size: int) -> list[float]:
        """Return what is known of every kind of work."""
        names = {
            name for where, name, _, threads in self._known
            if where == device and threads == 1 and name.startswith(_kind(""))
        }  # fmt: skip
        found = (self._nearest(device, name, size, 1) for name in sorted(names))
        return [one for one in found if one is not None]


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


@cache
def machine() -> str:
    """Return what tells this machine from others, and from itself with another torch."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = ""
    told = [platform.node(), platform.machine(), _processor(), cores, torch]
    return sha256(repr(told).encode()).hexdigest()[:16]


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open() as file:
            return next((line for line in file if line.startswith("model name")), "").strip()
    except OSError:
        return platform.processor()


def _read(entry: Entry) -> tuple[str, Key, list[Seen]]:
    """Return the machine, the key and the figures of an entry.

    Raises:
        ValueError: It is none; or TypeError.
    """
    where, device, name, size, threads = json.loads(entry.about)
    seen = [Seen(float(ratio), float(weight)) for ratio, weight in json.loads(entry.body)]
    return str(where), (str(device), str(name), int(size), int(threads)), seen


def _main_kind(work: Work) -> list[str]:
    kinds = work.kinds()
    name = max(kinds, key=lambda one: kinds[one])
    return [_kind(name)] if kinds[name] >= MAINLY * float(work) else []


def _kind(name: str) -> str:
    return f"~{name}"


def _delay() -> float:
    """Return the seconds that this thread waited for a core so far; 0 where no system tells."""
    try:
        with Path("/proc/thread-self/schedstat").open("rb", buffering=0) as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def _sound(one: Seen) -> bool:
    return all(math.isfinite(value) and value > 0.0 for value in (one.ratio, one.weight))


def _median(seen: Sequence[Seen]) -> float:
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
