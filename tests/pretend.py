"""A device that is not there: tensors that say they are on it, and work in ordinary memory.

What a GPU refuses is refused here too: tensors of both places in one operation, and numbers
taken out of a tensor are counted by the line that takes them, as each would wait for the GPU.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "pretend"
CROSSING = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
INDEXING = (Tensor.__getitem__, Tensor.__setitem__)
KERNELS = str(Path("spectra") / "kernels")
waits: Counter[str] = Counter()
"""How often each line of the kernels took a number."""


class There(Tensor):
    """A tensor on the device, and the one that holds its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls: type["There"], inner: Tensor) -> "There":
        made: There = Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(),
            dtype=inner.dtype, layout=inner.layout, device=torch.device(NAME, 0),
        )  # fmt: skip
        made.held = inner
        return made

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls,
        func: OpOverload,
        types: Iterable[type],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        return _run(func, args, kwargs or {})

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., object],
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Move lists of indices there, which torch does for the devices that it knows itself."""
        if func in INDEXING:
            own, index, *others = args
            many = tuple(map(_placed, index)) if isinstance(index, tuple) else _placed(index)
            args = own, many, *others
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))


class Pretend(TorchDispatchMode):
    """While it is on, tensors can be made on the device."""

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Iterable[type],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        return _run(func, args, kwargs or {})


def register() -> None:
    """Make torch know the device's name."""
    _setup_privateuseone_for_python_backend(NAME)


def _run(func: OpOverload, args: Sequence[object], kwargs: Mapping[str, object]) -> object:
    there: dict[int, There] = {}
    here: list[Tensor] = []

    def unwrapped(given: object) -> object:
        if isinstance(given, There):
            there[id(given.held)] = given
            return given.held
        if isinstance(given, Tensor) and given.ndim:
            here.append(given)
        return torch.device("cpu") if _named(given) else given

    inner_args, inner_kwargs = tree_map(unwrapped, args), tree_map(unwrapped, dict(kwargs))
    if there and here and func not in CROSSING:
        raise RuntimeError(f"{func}: tensors on cpu and on {NAME}")
    if there and func is torch.ops.aten._local_scalar_dense.default:
        _count()
    found = func(*inner_args, **inner_kwargs)
    if there and torch.Tag.inplace_view in func.tags:  # the shape of what says to be there, too
        with no_dispatch():
            func(*args, **kwargs)
    device = kwargs.get("device")
    stays = bool(there) if device is None else _named(device)

    def wrapped(given: object) -> object:
        if not isinstance(given, Tensor) or isinstance(given, There):
            return given
        own = there.get(id(given))
        if own is None and stays:
            own = There(given)
        return given if own is None else own

    return tree_map(wrapped, found)


def _placed(index: object) -> object:
    return There(torch.tensor(index)) if isinstance(index, list) else index


def _named(given: object) -> bool:
    return isinstance(given, torch.device) and given.type == NAME


def _count() -> None:
    """Count the innermost line of the kernels."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if KERNELS in frame.f_code.co_filename:
            waits[f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"] += 1
            return
