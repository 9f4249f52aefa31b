"""The leading part of a matrix, what it misses, and how little any of its rank could miss.

W, with no more columns than rows, is projected on orthonormal V of k columns: W_k = W V V^T. Turned
so that (W V)^T (W V) = Theta is diagonal, sigma_i^2, W V has the columns u_i sigma_i. However
good V is, by float64 products with W,

    ||W - W_k||_F^2 = ||W||_F^2 - sum sigma_i^2,

and the spectral norm rho of the rest is enclosed as of any matrix (`extremes`). In a basis that
begins with V, G = W^T W is [[Theta, E^T], [E, H]] with E = G V - V Theta, and H has the eigenvalues
of the rest's squares. The k largest eigenvalues of G sum to at most

    sum sigma_i^2 + sqrt(k) ||E||_F + k max(0, rho^2 - sigma_k^2)

(Ky Fan's norms obey the triangle inequality), and where delta = sigma_k^2 - rho^2 > 0 to at most
sum sigma_i^2 + ||E||_F^2 / delta, as G is below diag(Theta + E^T E / delta, H + delta I). So no
matrix of rank k misses less than what that leaves. V comes from a Krylov space, or where that does
not serve from all of G.

Source:
    Eckart and Young 1936; Horn and Johnson 2013, Matrix Analysis, sections 4.3 and 7.4;
    Musco and Musco 2015, arXiv:1504.05477, for block Krylov spaces.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float

from spectra.deferred import Tensor, torch
from spectra.kernels.edge import Bracket
from spectra.kernels.entries import largest_entry
from spectra.kernels.extremes import largest_singular_value, tall_map
from spectra.kernels.inverse import lower_gram
from spectra.kernels.lanczos import Lanczos, Ritz, gaussian
from spectra.kernels.lapack import symmetric_eigenpairs
from spectra.kernels.linear_map import LinearMap
from spectra.kernels.rounding import EPS64
from spectra.kernels.singular import Settings as Promised

GRAM_ERROR = Promised().gram_error
SINGLE = 1e-7  # that entries of the rest are rounded by, over its norm

Count = Callable[[Tensor, float], int]
"""How many directions are kept, told from leading singular values, which may be a few of all, and
the sum of all squares."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How hard to try for a few directions before all are computed."""

    small: int = 512  # sides up to which all cost no more
    block: int = 48  # random columns of a Krylov space
    steps: int = 20
    share: int = 3  # the space is at most the short side over this
    spare: int = 16  # directions beyond those that are kept
    excess: float = 1e-3  # over the rest: what a better choice of directions may save
    rounding: float = 3e-6  # of sigma sigma_1: a residual that no step makes smaller


SETTINGS = Settings()


@dataclass(frozen=True, slots=True)
class Truncation:
    """Leading directions of a matrix and proven sizes of what they miss."""

    sigma: Float[Tensor, " kept"]  # descending, of the part that is kept
    left: Float[Tensor, "rows kept"]  # columns u_i sqrt(sigma_i), float64
    right: Float[Tensor, "kept cols"]  # rows sqrt(sigma_i) v_i
    energy: float  # ||W||_F^2
    rest: float  # ||W - W_k||_F^2
    spectral: Bracket  # of W - W_k
    coupling: float  # ||E||_F


def truncated(
    matrix: Float[Tensor, "rows cols"],
    count: Count,
    *,
    every: bool = False,
    settings: Settings = SETTINGS,
) -> Truncation:
    """Return the leading part of a matrix, float32 or float64.

    Args:
        matrix: Such as the update of a fine-tune.
        count: How many directions are kept.
        every: It asks for all singular values.
        settings: How hard to try for a few.

    Raises:
        NonFiniteError: It holds NaN or Inf.
    """
    largest_entry(matrix)
    of = tall_map(matrix)
    unit = of.scale
    energy = of.energy()
    values = torch.zeros(0, dtype=torch.float64)
    basis = None if energy else torch.zeros(of.shape[1], 0, dtype=torch.float64, device=of.device)
    if basis is None and min(matrix.shape) > settings.small and not every:
        basis = _few(of, energy, count, settings)
    if basis is None:
        basis, values = _all(of, energy, count)
    kept = basis.shape[1]
    image, back = of.normal(basis)
    squares, turn = torch.linalg.eigh(image.mT @ image)
    squares, turn = squares.flip(0).clamp(min=0.0), turn.flip(1)
    basis, image, back = basis @ turn, image @ turn, back @ turn
    kept = min(count(unit * squares.sqrt(), unit**2 * energy), int((squares > 0.0).sum()), kept)
    basis, image, squares = basis[:, :kept], image[:, :kept], squares[:kept]
    coupling = float(torch.linalg.vector_norm(back[:, :kept] - basis * squares))
    rest, left_over = of.without(image, basis.mT)
    if len(values) or not energy:
        bracket = _next(of, values, kept, coupling)
    else:
        bracket = largest_singular_value(rest) if left_over else Bracket(0.0, 0.0)
        slack = SINGLE * math.sqrt(left_over)
        bracket = Bracket(max(bracket.low - slack, 0.0), bracket.high + slack)
    bracket = bracket.times(unit)
    root = squares.sqrt().sqrt()  # sqrt(sigma)
    outer = image / root * math.sqrt(unit)
    inner = basis * root * math.sqrt(unit)
    left, right = (inner, outer.mT) if of.turned else (outer, inner.mT)
    return Truncation(
        unit * squares.sqrt(), left, right, unit**2 * energy, unit**2 * left_over, bracket,
        unit**2 * coupling,
    )  # fmt: skip


