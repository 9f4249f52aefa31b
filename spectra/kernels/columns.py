"""The first columns of a matrix as a QR factorisation has them, and what the others have along."""

from jaxtyping import Float

from spectra.deferred import Tensor, torch

COLUMNS = 512  # widened to float64 at a time


def leading_columns(
    matrix: Float[Tensor, "rows cols"], count: int
) -> tuple[Float[Tensor, "rows count"], Float[Tensor, "count cols"], float]:
    """Return the first columns of Q and rows of R of W = Q R, float64, and how determined they are.

    They depend on the first `count` columns of W alone, which span Q's: R = Q^T W. The last is the
    smallest singular value of these: below what rounding moves them by, Q is any.

    Args:
        matrix: Any shape.
        count: At most min(rows, cols).

    Source:
        Golub and Van Loan 2013, Matrix Computations, section 5.2.
    """
    first = matrix[:, :count].double()
    q, r = torch.linalg.qr(first)
    rest = torch.cat([q.mT @ part.double() for part in matrix[:, count:].split(COLUMNS, dim=1)]
                     or [q.new_zeros(count, 0)], dim=1)  # fmt: skip
    return q, torch.cat([r, rest], dim=1), float(torch.linalg.svdvals(r)[-1])
