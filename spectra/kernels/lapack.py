"""LAPACK's own functions, where neither torch nor SciPy gives what they can do.

SciPy hands their addresses to other compilers (`scipy.linalg.cython_lapack`). Called by address
they release Python's lock, so that several matrices are worked on at once, with torch's number of
threads; BLAS has one for all, so those of another wait. Tensors are on the CPU, column by column.
"""

import ctypes
import functools
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.kernels.products import mkl_is_slow

PANEL = 64  # columns that are reduced at a time, at most
FEWEST, MOST = 192, 2048  # columns whose eigenvalues NumPy's LAPACK finds sooner
SETTER = ThreadPoolExecutor(1)  # threadpoolctl heeds the first thread that sets a number alone
SCIPY = "scipy.linalg.cython_lapack"
TURN = threading.Condition()
running: list[int] = []  # threads of each call, all the same: others give other last digits


def bidiagonal_components(
    square: Float[Tensor, "side side"],
    lines: Float[Tensor, "k side"],
    others: Float[Tensor, "j side"] | None = None,
) -> Float[Tensor, " side"] | None:
    """Turn each line y into U^T y, and each other one into V^T y, in place, U S V^T = `square`.

    All float64, contiguous, finite; `square` is overwritten. The singular values descend; None
    where the rotations did not converge.
    """
    count, side = lines.shape
    more = 0 if others is None else len(others)
    size, work = 2 * PANEL * side, square.new_empty(2 * PANEL * side)
    diagonal, above, left, right = square.new_empty(4, side)
    n, k, j, none, one, length, failed = map(ctypes.c_int, (side, count, more, 0, 1, size, 0))
    # What LAPACK sees is the transpose, whose right singular vectors are U.
    _call("dgebrd", n, n, square, n, diagonal, above, left, right, work, length, failed)
    if count:
        _call("dormbr", b"P", b"L", b"T", n, k, n, square, n, right, lines, n, work, length,
              failed)  # fmt: skip
    if others is None or not more:
        others, column = square, one
    else:
        _call("dormbr", b"Q", b"L", b"T", n, j, n, square, n, left, others, n, work, length,
              failed)  # fmt: skip
        column = n
    _call("dbdsqr", b"U", n, k, none, j, diagonal, above, lines, n, square, one, others, column,
          work, failed)  # fmt: skip
    return None if failed.value else diagonal


def leading_eigenpairs(
    symmetric: Float[Tensor, "side side"], count: int
) -> tuple[Float[Tensor, " count"], Float[Tensor, "side count"]] | None:
    """Return the largest eigenvalues, descending, and eigenvectors; None if not all are found.

    `symmetric` is float64, contiguous, finite; overwritten.
    """
    pairs = chosen_eigenpairs(symmetric, lambda _: [range(count)])
    return None if pairs is None else (pairs[0][:count], pairs[1])


def symmetric_eigenpairs(
    lower: Float[Tensor, "side side"], choose: Callable[[Tensor], Sequence[range]]
) -> tuple[Float[Tensor, " side"], Float[Tensor, "side chosen"]]:
    """Return all eigenvalues, descending, and eigenvectors of some, on any device.

    Args:
        lower: Float64, contiguous, finite; overwritten. Above its diagonal there may be anything.
        choose: As of `chosen_eigenpairs`.
    """
    pairs = None
    if lower.device.type == "cpu":
        pairs = chosen_eigenpairs(lower.clone(), choose)
    if pairs is None:
        values, vectors = torch.linalg.eigh(lower)
        values = values.flip(0)
        places = [place for one in choose(values) for place in one]
        pairs = values, vectors.flip(1)[:, torch.tensor(places, dtype=torch.long).to(lower.device)]
    return pairs


