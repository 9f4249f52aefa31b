"""How far the recurrence of a Krylov space is from exact: float64 products with the matrix.

A block Lanczos relation A Q = Q T + (leaving the space) + F may have been built with whatever is
fast: W in float32, a rounded Cholesky factor, LU factors. What those lack is part of F, and F is
taken from float64 products with W itself: no factorisation has to be trusted.

For a column g of coefficients put q = Q g, y = (Q T + leaving) g. Then for A = W^T W

    F g = W^T (W q) - y,

and for A = (W^T W)^-1 with an eigenvector u, A u = x u, W u = v / sqrt(x), and any z,

    u^T F g = x u^T (q - W^T W y) = x u^T (q - W^T z) + sqrt(x) v^T (z - W y).

z = W y needs no more than W; z = W^-T q, from LU factors, makes the first part small whatever
the condition number. All is bounded by norms: each of the leading Ritz vectors has its own,
the others share a Frobenius norm, as Gaussian g show it (`lanczos`), of F times all of them, each
by its weight in a certificate: most of F is in the largest, which count least. The float64
products round as well, as `LinearMap.rounding` says.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Float

from spectra.deferred import Tensor, torch
from spectra.kernels.lanczos import INFLATION, PROBES, Lanczos, Ritz
from spectra.kernels.linear_map import LinearMap

LEADING = 8  # Ritz vectors whose own rounding is measured
OWN = 0.2  # weight of theirs in what all rounding amounts to
NEAR = 1e-4  # of the largest eigenvalue, or of all weights: what is less is taken as that

Apply = Callable[[Tensor], Tensor]
Rounding = Callable[[float], Float[Tensor, " size"]]


Measured = tuple[Rounding, float]
"""f_i of `counting`, and what the root of the largest eigenvalue is no less than."""


class Seen(NamedTuple):
    """Float64 products with W of the leading Ritz vectors of W^T W, and F of all of them."""

    rounding: Rounding
    vectors: Float[Tensor, "cols c"]
    image: Float[Tensor, "rows c"]  # W times them
    back: Float[Tensor, "cols c"]  # W^T times that
    own: float  # what each product with a unit vector may err by


def seen(of: LinearMap, krylov: Lanczos, ritz: Ritz, leading: int = LEADING, cut: int = 0) -> Seen:
    """Measure a space of W^T W against W, in one pass over it.

    `leading` Ritz pairs have their own bound of F, the others share one; `cut` of them lie above
    the points at which rounding matters.
    """
    times = shares(ritz, leading, cut)
    given = _coefficients(krylov, ritz, times, leading)
    q = krylov.combined(given)
    image, back = of.normal(q)
    own = of.rounding()
    apart = own * lengths(q)  # of W q, which an eigenvector of W^T shortens by sigma
    missed = lengths(back - krylov.mapped(given)) + own * lengths(image)
    rounding = _rounding(missed, apart, times, 0)
    q, image, back = (part[:, :-PROBES] for part in (q, image, back))
    return Seen(rounding, q, image, back, own)


def measured_above(of: LinearMap, krylov: Lanczos, ritz: Ritz) -> Measured:
    """Measure a space of W^T W against W."""
    found = seen(of, krylov, ritz)
    reached = float(lengths(found.image[:, :1]) / lengths(found.vectors[:, :1]))
    return found.rounding, reached - found.own


def measured_below(
    of: LinearMap, transposed_solve: Apply | None, krylov: Lanczos, ritz: Ritz
) -> Measured:
    """Measure a space of (W^T W)^-1 against W, rows >= cols; a square W has about W^-T to solve."""
    times = shares(ritz)
    given = _coefficients(krylov, ritz, times)
    q, y = krylov.combined(given), krylov.mapped(given)
    own = of.rounding()
    if transposed_solve is None:
        image, back = of.normal(y)
        z = image
    else:
        z = transposed_solve(q)
        image, back = of.products(y, z)
    missed = lengths(q - back) + own * lengths(z)
    apart = lengths(z - image) + own * lengths(y)
    reached = 1.0 / (float(lengths(image)[0] / lengths(y)[0]) + own)
    return _rounding(missed, apart, times, 1), reached


def shares(ritz: Ritz, leading: int = LEADING, cut: int = 0) -> Float[Tensor, " size"]:
    """Return how many times the norm that is measured for it every Ritz vector's bound is.

    What others share is taken of F times their weights w_i. A certificate at x adds (f_i / (x -
    theta_i) |omega_i|)^2: with F alike on all, w_i^2 = |omega_i| / (x - theta_i) makes that least.
    """
    values, top = ritz.values, float(ritz.values[0])
    apart = (values[max(cut, 1) - 1] - values[leading:]).clamp(min=NEAR * top)
    square = lengths(ritz.start[leading:].mT) / apart
    weight = (square / square.sum()).sqrt().clamp(min=NEAR)
    own = weight.new_full((min(leading, len(values)),), math.sqrt(max(leading, 1) / OWN))
    return torch.cat([own, 1.0 / (weight * math.sqrt(1.0 - OWN))])


def guessed(ritz: Ritz, known: Float[Tensor, " some"], cut: int = 0) -> Rounding:
    """Return about what will be measured, from norms of F: of leading Ritz vectors, of the rest."""
    leading = len(known) - 1
    shared = known[-1:].expand(len(ritz.values) - leading)
    bound = torch.cat([known[:-1], shared]) * shares(ritz, leading, cut)
    return lambda _: bound


def _coefficients(
    krylov: Lanczos, ritz: Ritz, times: Float[Tensor, " size"], leading: int = LEADING
) -> Float[Tensor, "size c"]:
    """Return the leading Ritz vectors and Gaussian combinations of the others, side by side."""
    own, others = ritz.coordinates[:, :leading], ritz.coordinates[:, leading:]
    drawn = krylov.probes()[leading:]
    weighed = (others / (times[leading:] * math.sqrt(1.0 - OWN))).to(drawn)
    return torch.cat([own.to(drawn), weighed @ drawn], dim=1)


def _rounding(
    missed: Float[Tensor, " c"],
    apart: Float[Tensor, " c"],
    times: Float[Tensor, " size"],
    power: int,
) -> Rounding:
    """Return f_i from two norms of every column measured: times x^power, and times sqrt(x).

    `counting` adds squares, where the norms of parts add up: those of each of the leading
    Ritz vectors and of all others together, each of two kinds. For any positive weights with
    sum 1, (sum of a_j)^2 is at most the sum of a_j^2 / weight_j.
    """
    first, second = (_of_every(part.cpu(), times) for part in (missed, apart))

    def rounding(point: float) -> Tensor:
        one, other = point**power * first, math.sqrt(point) * second
        share = (one[-1] / (one[-1] + other[-1])).clamp(0.1, 0.9)
        found: Tensor = (one.square() / share + other.square() / (1.0 - share)).sqrt()
        return found

    return rounding


def _of_every(norms: Float[Tensor, " c"], times: Float[Tensor, " size"]) -> Float[Tensor, " size"]:
    """Bound a norm for every Ritz vector: the leading ones by their own, others by all."""
    own, drawn = norms[:-PROBES], norms[-PROBES:]
    shared = INFLATION * torch.linalg.vector_norm(drawn) / math.sqrt(PROBES)
    return times * torch.cat([own, shared.expand(len(times) - len(own))])


def lengths(vectors: Float[Tensor, "side c"]) -> Float[Tensor, " c"]:
    """Return the norm of each column."""
    norms: Tensor = torch.linalg.vector_norm(vectors, dim=0)
    return norms
