"""SciPy's BLAS and LAPACK, called by address, with torch's number of threads.

Neither torch nor SciPy gives all that they can do, and what SciPy gives holds Python's lock. Called
by address they release it, so that several matrices are worked on at once; as BLAS has one number
of threads for all, those of another wait. Tensors are on the CPU, column by column.

SciPy's wheels bring an OpenBLAS of their own. It is loaded without SciPy, which takes half a
second. MKL leaves AVX-512 of AMD's processors unused, and OpenBLAS does not: Gram matrices and
their factors take half of the time, and less. Elsewhere addresses come from
`scipy.linalg.cython_lapack`.
"""

import ctypes
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jaxtyping import Float

from spectra.deferred import Tensor, torch
from spectra.kernels.products import mkl_is_slow

SCIPY = "scipy.linalg.cython_lapack"
WHEEL = "scipy.libs/libscipy_openblas-*.so"  # beside SciPy's folder; integers of 32 bits
WIDE = {b"SkylakeX", b"Cooperlake", b"SapphireRapids"}  # kernels with AVX-512
MANY = 1 << 24  # operations beside which a call by address costs nothing

Given = ctypes.c_int | ctypes.c_double | ctypes.c_float | bytes | Tensor


def call(name: str, *given: Given) -> None:
    """Call a function of LAPACK, all of whose arguments are addresses."""
    with blas_threads():
        run(name, *given)


def run(name: str, *given: Given) -> None:
    """Call a function of BLAS or LAPACK; within `blas_threads`."""
    _function(name, len(given))(*_addresses(given))


def has_own(name: str) -> bool:
    """Say whether the OpenBLAS of SciPy's wheel is there, and has a function of that name."""
    library = openblas()
    return library is not None and hasattr(library, f"scipy_{name}_")


def is_faster(name: str, operations: int) -> bool:
    """Say whether a function of SciPy's wheel takes less than what torch has for that."""
    return operations >= MANY and mkl_is_slow() and _is_wide() and has_own(name)


def add_lower_gram(gram: Float[Tensor, "short short"], block: Float[Tensor, "rows short"]) -> None:
    """Add the lower half of block^T block, both float32 or float64; within `blas_threads`.

    Args:
        gram: Row by row in memory. Above its diagonal nothing changes.
        block: Row by row or column by column in memory.
    """
    single = block.dtype == torch.float32
    one = ctypes.c_float(1.0) if single else ctypes.c_double(1.0)
    rows, short = map(ctypes.c_int, block.shape)
    by_row = block.stride(1) == 1
    step = ctypes.c_int(max(block.stride(0 if by_row else 1), 1))
    # What BLAS sees are the transposes: the upper half of X X^T, or of X^T X.
    run("ssyrk" if single else "dsyrk", b"U", b"N" if by_row else b"T", short, rows, one, block,
        step, one, gram, short)  # fmt: skip


class _Calls:
    """Those that are under way in a process; a fork has none of its parent's threads."""

    def __init__(self) -> None:
        self.begin()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.begin)

    def begin(self) -> None:
        """Know of none."""
        self.turn = threading.Condition()
        self.running: list[int] = []  # threads of each, all the same: others give other last digits
        # threadpoolctl heeds the first thread that sets a number alone
        self.setter = ThreadPoolExecutor(1)


CALLS = _Calls()


@contextmanager
def blas_threads() -> Iterator[None]:
    """Have BLAS take torch's number of threads; those of another number wait."""
    library, calls = openblas(), CALLS
    threads, limits = torch.get_num_threads(), _limits(SCIPY in sys.modules, library is not None)
    with calls.turn:
        calls.turn.wait_for(lambda: not calls.running or threads in calls.running)
        calls.setter.submit(limits.limit, limits=threads).result()
        limits.limit(limits=threads)  # where each thread has a number of its own
        calls.running.append(threads)
    try:
        yield
    finally:
        with calls.turn:
            calls.running.pop()
            calls.turn.notify_all()


@functools.cache
def openblas() -> ctypes.CDLL | None:
    """Load the OpenBLAS of SciPy's wheel; None where SciPy has none of its own."""
    found = find_spec("scipy")
    beside = sorted(Path(found.origin).parents[1].glob(WHEEL)) if found and found.origin else []
    try:
        return ctypes.CDLL(str(beside[0])) if len(beside) == 1 else None
    except OSError:
        return None


@functools.cache
def _is_wide() -> bool:
    """Say whether OpenBLAS took kernels with AVX-512, which `OPENBLAS_CORETYPE` may forbid."""
    library = openblas()
    if library is None or not hasattr(library, "scipy_openblas_get_corename"):
        return False
    library.scipy_openblas_get_corename.restype = ctypes.c_char_p
    return library.scipy_openblas_get_corename() in WIDE


def _addresses(given: tuple[Given, ...]) -> list[bytes | int]:
    return [one if isinstance(one, bytes) else one.data_ptr() if isinstance(one, Tensor)
            else ctypes.addressof(one) for one in given]  # fmt: skip


@functools.cache
def _function(name: str, arguments: int) -> Callable[..., None]:
    made = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * arguments)
    library = openblas()
    if library is not None and has_own(name):
        return made(ctypes.cast(getattr(library, f"scipy_{name}_"), ctypes.c_void_p).value or 0)
    from scipy.linalg import cython_lapack  # noqa: PLC0415 - slow to load

    capsule = cython_lapack.__pyx_capi__[name]
    name_of, address_of = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    address_of.restype, address_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return made(address_of(capsule, name_of(capsule)))


@functools.cache
def _limits(*loaded: bool) -> Any:  # noqa: ANN401, ARG001 - a `ThreadpoolController`
    """Return what limits the libraries that are loaded: NumPy's, and SciPy's or not yet."""
    from threadpoolctl import ThreadpoolController  # noqa: PLC0415 - others need none

    return ThreadpoolController().select(user_api="blas")