def chosen_eigenpairs(
    symmetric: Float[Tensor, "side side"], choose: Callable[[Tensor], Sequence[range]]
) -> tuple[Float[Tensor, " side"], Float[Tensor, "side chosen"]] | None:
    """Return all eigenvalues, descending, and eigenvectors of some; None if not all are found.

    One reduction to a tridiagonal matrix T serves both; what eigenvectors cost grows with how many
    are chosen. Those of one range are orthonormal to rounding, those of two as far as their
    eigenvalues are apart.

    Args:
        symmetric: Float64, contiguous, finite; overwritten. Of it the lower triangle is looked at.
        choose: Places in all eigenvalues, which it is given, descending: few ranges.
    """
    side = len(symmetric)
    diagonal, beside, scales = symmetric.new_empty(3, side)
    work = symmetric.new_empty(max(PANEL, 18) * side)
    n, size, failed = map(ctypes.c_int, (side, len(work), 0))
    # What LAPACK sees is the transpose.
    _call("dsytrd", b"U", n, symmetric, n, diagonal, beside, scales, work, size, failed)
    values, others = diagonal.clone(), beside.clone()
    _call("dsterf", n, values, others, failed)
    if failed.value:
        return None
    values = values.flip(0)
    lines = [_tridiagonal(diagonal, beside, one, work) for one in choose(values) if one]
    if any(one is None for one in lines):
        return None
    vectors = torch.cat([one for one in lines if one is not None] or [work[:0].view(0, side)])
    if count := ctypes.c_int(len(vectors)):
        _call("dormtr", b"L", b"U", b"N", n, count, symmetric, n, scales, vectors, n, work, size,
              failed)  # fmt: skip
    return values, vectors.mT


def symmetric_eigenvalues(lower: Float[Tensor, "side side"]) -> Float[Tensor, " side"]:
    """Return all eigenvalues, ascending.

    Up to a few thousand columns NumPy's LAPACK takes a third less than MKL where that makes little
    of the processor, with one thread: 49 and 75 ms of 1024 columns on a Zen 5.

    Args:
        lower: Float64, finite. Above its diagonal there may be anything.
    """
    side = len(lower)
    if lower.is_cpu and FEWEST <= side <= MOST and torch.get_num_threads() == 1 and mkl_is_slow():
        import numpy as np  # noqa: PLC0415 - others need none

        with _threads(), suppress(np.linalg.LinAlgError):
            return torch.from_numpy(np.linalg.eigvalsh(lower.numpy(), UPLO="L"))
    found: Tensor = torch.linalg.eigvalsh(lower)
    return found


def _tridiagonal(
    diagonal: Float[Tensor, " side"], beside: Float[Tensor, " side"], places: range, work: Tensor
) -> Float[Tensor, "chosen side"] | None:
    """Return eigenvectors of T, each a line, by relatively robust representations."""
    side, count = len(diagonal), len(places)
    lines, values = work.new_empty(count, side), work.new_empty(side)
    support, integers = work.new_empty(12 * side, dtype=torch.int32).split([2 * side, 10 * side])
    n, first, last, found, most, more, size, length, failed = map(
        ctypes.c_int,
        (side, side - places[-1], side - places[0], 0, count, 1, len(work), 10 * side, 0),
    )
    unused = ctypes.c_double(0.0)
    _call("dstemr", b"V", b"I", n, diagonal.clone(), beside.clone(), unused, unused, first, last,
          found, values, lines, n, most, support, more, work, size, integers, length,
          failed)  # fmt: skip
    return None if failed.value or found.value != count else lines.flip(0)


def _call(name: str, *given: ctypes.c_int | ctypes.c_double | bytes | Tensor) -> None:
    passed = [one if isinstance(one, bytes) else one.data_ptr() if isinstance(one, Tensor)
              else ctypes.addressof(one) for one in given]  # fmt: skip
    function = _function(name, len(given))
    with _threads():
        function(*passed)


@contextmanager
def _threads() -> Iterator[None]:
    """Have BLAS take torch's number of threads; those of another number wait."""
    threads, limits = torch.get_num_threads(), _limits(SCIPY in sys.modules)
    with TURN:
        TURN.wait_for(lambda: not running or threads in running)
        SETTER.submit(limits.limit, limits=threads).result()
        limits.limit(limits=threads)  # where each thread has a number of its own
        running.append(threads)
    try:
        yield
    finally:
        with TURN:
            running.pop()
            TURN.notify_all()


@functools.cache
def _function(name: str, arguments: int) -> Callable[..., None]:
    from scipy.linalg import cython_lapack  # noqa: PLC0415 - others need no scipy

    capsule = cython_lapack.__pyx_capi__[name]
    name_of, address_of = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    address_of.restype, address_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    address = address_of(capsule, name_of(capsule))
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * arguments)(address)


@functools.cache
def _limits(loaded: bool) -> Any:  # noqa: ANN401, ARG001 - a `ThreadpoolController`
    """Return what limits the libraries that are loaded: NumPy's, and SciPy's or not yet."""
    from threadpoolctl import ThreadpoolController  # noqa: PLC0415 - others need none

    return ThreadpoolController().select(user_api="blas")
