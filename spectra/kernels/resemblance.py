"""Which leading singular vectors of a tuned matrix resemble none of its base's: proven.

The verdict on y needs the largest |u_i . y| only, over all left singular vectors u_i of the
base, against epsilon. Three facts decide it, in the order of their cost.

1. Match: the leading u_i, proven by `leading`, meet y as far as their errors tell.
2. What is left of y: with y' = y - sum of u_i (u_i . y) over those, every other u has
   |u . y| <= |y'| + leak, as the remaining u are nearly orthogonal to the found ones:
   |u . u_i| <= 2 rho_i / (sigma_i - ceiling).
3. Bound: `remainder` bounds |u . y'| for all u at once, from a few Lanczos steps.

A tall base (more rows than columns) has a null space that meets no left singular vector and
yet weighs at 0. So the process runs on the right, from z = W^T y: u . y = (v . z) / sigma,
and z has nothing in the null space; the factor 1 / sigma is bounded where it is proven
that no sigma lies below a floor.

y is itself computed: it may be off by an angle, by which every |u . y| may be off. A verdict
stands where its whole interval lies on one side of epsilon, by `MARGIN` at least.

Source:
    Shuttleworth et al. 2024, arXiv:2410.21228, for what is asked.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from spectra.kernels.leading import Leading, certified_leading
from spectra.kernels.linear_map import LinearMap
from spectra.kernels.remainder import Known, Question, remainders
from spectra.kernels.similarity import Decision

MARGIN = 1e-3  # a verdict this near to epsilon is left to a full decomposition
ANGLE = 1e-3  # that the tuned vectors may be off by
OVERLAP = 5e-3  # that the subspace overlap may be off by
PATIENCE = 12  # steps of the base's space after which its remainder is tried in any case
NARROW = 5.0  # largest over median unknown eigenvalue, to be tried before
CONVERGED = 2e-6  # residual over the largest value, of a Ritz pair worth deflating


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
    found = certified_leading(tuned, k, tolerance=ANGLE)
    if found is None:
        return None
    judge = _Judge(base, found.left[:, :k], found.vector_error[:k], epsilon)
    leading = certified_leading(judge.oriented, k, accept=judge.decides)
    if leading is None:
        return None
    return Resemblance(
        verdicts=tuple(verdict for verdict in judge.verdicts if verdict is not None),
        sigma=found.sigma[:k] * tuned.scale,
        overlap=float(judge.cosines[:k].square().sum()) / k,
        cosines=judge.cosines.mT.contiguous(),
    )


class _Judge:
    """Asked while the base's Krylov space grows whether it already decides everything."""

    def __init__(self, base: LinearMap, vectors: Tensor, angle: Tensor, epsilon: float) -> None:
        self.tall = base.shape[0] > base.shape[1]
        self.oriented = base.mT if self.tall else base
        self.vectors, self.angle, self.epsilon = vectors, angle, epsilon
        # In float64: it is to be divided by sigma, which would magnify rounding.
        none = vectors.new_zeros(base.shape[1], 0)
        self.image = base.products(none, vectors)[1] if self.tall else vectors
        self.verdicts: list[Verdict | None] = []
        self.cosines = angle.new_zeros(len(angle), 0)

    def decides(self, leading: Leading) -> bool:
        """Say whether each vector is decided, or can only resemble what is not known yet."""
        if not self._overlap_is_known(leading):
            return False
        known = leading.right if self.tall else leading.left
        cosines = (known.mT @ self.vectors).abs().cpu()
        # u = cos(phi) known + sin(phi) across; |sin phi| and 2 sin(phi / 2) are <= turned
        turned = leading.vector_error[:, None] + self.angle
        across = (1.0 - cosines.square()).clamp(min=0.0).sqrt() + 1e-12
        margins = (across * turned + cosines * turned.square() / 2.0).clamp(max=2.0)
        leak = (2.0 * leading.residual / (leading.sigma - leading.ceiling)).clamp(max=1.0)
        rest = (1.0 - cosines.square().sum(dim=0)).clamp(min=0.0).sqrt() + leak @ cosines
        rest = rest + self.angle + 1e-6
        self.verdicts = []
        for j in range(len(self.angle)):
            best = int(cosines[:, j].argmax())
            low = float(cosines[best, j] - margins[best, j])
            known_most = float((cosines[:, j] + margins[:, j]).max())
            if low >= self.epsilon + MARGIN and float(rest[j]) <= low:
                self.verdicts.append(_match(cosines[:, j], margins[:, j]))
            elif max(known_most, float(rest[j])) < self.epsilon - MARGIN:
                self.verdicts.append(Verdict(max(known_most, float(rest[j])), 0.0, -1, "bound"))
            elif low >= self.epsilon + MARGIN or known_most < self.epsilon - MARGIN:
                self.verdicts.append(None)
            else:
                return False
        self.cosines, self.margins = cosines, margins
        if None not in self.verdicts:
            return True
        # The remainder's own steps are many products: only with everything else settled.
        return self._settle(leading) if leading.measured else _ready(leading)

    def _settle(self, leading: Leading) -> bool:
        """Bound what the undecided vectors have in common with the unknown ones."""
        open_ones = [j for j, verdict in enumerate(self.verdicts) if verdict is None]
        best = (self.cosines - self.margins)[:, open_ones].amax(dim=0)
        clear = best >= self.epsilon + MARGIN
        room = torch.where(clear, best, self.epsilon - MARGIN) - self.angle[open_ones]
        question = Question(self.image[:, open_ones], room, leading.ceiling**2, self.tall)
        found = remainders(self.oriented, _known(leading), question)
        if found is None:
            return False
        rests = torch.tensor(found, dtype=room.dtype) + self.angle[open_ones]
        return self._close(open_ones, rests.tolist())

    def _close(self, open_ones: list[int], rests: list[float]) -> bool:
        """Write the verdicts that the bounds allow; False if one is still missing."""
        for j, rest in zip(open_ones, rests, strict=True):
            best = int(self.cosines[:, j].argmax())
            cosine, margin = float(self.cosines[best, j]), float(self.margins[best, j])
            most = max(rest, float((self.cosines[:, j] + self.margins[:, j]).max()))
            if cosine - margin >= self.epsilon + MARGIN and rest <= cosine - margin:
                self.verdicts[j] = _match(self.cosines[:, j], self.margins[:, j])
            elif most < self.epsilon - MARGIN:
                self.verdicts[j] = Verdict(most, 0.0, -1, "bound")
            else:
                return False
        return True

    def _overlap_is_known(self, leading: Leading) -> bool:
        """Say whether the two leading subspaces are known well enough for their overlap."""
        k = len(self.angle)
        following = (
            float(leading.sigma[k]) + leading.value_error
            if len(leading.sigma) > k
            else leading.ceiling
        )
        gap = float(leading.sigma[k - 1]) - following
        tilt = float(torch.linalg.vector_norm(leading.residual[:k]))
        if gap <= 0.0:
            return False
        return 2.0 * (math.sqrt(2.0) * tilt / gap + float(self.angle.mean())) <= OVERLAP


