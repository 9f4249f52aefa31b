"""Where the kernels are tested: on the device that SPECTRA_TEST_DEVICE names.

Random numbers come from the CPU, so that they are the same everywhere, and what a test makes
of nothing is moved before anything is done with it; the kernels get tensors of that device alone.
`SPECTRA_TEST_DEVICE=pretend` needs no GPU and finds tensors of two devices in one operation.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeGuard
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

import pretend

NAME = os.environ.get("SPECTRA_TEST_DEVICE") or "cpu"
TESTS, TORCH = str(Path(__file__).parent), str(Path(torch.__file__).parent)
OUT = (Tensor.numpy, Tensor.tolist, Tensor.__array__)  # of ordinary memory only


def lacking() -> str | None:
    """Say why the device cannot be used, in one line; None where it can."""
    if NAME == pretend.NAME:
        pretend.register()
        return None
    try:
        torch.empty(1, device=NAME)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        why = str(error).partition("\n")[0]
        return f"SPECTRA_TEST_DEVICE={NAME}: torch {torch.__version__} cannot use it: {why}"
    return None


@contextmanager
def everything_there() -> Iterator[None]:
    """Put what tests make on the device."""
    with ExitStack() as stack:
        if NAME != "cpu":
            stack.enter_context(Placed())
            anywhere = partial(torch.testing.assert_close, check_device=False)
            stack.enter_context(patch.object(torch.testing, "assert_close", anywhere))
        if NAME == pretend.NAME:
            stack.enter_context(pretend.Pretend())  # type: ignore[no-untyped-call]
        yield


class Placed(TorchFunctionMode):
    """Moves what a test's own line makes, and what it mixes; kernels are left alone."""

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        if func in OUT and (_in_tests() or NAME == pretend.NAME):
            own, *others = args
            with torch._C.DisableTorchFunction():
                return func(own.cpu() if isinstance(own, Tensor) else own, *others, **kwargs)
        if not _in_tests():
            return func(*args, **kwargs)
        places = {leaf.device.type for leaf in tree_leaves((args, kwargs)) if _is_array(leaf)}
        if len(places) > 1:
            args, kwargs = tree_map(_moved, args), tree_map(_moved, dict(kwargs))
        found = func(*args, **kwargs)
        return found if places or "device" in kwargs else tree_map(_moved, found)


def _in_tests() -> bool:
    """Whether the innermost line that is not torch's is a test's."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(TORCH):
        frame = frame.f_back
    return frame.f_code.co_filename.startswith(TESTS)


def _is_array(given: object) -> TypeGuard[Tensor]:
    return isinstance(given, Tensor) and (given.ndim > 0 or given.device.type != "cpu")


def _moved(given: object) -> object:
    return given.to(NAME) if isinstance(given, Tensor) else given
