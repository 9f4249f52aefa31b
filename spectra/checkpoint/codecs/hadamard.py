"""Products with orthogonal matrices that are powers of a small one: Hadamard matrices."""

import math

from jaxtyping import Float

from spectra.deferred import Tensor, torch


def turned(
    values: Float[Tensor, "... n"], seed: tuple[tuple[int, ...], ...], size: int
) -> Float[Tensor, "... n"]:
    """Return runs of the last axis times the orthogonal matrix of a size, itself its inverse.

    The matrix is the Kronecker power of a symmetric seed over sqrt(size). One factor is
    applied at a time, so that it takes n log n and no matrix.

    Args:
        values: The last axis falls into runs of `size`.
        seed: The smallest matrix of its kind, entries 1 and -1.
        size: Rows of the matrix, a power of the seed's.

    Source:
        Sylvester 1867; Fino and Algazi 1976 (the fast transform).
    """
    factor = torch.tensor(seed, dtype=values.dtype)
    found, inner = values, 1
    while inner < size:
        found = factor @ found.reshape(-1, len(seed), inner)
        inner *= len(seed)
    return found.reshape(values.shape) / math.sqrt(size)
