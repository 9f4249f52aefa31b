"""How fast this machine is, from a blink of it: each kind of work on small matrices."""

import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median

from spectra.deferred import torch
from spectra.kernels.work import COLUMNS, ENTRY, singular_values_work

EACH = 0.03  # seconds for one kind of work
FEWEST = 3  # runs of each
SIDE, TALL = 256, 1024
LONG = 2048
SPIN = 0.06  # seconds in which it is seen how much of a core a thread gets


def slownesses(workers: int) -> dict[str, float]:
    """Return how many times the reference each kind takes, while so many threads do the same.

    Timed by what each thread computes, as what else the machine does will end.
    """
    with ThreadPoolExecutor(workers) as pool:
        found = [*pool.map(lambda _: _one_thread(), range(workers))]
    return {name: sum(one[name] for one in found) / workers for name in found[0]}


def busy(workers: int) -> float:
    """Return how many times longer threads take than they compute: others use the cores too."""
    with ThreadPoolExecutor(workers) as pool:
        shares = [*pool.map(lambda _: _share(), range(workers))]
    return max(1.0, workers / max(sum(shares), 1e-3))


def _share() -> float:
    block = b"\0" * (1 << 18)
    clock, own = time.perf_counter(), time.thread_time()
    while time.perf_counter() - clock < SPIN:
        hashlib.sha256(block)
    return (time.thread_time() - own) / (time.perf_counter() - clock)


def _one_thread() -> dict[str, float]:

    from spectra.kernels.inverse import add_gram  # noqa: PLC0415 - as above
    from spectra.work.threads import threads_within  # noqa: PLC0415 - as above

    with threads_within(1):
        source = torch.Generator().manual_seed(0)
        square = torch.randn(SIDE, SIDE, generator=source, dtype=torch.float64)
        tall = torch.randn(TALL, SIDE, generator=source, dtype=torch.float64)
        symmetric, gram = square.mT @ square, torch.zeros_like(square)
        large = torch.randn(LONG, LONG // 2, generator=source)
        columns = torch.randn(LONG // 2, 24, generator=source)
        spare, tiny = torch.empty_like(large), torch.ones(4)
        tests: dict[str, tuple[Callable[[], object], float]] = {
            "products": (
                lambda: add_gram(gram.zero_(), tall), singular_values_work(TALL, SIDE).products
            ),
            "eigenvalues": (
                lambda: torch.linalg.eigvalsh(symmetric),
                singular_values_work(SIDE, SIDE).eigenvalues,
            ),
            "decompositions": (lambda: torch.linalg.svdvals(square), VALUES),
            "krylov": (lambda: large @ columns, large.numel() * COLUMNS),
            "passes": (lambda: torch.abs(large, out=spare).amax(), large.numel() * PASS),
            "calls": (lambda: [tiny.add(1.0) for _ in range(100)], ADDED),
        }  # fmt: skip
        return {name: _timed(run) / expected for name, (run, expected) in tests.items()}


VALUES = 4.0e-3  # seconds of all singular values of the square, on the reference core
PASS = 0.16 * ENTRY  # of the largest of many entries, an entry
ADDED = 2.0e-4  # of a hundred additions of four numbers


def _timed(run: Callable[[], object]) -> float:
    """Return the seconds of the median run, the first not counted: libraries load then."""
    run()
    found: list[float] = []
    clock = time.perf_counter()
    while len(found) < FEWEST or time.perf_counter() - clock < EACH:
        own = time.thread_time()
        run()
        found.append(time.thread_time() - own)
    return median(found)
