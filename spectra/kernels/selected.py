"""The largest entries of a matrix, as many as asked for, ties broken by where they lie."""

from jaxtyping import Bool, Float

from spectra.deferred import Tensor, torch

ROWS = 512  # multiplied at a time, in float64


def largest_entries(
    sizes: Float[Tensor, "rows cols"], count: int
) -> tuple[Bool[Tensor, "rows cols"], float, int]:
    """Return where the largest entries are, the least of them, and how many tie with it in vain.

    Of entries that equal the least one those come first that lie first, row after row.

    Args:
        sizes: Finite.
        count: At least 1; all, where there are no more.
    """
    flat = sizes.reshape(-1)
    if count >= len(flat):
        return torch.ones_like(sizes, dtype=torch.bool), float(flat.min()), 0
    least = torch.kthvalue(flat, len(flat) - count + 1).values
    found = flat > least
    ties = (flat == least).nonzero().squeeze(1)
    missing = count - int(found.sum())
    found[ties[:missing]] = True
    return found.reshape(sizes.shape), float(least), len(ties) - missing


def product_sizes(
    left: Float[Tensor, "rows k"], right: Float[Tensor, "k cols"]
) -> Float[Tensor, "rows cols"]:
    """Return the |entries| of a product of float64 factors, rounded to float32."""
    found = left.new_empty(left.shape[0], right.shape[1], dtype=torch.float32)
    for start in range(0, len(left), ROWS):
        here = slice(start, start + ROWS)
        found[here] = (left[here] @ right).abs_()
    return found
