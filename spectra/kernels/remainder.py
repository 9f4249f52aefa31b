"""What a vector, less what is known of it, can have in common with any singular vector.

A block Krylov space of W, kept out of the directions D that are known already: they belong
to the few largest singular values, to which every Krylov space turns first, while a
remainder lives among the small ones. The space holds the Lanczos process of each vector,
and `christoffel` bounds what one eigenvector of W W^T can have of it. Where that is to be
divided by sigma, random columns in the same space prove a floor of the spectrum (`counting`).

Source:
    O'Leary 1980, The block conjugate gradient algorithm, for blocks; Saad et al. 2000, A
    deflated version of the conjugate gradient algorithm, for deflation.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.kernels.christoffel import jacobi, largest_component
from spectra.kernels.counting import Space, at_most, rounding_of
from spectra.kernels.krylov import Bidiagonalization, Ritz, gaussian, measure
from spectra.kernels.linear_map import LinearMap
from spectra.kernels.rounding import EPS64

NEAR = 0.1  # share of a known direction that another eigenvector may hold and still be far
NARROW = 16  # random columns that look for the end of the spectrum
FLOORS = (0.5, 0.2, 0.05, 0.01)  # of the least Ritz value: where the spectrum may end
FIRST = 12  # steps before the first look
EVERY = 4  # steps between looks
OFTEN = 2  # the same where a look ends early, at a floor that is not proven yet
MOST = 32  # steps
GUESSED = 3e-6  # of sigma_1: rounding of float32 products, until it is measured


@dataclass(frozen=True, slots=True)
class Known:
    """Converged Ritz pairs of W W^T, to be kept out of what follows.

    For another eigenvector u with eigenvalue x, |u . q| <= off / |x - value|.
    """

    basis: Float[Tensor, "rows d"]
    values: Float[Tensor, " d"]  # descending
    off: Float[Tensor, " d"]  # residual, rounding included

    def beyond(self, vector: Float[Tensor, " rows"]) -> Callable[[Tensor, Tensor], Tensor]:
        """Return a bound of sum |u . q| |q . vector| for eigenvalues in an interval."""
        component = (self.basis.mT @ vector).abs().cpu()

        def along(centre: Tensor, half: Tensor) -> Tensor:
            apart = (centre[:, None] - self.values).abs() - half[:, None]
            leak = (self.off / apart.clamp(min=1e-300)).clamp(max=1.0)
            near = leak > NEAR
            close = (near * component.square()).sum(dim=1).sqrt()
            found: Tensor = close + (~near * leak * component).sum(dim=1)
            return found

        return along

    def lost(self, block: Float[Tensor, "rows b"], point: float) -> float:
        """Bound what eigenvectors up to `point`, below all values, have of D D^T block."""
        across = torch.linalg.vector_norm(self.basis.mT @ block, dim=1).cpu()
        return float((self.off / (self.values - point) * across).sum())


@dataclass(frozen=True, slots=True)
class _Outside:
    """(I - D D^T) W, whose Krylov spaces stay outside of D."""

    of: LinearMap
    known: Float[Tensor, "rows d"]

    @property
    def shape(self) -> tuple[int, int]:
        return self.of.shape

    def outside(self, vectors: Float[Tensor, "rows b"]) -> Float[Tensor, "rows b"]:
        """Return the part of the vectors outside of D."""
        for _ in range(2):
            vectors = vectors - self.known @ (self.known.mT @ vectors)
        return vectors

    def matmat(self, vectors: Float[Tensor, "cols b"]) -> Float[Tensor, "rows b"]:
        return self.outside(self.of.matmat(vectors))

    def rmatmat(self, vectors: Float[Tensor, "rows b"]) -> Float[Tensor, "cols b"]:
        """Return the product of the transpose; the vectors lie outside of D already."""
        return self.of.rmatmat(vectors)


@dataclass(frozen=True, slots=True)
class Question:
    """Which eigenvectors of W W^T to ask about, and for how much."""

    vectors: Float[Tensor, "rows n"]
    room: Float[Tensor, " n"]  # a bound at or above this answers nothing
    ceiling: float  # eigenvalues of interest lie below
    over_sigma: bool  # bound |u . y| / sigma, not |u . y|


def remainders(of: LinearMap, known: Known, question: Question) -> list[float] | None:
    """Bound what eigenvectors of W W^T below the ceiling have of each vector.

    Args:
        of: W.
        known: Eigenpairs to be kept out; they bound what they hold of the vectors.
        question: The vectors, and what to bound.

    Returns:
        A bound for each vector, less than its room; None where one is not reached.
    """
    random = NARROW if question.over_sigma else 0
    drawn = gaussian(of.shape[0], random, of.device)
    within = _Outside(of, known.basis)
    start = within.outside(torch.cat([drawn, question.vectors], dim=1))
    most = min(MOST, (of.shape[0] - known.basis.shape[1]) // start.shape[1] - 1)
    most = min(most, of.shape[1] // start.shape[1] - 1)
    krylov = Bidiagonalization(within, start, max(most, 1))
    rounding = (GUESSED * math.sqrt(float(known.values[0])),) * 2
    every = OFTEN if question.over_sigma else EVERY
    while krylov.steps < most:
        krylov.step()
        if krylov.steps != most and (krylov.steps < FIRST or krylov.steps % every):
            continue
        asked = _Asked(krylov, krylov.ritz(), known, question, drawn)
        if asked.bounds(rounding) is None:
            continue  # not even with what rounding is guessed to be, or was for fewer columns
        measured = _rounding(krylov, of, known)
        if measured is None:
            return None
        rounding = measured
        found = asked.bounds(rounding)
        if found is not None:
            return found
    return None


def _rounding(krylov: Bidiagonalization, of: LinearMap, known: Known) -> tuple[float, float] | None:
    """Bound F_1 and F_2 of W itself; None where the bases are not orthonormal.

    What deflation takes from W P is D (W^T D)^T P, known exactly; the rest is measured.
    """
    basis = known.basis
    seen = measure(krylov, of, basis.new_zeros(of.shape[1], 0), basis, outside=True)
    if not seen.orthogonal:
        return None
    taken = float(torch.linalg.vector_norm(seen.after.mT @ krylov.right))
    return seen.rounding_right + taken, seen.rounding_left


@dataclass(frozen=True, slots=True)
class _Asked:
    krylov: Bidiagonalization
    ritz: Ritz
    known: Known
    question: Question
    drawn: Float[Tensor, "rows random"]

    def bounds(self, rounding: tuple[float, float]) -> list[float] | None:
        """Return the bounds if each is less than its room."""
        ritz, question = self.ritz, self.question
        random = self.drawn.shape[1]
        steps = self.krylov.steps
        floor = 0.0
        if question.over_sigma:
            floor = self._floor(Space(ritz, random, steps, rounding_of(ritz, *rounding)))
            if floor == 0.0:
                return None
        leaving = self.krylov.leaving(ritz.coordinates)
        # F = F_1 B^T + W F_2 for eigenvalue x: sqrt(theta) |F_1| + sqrt(x) |F_2|; and what the
        # vector of a cluster, singular values that coincide to rounding, is off by.
        rows, cols = self.krylov.map.shape
        clusters = 2.0 * float(self.known.values[0]) * rows * cols * EPS64
        error = rounding[0] * math.sqrt(float(ritz.values[0])) + clusters
        weight = torch.rsqrt if question.over_sigma else torch.ones_like
        found = []
        for i, vector in enumerate(question.vectors.mT):
            process = jacobi(
                ritz.values, ritz.start[:, random + i], leaving, steps, (error, rounding[1])
            )
            bound = largest_component(
                process,
                (floor, question.ceiling),
                self.known.beyond(vector),
                float(question.room[i]),
                weight,
            )
            if not bound < float(question.room[i]):
                return None
            found.append(bound)
        return found

    def _floor(self, space: Space) -> float:
        """Return a proven lower bound of all eigenvalues, 0 where there is none."""
        for share in FLOORS:
            point = float(self.ritz.values[-1]) * share
            if 0.0 < point < float(self.known.values[-1]):
                lost = self.known.lost(self.drawn, point)
                if at_most(0, point, space, lost):
                    return point
        return 0.0
