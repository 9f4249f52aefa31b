"""torch, and its Tensor, loaded when first used: what reads headers or the store needs neither.

Loading it takes longer than all else that such a command does. Modules of this package take both
names from here; at the top of a module nothing may be asked of `torch`, or all would wait for it.
"""

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from threading import RLock, Thread
from types import ModuleType
from typing import TYPE_CHECKING

from spectra.errors import SpectraError

if TYPE_CHECKING or "torch" in sys.modules:
    import torch as torch  # noqa: PLC0414 - both are handed on
    from torch import Tensor as Tensor  # noqa: PLC0414
else:

    class _Torch:
        """What torch holds."""

        def __getattr__(self, name: str) -> object:
            return getattr(_loaded(), name)

    class _Tensors(type):
        """The type of a class whose instances are torch's tensors; there are none before it."""

        def __instancecheck__(cls, one: object) -> bool:
            real = getattr(sys.modules.get("torch"), "Tensor", None)
            return real is not None and isinstance(one, real)

    torch = _Torch()

    class Tensor(metaclass=_Tensors):
        """Stands for `torch.Tensor` in annotations and `isinstance`."""


_OURS = {"torch": torch, "Tensor": Tensor}
_waiting: list[Callable[[], object]] = []  # called in the moment in which torch is loaded
_halves: list[KeyboardInterrupt] = []  # that ended its loading: no process loads the rest
_handing = RLock()  # several threads may wait for it


def _loaded() -> ModuleType:
    """Return torch; as it is loaded no garbage is looked for: all that is made then stays.

    Raises:
        SpectraError: It is not there, or broken.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        found = import_module("torch")
    except Exception as error:  # of whatever kind: a library that lacks, a file that is cut off
        said = " ".join(f"{type(error).__name__}: {error}".split())
        todo = "Install it anew; `spectra env` tells what is there."
        if _halves:
            todo = "That was interrupted before, and goes well in a new process alone: begin one."
        raise SpectraError(f"torch cannot be loaded ({said}). {todo}") from error
    except KeyboardInterrupt as error:
        _halves.append(error)
        raise
    finally:
        if collects:
            gc.enable()
    with _handing:
        _hand_out(found)
        while _waiting:
            _waiting.pop(0)()
    return found


def _hand_out(found: ModuleType) -> None:
    """Give modules of this package the real ones: no name goes a longer way from now on."""
    real = {"torch": found, "Tensor": found.Tensor}
    for name, module in sys.modules.copy().items():  # other threads import meanwhile
        if not name.startswith("spectra") or not isinstance(module, ModuleType):
            continue
        held = vars(module)
        held.update({own: one for own, one in real.items() if held.get(own) is _OURS[own]})


def when_loaded(call: Callable[[], object]) -> None:
    """Call something now, or as soon as torch is loaded."""
    if "torch" in sys.modules:
        call()
    else:
        _waiting.append(call)


@contextmanager
def once_loaded(call: Callable[[], object]) -> Iterator[None]:
    """Call something now, or as soon as torch is loaded within this."""
    when_loaded(call)
    try:
        yield
    finally:
        with suppress(ValueError):  # it was called
            _waiting.remove(call)


def load_beside() -> None:
    """Load torch on a thread of its own, while this one waits for something else."""
    if "torch" not in sys.modules:
        Thread(target=_tried, name="spectra-torch").start()


def _tried() -> None:
    with suppress(SpectraError):  # who needs it meets that too
        _loaded()
