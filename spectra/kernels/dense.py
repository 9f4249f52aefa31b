"""Verdicts on small matrices from the eigenvectors of their Gram matrices: proven.

Below a few hundred rows a full eigendecomposition costs less than a Krylov space. Let G be
the Gram matrix of the shorter side in float64, X, lambda its computed eigenpairs and

    rho >= ||G X - X lambda||_F + ||X^T X - I||_F ||G|| + (rounding of G),

the norms from products with random vectors, as in `lanczos`. Then every true eigenvalue is
within rho of its computed neighbour in order (Weyl), and for a true unit eigenvector u with
eigenvalue x near lambda_i, a = X^T u satisfies |(lambda - x) a|_2 <= rho. So for any vector
z, with t = X^T z, by Cauchy and Schwarz,

    |u . z| <= |t_near| + rho |(t_l / (|lambda_l - lambda_i| - 2 rho))_far|,

near being the l with |lambda_l - lambda_i| <= WINDOW rho; where i is alone there, the same
error bounds |u . z| from below, less a relative 1 / WINDOW^2. For a tall matrix u = W v / sigma,
and everything is divided by sigma.

Source:
    Parlett 1998, The Symmetric Eigenvalue Problem, chapters 10 and 11.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.errors import NonFiniteError
from spectra.kernels.lanczos import INFLATION, PROBES
from spectra.kernels.linear_map import CONFIDENCE
from spectra.kernels.resemblance import ANGLE, MARGIN, Resemblance, Verdict
from spectra.kernels.rounding import EPS64
from spectra.kernels.similarity import PICTURE

WINDOW = 1e4


class Eigen(NamedTuple):
    """All eigenpairs of the Gram matrix of a batch's shorter side, descending."""

    values: Float[Tensor, "batch side"]
    vectors: Float[Tensor, "batch side side"]
    error: Float[Tensor, " batch"]  # rho


def gram_eigen(wide: Float[Tensor, "batch rows cols"]) -> Eigen:
    """Decompose `wide @ wide.mT`, float64, and bound what was lost."""
    gram = wide @ wide.mT
    if not bool(gram.isfinite().all()):
        raise NonFiniteError("products of the entries overflow float64")
    values, vectors = torch.linalg.eigh(gram)
    values, vectors = values.flip(-1), vectors.flip(-1)
    source = torch.Generator(device="cpu").manual_seed(3)
    probes = torch.randn(gram.shape[-1], PROBES, generator=source, dtype=torch.float64).to(gram)
    seen = vectors @ probes
    scaled = values[:, :, None] * probes
    missed = torch.linalg.matrix_norm(gram @ seen - vectors @ scaled)
    skew = torch.linalg.matrix_norm(vectors.mT @ seen - probes) * values[:, 0].abs()
    measured = INFLATION * (missed + skew) / math.sqrt(PROBES)
    trace = values.clamp(min=0.0).sum(dim=-1)
    # Of the Gram matrix, and of the products that measure.
    rounding = CONFIDENCE * EPS64 * (math.sqrt(wide.shape[-1]) + 8.0 * math.sqrt(wide.shape[-2]))
    return Eigen(values, vectors, measured + rounding * trace)


