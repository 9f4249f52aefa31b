"""Gram matrices of what bfloat16 holds, on Zen 4 at twice the rate of float32.

It multiplies pairs of bfloat16 numbers and adds them up in float32, which rounds sums alone; Zen 5
multiplies float32 as fast, and others were not measured. Torch has that in oneDNN, but no operator
leaves the sums in float32: only C++ has it, as `at::native::cpublas::brgemm`, in one thread and a
tile at a time. It is called by address. Where torch has it no more, or it finds other numbers, all
is as without it. What it throws nobody can catch, it ends the process: so it is asked for only
where it has no reason to.
"""

import ctypes
import functools
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jaxtyping import Float

from spectra.deferred import Tensor, torch
from spectra.kernels.products import mkl_is_slow, processor

LIBRARY = Path("lib", "libtorch_cpu.so")
NAME = "_ZN2at6native7cpublas6brgemmEllllllbPKN3c108BFloat16ES5_Pfb"
GIVEN = *[ctypes.c_int64] * 6, ctypes.c_bool, *[ctypes.c_void_p] * 3, ctypes.c_bool
TILE = 256  # rows and columns of the Gram matrix made at a time
MANY = 1 << 28  # operations, below which putting values in order costs more than it saves
ZEN4 = re.compile(r"^cpu family\s*: 25$", re.MULTILINE)
CAPS = "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"  # by which a user keeps oneDNN from instructions

Multiply = Callable[..., None]


def add_lower_gram(gram: Float[Tensor, "short short"], block: Float[Tensor, "rows short"]) -> bool:
    """Add the lower half of block^T block, where it is faster so, to that of a Gram matrix.

    It is for a float32 block all of whose entries bfloat16 holds, as those of a checkpoint in it,
    whatever power of two they are scaled by. Tiles are shared out among torch's number of threads,
    and the sums are the same with any.

    Args:
        gram: Row by row in memory.
        block: Of any strides.

    Returns:
        Whether it was added. Above the diagonal entries may be anything then.
    """
    rows, short = block.shape
    worth = gram.is_cpu and gram.dtype == torch.float32 and rows * short**2 >= MANY
    multiply = _multiply() if worth and torch.backends.mkldnn.enabled else None
    if multiply is None:
        return False
    lines = block if block.stride(1) == 1 else block.mT.contiguous()
    dropped = lines.view(torch.int16)[:, ::2]  # what bfloat16 has no room for
    if dropped[0].count_nonzero() or dropped.count_nonzero():
        return False
    brief = block.to(torch.bfloat16)
    _add(multiply, gram, brief)
    return True


def _add(multiply: Multiply, gram: Tensor, brief: Tensor) -> None:
    rows, short = brief.shape
    inner = rows + rows % 2
    left = brief.new_zeros(short, inner)
    left[:, :rows] = brief.mT
    # As the processor takes them, pairs of rows: two entries are moved as one.
    right = left.view(torch.int32).mT.contiguous().view(torch.bfloat16)

    def add(top: int) -> None:
        high = min(TILE, short - top)
        for start in range(0, top + high, TILE):
            wide = min(TILE, short - start)
            parts = left[top], right[:, 2 * start :], gram[top, start:]
            addresses = [part.data_ptr() for part in parts]
            multiply(high, wide, inner, inner, short, short, True, *addresses, True)

    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        list(threads.map(add, reversed(range(0, short, TILE))))  # the longest first


@functools.cache
def _multiply() -> Multiply | None:
    """Return what adds A B to C: of sizes, strides, whether to add, addresses, and B's order."""
    try:  # of all this torch promises nothing
        there = torch.cpu._is_avx512_bf16_supported() and mkl_is_slow()  # noqa: SLF001
        if not there or not ZEN4.search(processor()) or any(name in os.environ for name in CAPS):
            return None
        multiply = getattr(ctypes.CDLL(str(Path(torch.__file__).parent / LIBRARY)), NAME)
    except (OSError, AttributeError):
        return None
    multiply.argtypes, multiply.restype = GIVEN, None
    return multiply if _is_right(multiply) else None


def _is_right(multiply: Multiply) -> bool:
    """Say whether it finds the Gram matrix of small whole numbers, of which no sum is rounded."""
    block = torch.arange(3 * 70).remainder(17).sub(8).view(3, 70)
    gram = torch.ones(70, 70)
    _add(multiply, gram, block.to(torch.bfloat16))
    return torch.equal(gram.tril(), (1.0 + (block.mT @ block).float()).tril())
