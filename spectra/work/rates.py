"""How long work takes on this machine, against a reference core: kept from what runs took.

A run's measurements become one figure for each kind of question and size class; the median of
the last few runs counts, so that one run beside other work moves little. A matrix is timed by
what its thread computed, not by the clock: what else the machine does at the time plays no part.
"""

import json
import math
import os
import platform
from collections.abc import Iterable, Mapping
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from spectra.analyzers import Analyzer
from spectra.kernels.work import Work, size_of
from spectra.numbers import kept
from spectra.work.database import Database, Entry
from spectra.work.meter import Key, Seen, kind_name, median_of, question_of
from spectra.work.task import Task

RATE: Final = "rate"  # the kind of entry
RUNS: Final = 9  # that count, the last ones
Known = Mapping[Key, list[Seen]]
NEAR: Final = 1  # classes of sizes: on a CPU one further off tells less than a probe does


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

    def told(self) -> Known:
        """Return what is known by now."""
        return dict(self._known)

    def keep(self, figures: Iterable[tuple[Key, Seen]], before: Known | None = None) -> None:
        """Keep what a run took beside what those before it did.

        Args:
            figures: Of the run, as far as it is.
            before: What was told when it began, where some of it was kept since; None: now.
        """
        if self._base is None:
            return
        before = self.told() if before is None else before
        for key, one in figures:
            if not _sound(one):
                continue
            seen = [*before.get(key, []), one][-RUNS:]
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
        found = {name: self._nearest(device, kind_name(name), size, 1) for name in kinds}
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
        return median_of(seen) if seen else None

    def knows(self, device: str) -> bool:
        """Say whether any work was measured there."""
        return any(key[0] == device and key[1].startswith(kind_name("")) for key in self._known)

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
        return median_of(self._known[device, name, near, threads])

    def _all(self, device: str, size: int) -> list[float]:
        """Return what is known of every kind of work."""
        names = {
            name for where, name, _, threads in self._known
            if where == device and threads == 1 and name.startswith(kind_name(""))
        }  # fmt: skip
        found = (self._nearest(device, name, size, 1) for name in sorted(names))
        return [one for one in found if one is not None]


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


def _sound(one: Seen) -> bool:
    return all(math.isfinite(value) and value > 0.0 for value in (one.ratio, one.weight))
