"""Memory for what is read: in huge pages where the system offers them.

The first touch of every 4 KiB page of new memory costs the system about as much time as
copying into it; of a 2 MiB page, hardly anything.
"""

import contextlib
import ctypes
import sys
from functools import cache
from typing import Any

from spectra.deferred import Tensor, torch

HUGE = 2 << 20  # bytes of a huge page of x86-64 and, mostly, of ARM
WORTH = 4 * HUGE
MADV_HUGEPAGE = 14  # Linux's mman-common.h


def new_tensor(shape: tuple[int, ...], kind: "torch.dtype") -> Tensor:
    """Return a tensor whose values are still to be written."""
    values = torch.empty(shape, dtype=kind)
    advise = _madvise() if values.nbytes >= WORTH else None
    if advise is not None:
        start = -(-values.data_ptr() // HUGE) * HUGE
        stop = (values.data_ptr() + values.nbytes) // HUGE * HUGE
        advise(start, stop - start, MADV_HUGEPAGE)  # a hint; refusing it changes nothing
    return values


@cache
def _madvise() -> Any:  # noqa: ANN401 - a foreign function
    if sys.platform != "linux":
        return None
    with contextlib.suppress(OSError, AttributeError):
        call = ctypes.CDLL(None, use_errno=True).madvise
        call.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        return call
    return None
