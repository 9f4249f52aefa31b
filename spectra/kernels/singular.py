"""Singular values, exact to a stated tolerance.

They come from a Gram matrix in float64, half of it formed, and its eigenvalues. That costs less
than a float32 SVD and loses nothing while the condition number is moderate: products of float32
entries are exact in float64, so only the summation and the eigensolver round, and every `lambda`
is off by at most `gram_error * sqrt(max(m, n)) * eps64 * sigma_1^2`. The square root is that of
probabilistic rounding analysis (Higham and Mary 2019). The factor is measured, not proven: with
sides up to 4096, real weights and random, graded, clustered and integer-grid matrices stayed
below 2, ternary ones, whose equal products round alike, below 2.5; only matrices built so that
equal products cancel (spikes minus a constant, of one tiny sigma) reached 15. The few smallest
sigma of which that is more than `relative_error` come from inverse iteration, whose residual
proves them; where it does not, the float64 SVD decides.

Float32 does not keep that promise, on any processor. Its eigenvalues of the same matrix were
off by up to 1.5 sqrt(n) eps32 sigma_1^2 (measured likewise): at n = 4096 more than
`relative_error` allows from a condition number of 4 on. A float32 SVD, faster than this on some
processors, is off by eps32 sigma_1 and more: with a bound of 1 to 16 of these, 59 to 941 values
of a trained 4096 x 4096 matrix would be left to prove, which takes longer than it saves.

Inverse iteration: let M have orthonormal U and V with p columns each, turned so that
U^T M V = T is diagonal. In bases that begin with them, M is [[T, 0], [0, M']] but for the
residuals M V - U T and M^T U - V T. Weyl's theorem then pairs the singular values of M, in order,
with those of T and M' together, each within delta, the larger residual's norm. If p is known to
be how many of M's lie below a bound that all of T + delta stay under, none of M' is among them:
they are those of T, to within delta.

The Cholesky factor of M^T M only steers U and V; it enters no bound. Its diagonal is raised so
that it exists, and correcting U and V by the residuals of M itself goes on to where the square
of the condition number has left nothing in the Gram matrix. Rounding does enter: computing the
residual errs by about sqrt(n) eps64 ||M||_F, which is added to delta.

Source:
    Stewart and Sun 1990, Matrix Perturbation Theory, corollary IV.4.10 (Weyl).
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from jaxtyping import Float

from spectra.deferred import Tensor, torch
from spectra.kernels.entries import largest_entry
from spectra.kernels.inverse import lower_gram
from spectra.kernels.lanczos import gaussian
from spectra.kernels.lapack import symmetric_eigenvalues
from spectra.kernels.linear_map import LinearMap, linear_map
from spectra.kernels.rounding import EPS64
from spectra.kernels.streamed import Streamed
from spectra.kernels.triangle import reflected
from spectra.kernels.work import PANEL, is_long

TRUE = 8.0  # times the rounding of a product, below which a singular value is none


@dataclass(frozen=True, slots=True)
class Settings:
    """What is promised of a spectrum, where its Gram matrix serves, and inverse iteration."""

    relative_error: float = 1e-4  # of every singular value returned, against exact arithmetic
    gram_error: float = 16.0  # of the Gram path's sigma^2, in sqrt(max(m, n)) eps64 sigma_1^2
    small: int = 48  # up to here the float64 SVD costs nothing
    spare: int = 8  # columns iterated beside those wanted; they make the wanted ones converge
    most: int = 64  # smallest values wanted at once
    steps: int = 12


class Smallest(NamedTuple):
    """The smallest singular values, descending, and how far each may be off."""

    values: Float[Tensor, " count"]
    error: float  # infinite where nothing is proven

    def below(self, bound: float) -> bool:
        """Say whether all of them are proven to lie below a bound."""
        return bool((self.values + self.error < bound).all()) and math.isfinite(self.error)


def smallest_singular_values(
    of: LinearMap,
    gram: Float[Tensor, "cols cols"],
    count: int,
    absolute: float = 0.0,
    settings: Settings = Settings(),
) -> Smallest:
    """Return singular values that are the `count` smallest if so many lie below what they do.

    Of M, rows >= cols, and M^T M in float64, of which the lower triangle is read, its diagonal
    raised by more than it is off. It stops at the relative error promised, or an `absolute` one.
    """
    rows, cols = of.shape
    unproven = Smallest(gram.new_zeros(0), math.inf)
    factor, failed = torch.linalg.cholesky_ex(gram)
    if not 0 < count <= min(settings.most, cols) or int(failed):
        return unproven
    rounding = math.sqrt(rows) * EPS64 * math.sqrt(float(gram.diagonal().sum()))
    start = gaussian(cols, min(cols, count + settings.spare), of.device)
    right = torch.linalg.qr(torch.cholesky_solve(start, factor)).Q
    right = torch.linalg.qr(torch.cholesky_solve(right, factor)).Q
    left = torch.linalg.qr(of.products(right, right.new_zeros(rows, 0))[0]).Q
    for _ in range(settings.steps):
        image, back = of.products(right, left)
        small = left.mT @ image
        if not small.isfinite().all():
            break
        turn_left, values, turn_right = torch.linalg.svd(small)
        left, back = left @ turn_left, back @ turn_left
        right, image = right @ turn_right.mT, image @ turn_right.mT
        image -= left * values
        back -= right * values
        off = [torch.linalg.norm(part[:, -count:]) for part in (image, back)]
        first, second, least = torch.stack([*off, values[-1]]).tolist()  # one wait for a GPU
        error = max(first, second) + rounding
        if error <= max(settings.relative_error * least, absolute):
            return Smallest(values[-count:], error)
        # Newton's correction to both sides: M (M^T M)^-1 and (M^T M)^-1 M^T invert M^T and M.
        ahead, behind = of.products(torch.cholesky_solve(back, factor), image)
        left = torch.linalg.qr(left - ahead).Q
        right = torch.linalg.qr(right - torch.cholesky_solve(back * values + behind, factor)).Q
    return unproven


class Decomposed(NamedTuple):
    """All singular values of a matrix, and what they came from."""

    values: Float[Tensor, " rank"]  # as of `singular_values`
    gram: Float[Tensor, "short short"] | None
    """The lower half of the smaller of M^T M and M M^T in float64, M the matrix over the power of
    two near its largest entry; None where the values came from elsewhere."""


def singular_values(
    matrix: Float[Tensor, "rows cols"] | Streamed, settings: Settings = Settings()
) -> Float[Tensor, " rank"]:
    """Return all singular values, descending, in float64.

    Each is within a relative `relative_error` of the exact value, or within the rounding
    floor `max(rows, cols) * eps64 * sigma_1` of it; what is no larger than the floor is 0.
    """
    return decompose(matrix, settings).values


def decompose(
    matrix: Float[Tensor, "rows cols"] | Streamed,
    settings: Settings = Settings(),
    *,
    weights: tuple[Float[Tensor, " rows"], Float[Tensor, " cols"]] | None = None,
) -> Decomposed:
    """Return what `singular_values` does, and the Gram matrix that they came from.

    With weights, float64, of a matrix whose rows and columns are multiplied with them.
    """
    of = linear_map(matrix, stored=True)  # all products are of panels that are widened anyway
    of = whole = replace(of, weights=weights)
    of = of if matrix.shape[0] >= matrix.shape[1] else of.mT
    length, rank = of.shape
    if not of.norm:
        return Decomposed(torch.zeros(rank, dtype=torch.float64, device=matrix.device), None)
    if rank > settings.small and matrix.dtype != torch.float64:
        # Entries are of size 1 at most twice: the sums are finite.
        gram = lower_gram(of, torch.float64)
        squares = symmetric_eigenvalues(gram).flip(0)
        largest, tolerance = math.sqrt(float(squares[0])), settings.relative_error
        floor = length * EPS64 * largest
        rounding = settings.gram_error * math.sqrt(length) * EPS64 * float(squares[0])
        # sigma errs half as much as its square
        kept = squares[squares > rounding / (2.0 * tolerance)].sqrt_()
        lost = rank - len(kept)
        if not lost:
            return Decomposed(kept.mul_(of.scale), gram)
        own = gram.diagonal().clone()
        gram.diagonal().add_(2.0 * rounding)
        found = smallest_singular_values(of, gram, lost, floor, settings)
        if found.below(float(kept[-1]) * (1.0 - tolerance)):
            gram.diagonal().copy_(own)
            tail = torch.where(found.values > floor, found.values, 0.0)
            return Decomposed(torch.cat([kept, tail]).mul_(of.scale), gram)
        del gram
    if isinstance(matrix, Streamed) or is_long(length, rank):
        exact = reflected(of)
    else:
        _, exact = next(whole.panels(whole.room(len(matrix), torch.float64)))
    values = torch.linalg.svdvals(exact) if rank > 1 else exact.norm().reshape(1)
    values = torch.where(values > length * EPS64 * values[0], values, 0.0)
    return Decomposed(values.mul_(of.scale), None)


class Stack:
    """R of W = Q R in float64, where rows of W come a few at a time and are not held."""

    def __init__(self, cols: int, device: "torch.device") -> None:
        size = cols + max(cols, PANEL)
        self._rows = torch.zeros(size, cols, dtype=torch.float64, device=device)
        self._held = cols

    def add(self, lines: Float[Tensor, "cols some"]) -> None:
        """Take rows, given as columns: no more than `PANEL`."""
        stop = self._held + lines.shape[1]
        if stop > len(self._rows):
            self.triangle()
            stop = self._held + lines.shape[1]
        self._rows[self._held : stop] = lines.mT
        self._held = stop

    def triangle(self) -> Float[Tensor, "cols cols"]:
        """Return R of all rows so far; more may come."""
        cols = self._rows.shape[1]
        self._rows[:cols] = torch.linalg.qr(self._rows[: self._held], mode="r").R
        self._held = cols
        return self._rows[:cols]


def singular_value_error(value: float, largest: float, length: int) -> float:
    """Return how far a value of `singular_values` may be from the exact one.

    A value of 0 stands for no larger than the floor, which errs as much itself. `largest` is
    sigma_1, `length` the longer side of the matrix.
    """
    promised, floor = Settings(), length * EPS64 * largest
    if not value:
        return 2.0 * floor
    by_gram = promised.gram_error * math.sqrt(length) * EPS64 * largest * (largest / value) / 2.0
    return max(floor, min(by_gram, promised.relative_error * value))


def product_singular_values(
    left: Float[Tensor, "rows rank"], right: Float[Tensor, "rank cols"]
) -> Float[Tensor, " kept"]:
    """Return the leading singular values of `left @ right` without forming it.

    `left = Q1 R1` and `right^T = Q2 R2` leave the singular values of the small
    `R1 R2^T`; all further ones of the product are exactly 0. Float64 throughout.

    There are `min(rows, rank, cols)`, descending; those below the rounding of the product, as of
    factors whose parts cancel, are 0. Of a LoRA update, `scale * B` and `A`.
    """
    largest_entry(left)
    largest_entry(right)
    small_left = torch.linalg.qr(left.double(), mode="r").R
    small_right = torch.linalg.qr(right.double().mT, mode="r").R
    values: Tensor = torch.linalg.svdvals(small_left @ small_right.mT)
    size = float(torch.linalg.vector_norm(small_left)) * float(
        torch.linalg.vector_norm(small_right)
    )
    return torch.where(values > product_rounding(left, right, size), values, 0.0)


def product_rounding(
    left: Float[Tensor, "rows rank"], right: Float[Tensor, "rank cols"], size: float
) -> float:
    """Return what singular values of a product in float64 are none below.

    Args:
        left: One factor.
        right: The other.
        size: The product of their Frobenius norms.
    """
    return TRUE * EPS64 * math.sqrt(max(*left.shape, *right.shape)) * size
