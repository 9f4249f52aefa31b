"""LAPACK's own functions, where neither torch nor SciPy gives what they can do."""

import ctypes
from collections.abc import Callable, Sequence

from jaxtyping import Float, Int32

from spectra.deferred import Tensor, torch
from spectra.kernels.band import band_eigenvalues
from spectra.kernels.blas import call, has_own
from spectra.kernels.products import mkl_is_slow

PANEL = 64  # columns that are reduced at a time, at most
FEWEST, SEVERAL = (
    192,
    2048,
)  # columns whose eigenvalues SciPy's LAPACK finds sooner; by way of a band


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
    call("dgebrd", n, n, square, n, diagonal, above, left, right, work, length, failed)
    if count:
        call("dormbr", b"P", b"L", b"T", n, k, n, square, n, right, lines, n, work, length,
              failed)  # fmt: skip
    if others is None or not more:
        others, column = square, one
    else:
        call("dormbr", b"Q", b"L", b"T", n, j, n, square, n, left, others, n, work, length,
              failed)  # fmt: skip
        column = n
    call("dbdsqr", b"U", n, k, none, j, diagonal, above, lines, n, square, one, others, column,
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
    call("dsytrd", b"U", n, symmetric, n, diagonal, beside, scales, work, size, failed)
    values, others = diagonal.clone(), beside.clone()
    call("dsterf", n, values, others, failed)
    if failed.value:
        return None
    values = values.flip(0)
    lines = [_tridiagonal(diagonal, beside, one, work) for one in choose(values) if one]
    if any(one is None for one in lines):
        return None
    vectors = torch.cat([one for one in lines if one is not None] or [work[:0].view(0, side)])
    if count := ctypes.c_int(len(vectors)):
        call("dormtr", b"L", b"U", b"N", n, count, symmetric, n, scales, vectors, n, work, size,
              failed)  # fmt: skip
    return values, vectors.mT


def factor_cholesky(lower: Float[Tensor, "side side"]) -> bool:
    """Put L in the place of L L^T; False where there is none to the precision.

    Args:
        lower: Float32 or float64, row by row in memory. Above its diagonal there may be anything.
    """
    side, failed = ctypes.c_int(len(lower)), ctypes.c_int(0)
    name = "spotrf" if lower.dtype == torch.float32 else "dpotrf"
    call(name, b"U", side, lower, side, failed)  # what LAPACK sees is the transpose
    lower.tril_()
    return not failed.value


def factor_lu(columns: Float[Tensor, "side side"], pivots: Int32[Tensor, " side"]) -> bool:
    """Put L and U in the place of their product with exchanged rows; False where a pivot is 0.

    Args:
        columns: Float64, each of its lines a column of what is factored.
        pivots: Overwritten with the row, from 1, that each was exchanged with.
    """
    side, failed = ctypes.c_int(len(columns)), ctypes.c_int(0)
    call("dgetrf", side, side, columns, side, pivots, failed)
    return not failed.value


def symmetric_eigenvalues(lower: Float[Tensor, "side side"]) -> Float[Tensor, " side"]:
    """Return all eigenvalues, ascending.

    Where MKL makes little of the processor, SciPy's LAPACK takes half to three quarters of the
    time, with one thread: 42 and 77 ms of 1024 columns on a Zen 5. Beyond two thousand columns
    it does by way of a band.

    Args:
        lower: Float64, finite, of entries about 1. Above its diagonal there may be anything.
    """
    side, one = len(lower), lower.is_cpu and torch.get_num_threads() == 1
    if one and side >= FEWEST and mkl_is_slow() and has_own("dsytrd_sb2st"):
        values = (_eigenvalues if side <= SEVERAL else band_eigenvalues)(lower)
        if values is not None:
            return values
    found: Tensor = torch.linalg.eigvalsh(lower)
    return found


def _eigenvalues(lower: Float[Tensor, "side side"]) -> Float[Tensor, " side"] | None:
    """Return all eigenvalues, ascending; None if not all are found."""
    values, size, sizes = lower.new_empty(len(lower)), lower.new_empty(1), torch.zeros(1).int()
    n, ask, failed = map(ctypes.c_int, (len(lower), -1, 0))
    # What LAPACK sees is the transpose.
    given = b"N", b"U", n, lower.contiguous().clone(), n, values
    call("dsyevd", *given, size, ask, sizes, ask, failed)
    work = lower.new_empty(int(size))
    support = torch.empty(int(sizes), dtype=torch.int32)
    lengths = map(ctypes.c_int, (len(work), len(support)))
    call("dsyevd", *given, work, next(lengths), support, next(lengths), failed)
    return None if failed.value else values


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
    call("dstemr", b"V", b"I", n, diagonal.clone(), beside.clone(), unused, unused, first, last,
          found, values, lines, n, most, support, more, work, size, integers, length,
          failed)  # fmt: skip
    return None if failed.value or found.value != count else lines.flip(0)
