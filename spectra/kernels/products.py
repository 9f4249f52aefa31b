"""Products of float32 matrices, by the library that makes more of the processor.

MKL leaves AVX-512 of AMD's processors unused. oneDNN, which torch has beside it, does not: on one
core of a Zen 5 it makes 250 GFLOP/s where MKL makes 115. It sums in another order: what rounding
leaves is up to twice as large. So it is for products whose error no proof counts on.
"""

import functools
from pathlib import Path

from jaxtyping import Float

from spectra.deferred import Tensor, torch

FEW = 1 << 18  # operations, below which calls cost more than they save
FITS = 2.0**90  # largest entries, multiplied: float32 holds their sums, and far smaller ones beside


def product(
    left: Float[Tensor, "rows inner"], right: Float[Tensor, "inner cols"]
) -> Float[Tensor, "rows cols"]:
    """Return left @ right; in float32 on the CPU by oneDNN where that is faster.

    Which one it is hangs on the processor and on shapes alone: the same product is the same,
    bit by bit, whatever else runs.
    """
    found: Tensor
    if _by_onednn(left, right):
        of = torch.ops.mkldnn._linear_pointwise  # noqa: SLF001 - what torch.compile makes of `mm`
        found = of(left, right.mT, None, "none", [], "")
    else:
        found = left @ right
    return found


def add_product(
    to: Float[Tensor, "rows cols"],
    left: Float[Tensor, "rows inner"],
    right: Float[Tensor, "inner cols"],
) -> None:
    """Add left @ right, as `product` has it."""
    if _by_onednn(left, right):
        to.add_(product(left, right))
    else:
        to.addmm_(left, right)


def fits_single(left: Tensor, right: Tensor) -> bool:
    """Say whether float32 holds a product of both; of what is no number it does not."""
    sizes = [float(torch.stack(torch.aminmax(one)).abs().max()) if one.numel() else 0.0
             for one in (left, right)]  # fmt: skip
    size = sizes[0] * sizes[1]
    return size == 0.0 or 1.0 / FITS <= size <= FITS


def wants_dense(matrix: Tensor) -> bool:
    """Say whether products with it take less time once it has no gaps in memory."""
    return matrix.dtype == torch.float32 and matrix.is_cpu and mkl_is_slow()


def _by_onednn(left: Tensor, right: Tensor) -> bool:
    many = left.shape[0] * left.shape[1] * right.shape[1] >= FEW
    # What has gaps in memory it multiplies entry by entry, a thousand times slower.
    dense = all(one.is_contiguous() or one.mT.is_contiguous() for one in (left, right))
    return many and dense and wants_dense(left) and left.dtype == right.dtype


@functools.cache
def mkl_is_slow() -> bool:
    """Say whether this is a processor of AMD's with AVX-512, of which MKL uses half."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    return torch.backends.mkl.is_available() and "AuthenticAMD" in processor() and onednn_runs()


@functools.cache
def processor() -> str:
    """Return what Linux tells of the processor; elsewhere nobody says."""
    told = Path("/proc/cpuinfo")
    return told.read_text() if told.exists() else ""


@functools.cache
def onednn_runs() -> bool:
    """Say whether torch has oneDNN, and the system lets it write its code as it goes."""
    small = torch.ones(16, 16)
    try:  # by a name that torch does not promise
        torch.ops.mkldnn._linear_pointwise(small, small, None, "none", [], "")  # noqa: SLF001
    except (AttributeError, RuntimeError):
        return False
    return True
