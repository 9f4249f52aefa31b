"""One pass over tasks on a cluster: batches are sent, rows come back, what is lost goes again."""

import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from spectra import errors
from spectra.analyzers import Analyzer, Row
from spectra.checkpoint.fingerprints import Ledger
from spectra.checkpoint.source import NAMED, Span
from spectra.deferred import torch
from spectra.errors import SpectraError, UsageError
from spectra.work.batches import Batch, rounded
from spectra.work.connection import Connection, Needs, Node
from spectra.work.errand import Errand, Found, Seal, files_of, sealed, versions
from spectra.work.executor import Sink
from spectra.work.task import Task

EVERY: Final = 5.0  # seconds after which what a cluster is made of is looked at again
PATIENCE: Final = 60.0  # seconds to wait for a node where none is left that can hold a task
CRASHES, DEATHS = 3, 10
"""Workers that a task may take with it, and nodes that may be lost with it, before it is given up:
a task of which a worker dies is mostly why, a node's death has other reasons."""


@dataclass
class Dispatch:
    """One pass over tasks."""

    link: Connection
    analyzer: Analyzer[Any]
    device: str
    seals: Mapping[Path, Seal]
    limit: Callable[[Sequence[Node]], int]  # batches that may be sent before one is back
    sink: Sink | None = None
    ledger: Ledger | None = None  # is told the digests of what workers read
    unknown: int = 0  # digests of files that are others here
    crashes: Counter[int] = field(default_factory=Counter)  # by a task's id
    deaths: Counter[int] = field(default_factory=Counter)
    call: Any = None

    def __post_init__(self) -> None:
        self.call = self.link.ray.remote(max_retries=0)(_carried())

    @cached_property
    def threads(self) -> int:
        """How many a run has here, as torch says, which takes a moment to load."""
        return torch.get_num_threads()

    def greeting(self, node: Node) -> Any:  # noqa: ANN401 - Ray's own
        """Send a node nothing to do."""
        strategies = self.link.ray.util.scheduling_strategies
        here = strategies.NodeAffinitySchedulingStrategy(node.id, soft=False)
        return self.call.options(num_cpus=0, scheduling_strategy=here).remote(
            versions(), _unwanted(), self._packed(())
        )

    def needs(self, batch: Batch, nodes: Sequence[Node]) -> Needs:
        """Return what a batch asks of a node; more threads than a node has cores share them."""
        gpu = self.device != "cpu"
        cpus = min(1 if gpu else batch.threads, max((node.has.cpus for node in nodes), default=1))
        wanted = Needs(cpus, rounded(batch.memory), 1 if gpu else 0)
        exact = wanted._replace(memory=batch.memory)
        fits = any(node.holds(wanted) for node in nodes)
        return wanted if fits else exact

    def require_room(self, batches: Sequence[Batch], nodes: Sequence[Node]) -> None:
        """Refuse what no node can hold.

        Raises:
            UsageError: It is so.
        """
        for batch in {
            (one.threads, rounded(one.memory)): one for one in reversed(batches)
        }.values():
            needs = self.needs(batch, nodes)
            if any(node.holds(needs) for node in nodes):
                continue
            largest = max((node.has for node in nodes), key=lambda has: has.memory, default=None)
            there = f"the largest has {largest.told}" if largest else "there is none with a CPU"
            raise UsageError(
                f"{batch.tasks[0].place.matrix} takes {needs.told} at once, and no node of the "
                f"cluster has that: {there}. Add a larger node, or leave it out: --exclude NAME."
            )

    def rows(self, batches: Sequence[Batch]) -> Iterator[Row]:
        """Send batches, as many as fit at a time, and yield rows as they come back."""
        ray, queue = self.link.ray, deque(batches)
        pending: dict[Any, Batch] = {}
        nodes: Sequence[Node] = ()
        looked, since = 0.0, time.monotonic()
        try:
            while queue or pending:
                if time.monotonic() - looked >= EVERY:
                    looked = time.monotonic()
                    if self.link.answers():
                        nodes = self.link.nodes() or nodes
                        since = self._room(queue, pending, nodes, since)
                while queue and len(pending) < self.limit(nodes):
                    batch = queue.popleft()
                    pending[self._sent(batch, nodes)] = batch
                ready, _ = ray.wait(list(pending), timeout=EVERY)
                for one in ready:
                    batch = pending.pop(one)
                    rows, again = self._outcome(one, batch)
                    queue.extendleft(again)
                    yield from rows
        finally:
            # By force Ray would end this process where a task comes back at that moment: "Tried to
            # complete task that was not pending" (2.60). One that was started here ends with all.
            for one in () if self.link.started else pending:
                with suppress(Exception):  # it is gone, or the cluster is
                    ray.cancel(one)

    def opened(self, answer: Mapping[str, Any], node: str) -> list[Found]:
        """Return what an answer holds, and note the digests in it.

        Raises:
            SpectraError: The node cannot do it, or the run cannot go on.
        """
        if "refused" in answer:
            raise UsageError(f"node {node} {answer['refused']}.")
        if "failed" in answer:
            name, text = answer["failed"]
            kind = getattr(errors, name, SpectraError)
            raise kind(text if self.link.started else f"{text} (On node {node}.)")
        self._note(answer["digests"])
        return list(answer["found"])

    def _room(
        self, queue: deque[Batch], pending: Mapping[Any, Batch], nodes: Sequence[Node], since: float
    ) -> float:
        """Return since when there is room for all; give up where there was none for long.

        Raises:
            SpectraError: It is so.
        """
        now = time.monotonic()
        try:
            self.require_room([*queue, *pending.values()], nodes)
        except UsageError:
            if now - since > PATIENCE:
                raise
            return since
        return now

    def _sent(self, batch: Batch, nodes: Sequence[Node]) -> Any:  # noqa: ANN401 - Ray's own
        needs = self.needs(batch, nodes)
        return self.call.options(
            num_cpus=needs.cpus, memory=needs.memory, num_gpus=needs.gpus
        ).remote(versions(), _unwanted(), self._packed(batch.tasks))

    def _packed(self, tasks: Sequence[Task]) -> bytes:
        own = files_of(tasks) if tasks else self.seals
        errand = Errand(
            tuple([task.portable() for task in tasks]), self.analyzer, self.device,
            self.threads if tasks else 1,
            {path: self.seals[path] for path in own}, self.sink is not None,
        )  # fmt: skip
        return bytes(self.link.ray.cloudpickle.dumps(errand))

    def _outcome(self, one: Any, batch: Batch) -> tuple[list[Row], list[Batch]]:  # noqa: ANN401
        """Return the rows that came back, and what is to be sent again."""
        ray = self.link.ray
        try:
            node, answer = ray.get(one)
        except ray.exceptions.RayTaskError as error:
            if not isinstance(error.cause, MemoryError):
                raise error.cause from None
            return self._again(batch, self.crashes, CRASHES, "its memory was not enough")
        except (ray.exceptions.NodeDiedError, ray.exceptions.ObjectLostError):
            return self._again(batch, self.deaths, DEATHS, "its node was lost")
        except ray.exceptions.RayError as error:
            full = isinstance(error, ray.exceptions.OutOfMemoryError)
            why = "the memory of its node was not enough" if full else "its worker died"
            return self._again(batch, self.crashes, CRASHES, why)
        rows = []
        for task, found in zip(batch.tasks, self.opened(answer, node), strict=True):
            if self.sink is not None and found.tensors:
                self.sink.take(task, found.tensors)
            rows.append(Row.from_plain(found.row))
        return rows, []

    def _again(
        self, batch: Batch, count: Counter[int], most: int, why: str
    ) -> tuple[list[Row], list[Batch]]:
        """Send what was lost again, each task for itself; give up what was lost too often."""
        rows, again = [], []
        for task in batch.tasks:
            count[id(task)] += 1
            if count[id(task)] < most:
                again.append(Batch.of([task], self.analyzer, self.threads))
            else:
                rows.append(failed(task, self.analyzer, f"{why}, {most} times in a row"))
        return rows, again

    def _note(self, digests: Sequence[tuple[Span, str]]) -> None:
        """Believe the digests of files that are the same here."""
        if self.ledger is None:
            return
        for span, digest in digests:
            if same_here(span):
                self.ledger.note(span, digest)
            else:
                self.unknown += 1


