"""Runs tasks on a cluster of Ray: workers read their own bytes, rows come back."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from spectra.analyzers import Analyzer, Row
from spectra.checkpoint.fingerprints import Ledger
from spectra.deferred import load_beside
from spectra.errors import UsageError
from spectra.text import duration
from spectra.work.batches import batched
from spectra.work.connection import Connection, Node, connected
from spectra.work.dispatch import EVERY, Dispatch, seals_of
from spectra.work.executor import Key, Sink
from spectra.work.local import usable_cores
from spectra.work.memory import peak
from spectra.work.rates import Rates
from spectra.work.task import Task

AHEAD: Final = 2  # batches sent for each that a cluster works on: none waits for the next
ANSWER: Final = 120.0  # seconds in which every node answers; imports may come from a slow disk


@dataclass(slots=True)
class Cluster:
    """The workers of a cluster of Ray, joined when there is something to measure.

    Every task asks for as many CPUs as it has threads and for the memory that it needs, or for a
    GPU. What a worker or node takes with it when it dies is measured elsewhere.
    """

    address: str | None = None  # None: one is started on this machine
    workers: int | None = None  # batches at once; None: as many as fit
    wanted: str = "auto"  # device, as users name it; auto: a GPU where the cluster has one
    ledger: Ledger | None = None  # is told the digests of what workers read
    joins: bool = True  # False: it is not there, and only spoken of
    unknown: int = field(default=0, init=False)  # digests of files that are others here
    _stack: ExitStack = field(default_factory=ExitStack, init=False)
    _joined: Connection | None = field(default=None, init=False)
    _checked: set[tuple[str, Path]] = field(default_factory=set, init=False)

    def close(self) -> None:
        """Leave the cluster; end it where it was started here."""
        self._joined = None
        self._stack.close()

    @property
    def crew(self) -> int:
        """How many matrices are measured at once; a cluster that runs is joined to know.

        Raises:
            ClusterError: It cannot be joined.
        """
        if self._joined is None and self.address is None:  # one that is to be started
            return self.workers or usable_cores()
        if not self.joins:
            return self.workers or 1
        return self._crew(self._join().nodes())

    @property
    def here(self) -> bool:
        """Whether it is started on this machine."""
        return self.address is None

    @property
    def device(self) -> str:
        """Where matrices are measured, as far as that is known."""
        if self._joined is None:
            return "cuda" if self.wanted == "cuda" else "cpu"
        return "cuda" if self._on_gpus(self._joined.nodes()) else "cpu"

    @property
    def rates(self) -> Rates:
        """Nothing: what other machines take is not known."""
        return Rates()

    def known(self, tasks: Sequence[Task], analyzer: Analyzer[Any]) -> Mapping[Key, Row]:
        """Return nothing: all of the tasks are to be measured, whatever the analyzer."""
        del tasks, analyzer
        return {}

    def peak(self, tasks: Sequence[Task], analyzer: Analyzer[Any]) -> int:
        """Return about the bytes that a worker takes at most, for one task."""
        return peak(tasks, analyzer, 1)

    def run(
        self, tasks: Sequence[Task], analyzer: Analyzer[Any], sink: Sink | None = None
    ) -> Iterator[Row]:
        """Yield the row of every task as it comes back.

        Raises:
            SpectraError: A file changed or ended while it was read, a node has other versions or
                files, or none can hold a task.
        """
        link = self._join()
        nodes = link.nodes()
        device, seals = self._require_device(nodes), seals_of(tasks)
        run = Dispatch(link, analyzer, device, seals, self.limit, sink, self.ledger)
        greeted = self._greeted(link, nodes, run)
        batches = batched(tasks, analyzer, self._crew(nodes), run.threads)
        run.require_room(batches, nodes)
        try:
            self._hear(link, greeted, run)
            yield from run.rows(batches)
        finally:
            self.unknown += run.unknown

    def limit(self, nodes: Sequence[Node]) -> int:
        """Return how many batches may be sent before one is back."""
        return self.workers or AHEAD * self._crew(nodes)

    def _crew(self, nodes: Sequence[Node]) -> int:
        whole = sum(node.has.gpus if self._on_gpus(nodes) else node.has.cpus for node in nodes)
        return max(1, min(int(whole), self.workers or int(whole)))

    def _join(self) -> Connection:
        if self._joined is None:
            load_beside()
            self._joined = self._stack.enter_context(connected(self.address, self.workers))
        return self._joined

    def _on_gpus(self, nodes: Sequence[Node]) -> bool:
        return self.wanted != "cpu" and any(node.has.gpus for node in nodes)

    def _require_device(self, nodes: Sequence[Node]) -> str:
        """Return where a worker computes.

        Raises:
            UsageError: There is no such device in the cluster.
        """
        if self.wanted == "cuda" and not self._on_gpus(nodes):
            raise UsageError(
                "--device cuda is not there: the cluster has no GPU. Use --device cpu, or add a "
                "node that has one."
            )
        return "cuda" if self._on_gpus(nodes) else "cpu"

    def _greeted(self, link: Connection, nodes: Sequence[Node], run: Dispatch) -> dict[Any, Node]:
        """Ask every new node for its versions, and whether it sees the files."""
        new = [
            node for node in nodes
            if any((node.id, path) not in self._checked for path in (*run.seals, Path()))
        ]  # fmt: skip
        return {} if link.started else {run.greeting(node): node for node in new}

    def _hear(self, link: Connection, asked: Mapping[Any, Node], run: Dispatch) -> None:
        """Wait for the answers of nodes that were asked, before any work.

        Raises:
            SpectraError: One has other versions or files, or says nothing.
        """
        waiting, until = list(asked), time.monotonic() + ANSWER
        while waiting:
            ready, waiting = link.ray.wait(waiting, timeout=EVERY)
            if not ready and link.answers() and time.monotonic() > until:
                silent = ", ".join(asked[one].name for one in waiting[:3])
                raise UsageError(
                    f"the cluster does not answer: node {silent} said nothing for "
                    f"{duration(ANSWER)}. Look at it: `ray status`."
                )
            for one in ready:
                with suppress(link.ray.exceptions.NodeDiedError):  # as it may later, too
                    node, answer = link.ray.get(one)
                    run.opened(answer, node)
        self._checked |= {
            (node.id, path) for node in asked.values() for path in (*run.seals, Path())
        }
