"""What noise alone would do: Marchenko-Pastur edge, rounding floor, chance cosine."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

NORMAL_QUARTILE = 0.6744897501960817  # Phi^-1(3/4): median |x| of a standard normal
SAMPLE = 1 << 16  # entries that bracket the median
SPREAD = 4.0  # half-width of that bracket, in standard errors


def noise_scale(matrix: Float[Tensor, "rows cols"]) -> float:
    """Return a robust standard deviation of the entries: `median |w| / 0.6745`.

    The median of the absolute entries, about zero: a few large entries, such as
    those that make a spike, hardly move it. Exact for Gaussian noise; for heavier
    tails it is the scale of the bulk.

    Source:
        Hampel 1974, The influence curve (median absolute deviation).
    """
    return median_magnitude(matrix) / NORMAL_QUARTILE


def median_magnitude(matrix: Float[Tensor, "rows cols"]) -> float:
    """Return the exact median of |entries| in two passes.

    A sample brackets the median; one pass counts what lies below the bracket and
    keeps what lies inside; the order statistic is then found among the few kept.
    Without luck it falls back to sorting everything.

    Source:
        Floyd and Rivest 1975, Expected time bounds for selection.
    """
    magnitude = matrix.flatten().abs()
    count = magnitude.numel()
    order = (count - 1) // 2  # 0-based; the lower median, as torch.median takes it
    if count > 4 * SAMPLE:
        sample = magnitude[:: count // SAMPLE].sort().values
        half = SPREAD * math.sqrt(len(sample)) / 2
        low = sample[max(int(len(sample) / 2 - half), 0)]
        high = sample[min(int(len(sample) / 2 + half), len(sample) - 1)]
        below = int((magnitude < low).sum())
        inside = magnitude[(magnitude >= low) & (magnitude <= high)]
        if below <= order < below + len(inside):
            return float(inside.kthvalue(order - below + 1).values)
    return float(magnitude.median())


def marchenko_pastur_edge(scale: float, rows: int, cols: int) -> float:
    """Return the largest singular value that noise of this scale would have.

    The upper Marchenko-Pastur edge of an m x n matrix with independent entries of
    standard deviation s is `s * (sqrt(m) + sqrt(n))`.

    Source:
        Marchenko and Pastur 1967; Martin and Mahoney, arXiv:1810.01075.
    """
    return scale * (math.sqrt(rows) + math.sqrt(cols))


def rounding_floor(matrix: Float[Tensor, "rows cols"], unit_roundoff: float) -> float:
    """Return about the largest singular value of what storing the matrix rounds off.

    Rounding moves an entry w by at most u |w|, uniformly at worst, so its standard
    deviation is at most u |w| / sqrt(3). A matrix of independent such errors has
    spectral norm near (largest row norm + largest column norm) of those deviations.
    For entries of one size this is `u * rms(W) * (sqrt(m) + sqrt(n)) / sqrt(3)`.

    Args:
        matrix: The stored values.
        unit_roundoff: Half of machine epsilon of the stored dtype.

    Source:
        Bandeira and van Handel 2016, arXiv:1408.6185, theorem 1.1.
    """
    wide = torch.float64 if matrix.dtype == torch.float64 else torch.float32
    rows = float(torch.linalg.vector_norm(matrix, dim=1, dtype=wide).max())
    cols = float(torch.linalg.vector_norm(matrix, dim=0, dtype=wide).max())
    return unit_roundoff * (rows + cols) / math.sqrt(3.0)


def chance_cosine(dimension: int) -> float:
    """Return the largest |cosine| that a random direction has with a whole basis.

    The median of `max_i |y_i|` for y uniform on the unit sphere in `dimension`
    dimensions. Each `y_i^2` is Beta(1/2, (d-1)/2); at most one exceeds 1/2, so
    above sqrt(1/2) the tail is exactly d times the marginal's, and below it the
    coordinates are treated as independent (off by less than 1 % from d = 3 on,
    tested against simulation).
    """
    if dimension == 1:
        return 1.0
    grid = torch.linspace(0.0, 1.0, 20_001, dtype=torch.float64)
    outside = _marginal_tail(grid, dimension)
    crowded = 1.0 - (1.0 - outside).pow(dimension)
    alone = dimension * outside
    tail = torch.where(grid.square() >= 0.5, alone, crowded)
    return float(grid[int((tail > 0.5).sum())])


def _marginal_tail(t: Float[Tensor, " points"], dimension: int) -> Float[Tensor, " points"]:
    """Return P(|y_1| > t) by the trapezoid rule on the angle.

    With y_1 = sin(a), the density of a is proportional to cos(a)^(d-2).
    """
    angle = torch.linspace(0.0, math.pi / 2, 200_001, dtype=torch.float64)
    density = angle.cos().clamp(min=0.0).pow(dimension - 2)
    mass = torch.cumulative_trapezoid(density, angle)
    position = torch.searchsorted(angle, t.clamp(max=1.0).asin()).clamp(1, len(mass))
    return 1.0 - mass[position - 1] / mass[-1]
