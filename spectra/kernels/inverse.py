"""Inverses of W^T W to iterate with: by LU factors of a square W, by Cholesky of the Gram matrix.

A factorisation is a fast and slightly wrong inverse. How wrong is measured by who uses it
(`edge`), so nothing here is proven and nothing has to be.
"""

from collections.abc import Callable
from functools import partial

from jaxtyping import Float

from spectra.deferred import Tensor, torch
from spectra.kernels import bfloat16
from spectra.kernels.blas import add_lower_gram, blas_threads, is_faster
from spectra.kernels.lapack import factor_cholesky, factor_lu
from spectra.kernels.linear_map import LinearMap
from spectra.kernels.work import PANEL

TILE = 256  # columns of the Gram matrix made at a time
NARROW = 96  # likewise up to `SHORT` of them: less is made beyond its half
SHORT = 2048


Inverse = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor] | None]
"""About (W^T W)^-1 and, where W is square, about W^-T, as what they do to vectors."""


def square_inverse(of: LinearMap) -> Inverse | None:
    """Factor a square map in float64; None where a pivot is zero."""
    wide = torch.empty(of.shape, dtype=torch.float64, device=of.device)
    # Row by row in memory, it is the transpose column by column: factored where it stands.
    columns = torch.mul(of.held, 1.0 / of.scale, out=wide).mT
    pivots = torch.empty(len(wide), dtype=torch.int32, device=of.device)
    if of.matrix.is_cpu and is_faster("dgetrf", len(wide) ** 3):
        exists = factor_lu(wide, pivots)
    else:
        info = torch.empty((), dtype=torch.int32, device=of.device)
        torch.linalg.lu_factor_ex(columns, out=(columns, pivots, info))
        exists = not int(info)
    if not exists:
        return None
    solve = partial(torch.linalg.lu_solve, columns, pivots)
    return lambda vectors: solve(solve(vectors), adjoint=True), solve


def lower_gram(of: LinearMap, dtype: "torch.dtype") -> Float[Tensor, "short short"]:
    """Return the lower half of W^T W, rows >= cols, a panel of the long side at a time.

    Float32 takes half the time and loses the square of the condition number.
    """
    short = of.shape[1]
    gram = torch.zeros(short, short, dtype=dtype, device=of.device)
    for _, block in of.panels(of.room(PANEL, dtype)):
        add_gram(gram, block)
    return gram


def add_gram(gram: Float[Tensor, "short short"], block: Float[Tensor, "rows short"]) -> None:
    """Add the lower half of block^T block to that of a Gram matrix, row by row in memory."""
    rows, short = block.shape
    if bfloat16.add_lower_gram(gram, block):
        return
    if gram.is_cpu and 1 in block.stride() and is_faster("dsyrk", rows * short**2):
        with blas_threads():
            add_lower_gram(gram, block)
        return
    tile = NARROW if short <= SHORT and gram.is_cpu else TILE
    for left in range(0, short, tile):
        stop = min(left + tile, short)
        gram[left:stop, :stop].addmm_(block[:, left:stop].mT, block[:, :stop])


def cholesky(
    gram: Float[Tensor, "short short"], *, overwrite: bool = False
) -> Float[Tensor, "short short"] | None:
    """Return L, lower, with L L^T = W^T W; None where it does not exist to the precision given.

    W^T W is given by its lower half, row by row in memory; L may take its place.
    """
    factor = gram if overwrite else gram.clone()
    if factor.is_cpu and is_faster("dpotrf", len(factor) ** 3):
        return factor if factor_cholesky(factor) else None
    # Row by row in memory, it is the upper half column by column: factored where it stands.
    columns, info = factor.mT, torch.empty((), dtype=torch.int32, device=gram.device)
    torch.linalg.cholesky_ex(columns, upper=True, out=(columns, info))
    return None if int(info) else factor


def gram_solve(
    triangle: Float[Tensor, "short short"], vectors: Float[Tensor, "short b"]
) -> Float[Tensor, "short b"]:
    """Return about (W^T W)^-1 times float64 vectors, by a Cholesky factor of W^T W."""
    half = torch.linalg.solve_triangular(triangle, vectors.to(triangle.dtype), upper=False)
    solution: Tensor = torch.linalg.solve_triangular(triangle.mT, half, upper=True).double()
    return solution
