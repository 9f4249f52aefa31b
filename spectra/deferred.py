"""torch, and its Tensor, loaded when first used: what reads headers or the store needs neither.

Loading it takes longer than all else that such a command does. Modules of this package take both
names from here; at the top of a module nothing may be asked of `torch`, or all would wait for it.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch as torch  # noqa: PLC0414 - both are handed on
    from torch import Tensor as Tensor  # noqa: PLC0414
else:

    class _Torch:
        """What torch holds."""

        def __getattr__(self, name: str) -> object:
            new = "torch" not in sys.modules
            import torch

            if new:
                for call in tuple(_waiting):
                    call()
            return getattr(torch, name)

    class _Tensors(type):
        """The type of a class whose instances are torch's tensors; there are none before it."""

        def __instancecheck__(cls, one: object) -> bool:
            real = getattr(sys.modules.get("torch"), "Tensor", None)
            return real is not None and isinstance(one, real)

    torch = _Torch()

    class Tensor(metaclass=_Tensors):
        """Stands for `torch.Tensor` in annotations and `isinstance`."""


_waiting: list[Callable[[], object]] = []  # called in the moment in which torch is loaded


@contextmanager
def once_loaded(call: Callable[[], object]) -> Iterator[None]:
    """Call something now, or as soon as torch is loaded within this."""
    if "torch" in sys.modules:
        call()
        yield
        return
    _waiting.append(call)
    try:
        yield
    finally:
        _waiting.remove(call)
