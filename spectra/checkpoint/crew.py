"""Threads that do work in turn, and keep no process alive that wants to end."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock, Thread
from typing import Any, TypeVar

Found = TypeVar("Found")


class Crew:
    """So many threads at most, as long as there is work for them.

    The executors of Python's own are waited for when a process ends: one that sleeps until a
    server answers would hold it for minutes. These end with the process.
    """

    def __init__(self, count: int, name: str) -> None:
        """Begin without a thread.

        Args:
            count: How many at most.
            name: What they are called.
        """
        self._count, self._name = count, name
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._active = 0
        self._lock = Lock()

    def submit(self, work: Callable[[], Found]) -> "Future[Found]":
        """Have work done, after what was submitted before."""
        future: Future[Found] = Future()
        with self._lock:
            self._waiting.append((future, work))
            more = self._active < self._count
            self._active += more
        if more:
            Thread(target=self._run, name=self._name, daemon=True).start()
        return future

    def close(self) -> None:
        """Forget what waits; what is in work ends by itself, and nobody waits for it."""
        with self._lock:
            waiting = [*self._waiting]
            self._waiting.clear()
        for future, _ in waiting:
            future.cancel()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._active -= 1
                    return
                future, work = self._waiting.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                found = work()
            except BaseException as error:  # noqa: BLE001 - whoever asks for the result gets it
                future.set_exception(error)
            else:
                future.set_result(found)
            del future, work  # nothing is held while it waits
            found = None
