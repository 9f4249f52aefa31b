"""Chosen singular triplets of a matrix: the largest, the smallest, those in the middle, or any.

The largest and the smallest few of a large matrix come from a Krylov space, of W^T W or of its
inverse. Whatever found their right vectors V, k orthonormal columns, W V = U S in float64 with
orthonormal U. So in bases that begin with U and V

    W = [[S, C], [0, R]],    ||C|| = ||W^T U - V S||,

and the singular values of W are those of S and R together, each within ||C|| (Weyl). R has those
of the rest W - U S V^T beside zeros, or of the raised W + U (t I - S) V^T beside t, but for ||C||
again: one proven end of that (`extremes`) shows that the chosen ones are the largest or the
smallest, and how far from the others. Where this does not serve, and for those in the middle, all
eigenvalues of W^T W are found in float64 and the vectors of those that are chosen, or where its
condition number drowns the smallest, the float64 SVD. A flat spectrum, such as that of a weight
that was never trained, shows soon that no Krylov space will do: the search ends at half its steps.

Singular vectors of values that coincide are not determined, nor is a choice that cuts between
them: `gap` tells. A change E of W turns the chosen space by at most about ||E|| / gap (Wedin).

Source:
    Golub and Van Loan 2013, Matrix Computations, sections 8.2, 8.6 and 10.4; Stewart and Sun
    1990, Matrix Perturbation Theory, theorem V.4.4 (Wedin).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from jaxtyping import Float

from spectra.deferred import Tensor, torch
from spectra.kernels.edge import SETTINGS as PROVEN
from spectra.kernels.extremes import extreme_singular_values, largest_singular_value, tall_map
from spectra.kernels.inverse import cholesky, gram_solve, lower_gram, square_inverse
from spectra.kernels.lanczos import Lanczos, gaussian
from spectra.kernels.lapack import symmetric_eigenpairs
from spectra.kernels.linear_map import LinearMap
from spectra.kernels.rounding import EPS64
from spectra.kernels.work import DOUBLE, Work, singular_values_work

Which = Literal["largest", "smallest"]
SINGLE = 1e-7  # that entries are rounded by where the rest is stored in float32, over its norm
OPEN = 0.6  # of decompositions that searches for a few end in, in estimates
MODERATE = 2048  # sides up to which all triplets may be computed where few are not proven


@dataclass(frozen=True, slots=True)
class Settings:
    """How hard to try for a few triplets before all are computed."""

    small: int = 512  # sides up to which all cost no more
    block: int = 48  # random columns of a Krylov space
    steps: int = 28
    share: int = 3  # the space is at most the short side over this
    room: int = 6  # times as many directions as are chosen are in the space, at least
    spare: int = 16  # directions beyond those chosen
    turned: float = 1e-6  # angle to the true space that is left, by residual over gap
    hopeless: float = (
        30.0  # the same after half of the steps, from which the rest does not get there
    )
    narrow: float = 2e-5  # relative gap below which no proof is tried
    settled: float = 1e-4  # the same where all are computed: more, and the SVD takes over

    def steps_for(self, short: int, count: int) -> int:
        """Return how many blocks of a Krylov space may be made; 0 where few would not serve."""
        most = min(self.steps, short // self.share // self.block)
        enough = max(self.room * count, count + self.spare) <= most * self.block
        return most if most >= 2 and enough else 0


SETTINGS = Settings()


@dataclass(frozen=True, slots=True)
class Components:
    """Singular triplets, and how far they are from all others."""

    sigma: Float[Tensor, " kept"]  # descending
    left: Float[Tensor, "rows kept"]  # orthonormal columns, float64, their largest entries positive
    right: Float[Tensor, "cols kept"]  # likewise
    gap: float  # from the chosen values to the nearest of the others; infinite where none is left
    residual: float  # ||W^T U - V S||, W V = U S
    energy: float  # ||W||_F^2
    decided_by: Literal["bound", "exact"]


def components(
    matrix: Float[Tensor, "rows cols"],
    which: Which | Sequence[int],
    count: int = 0,
    settings: Settings = SETTINGS,
) -> Components:
    """Return chosen singular triplets of a matrix, float32 or float64.

    Args:
        matrix: Any shape.
        which: Those at an end, or indices into all min(rows, cols) singular values, descending.
        count: How many at an end, at least 1 and at most min(rows, cols).
        settings: How hard to try for a few.

    Raises:
        NonFiniteError: It holds NaN or Inf.
    """
    of = tall_map(matrix)
    short = of.shape[1]
    energy = of.energy()
    found = None
    if isinstance(which, str):
        if short > settings.small and energy:
            found = _few(of, which, count, energy, settings)
        which = range(count) if which == "largest" else range(short - count, short)
    found = found or _all(of, list(which), energy, settings)
    left, right = (found.right, found.left) if of.turned else (found.left, found.right)
    signs = _signs(left)
    return replace(
        found, sigma=found.sigma * of.scale, left=left * signs, right=right * signs,
        gap=found.gap * of.scale, residual=found.residual * of.scale, energy=energy * of.scale**2,
    )  # fmt: skip


def _signs(left: Float[Tensor, "rows kept"]) -> Float[Tensor, " kept"]:
    """Return what makes each column's largest entry positive, as singular vectors have no sign."""
    largest = left.abs().argmax(dim=0, keepdim=True)
    return torch.where(left.gather(0, largest).squeeze(0) < 0.0, -1.0, 1.0).to(left)


