"""Eigenvalues of large symmetric matrices by way of a band, by SciPy's LAPACK, with one thread.

Reflections of a panel of columns at a time leave a band, and rotations of the band a tridiagonal
matrix (Bischof, Lang, Sun 2000; LAPACK's `dsyevd_2stage`). LAPACK's own first stage reads the
panel row by row and writes the rest of the matrix once for each panel; here a panel lies column
by column, and the rest is written once for several, so that memory is waited for less.
"""

import ctypes

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.kernels.blas import call

WIDTH = 64  # of the band: a wider one is formed sooner, and takes longer to be chased
PANELS = 3  # whose reflections reach the rest at once


def band_eigenvalues(lower: Float[Tensor, "side side"]) -> Float[Tensor, " side"] | None:
    """Return all eigenvalues, ascending, to a few roundings of the largest; None where not found.

    Args:
        lower: Float64, finite, contiguous, of entries about 1 or larger, more than `WIDTH` columns;
            overwritten. Above its diagonal there may be anything.
    """
    reduce_to_band(lower)
    side = len(lower)
    packed = lower.new_zeros(side, WIDTH + 1)  # what LAPACK sees is the transpose's upper half
    for step in range(WIDTH + 1):
        packed[step:, WIDTH - step] = lower.diagonal(-step)
    values, beside = lower.new_empty(2, side)
    n, width, one, ask, failed = map(ctypes.c_int, (side, WIDTH, WIDTH + 1, -1, 0))
    rotations, work = lower.new_empty(1), lower.new_empty(1)
    sizes = ask, ask
    for _ in range(2):  # once to ask for the room that it takes
        call("dsytrd_sb2st", b"N", b"N", b"U", n, width, packed, one, values, beside, rotations,
             sizes[0], work, sizes[1], failed)  # fmt: skip
        if sizes[0] is ask:
            rotations, work = lower.new_empty(int(rotations)), lower.new_empty(int(work))
            sizes = ctypes.c_int(len(rotations)), ctypes.c_int(len(work))
    call("dsterf", n, values, beside, failed)
    return None if failed.value else values


def reduce_to_band(lower: Float[Tensor, "side side"]) -> None:
    """Turn a symmetric matrix, by reflections, into a band of `WIDTH` below the diagonal.

    Args:
        lower: Float64, contiguous; its lower half is looked at, and in it the band is left.
    """
    side = len(lower)
    for start in range(0, side - WIDTH, PANELS * WIDTH):
        left: list[Tensor] = []  # of what is to be taken from the rest: left right^T + right left^T
        right: list[Tensor] = []
        after = start
        for at in range(start, min(start + PANELS * WIDTH, side - WIDTH), WIDTH):
            after = at + WIDTH
            waiting = [torch.cat(some, dim=1) for some in (left, right)] if left else None
            if waiting is not None:  # the columns of this panel are due
                own = lower[at:, at:after]
                for one, other in (waiting, waiting[::-1]):
                    own.addmm_(one, other[:WIDTH].mT, alpha=-1.0)
                waiting = [one[WIDTH:] for one in waiting]
            flat, turn = _reflect(lower[after:, at:after])
            image = _product(lower[after:, after:], flat)
            if waiting is not None:
                for one, other in (waiting, waiting[::-1]):
                    image.addmm_(one, other.mT @ flat, alpha=-1.0)
            image = image @ turn
            image.addmm_(flat, turn.mT @ (flat.mT @ image), alpha=-0.5)
            left = [*(one[WIDTH:] for one in left), flat]
            right = [*(one[WIDTH:] for one in right), image]
        _subtract(lower[after:, after:], torch.cat(left, dim=1), torch.cat(right, dim=1))


def _reflect(panel: Float[Tensor, "rows width"]) -> tuple[Tensor, Tensor]:
    """Triangulate a panel by I - Y T Y^T, in place; return Y and T.

    Where it has fewer rows than columns the first are triangulated, and the others turned.
    """
    rows, width = panel.shape
    count = min(rows, width)
    columns = panel[:, :count].mT.contiguous()
    held = columns.new_zeros(count, count)
    call("dgeqrt3", *map(ctypes.c_int, (rows, count)), columns, ctypes.c_int(rows), held,
         ctypes.c_int(count), ctypes.c_int(0))  # fmt: skip
    panel[:, :count] = columns.mT.triu()
    flat, turn = columns.mT.tril(-1), held.mT.triu()
    flat.diagonal().fill_(1.0)
    if rest := width - count:
        others = panel[:, -rest:]
        others.sub_(flat @ (turn.mT @ (flat.mT @ others)))
    return flat.contiguous(), turn


def _product(lower: Float[Tensor, "rows rows"], flat: Float[Tensor, "rows k"]) -> Tensor:
    """Return the product with a symmetric matrix, of which the lower half is looked at."""
    image = torch.empty_like(flat)
    k, rows, step, none, one = *_lengths(lower, flat), ctypes.c_double(0.0), ctypes.c_double(1.0)
    call("dsymm", b"R", b"U", k, rows, one, lower, step, flat, k, none, image, k)
    return image


def _subtract(lower: Float[Tensor, "rows rows"], left: Tensor, right: Tensor) -> None:
    """Take left right^T + right left^T from the lower half of a symmetric matrix."""
    k, rows, step = _lengths(lower, left)
    call("dsyr2k", b"U", b"T", rows, k, ctypes.c_double(-1.0), left, k, right, k,
         ctypes.c_double(1.0), lower, step)  # fmt: skip


def _lengths(lower: Tensor, flat: Tensor) -> tuple[ctypes.c_int, ctypes.c_int, ctypes.c_int]:
    """Return columns and rows, contiguous, and the step from a row of the whole to the next."""
    rows, k = flat.shape
    return ctypes.c_int(k), ctypes.c_int(rows), ctypes.c_int(max(lower.stride(0), 1))