def _match(cosines: Float[Tensor, " count"], margins: Float[Tensor, " count"]) -> Verdict:
    """Return the verdict of a vector that a leading base vector resembles most."""
    best = int(cosines.argmax())
    above = float((cosines + margins).max() - cosines[best])
    return Verdict(float(cosines[best]), max(float(margins[best]), above), best, "match")


def _ready(leading: Leading) -> bool:
    """Guess whether what is not known of the spectrum is narrow enough to bound a remainder."""
    open_values = leading.space.ritz.values[~_converged(leading)]
    patient = leading.krylov.steps >= PATIENCE or not len(open_values)
    return patient or float(open_values.max()) <= NARROW * float(open_values.median())


def _converged(leading: Leading) -> Bool[Tensor, " size"]:
    """Say which Ritz pairs are worth deflating: their residual enters every step."""
    ritz = leading.space.ritz
    converged: Tensor = ritz.residual <= CONVERGED * ritz.values[0]
    converged[: len(leading.sigma)] = True
    return converged


def _known(leading: Leading) -> Known:
    ritz = leading.space.ritz
    off = ritz.residual + leading.space.rounding(leading.ceiling**2)
    converged = _converged(leading)
    coordinates = ritz.coordinates[:, converged].to(leading.krylov.left)
    return Known(leading.krylov.left @ coordinates, ritz.values[converged], off[converged])