def leading_components(
    matrix: Float[Tensor, "rows cols"], count: int, settings: Settings = SETTINGS
) -> Components | None:
    """Return the leading singular triplets, unless they would have to be found among too many.

    None where a Krylov space does not prove them and sides exceed `MODERATE`.

    Raises:
        NonFiniteError: It holds NaN or Inf.
    """
    short = min(matrix.shape)
    if short <= MODERATE or not settings.steps_for(short, count):
        return components(matrix, "largest", min(count, short), settings)
    of = tall_map(matrix)
    found = _few(of, "largest", count, 0.0, settings)
    if found is None:
        return None
    left, right = (found.right, found.left) if of.turned else (found.left, found.right)
    return replace(found, sigma=found.sigma * of.scale, left=left, right=right,
                   gap=found.gap * of.scale, residual=found.residual * of.scale)  # fmt: skip


def _few(
    of: LinearMap, which: Which, count: int, energy: float, settings: Settings
) -> Components | None:
    """Return triplets at an end by a Krylov space, proven; None where it does not serve."""
    short = of.shape[1]
    most = settings.steps_for(short, count)
    if not most:
        return None
    apply = _operator(of, which)
    if apply is None:
        return None
    krylov = Lanczos(apply, gaussian(short, settings.block, of.device), most)
    for ritz in krylov.looks(lambda steps: steps % 2 == 0):
        if krylov.size < count + settings.spare:
            continue
        values = ritz.values[: count + 1]
        apart = float(values[count - 1] - values[count])
        left_over = float(torch.linalg.vector_norm(ritz.residual[:count]))
        if left_over <= settings.turned * apart:
            basis = krylov.combined(ritz.coordinates[:, :count])
            near = values.sqrt() if which == "largest" else values.rsqrt()
            last, following = near[count - 1 :].tolist()
            return _proven(of, which, _triplets(of, basis, energy), (last, following), settings)
        if 2 * krylov.steps >= most and left_over > settings.hopeless * apart:
            return None
    return None


def _operator(of: LinearMap, which: Which) -> Callable[[Tensor], Tensor] | None:
    """Return W^T W, or about its inverse, in float64; None where that does not exist."""
    if which == "largest":
        return lambda block: of.normal(block)[1]
    if of.shape[0] == of.shape[1]:
        inverse = square_inverse(of)
        return None if inverse is None else inverse[0]
    triangle = cholesky(lower_gram(of, torch.float64), overwrite=True)
    return None if triangle is None else partial(gram_solve, triangle)


def _proven(
    of: LinearMap, which: Which, found: Components, near: tuple[float, float], settings: Settings
) -> Components | None:
    """Return triplets once it is proven that they are those at the end; else None.

    Args:
        of: W.
        which: The end.
        found: The triplets.
        near: About the last of their values, and the next.
        settings: How narrow a gap may be.
    """
    last, following = near
    width = abs(following / last - 1.0)
    if not width >= settings.narrow:
        return None
    wanted = replace(PROVEN, tolerance=min(PROVEN.tolerance, max(width / 4.0, settings.narrow)))
    if which == "largest":
        rest, size = _moved(of, found, 0.0)
        high = largest_singular_value(rest, wanted).high
        gap = float(found.sigma[-1]) - high - 2.0 * found.residual - SINGLE * size
    else:
        # Ritz values of the inverse lie inside: the next one is no less than what is next.
        rest, size = _moved(of, found, 1.1 * following)
        low = extreme_singular_values(rest, wanted).smallest.low
        # Rounding of entries is noise, whose norm is a small part of its Frobenius norm's.
        off = SINGLE * size * 2.0 / math.sqrt(of.shape[1])
        gap = low - float(found.sigma[0]) - 2.0 * found.residual - off
    return replace(found, gap=gap, decided_by="bound") if gap > 0.0 else None


