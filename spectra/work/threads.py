"""How many threads torch takes for what one thread of ours asks of it."""

from collections.abc import Iterator
from contextlib import contextmanager

from spectra.deferred import once_loaded, torch


def use_threads(count: int) -> None:
    """Have torch use so many threads for what this thread asks of it.

    Numbers depend on it in their last digits. At a thread's first operation torch takes what any
    thread set last, over what that one had set itself: so it is asked before it is told.
    """
    torch.get_num_threads()
    torch.set_num_threads(count)


@contextmanager
def threads_within(count: int) -> Iterator[None]:
    """Have torch use so many for a while, and as many as before afterwards; it may never load."""
    before: list[int] = []

    def begin() -> None:
        before.append(torch.get_num_threads())
        use_threads(count)

    with once_loaded(begin):
        try:
            yield
        finally:
            if before:
                torch.set_num_threads(before[0])
