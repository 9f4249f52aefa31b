"""What a Gaussian matrix of the same shape would have: its condition number."""

import math

SQUARE = 1.537
"""E[ln kappa] - ln n of square Gaussian matrices as n grows; Edelman 1988."""

JOIN = 4.0 / math.exp(SQUARE)  # 0.860: what m - n of a square counts as


def kappa_null(rows: int, cols: int) -> float:
    """Return about the condition number of a Gaussian matrix of this shape.

    With m >= n the sides, `(sqrt(m) + sqrt(n))^2 / (m - n + 0.860)`: as m - n grows, the
    ratio of the two Marchenko-Pastur edges, (1 + sqrt(beta)) / (1 - sqrt(beta)) with
    beta = n / m; for a square exactly `exp(ln n + 1.537)`, Edelman's geometric mean.

    The geometric mean of simulated matrices, n the shorter side, lies within 10 % of it for
    squares (0.91 of it at n = 16, 1.08 +- 0.07 at n = 256) and below it for others: by about
    a fifth near a square (0.78 to 0.91 for m - n from 1 to 16), less farther off and the
    larger the matrix (m = 5 n / 4: 0.80 at n = 16, 0.89 at 64, 0.95 at 256; m = 2 n: 0.85,
    0.93, 0.97). A single matrix scatters about that mean: ln kappa has a standard deviation
    of 1.1 for squares, so a factor of 3, of 0.3 at m - n = 4, of 0.1 at m = 3 n / 2 = 96.

    Exactly 1 for a single row or column, which has one singular value; never less.

    Source:
        Edelman 1988, Eigenvalues and condition numbers of random matrices; Marchenko and
        Pastur 1967 for the edges. The sum of m - n and a constant, which joins them, is ours.
    """
    short, long = sorted((rows, cols))
    if short == 1:
        return 1.0
    return (math.sqrt(long) + math.sqrt(short)) ** 2 / (long - short + JOIN)