def _moved(of: LinearMap, found: Components, to: float) -> tuple[Tensor, float]:
    """Return the map with the chosen values moved, in its own precision, and its Frobenius norm."""
    moved, energy = of.without(found.left * (found.sigma - to), found.right.mT)
    return moved, math.sqrt(energy)


def _triplets(of: LinearMap, basis: Float[Tensor, "short kept"], energy: float) -> Components:
    """Return what W does to a space of right vectors, turned to singular triplets."""
    basis = torch.linalg.qr(basis).Q
    image = of.products(basis, basis.new_zeros(of.shape[0], 0))[0]
    left, sigma, turn = torch.linalg.svd(image, full_matrices=False)
    right = basis @ turn.mT
    back = of.products(right[:, :0], left)[1]
    residual = float(torch.linalg.matrix_norm(back - right * sigma, 2)) if len(sigma) else 0.0
    return Components(sigma, left, right, math.inf, residual, energy, "exact")


def _all(of: LinearMap, chosen: Sequence[int], energy: float, settings: Settings) -> Components:
    """Return triplets out of all: by W^T W, or where this loses the smallest by the SVD."""
    if of.shape[1] > settings.small:
        gram = lower_gram(of, torch.float64)
        squares, basis = symmetric_eigenpairs(gram, lambda _: _ranges(chosen))
        sigma = squares.clamp(min=0.0).sqrt()
        found = _triplets(of, basis, energy)
        apart = _gap(sigma, chosen)
        # What W^T W loses shows in the residual; where it is much of the gap, so it turns.
        if found.residual <= settings.settled * apart:
            return replace(found, gap=apart)
        del gram, basis
    rows = torch.tensor(chosen, dtype=torch.long).to(of.device)
    wide = of.held.double() / of.scale
    left, sigma, right = torch.linalg.svd(wide, full_matrices=False)
    return Components(sigma[rows], left[:, rows], right[rows].mT, _gap(sigma, chosen),
                       len(wide) * EPS64 * float(sigma[0]), energy, "exact")  # fmt: skip


def _ranges(ascending: Sequence[int]) -> list[range]:
    """Return the runs of consecutive indices."""
    found: list[range] = []
    for one in ascending:
        if found and found[-1].stop == one:
            found[-1] = range(found[-1].start, one + 1)
        else:
            found.append(range(one, one + 1))
    return found


def _gap(sigma: Tensor, chosen: Sequence[int]) -> float:
    """Return the least distance of a chosen value to one that is not."""
    inside = torch.zeros(len(sigma), dtype=torch.bool)
    inside[torch.tensor(chosen, dtype=torch.long)] = True
    steps = (sigma[:-1] - sigma[1:]).cpu()[inside[:-1] != inside[1:]]
    return float(steps.min()) if len(steps) else math.inf


def components_work(rows: int, cols: int, which: Which | None, count: int) -> Work:
    """Return what it takes; of None those in the middle, or any.

    Whether a few are proven depends on the spectrum, which no header tells: those of a flat one are
    found among all. So that counts in part.
    """
    short, long = sorted((rows, cols))
    if short <= SETTINGS.small:
        return Work(11.0 * (long * short**2 + short**3) * DOUBLE)
    vectors = count * (15.0 * short**2 + 10.0 * long * short + 30.0 * long * count)
    every = singular_values_work(rows, cols) + Work(vectors * DOUBLE)
    if which is None or not SETTINGS.steps_for(short, count):
        return every
    proof = 2.0 * long * short**2 if which == "smallest" else 0.0
    return Work((proof + 4.0 * long * short * (8 * count + 750)) * DOUBLE) + OPEN * every


def leading_components_work(rows: int, cols: int, count: int) -> Work:
    """Return what `leading_components` takes."""
    short, long = sorted((rows, cols))
    if short <= MODERATE or not SETTINGS.steps_for(short, count):
        return components_work(rows, cols, "largest", count)
    return Work(4.0 * long * short * (8 * count + 750) * DOUBLE)


def components_memory(rows: int, cols: int, count: int) -> int:
    """Return about the peak bytes, the float32 matrix included."""
    short, long = sorted((rows, cols))
    few = 8 * short * SETTINGS.block * (SETTINGS.steps + 1)
    return (
        12 * rows * cols
        + max(8 * 4 * short**2, few)
        + 40 * (rows + cols) * count
        + (8 * 3 * short * long if short <= SETTINGS.small else 0)
    )
