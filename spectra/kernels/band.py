"""Eigenvalues of large symmetric matrices by way of a band, by SciPy's LAPACK, with one thread.

Reflections of a panel of columns at a time leave a band, and rotations of the band a tridiagonal
matrix (Bischof, Lang, Sun 2000; LAPACK's `dsyevd_2stage`). LAPACK's own first stage reads panels
row by row, and writes the rest of the matrix for each. Here they lie column by column, the rest is
written once for several, and products with it are of blocks, which OpenBLAS packs faster.
"""

import ctypes

from jaxtyping import Float

from spectra.deferred import Tensor
from spectra.kernels.blas import blas_threads, run

WIDTH = 48  # of the band: a wider one is formed sooner, and takes longer to be chased
PANELS = 2  # whose reflections reach the rest at once
BLOCK = 1024  # rows of a product with the rest
APART = 8  # entries between lines: those of a power of two fall on each other in the cache


def band_eigenvalues(lower: Float[Tensor, "side side"]) -> Float[Tensor, " side"] | None:
    """Return all eigenvalues, ascending, to a few roundings of the largest; None where not found.

    Args:
        lower: Float64, finite, of entries about 1 or larger, more than `WIDTH` columns. Above its
            diagonal there may be anything.
    """
    side = len(lower)
    held = lower.new_empty(side, side + APART)[:, :side].copy_(lower)
    packed = lower.new_zeros(side, WIDTH + 1)  # what LAPACK sees is the transpose's upper half
    values, beside = lower.new_empty(2, side)
    room, more = lower.new_empty(2, 1)
    n, width, lines, ask, failed = map(ctypes.c_int, (side, WIDTH, WIDTH + 1, -1, 0))
    given = b"N", b"N", b"U", n, width, packed, lines, values, beside
    with blas_threads():
        reduce_to_band(held)
        for step in range(WIDTH + 1):
            packed[step:, WIDTH - step] = held.diagonal(-step)
        run("dsytrd_sb2st", *given, room, ask, more, ask, failed)
        room, more = (lower.new_empty(int(one)) for one in (room, more))
        lengths = map(ctypes.c_int, (len(room), len(more)))
        run("dsytrd_sb2st", *given, room, next(lengths), more, next(lengths), failed)
        run("dsterf", n, values, beside, failed)
    return None if failed.value else values


def reduce_to_band(lower: Float[Tensor, "side side"]) -> None:
    """Turn a symmetric matrix, by reflections, into a band of `WIDTH`; within `blas_threads`.

    Args:
        lower: Float64, row by row; its lower half is looked at, and in it the band is left.
    """
    side = len(lower)
    # What is to be taken from the rest yet is left right^T + right left^T, column by column.
    left, right = (lower.new_empty(PANELS * WIDTH, side).mT for _ in range(2))
    at, count = 0, 0
    while side - at > WIDTH:
        after = at + WIDTH
        if count:  # the columns of this panel are due
            own, waiting = lower[at:, at:after], (left[at:, :count], right[at:, :count])
            for one, other in (waiting, waiting[::-1]):
                _add(own, one, other[:WIDTH].mT, -1.0)
        turn = _reflect(lower[after:, at:after])
        new = slice(count, count + len(turn))
        flat, image = left[after:, new], right[after:, new]
        flat.copy_(lower[after:, at : at + len(turn)].tril(-1)).diagonal().fill_(1.0)
        lower[after:, at:after].triu_()
        product = _product(lower[after:, after:], flat)
        if count:
            waiting = left[after:, :count], right[after:, :count]
            for one, other in (waiting, waiting[::-1]):
                _add(product, one, _times(other.mT, flat), -1.0)
        _add(image, product, turn, 1.0, 0.0)
        _add(image, flat, _times(turn.mT, _times(flat.mT, image)), -0.5)
        at, count = after, new.stop
        if count == PANELS * WIDTH or side - at <= WIDTH:
            k, rows, step, line = map(ctypes.c_int, (count, side - at, lower.stride(0), side))
            run("dsyr2k", b"U", b"N", rows, k, ctypes.c_double(-1.0), left[at:], line, right[at:],
                line, ctypes.c_double(1.0), lower[at:, at:], step)  # fmt: skip
            count = 0


def _reflect(panel: Float[Tensor, "rows width"]) -> Float[Tensor, "k k"]:
    """Factor a panel as Q R, Q = I - Y T Y^T; R and Y, under its diagonal, are left there.

    Where it has fewer rows than columns the first are factored, and the others turned.

    Returns:
        T, upper triangular.
    """
    rows, width = panel.shape
    count = min(rows, width)
    columns, turn = panel[:, :count].mT.contiguous(), panel.new_zeros(count, count)
    run("dgeqrt3", *map(ctypes.c_int, (rows, count)), columns, ctypes.c_int(rows), turn,
        ctypes.c_int(count), ctypes.c_int(0))  # fmt: skip
    panel[:, :count] = columns.mT
    turn = turn.mT.triu()
    if count < width:
        flat = columns.mT.tril(-1)
        flat.diagonal().fill_(1.0)
        others = panel[:, count:]
        others.sub_(flat @ (turn.mT @ (flat.mT @ others)))
    return turn


def _product(
    lower: Float[Tensor, "rows rows"], flat: Float[Tensor, "rows k"]
) -> Float[Tensor, "rows k"]:
    """Return the product with a symmetric matrix, of which the lower half is looked at."""
    rows, k = flat.shape
    image = flat.new_zeros(k, rows).mT
    one, lengths = ctypes.c_double(1.0), (lower.stride(0), flat.stride(1), image.stride(1), k)
    step, line, own, many = map(ctypes.c_int, lengths)
    for start in range(0, rows, BLOCK):
        block = slice(start, min(start + BLOCK, rows))
        run("dsymm", b"L", b"U", ctypes.c_int(block.stop - start), many, one,
            lower[block, block], step, flat[block], line, one, image[block], own)  # fmt: skip
        if start:
            before = lower[block, :start]
            _add(image[block], before, flat[:start], 1.0)
            _add(image[:start], before.mT, flat[block], 1.0)
    return image


def _times(one: Float[Tensor, "n m"], other: Float[Tensor, "m k"]) -> Float[Tensor, "n k"]:
    found = one.new_empty(other.shape[1], len(one)).mT
    _add(found, one, other, 1.0, 0.0)
    return found


def _add(out: Tensor, one: Tensor, other: Tensor, scale: float, keep: float = 1.0) -> None:
    """Put scale * one @ other + keep * out in the place of `out`, each by row or by column."""
    if out.stride(0) != 1:
        out, one, other = out.mT, other.mT, one.mT
    forms = [(b"N", part.stride(1)) if part.stride(0) == 1 else (b"T", part.stride(0))
             for part in (one, other)]  # fmt: skip
    lengths = (*out.shape, one.shape[1], forms[0][1], forms[1][1], out.stride(1))
    rows, cols, between, *lines = map(ctypes.c_int, lengths)
    run("dgemm", forms[0][0], forms[1][0], rows, cols, between, ctypes.c_double(scale), one,
        lines[0], other, lines[1], ctypes.c_double(keep), out, lines[2])  # fmt: skip