def excess(kept: int, coupling: float, last: float, beyond: float) -> float:
    """Return by how much the k largest eigenvalues of G may exceed those that are known, in sum.

    Args:
        kept: k.
        coupling: ||E||_F.
        last: sigma_k^2.
        beyond: rho^2, no less than the largest of the rest.
    """
    first = math.sqrt(kept) * coupling + kept * max(beyond - last, 0.0)
    return min(first, coupling**2 / (last - beyond)) if last > beyond else first


def _few(
    of: LinearMap, energy: float, count: Count, settings: Settings
) -> Float[Tensor, "short few"] | None:
    """Return leading right singular vectors by a Krylov space; None where it does not serve."""
    short = of.shape[1]
    most = min(settings.steps, short // settings.share // settings.block)
    if most < 2:
        return None
    start = gaussian(short, settings.block, of.device)
    krylov = Lanczos(of.gram_matmat, start, most)
    for ritz in krylov.looks(lambda steps: steps in (1, 2, 3, 4, 6, 8, 11, 14, 17)):
        kept = count(of.scale * ritz.values.sqrt(), of.scale**2 * energy)
        if kept + settings.spare > krylov.size:
            continue
        if kept == 0 or _settled(ritz, kept, energy, settings):
            few = krylov.combined(ritz.coordinates[:, : kept + settings.spare])
            return _orthonormal(few)
    return None


def _settled(ritz: Ritz, kept: int, energy: float, settings: Settings) -> bool:
    """Say whether no further step would save much of what is missed."""
    values, residual = ritz.values[:kept], ritz.residual[:kept]
    if bool((residual <= settings.rounding * (values * values[0]).sqrt()).all()):
        return True
    missed = energy - float(values.sum())
    most = excess(kept, float(torch.linalg.vector_norm(residual)), float(values[-1]),
                  float(ritz.values[kept]))  # fmt: skip
    return most <= settings.excess * missed


def _all(
    of: LinearMap, energy: float, count: Count
) -> tuple[Float[Tensor, "short kept"], Float[Tensor, " short"]]:
    """Return leading eigenvectors of the whole Gram matrix, and all its eigenvalues."""

    def kept(values: Tensor) -> list[range]:
        sigma = of.scale * values.clamp(min=0.0).sqrt()
        return [range(count(sigma, of.scale**2 * energy))]

    values, vectors = symmetric_eigenpairs(lower_gram(of, torch.float64), kept)
    return _orthonormal(vectors), values.clamp(min=0.0).cpu()


def _next(of: LinearMap, values: Tensor, kept: int, coupling: float) -> Bracket:
    """Enclose the largest singular value of the rest by the eigenvalue that is next.

    A compression to all but k dimensions has an eigenvalue no smaller than that (Cauchy), and
    one no larger but for ||E||. Eigenvalues are off as `singular` says.
    """
    if kept >= len(values):
        return Bracket(0.0, math.sqrt(coupling))
    off = GRAM_ERROR * math.sqrt(of.shape[0]) * EPS64 * float(values[0])
    low, high = float(values[kept]) - off, float(values[kept]) + off + coupling
    return Bracket(math.sqrt(max(low, 0.0)), math.sqrt(high))


def _orthonormal(vectors: Tensor) -> Tensor:
    found: Tensor = torch.linalg.qr(vectors).Q
    return found


def truncation_cost(rows: int, cols: int, kept: int | None) -> float:
    """Return about how many operations it takes; of None all directions."""
    short, long = sorted((rows, cols))
    if kept is None or short <= SETTINGS.small or SETTINGS.share * (kept + 96) > short:
        return 2.0 * long * short**2 + 10.0 * short**3
    return 4.0 * long * short * (3 * kept + 600)


def truncation_memory(rows: int, cols: int, kept: int | None) -> int:
    """Return about the peak bytes, the float32 matrix included."""
    short = min(rows, cols)
    few = 8 * short * SETTINGS.block * SETTINGS.steps
    whole = 8 * 4 * short**2 if kept is None or short <= SETTINGS.small else 0
    return 8 * rows * cols + max(few, whole) + 40 * (rows + cols) * (kept or short)