def dense_resemblance(
    base: Float[Tensor, "batch rows cols"],
    tuned: Float[Tensor, "batch rows cols"],
    k: int,
    epsilon: float,
) -> list[Resemblance | None]:
    """Decide the `k` verdicts of every pair of a batch; none where the tuned vectors are not known.

    Args:
        base: Original weights, float64, entries near 1.
        tuned: Changed weights.
        k: Leading left singular vectors of `tuned` to judge.
        epsilon: Below this |cos| a vector is an intruder.
    """
    tall = base.shape[1] > base.shape[2]
    before = gram_eigen(base.mT if tall else base)
    after = gram_eigen(tuned.mT if tall else tuned)
    sigma = after.values[:, :k].clamp(min=0.0).sqrt()
    gap = (after.values[:, :k, None] - after.values[:, None]).abs()
    index = torch.arange(k, device=gap.device)
    gap[:, index, index] = math.inf
    # |y - u| <= sqrt(2) sin(phi); a tall u = W v / sigma multiplies by sigma_1 / sigma, twice
    angle = math.sqrt(2.0) * after.error[:, None] / (gap.amin(dim=-1) - 2.0 * after.error[:, None])
    # The last of all has no neighbour below: a value that is rounding may yet stand apart.
    unresolved = after.values[:, :k] <= WINDOW * after.error[:, None]
    angle = torch.where(unresolved | (angle < 0.0), math.inf, angle)
    vectors = after.vectors[:, :, :k]
    if tall:
        vectors = tuned @ vectors
        vectors = vectors / torch.linalg.vector_norm(vectors, dim=1, keepdim=True).clamp(min=1e-300)
        product = CONFIDENCE * EPS64 * math.sqrt(tuned.shape[2]) * _norms(after)[:, None]
        angle = 2.0 * (angle * sigma[:, :1] + product) / sigma.clamp(min=1e-300)
    image = base.mT @ vectors if tall else vectors
    low, high, cosines = _intervals(before, image, base.shape[1] if tall else 0)
    found: list[Resemblance | None] = []
    for i in range(len(base)):
        if not bool((angle[i] <= ANGLE).all()):
            found.append(None)
            continue
        judged = _judged(low[i].cpu(), high[i].cpu(), cosines[i].cpu(), angle[i].cpu(), epsilon)
        overlap = float(cosines[i, :k].square().sum()) / k if _separate(before, i, k) else None
        picture = cosines[i, :PICTURE].mT.contiguous()
        found.append(Resemblance(judged, sigma[i], overlap, picture, vectors[i], angle[i].cpu()))
    return found


def _separate(of: Eigen, i: int, k: int) -> bool:
    """Say whether the `k` leading eigenvectors span what they are said to."""
    values = of.values[i]
    following = values[k] if k < len(values) else 0.0
    return bool(values[k - 1] - following > WINDOW * of.error[i])


def _norms(of: Eigen) -> Float[Tensor, " batch"]:
    return of.values.clamp(min=0.0).sum(dim=-1).sqrt()


def _intervals(
    of: Eigen, image: Float[Tensor, "batch side k"], tall: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the least and most that each |cos| can be, and what was computed; side x k each.

    Args:
        of: Of the base.
        image: The vectors in the space of its eigenvectors.
        tall: Rows of a tall base, whose transpose made the image; otherwise 0.
    """
    values, error = of.values, of.error[:, None, None]
    part = (of.vectors.mT @ image).square()
    apart = (values[:, :, None] - values[:, None]).abs()
    near = apart <= WINDOW * error
    close = (near.to(part) @ part).sqrt()
    weight = torch.where(near, 0.0, (apart - 2.0 * error).square().reciprocal())
    far = error * (weight @ part).sqrt()
    alone = near.sum(dim=-1, keepdim=True) == 1
    low = torch.where(alone, close * (1.0 - 1.0 / WINDOW**2) - far, 0.0)
    high, found = close + far, part.sqrt()
    if tall:
        least = (values[:, :, None] - error).clamp(min=0.0).sqrt()
        most = (values[:, :, None] + error).sqrt()
        product = CONFIDENCE * EPS64 * math.sqrt(tall) * _norms(of)[:, None, None]
        return (low - product).clamp(min=0.0) / most, (high + product) / least, found / most
    return low, high, found


def _judged(
    low: Float[Tensor, "side k"],
    high: Float[Tensor, "side k"],
    cosine: Float[Tensor, "side k"],
    angle: Float[Tensor, " k"],
    epsilon: float,
) -> list[Verdict | None]:
    """Return the verdicts that are clear."""
    verdicts: list[Verdict | None] = []
    for j in range(len(angle)):
        best = int(low[:, j].argmax())
        slack = float(angle[j])
        least, most = float(low[best, j]) - slack, float(high[:, j].max()) + slack
        if most < epsilon - MARGIN:
            nearest = int(high[:, j].argmax())
            verdicts.append(Verdict(most, 0.0, nearest, "bound"))
        elif least >= epsilon + MARGIN and most <= least + MARGIN:
            verdicts.append(Verdict(float(cosine[best, j]), most - least, best, "match"))
        else:
            verdicts.append(None)
    return verdicts
