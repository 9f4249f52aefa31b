"""Who measures: this machine, and the store of what was measured before."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from spectra.runs.opening import Device
from spectra.work.device import chosen_device
from spectra.work.executor import Executor
from spectra.work.local import Local
from spectra.work.rates import Observed
from spectra.work.store import Remembering, Store


@contextmanager
def engine(
    workers: int | None, device: Device, *, cache: bool = True, tell: Callable[[str], object]
) -> Iterator[Executor]:
    """Yield an executor.

    Args:
        workers: Matrices at once on a CPU; None: one per core.
        device: As users name it.
        cache: Ask the store, and keep what is measured.
        tell: Gets a sentence for all that is wrong with the store.

    Raises:
        SpectraError: The device is not there.
    """
    here = chosen_device(device)
    if not cache:
        yield Local(workers, here)
        return
    store = Store()
    with closing(store):
        seen = Observed(here)
        yield Remembering(Local(workers, here, store, store.recall, seen), store, seen)
    for trouble in store.troubles:
        tell(f"{trouble}.")
