"""The entries of a matrix: the largest, their norms, and whether all are numbers."""

import math
from collections.abc import Iterator
from typing import NamedTuple

from jaxtyping import Bool, Float

from spectra.deferred import Tensor, torch
from spectra.errors import NonFiniteError
from spectra.kernels.rounding import integers
from spectra.text import non_finite

FIRST = 64  # rows that mostly tell
LEAST = 2.0**-1022  # the smallest float64 in full precision
BLOCK = 1 << 17  # entries widened to float64 at a time, which stay in a core's cache


class Sizes(NamedTuple):
    """How large entries are, all together and by row and column."""

    rows: Float[Tensor, " rows"]  # squared norms over scale^2
    cols: Float[Tensor, " cols"]
    scale: float  # a power of two near the largest entry, 0 where all are
    total: float  # sum of |w|
    filled: tuple[int, int]  # rows and columns that are not of zeros alone
    nonzero: int  # entries


def largest_entry(matrix: Float[Tensor, "rows cols"]) -> float:
    """Return the largest |entry|, 0 for an empty matrix.

    Raises:
        NonFiniteError: The matrix holds NaN or Inf. `nan < threshold` is False, so
            every comparison after this one would silently go one way.
    """
    if matrix.numel() == 0:
        return 0.0
    low, high = torch.stack(torch.aminmax(matrix)).tolist()
    largest: float = max(-low, high)
    if not math.isfinite(largest):
        raise NonFiniteError(_not_finite(matrix))
    return largest


def _not_finite(matrix: Tensor) -> str:
    """Say what is no number, a block at a time: places of all take eight times a float16 matrix."""
    step = max(BLOCK // matrix.shape[1], 1)
    nan, unusable, first = 0, 0, [0, 0]
    for start in range(0, len(matrix), step):
        part = matrix[start : start + step]
        wrong = ~part.isfinite()
        count = int(wrong.sum())
        if count and not unusable:
            row, col = wrong.nonzero()[0].tolist()
            first = [start + row, col]
        nan, unusable = nan + int(part.isnan().sum()), unusable + count
    return non_finite(nan, unusable - nan, first)


def sizes(
    matrix: Float[Tensor, "rows cols"],
    weights: tuple[Float[Tensor, " rows"], Float[Tensor, " cols"]] | None = None,
) -> Sizes:
    """Measure all entries in one pass, in float64 and at any scale.

    With weights as if rows and columns were multiplied with them; the scale stays that without.
    """
    scale = power_of_two_near(largest_entry(matrix))
    rows = matrix.new_zeros((2, len(matrix)), dtype=torch.float64)
    cols = matrix.new_zeros((2, matrix.shape[1]), dtype=torch.float64)
    for here, scaled in _blocks(matrix, scale or 1.0):
        if weights is not None:
            scaled.mul_(weights[0][here].unsqueeze(1)).mul_(weights[1])
        block = scaled.abs_()
        for power in range(2):
            torch.sum(block, dim=1, out=rows[power, here])
            cols[power] += block.sum(dim=0)
            block.square_()
    filled = int((rows[0] > 0.0).sum()), int((cols[0] > 0.0).sum())
    total, count = scale * float(rows[0].sum()), int(matrix.count_nonzero())
    return Sizes(rows[1], cols[1], scale, total, filled, count)


def entry_norm(matrix: Float[Tensor, "rows cols"]) -> float:
    """Return the Frobenius norm from the entries, in float64 and at any scale."""
    scale = power_of_two_near(largest_entry(matrix))
    if not scale:
        return 0.0
    norms = [block.norm() for _, block in _blocks(matrix, scale)]
    return scale * float(torch.stack(norms).norm())


def square_norm(values: Float[Tensor, "..."]) -> float:
    """Return the sum of squares, of what is in range."""
    return float(torch.linalg.vector_norm(values)) ** 2


def _blocks(matrix: Tensor, scale: float) -> Iterator[tuple[slice, Tensor]]:
    """Yield rows over scale, in float64, always in the same memory: fresh pages cost more."""
    rows = max(BLOCK // max(matrix.shape[1], 1), 1)
    wide = matrix.new_empty((min(rows, len(matrix)), matrix.shape[1]), dtype=torch.float64)
    for start in range(0, len(matrix), rows):
        part = matrix[start : start + rows]
        yield slice(start, start + rows), wide[: len(part)].copy_(part).div_(scale)


def are_equal(one: Float[Tensor, "rows cols"], other: Float[Tensor, "rows cols"]) -> bool:
    """Say whether two matrices hold the same; those that do not differ in the first rows mostly."""
    return torch.equal(one[:FIRST], other[:FIRST]) and torch.equal(one, other)


def is_zero(matrix: Float[Tensor, "rows cols"]) -> bool:
    """Say whether a matrix holds zeros alone, which the first rows mostly tell."""
    return not bool(matrix[:FIRST].any()) and not bool(matrix.any())


def filled_lines(
    where: Bool[Tensor, "rows cols"],
) -> tuple[Bool[Tensor, " rows"], Bool[Tensor, " cols"]]:
    """Say which rows and which columns hold an entry that is true; as bytes, a tenth of `any`."""
    if not where.numel():
        return where.any(dim=1), where.any(dim=0)
    flags = where.view(torch.uint8)
    rows, cols = flags.amax(dim=1), flags.amax(dim=0)
    return rows.view(torch.bool), cols.view(torch.bool)


def power_of_two_near(value: float) -> float:
    """Return the power of two next below `value`, 0 for 0: scaling by it never rounds.

    None is below the least normal number: of those float64 has no inverse.
    """
    return max(math.ldexp(1.0, math.frexp(value)[1] - 1), LEAST) if value else 0.0


def shuffled(matrix: Float[Tensor, "rows cols"], seed: int) -> Float[Tensor, "rows cols"]:
    """Return the same entries in an order that only the seed and their number decide.

    On the matrix's device; made on the CPU, in place of a copy: an index of 8 bytes an entry
    would take more than the matrix. As stored, whatever that is: which entry goes where does not
    depend on it.
    """
    import numpy as np  # noqa: PLC0415 - others need none

    values = matrix.detach().to("cpu", copy=True).contiguous().reshape(-1)
    words = values.view(integers(values.element_size()))  # NumPy has no bfloat16
    np.random.Generator(np.random.PCG64(seed)).shuffle(words.numpy())
    return values.reshape(matrix.shape).to(matrix.device)