def same_here(span: Span) -> bool:
    """Say whether a file that a worker read is the one here, by its state or its hash."""
    if span.size == NAMED:
        return True
    try:
        now = Path(span.path).stat()
    except OSError:
        return False
    state = now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino
    return state == (span.size, span.mtime_ns, span.ctime_ns, span.inode)


def failed(task: Task, analyzer: Analyzer[Any], why: str) -> Row:
    """Return the row of a task that could not be measured."""
    return Row(task.place, "failed", why, dict.fromkeys(analyzer.keys))


def seals_of(tasks: Sequence[Task]) -> dict[Path, Seal]:
    """Return what tells the files of this machine from others at their paths.

    Raises:
        CheckpointError: One of them is gone.
    """
    return {path: sealed(path) for path in files_of(tasks)}


def _unwanted() -> str:
    """Return the folder that Ray would have workers import from, and this process does not."""
    here = os.path.abspath(os.curdir)  # noqa: PTH100 - as Ray has it
    return "" if here in map(os.path.abspath, sys.path) else here


def _carried() -> Any:  # noqa: ANN401 - a function, pickled by value
    """Return what Ray carries to a worker: a function that can be there without spectra."""

    def errand(
        expected: dict[str, str], unwanted: str, sent: bytes
    ) -> tuple[str, dict[str, object]]:
        import sys  # noqa: PLC0415 - it runs elsewhere

        import ray  # noqa: PLC0415

        sys.path[:] = [path for path in sys.path if path != unwanted]
        node = str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]
        try:
            from spectra.work.errand import received  # noqa: PLC0415
        except ImportError as error:
            return node, {
                "refused": f"cannot import spectra ({error}). Install it there in the version "
                f"{expected['spectra']}, or use one environment on all nodes"
            }
        return node, received(expected, sent)

    return errand
