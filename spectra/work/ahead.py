"""Reading ahead: what later tasks need comes while others are measured."""

from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Generic, TypeVar

from spectra.checkpoint.crew import Crew
from spectra.checkpoint.entry import shards_of
from spectra.deferred import torch
from spectra.work.read import Read
from spectra.work.threads import use_threads

ROOM = 256 << 20  # bytes that may wait for their tasks
Found = TypeVar("Found")


class Ahead(Generic[Found]):
    """Reads of which several are on their way at once, in the order in which they are needed.

    Files of other machines alone are read so, where most of the time goes by until an answer
    comes. A local disk gains nothing from it. What goes wrong is raised once it is asked for.
    """

    def __init__(
        self, reads: Sequence[Read], read: Callable[[Read], Found], room: int | None = None
    ) -> None:
        """Read nothing yet.

        Args:
            reads: Each once, in the order in which they are needed.
            read: What reads one; called by several threads.
            room: Bytes that may be on their way and wait together; a read that takes more comes
                at its turn. None: 256 MiB.
        """
        self._read, self._room = read, ROOM if room is None else room
        worth = {one.key: at_once(one) for one in reads}
        self._waiting = {one.key: one for one in reads if worth[one.key] > 1}
        self._coming: dict[Hashable, tuple[Future[Found], int]] = {}
        self._held = 0
        self._crew = Crew(max(worth.values(), default=1), "spectra-ahead")
        self._threads = torch.get_num_threads()  # as whoever asks has: sums depend on it

    def take(self, read: Read) -> Found:
        """Return what a read gives, and let later ones come meanwhile.

        Raises:
            CheckpointError: A file ended early or cannot be read.
        """
        self._waiting.pop(read.key, None)
        self._send()
        if read.key not in self._coming:
            return self._read(read)
        try:
            return self._coming[read.key][0].result()
        finally:
            self.drop(read.key)
            self._send()

    def drop(self, key: Hashable) -> None:
        """Forget a read that is not needed any more."""
        self._waiting.pop(key, None)
        future, memory = self._coming.pop(key, (None, 0))
        self._held -= memory
        if future is not None:
            future.cancel()

    def close(self) -> None:
        """Forget all that was not asked for."""
        self._waiting.clear()
        self._coming.clear()
        self._crew.close()

    def _send(self) -> None:
        while self._waiting:
            key, read = next(iter(self._waiting.items()))
            if self._held and self._held + read.memory > self._room:
                return
            del self._waiting[key]
            if read.memory > self._room:
                continue
            self._held += read.memory
            self._coming[key] = self._crew.submit(partial(self._alone, read)), read.memory

    def _alone(self, read: Read) -> Found:
        use_threads(self._threads)
        return self._read(read)


def at_once(read: Read) -> int:
    """Return how many such reads are worth having on their way at once."""
    return max(read.source.files[shard].ranges for shard in shards_of(read.entry))
