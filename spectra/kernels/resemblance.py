"""Which leading singular vectors of a tuned matrix resemble none of its base's: proven.

The verdict on y needs the largest |u_i . y| only, over all left singular vectors u_i of the
base, against epsilon. Three facts decide it, in the order of their cost.

1. Match: the leading u_i, proven by `leading`, meet y as far as their errors tell.
2. What is left of y: with y' = y - sum of u_i (u_i . y) over those, every other u has
   |u . y| <= |y'| + leak, as the remaining u are nearly orthogonal to the found ones:
   |u . u_i| <= 2 rho_i / (sigma_i - ceiling).
3. Bound: y was in the start block of the Krylov space, so the space holds its Lanczos
   process, and `christoffel` bounds |u . y'| for all u at once.

A tall base (more rows than columns) has a null space that meets no left singular vector and
yet weighs at 0. So the process runs on the right, from z = W^T y: u . y = (v . z) / sigma,
and z has nothing in the null space; the factor 1 / sigma is bounded because the space also
proves that no sigma lies below a floor (`counting`).

y is itself computed: it may be off by an angle, by which every |u . y| may be off. A verdict
stands where its whole interval lies on one side of epsilon, by `MARGIN` at least.

Source:
    Shuttleworth et al. 2024, arXiv:2410.21228, for what is asked.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.kernels.christoffel import jacobi, largest_component
from spectra.kernels.counting import at_most
from spectra.kernels.leading import BLOCK, Leading, certified_leading
from spectra.kernels.linear_map import EPS64, LinearMap

MARGIN = 1e-3  # a verdict this near to epsilon is left to a full decomposition
ANGLE = 1e-3  # that the tuned vectors may be off by
OVERLAP = 5e-3  # that the subspace overlap may be off by
FLOORS = (0.8, 0.5, 0.2, 0.05)  # of the least Ritz value: where the spectrum may be proven to end

Decision = Literal["match", "bound", "exact"]


class Verdict(NamedTuple):
    """One tuned vector against the whole base."""

    cosine: float  # the largest |cos|; where `bound` decided, an upper bound of it
    error: float  # of cosine; 0 for a bound
    best: int  # index of the base vector; -1 where none is known
    decided_by: Decision


@dataclass(frozen=True, slots=True)
class Resemblance:
    """The `k` leading left singular vectors of a tuned matrix, all decided."""

    verdicts: tuple[Verdict, ...]
    sigma: Float[Tensor, " k"]  # of the tuned matrix, to scale
    overlap: float  # ||U0_k^T U1_k||_F^2 / k
    cosines: Float[Tensor, "k width"]  # |cos| with the leading base vectors


def certified_resemblance(
    base: LinearMap, tuned: LinearMap, k: int, epsilon: float
) -> Resemblance | None:
    """Decide all `k` verdicts by Krylov spaces, or none.

    Args:
        base: The original weight.
        tuned: The changed weight, same shape.
        k: Leading left singular vectors of `tuned` to judge.
        epsilon: Below this |cos| a vector is an intruder.

    Returns:
        Proven verdicts; None where any is undecided, too near to epsilon, or about vectors
        that nearly coinciding singular values leave undetermined.
    """
    found = certified_leading(
        tuned, k, accept=lambda seen: float(seen.vector_error[:k].max()) <= ANGLE
    )
    if found is None:
        return None
    vectors, angle = found.left[:, :k], found.vector_error[:k]
    judge = _Judge(base, vectors, angle, epsilon)
    if certified_leading(judge.oriented, k, seeds=judge.seeds, accept=judge.decides) is None:
        return None
    return Resemblance(
        tuple(judge.verdicts), found.sigma[:k] * tuned.scale, judge.overlap, judge.cosines
    )


class _Judge:
    """Asked while the base's Krylov space grows whether it already decides everything."""

    def __init__(self, base: LinearMap, vectors: Tensor, angle: Tensor, epsilon: float) -> None:
        self.tall = base.shape[0] > base.shape[1]
        self.oriented = base.mT if self.tall else base
        self.vectors, self.angle, self.epsilon = vectors, angle, epsilon
        image = base.transposed_times(vectors) if self.tall else vectors
        self.stretch = torch.linalg.vector_norm(image, dim=0).clamp(min=1e-300)
        self.seeds = image / self.stretch
        self.stretch = (
            self.stretch.cpu() if self.tall else torch.ones(len(angle), dtype=angle.dtype)
        )
        self.verdicts: list[Verdict] = []
        self.overlap = 0.0
        self.cosines = angle.new_zeros(len(angle), 0)

    def decides(self, leading: Leading) -> bool:
        """Say whether every vector is decided; if so, keep the verdicts."""
        count, k = len(leading.sigma), len(self.angle)
        known = leading.right if self.tall else leading.left
        cosines = (known.mT @ self.vectors).abs().cpu()
        subspace = float(torch.linalg.vector_norm(leading.residual[:k])) / max(
            float(leading.sigma[k - 1] - leading.sigma[k]) - leading.value_error
            if count > k
            else float(leading.sigma[-1]) - leading.ceiling,
            1e-300,
        )
        if 2.0 * (math.sqrt(2.0) * subspace + float(self.angle.mean())) > OVERLAP:
            return False
        leak = (2.0 * leading.residual / (leading.sigma - leading.ceiling)).clamp(max=1.0)
        verdicts = []
        floor: float | None = None
        for j in range(k):
            cosine = cosines[:, j]
            turned = leading.vector_error + self.angle[j]
            # u = cos(phi) known + sin(phi) across, |sin phi| and 2 sin(phi / 2) <= turned
            across = (1.0 - cosine.square()).clamp(min=0.0).sqrt() + 1e-12
            margin = (across * turned + cosine * turned.square() / 2.0).clamp(max=2.0)
            leaked = float((leak * cosine).sum()) + float(self.angle[j])
            rest = math.sqrt(max(1.0 - float(cosine.square().sum()), 0.0) + 1e-12) + leaked
            best = int(cosine.argmax())
            low = float(cosine[best] - margin[best])
            if low >= self.epsilon + MARGIN and rest <= low:
                verdicts.append(Verdict(float(cosine[best]), float(margin[best]), best, "match"))
                continue
            others = float((cosine + margin).max())
            if low < self.epsilon + MARGIN and others >= self.epsilon - MARGIN:
                return False
            room = (low if low >= self.epsilon + MARGIN else self.epsilon - MARGIN) - leaked
            if self.tall and floor is None:
                floor = self._floor(leading)
            rest = leaked + self._remainder(leading, j, room, floor or 0.0)
            if low >= self.epsilon + MARGIN and rest <= low:
                verdicts.append(Verdict(float(cosine[best]), float(margin[best]), best, "match"))
            elif max(rest, others) < self.epsilon - MARGIN:
                verdicts.append(Verdict(max(rest, others), 0.0, -1, "bound"))
            else:
                return False
        self.verdicts = verdicts
        self.overlap = float(cosines[:k].square().sum()) / k
        self.cosines = cosines.mT.contiguous()
        return True

    def _floor(self, leading: Leading) -> float:
        """Return a proven lower bound of all eigenvalues, 0 where there is none."""
        least = float(leading.ritz.values[-1])
        top = math.sqrt(float(leading.ritz.values[0]))
        for share in FLOORS:
            # `rounding` was for W W^T at the ceiling, which is no smaller than at the floor.
            point = least * share
            if point > 1e-12 * top * top and at_most(
                0, point, leading.ritz, BLOCK, leading.krylov.steps, leading.rounding
            ):
                return point
        return 0.0

    def _remainder(self, leading: Leading, j: int, room: float, floor: float) -> float:
        """Bound what any singular vector that is not among the leading has of vector `j`."""
        if room <= 0.0 or (self.tall and floor <= 0.0):
            return math.inf
        count, krylov, ritz = len(leading.sigma), leading.krylov, leading.ritz
        stretch = float(self.stretch[j])
        components = ritz.start[count:, BLOCK + j] * stretch
        clusters = 2.0 * float(ritz.values[0]) * min(self.oriented.shape) * EPS64
        process = jacobi(
            ritz.values[count:],
            components,
            krylov.leaving(ritz.coordinates[:, count:]),
            krylov.steps,
            leading.rounding + clusters * max(self.oriented.shape),
        )
        if not self.tall:
            return largest_component(process, 0.0, leading.ceiling**2, torch.ones_like, room)
        # leaks were of u; those of v meet z, and everything is over sigma
        leak = (2.0 * leading.residual / (leading.sigma - leading.ceiling)).clamp(max=1.0)
        met = ritz.start[:count, BLOCK + j] * stretch
        extra = float(torch.linalg.vector_norm(leak) * torch.linalg.vector_norm(met))
        extra /= math.sqrt(floor)
        found = largest_component(process, floor, leading.ceiling**2, torch.rsqrt, room - extra)
        return found + extra
