"""Who measures: this machine or a cluster, and the store of what was measured before."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from typing import NamedTuple, get_args

from spectra.errors import UsageError
from spectra.runs.opening import Device, Memory
from spectra.text import guess, nbytes_of, quote
from spectra.words import Engine
from spectra.work.cluster import Cluster
from spectra.work.connection import MISSING, chosen_address
from spectra.work.device import chosen_device, known_device
from spectra.work.executor import Executor
from spectra.work.local import Local
from spectra.work.meter import Observed
from spectra.work.store import Remembering, Store


class Where(NamedTuple):
    """Who measures, as users name it."""

    engine: Engine = "local"
    address: str | None = None  # of a cluster
    memory: Memory = None  # that this process may take: bytes, or `4GB`

    def require(self, device: Device) -> None:
        """Refuse what cannot be meant or is not installed, before any work.

        Raises:
            UsageError: It is so.
        """
        if self.engine not in get_args(Engine):
            raise UsageError(
                f"--engine {quote(self.engine)} is not known.{guess(self.engine, get_args(Engine))}"
                " Expected local or ray."
            )
        memory_bytes(self.memory)
        if self.engine == "local":
            if self.address is not None:
                raise UsageError(
                    f"--address {quote(self.address)} goes with --engine ray alone. Add that, or "
                    "leave it out."
                )
            if known_device(device) != "auto":  # torch tells, once something is measured
                chosen_device(device)
            return
        if find_spec("ray") is None:
            raise UsageError(MISSING)
        chosen_address(self.address)
        if self.memory is not None:
            raise UsageError(
                f"--memory {self.memory} goes with --engine local alone: a cluster gives each task "
                "what it needs. Leave it out."
            )
        if ":" in known_device(device):
            raise UsageError(
                f"--device {device} goes with --engine local alone: a cluster gives each task a "
                "GPU of its own. Use --device cuda."
            )


@contextmanager
def engine(
    workers: int | None,
    device: Device,
    where: Where = Where(),  # noqa: B008 - frozen
    *,
    cache: bool = True,
    joins: bool = True,
    tell: Callable[[str], object],
) -> Iterator[Executor]:
    """Yield an executor.

    Args:
        workers: Matrices at once on a CPU; None: one per core.
        device: As users name it.
        where: On this machine, or on a cluster.
        cache: Ask the store, and keep what is measured.
        joins: Join a cluster; else it is only spoken of.
        tell: Gets a sentence for all that is wrong with the store.

    Raises:
        SpectraError: The device is not there, or the cluster cannot be meant.
    """
    where.require(device)
    if not cache:
        with _measuring(workers, device, where, joins=joins) as one:
            yield one
        return
    store = Store()
    seen = Observed(str(device)) if where.engine == "local" else None
    with closing(store), _measuring(workers, device, where, store, seen, joins=joins) as one:
        yield Remembering(one, store, seen)
        if isinstance(one, Cluster) and one.unknown:
            tell(
                "what was measured of files that nodes have as copies of their own is not kept: "
                "use a folder that all share."
            )
    for trouble in store.troubles:
        tell(f"{trouble}.")


@contextmanager
def _measuring(
    workers: int | None,
    device: Device,
    where: Where,
    store: Store | None = None,
    seen: Observed | None = None,
    *,
    joins: bool = True,
) -> Iterator[Local | Cluster]:
    """Yield who measures, and tells the store what it reads; a cluster is left in the end."""
    if where.engine == "local":
        here, memory = str(device), memory_bytes(where.memory)
        if store is None:
            yield Local(workers, here, memory=memory)
        else:
            yield Local(workers, here, store, store.recall, seen, memory, parts=store.parts)
        return
    address = chosen_address(where.address)
    with closing(Cluster(address, workers, str(device), store, joins)) as cluster:
        yield cluster


def memory_bytes(memory: Memory) -> int | None:
    """Return what `4GB` means in bytes.

    Raises:
        UsageError: It is no size, or nothing.
    """
    if memory is None:
        return None
    found: object = nbytes_of(memory) if isinstance(memory, str) else memory
    if isinstance(found, float) and found.is_integer():  # 4e9, as one writes it
        found = int(found)
    if not isinstance(found, int) or isinstance(found, bool) or found <= 0:
        raise UsageError(
            f"--memory {memory!r} is no size. Expected bytes above 0, or KB, MB, GB: 4GB."
        )
    return found
