"""Times: both sides in one run, interleaved."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def unmeasured() -> Iterator[dict[str, str]]:
    """Yield an environment in which nothing was measured before: a store of its own."""
    with tempfile.TemporaryDirectory() as folder:
        yield {**os.environ, "SPECTRA_CACHE_DIR": folder}


def seconds(run: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def least(run: Callable[[], object], runs: int = 5) -> float:
    """Return the best of several."""
    return min(seconds(run) for _ in range(runs))


def interleaved(
    first: Callable[[], object], second: Callable[[], object], runs: int, each: int = 1
) -> tuple[float, float]:
    """Return the medians of both, run A B A B, the first `each` times before a second."""
    times: tuple[list[float], list[float]] = ([], [])
    first()
    for _ in range(runs):
        times[0].extend(seconds(first) for _ in range(each))
        times[1].append(seconds(second))
    return statistics.median(times[0]), statistics.median(times[1])
