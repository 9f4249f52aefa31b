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

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.kernels.rounding import EPS64

INTERVALS = 64  # to begin with
ROUNDS = 24  # of cutting intervals in two
CLOSE = 0.01  # cutting stops where the bound is no more than this above the largest centre
SLACK = 0.3  # or than this share of what it may still be
MANY = 1 << 14  # intervals


class Jacobi(NamedTuple):
    """A Lanczos process on a discrete measure: J, and how far its basis is from exact."""

    diagonal: Float[Tensor, " k"]
    beside: Float[Tensor, " k-1"]
    norm: float  # |y|
    error: float  # ||G|| is no more than this plus
    growth: float  # this times sqrt(x) for an eigenvalue x


def jacobi(
    nodes: Float[Tensor, " size"],
    components: Float[Tensor, " size"],
    leaving: Float[Tensor, "b size"],
    steps: int,
    error: tuple[float, float],
) -> Jacobi:
    """Run Lanczos on `diag(nodes)`, the matrix as a block Krylov space sees it.

    Args:
        nodes: Ritz values.
        components: Of y along the Ritz vectors.
        leaving: How the matrix maps each Ritz vector out of the space. Nothing of it should
            meet a column before the last; what does is added to the error.
        steps: Of the Krylov space, the most columns.
        error: Of the Krylov relation itself, Frobenius norm: a constant, and times sqrt(x).
    """
    norm = float(torch.linalg.vector_norm(components))
    basis = [components / max(norm, 1e-300)]
    diagonal: list[float] = []
    beside: list[float] = []
    out = 0.0
    while True:
        image = nodes * basis[-1]
        diagonal.append(float(image @ basis[-1]))
        known = torch.stack(basis)
        image = image - known.mT @ (known @ image)
        image = image - known.mT @ (known @ image)
        forward = float(torch.linalg.vector_norm(image))
        if len(diagonal) == steps or forward <= 1e-12 * float(nodes[0]):
            break
        out += float(torch.linalg.vector_norm(leaving @ basis[-1])) ** 2
        beside.append(forward)
        basis.append(image / forward)
    tensors = [torch.tensor(made, dtype=torch.float64) for made in (diagonal, beside)]
    constant = math.sqrt(2.0) * error[0] + math.sqrt(out)
    return Jacobi(tensors[0], tensors[1], norm, constant, math.sqrt(2.0) * error[1])


def largest_component(
    of: Jacobi,
    between: tuple[float, float],
    beyond: Callable[[Tensor, Tensor], Tensor],
    enough: float,
    weight: Callable[[Tensor], Tensor] = torch.ones_like,
) -> float:
    """Bound `weight(t) (|u . y| + beyond(t))` over unit eigenvectors u, t in [low, high].

    Args:
        of: The Lanczos process of y.
        between: Least and largest eigenvalue of interest.
        beyond: What else u may meet, of an interval's centre and half-width.
        enough: Stop early, with infinity, where the maximum is more than this.
        weight: Of an eigenvalue, falling as it grows; applied to each interval's lower end.

    Returns:
        An upper bound.
    """
    low, high = between
    if high <= low:
        return 0.0
    if len(of.beside) == 0 or not math.isfinite(of.error):
        return math.inf
    width = (high - low) / INTERVALS
    centre = low + width * (torch.arange(INTERVALS, dtype=torch.float64) + 0.5)
    half = torch.full_like(centre, width / 2.0)
    stiff = _stiffness(of, centre)
    proven = attained = 0.0
    # What the recurrence for n_0 rounds moves its vector by as much as J being off by this.
    own = 8.0 * len(of.diagonal) * EPS64 * (float(of.diagonal.abs().max()) + high)
    for _ in range(ROUNDS):
        share = _null_share(of, centre)
        error = of.error + own + of.growth * (centre + half).sqrt() + half
        most = (share + error / stiff.clamp(min=1e-300)).clamp(max=1.0)
        bound = weight(centre - half) * (of.norm * most + beyond(centre, half))
        # What is nearly attained: no cutting helps.
        least = float((weight(centre) * (of.norm * share + beyond(centre, 0.0 * half))).max())
        if least >= enough:
            return math.inf
        attained = max(attained, least)
        wide = bound > attained + max(CLOSE, SLACK * (enough - attained))
        proven = max(proven, float(torch.where(wide, 0.0, bound).max()))
        if not wide.any():
            return proven
        if int(wide.sum()) > MANY:
            return math.inf
        centre, half, stiff = centre[wide], half[wide] / 2.0, stiff[wide]
        known = half < 0.1 * stiff  # S moves no further than its point does
        inherited = (stiff - half).repeat(2)
        centre = torch.cat([centre - half, centre + half])
        half = half.repeat(2)
        stiff = torch.where(known.repeat(2), inherited, 0.0)
        stiff[stiff == 0.0] = _stiffness(of, centre[stiff == 0.0])
    return math.inf


def _null_share(of: Jacobi, points: Float[Tensor, " points"]) -> Float[Tensor, " points"]:
    """Return |n_0| at each point."""
    before, value = torch.zeros_like(points), torch.ones_like(points)
    total = value.square()
    for j in range(len(of.beside)):
        back = of.beside[j - 1] * before if j else 0.0
        before, value = value, ((points - of.diagonal[j]) * value - back) / of.beside[j]
        # Overflow, inf - inf after it: what is missing of the total makes the share larger.
        total = total + value.square().nan_to_num(nan=0.0, posinf=math.inf)
    return total.rsqrt()


def _stiffness(of: Jacobi, points: Float[Tensor, " points"]) -> Float[Tensor, " points"]:
    """Return no more than the smallest singular value of S at each point."""
    matrix = torch.diag(of.diagonal) + torch.diag(of.beside, 1) + torch.diag(of.beside, -1)
    reduced = (matrix - points[:, None, None] * torch.eye(len(matrix)).to(matrix))[:, :-1]
    squares = torch.linalg.eigvalsh(reduced @ reduced.mT)
    # Of the product and of its eigenvalues: squaring resolves no less than sqrt(eps) of S.
    rounding = 4.0 * len(matrix) * torch.finfo(squares.dtype).eps * squares[:, -1]
    least: Tensor = (squares[:, 0] - rounding).clamp(min=0.0).sqrt()
    return least
