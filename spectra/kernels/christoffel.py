"""The most that a vector can have in common with any one eigenvector.

Let A be symmetric, y a vector and L = (l_0 .. l_{k-1}) orthonormal with y = |y| l_0 and

    A L = L J + (what leaves, in the last column) + G,          J tridiagonal.

Take any unit eigenvector u, A u = t u, and z = L^T u, so that |u . y| = |y| |z_0| and
|z| <= 1. From the left by u^T, the first k - 1 columns say S(t) z = -g, where S(t) is
(J - t)^T without its last row and |g| <= ||G||. For a fixed x with |t - x| <= h,
S(x) z = -g + (t - x) z_{0..k-2}, of norm at most ||G|| + h. Split z along the null vector n
of S(x) (the values there of the orthonormal polynomials) and across it:

    |z_0| <= |n_0| + (||G|| + h) / smallest singular value of S(x).

With G = h = 0 this is the Christoffel function, 1 / n_0^2 = sum of p_j(x)^2: no point of
the spectrum of y can weigh more. Intervals of half-width h cover the range of t; one is cut
in two while h is what makes its bound large. So the maximum is bounded, not sampled, and
rounding, deflation and clusters enter as G.

Source:
    Akhiezer 1965, The Classical Moment Problem, section 2.5; Freud 1971, Orthogonal
    Polynomials, section I.4, for the Christoffel function.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

INTERVALS = 64  # to begin with
ROUNDS = 10  # of cutting intervals in two
CLOSE = 0.02  # cutting stops where the bound is no more than this above the centre's


class Jacobi(NamedTuple):
    """A Lanczos process on a discrete measure: J, and how far its basis is from exact."""

    diagonal: Float[Tensor, " k"]
    beside: Float[Tensor, " k-1"]
    norm: float  # |y|
    error: float  # no less than ||G||


def jacobi(
    nodes: Float[Tensor, " size"],
    components: Float[Tensor, " size"],
    leaving: Float[Tensor, "b size"],
    steps: int,
    error: float,
) -> Jacobi:
    """Run Lanczos on `diag(nodes)`, the matrix as a Krylov space sees it.

    Args:
        nodes: Ritz values.
        components: Of y along the Ritz vectors.
        leaving: How the matrix maps each Ritz vector out of the space; what of it the first
            columns meet is added to the error.
        steps: Most columns.
        error: Of the Krylov relation itself, Frobenius norm.
    """
    norm = float(torch.linalg.vector_norm(components))
    basis = [components / max(norm, 1e-300)]
    diagonal: list[float] = []
    beside: list[float] = []
    left = error**2
    for _ in range(steps):
        image = nodes * basis[-1]
        diagonal.append(float(image @ basis[-1]))
        known = torch.stack(basis)
        image = image - known.mT @ (known @ image)
        image = image - known.mT @ (known @ image)
        forward = float(torch.linalg.vector_norm(image))
        out = float(torch.linalg.vector_norm(leaving @ basis[-1])) ** 2
        # A column of which this much leaves is the last; so is one that leads nowhere.
        too_much = left + out > (10.0 * error + 1e-6 * float(nodes[0])) ** 2
        if len(diagonal) == steps or too_much or forward <= 1e-13 * float(nodes[0]):
            break
        left += out
        beside.append(forward)
        basis.append(image / forward)
    made = torch.tensor(diagonal, dtype=torch.float64)
    return Jacobi(made, torch.tensor(beside, dtype=torch.float64), norm, left**0.5)


def largest_component(
    of: Jacobi,
    low: float,
    high: float,
    weight: Callable[[Tensor], Tensor],
    enough: float,
) -> float:
    """Bound `weight(t) |u . y|` over all unit eigenvectors u with t in [low, high].

    Args:
        of: The Lanczos process of y.
        low: Least eigenvalue of interest.
        high: Largest.
        weight: Of an eigenvalue, falling as it grows; applied to each interval's lower end.
        enough: Stop early, with infinity, where the maximum is more than this.

    Returns:
        An upper bound.
    """
    if len(of.beside) == 0:
        return float(of.norm * weight(torch.tensor([low], dtype=torch.float64)))
    width = (high - low) / INTERVALS
    centre = low + width * (torch.arange(INTERVALS, dtype=torch.float64) + 0.5)
    half = torch.full_like(centre, width / 2.0)
    proven = 0.0
    for _ in range(ROUNDS):
        share, stiffness = _null_share(of, centre)
        factor = of.norm * weight(centre - half)
        bound = factor * (share + (of.error + half) / stiffness).clamp(max=1.0)
        least = of.norm * weight(centre) * share  # nearly attained: no cutting helps
        if float(least.max()) >= enough:
            return float("inf")
        wide = bound > torch.maximum(least * 1.05 + CLOSE, least.max())
        proven = max(proven, float(bound[~wide].max()) if (~wide).any() else 0.0)
        if not wide.any():
            return proven
        centre, half = centre[wide], half[wide] / 2.0
        remaining = float(bound[wide].max())
        centre = torch.cat([centre - half, centre + half])
        half = torch.cat([half, half])
    return max(proven, remaining)


def _null_share(
    of: Jacobi, points: Float[Tensor, " points"]
) -> tuple[Float[Tensor, " points"], Float[Tensor, " points"]]:
    """Return |n_0| and the smallest singular value of S at each point."""
    size = len(of.diagonal)
    before, value = torch.zeros_like(points), torch.ones_like(points)
    total = value.square()
    for j in range(size - 1):
        back = of.beside[j - 1] * before if j else 0.0
        before, value = value, ((points - of.diagonal[j]) * value - back) / of.beside[j]
        total = total + value.square()
    matrix = torch.diag(of.diagonal) + torch.diag(of.beside, 1) + torch.diag(of.beside, -1)
    eye = torch.eye(size, dtype=torch.float64)
    reduced = (matrix - points[:, None, None] * eye)[:, : size - 1]
    squares = torch.linalg.eigvalsh(reduced @ reduced.mT)[:, 0]
    return total.rsqrt(), squares.clamp(min=1e-300).sqrt()
