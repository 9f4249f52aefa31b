"""Directions read by a table with a row for each token: highest and lowest products, row by row.

The table has hundreds of thousands of rows; it is widened some rows at a time, and of all products
no more are kept than are told.
"""

from typing import NamedTuple

from jaxtyping import Float, Int

from spectra.deferred import Tensor, torch
from spectra.errors import NonFiniteError
from spectra.kernels.products import fits_single

ROOM = 1 << 24  # numbers that are widened, or come of products, at once


class Ends(NamedTuple):
    """The rows with the highest and the lowest products with each direction, extremes first."""

    highest: Float[Tensor, "directions k"]
    highest_rows: Int[Tensor, "directions k"]
    lowest: Float[Tensor, "directions k"]
    lowest_rows: Int[Tensor, "directions k"]

    def beside(self, other: "Ends") -> "Ends":
        """Return the ends of the rows of both; as many as of the one that has more."""
        k = max(self.highest.shape[1], other.highest.shape[1])
        high, high_rows = _most((self.highest, self.highest_rows),
                                (other.highest, other.highest_rows), k, largest=True)  # fmt: skip
        low, low_rows = _most((self.lowest, self.lowest_rows),
                              (other.lowest, other.lowest_rows), k, largest=False)  # fmt: skip
        return Ends(high, high_rows, low, low_rows)


def _most(
    one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], k: int, *, largest: bool
) -> tuple[Tensor, Tensor]:
    values, rows = (torch.cat(pair, dim=1) for pair in zip(one, other, strict=True))
    found = values.topk(min(k, values.shape[1]), dim=1, largest=largest, sorted=True)
    return found.values, rows.gather(1, found.indices)


def ends(
    table: Float[Tensor, "rows width"],
    directions: Float[Tensor, "directions width"],
    k: int,
    first: int = 0,
) -> Ends:
    """Return the rows of a table that go furthest along each direction, and furthest against it.

    Args:
        table: As stored, or decoded.
        directions: Float32, or float64 where products are to be so.
        k: How many at each end; fewer where there are fewer rows.
        first: The number of the table's first row.

    Raises:
        NonFiniteError: The table holds NaN or Inf.
    """
    count, width = directions.shape
    step = max(1, ROOM // max(width, count, 1))
    found: Ends | None = None
    for start in range(0, len(table), step):
        products = directions @ _wide(table[start : start + step], directions).mT
        many = min(k, products.shape[1])
        high = products.topk(many, dim=1, sorted=True)
        low = products.topk(many, dim=1, largest=False, sorted=True)
        at = first + start
        own = Ends(high.values, high.indices + at, low.values, low.indices + at)
        found = own if found is None else found.beside(own)
    if found is None:
        none = directions.new_zeros(count, 0)
        return Ends(none, none.long(), none, none.long())
    return found


def crossed(
    table: Float[Tensor, "rows width"], other: Float[Tensor, "rows across"]
) -> Float[Tensor, "width across"]:
    """Return table^T other, the sum over rows of products of both.

    In float32, or in float64 where it is too large or too small for that.

    Raises:
        NonFiniteError: Either holds NaN or Inf.
    """
    kind = torch.float32 if fits_single(table, other) else torch.float64
    total = torch.zeros(table.shape[1], other.shape[1], dtype=kind, device=table.device)
    step = max(1, ROOM // max(table.shape[1], other.shape[1], 1))
    for start in range(0, len(table), step):
        some = slice(start, start + step)
        total.addmm_(_wide(table[some], total).mT, _wide(other[some], total))
    return total


def _wide(values: Tensor, like: Tensor) -> Tensor:
    wide = values.to(like.dtype)
    if not bool(wide.isfinite().all()):
        raise NonFiniteError("the table of tokens holds NaN or Inf: no product with it is known")
    return wide
