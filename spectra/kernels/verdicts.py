"""Which leading singular vectors of a tuned matrix its base lacks, by the cheapest proof.

Small matrices are decided from full eigendecompositions of their Gram matrices (`dense`),
large ones from Krylov spaces (`resemblance`). Whatever either leaves open is decided by two
full decompositions (`similarity`), for that matrix alone.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.kernels.dense import dense_resemblance
from spectra.kernels.entries import entry_norm, largest_entry, power_of_two_near
from spectra.kernels.linear_map import LinearMap, linear_map
from spectra.kernels.resemblance import Resemblance, certified_resemblance
from spectra.kernels.similarity import Similarity, exact_similarity
from spectra.words import Side

TINY = 24  # shorter sides up to which two SVDs cost nothing
CANCELLED = 1e-6  # of the base's squared norm: less is not to be trusted to a difference
DENSE = 640  # shorter sides up to which eigenvectors cost less than a Krylov space

Factors = tuple[Float[Tensor, "rows rank"], Float[Tensor, "rank cols"]]


def proven_similarity(
    base: Float[Tensor, "rows cols"],
    tuned: Float[Tensor, "rows cols"] | Factors,
    k: int,
    epsilon: float,
    side: Side = "left",
) -> Similarity:
    """Judge the `k` leading singular vectors of a tuned matrix; every verdict is proven.

    `cosine` is the largest |cos| with any base vector to within `error` where `match`
    decided, an upper bound of it below `epsilon` where `bound` did, and that of two float64
    SVDs where `exact` did: then for all vectors of this matrix.

    Args:
        base: Original weight, any floating dtype.
        tuned: Changed weight of the same shape, or the factors of an update to add.
        k: Vectors of the tuned weight to examine; fewer where its rank is less.
        epsilon: Below this |cos| a vector is an intruder.
        side: Compare left (output-side) or right (input-side) singular vectors.

    Raises:
        NonFiniteError: Either matrix holds NaN or Inf.

    Source:
        Shuttleworth et al. 2024, arXiv:2410.21228.
    """
    found = None
    if small(base.shape[0], base.shape[1], k):
        (found,) = _by_eigenvectors([(base, tuned)], k, epsilon, side)
    elif min(base.shape) > DENSE:
        found = _by_krylov_spaces(*_turned(base, tuned, side), k, epsilon)
    return found or exact_similarity(base, merged(base, tuned), k, side)


def proven_similarity_cost(rows: int, cols: int) -> float:
    """Return about how many operations `proven_similarity` takes where nothing falls back."""
    short, long = sorted((rows, cols))
    if short <= DENSE:
        return 2.0 * (2.0 * long * short**2 + 12.0 * short**3)
    return 2700.0 * rows * cols  # products with some 24 columns, about 20 times both ways


def merged(
    base: Float[Tensor, "rows cols"], tuned: Float[Tensor, "rows cols"] | Factors
) -> Float[Tensor, "rows cols"]:
    """Return the tuned weight, an update added in float64."""
    if isinstance(tuned, Tensor):
        return tuned
    left, right = tuned
    return base.double().addmm(left.double(), right.double())


def small(rows: int, cols: int, k: int) -> bool:
    """Say whether a pair of this shape is decided from eigenvectors, alone or with others."""
    return TINY < min(rows, cols) <= DENSE and k <= min(rows, cols)


def proven_similarities(
    pairs: Sequence[tuple[Tensor, Tensor | Factors]], k: int, epsilon: float, side: Side = "left"
) -> list[Similarity]:
    """Judge several `small` pairs of one shape together, as `proven_similarity` does each.

    Args:
        pairs: Base and tuned weight, or base and an update's factors.
        k: As there.
        epsilon: As there.
        side: As there.
    """
    found = _by_eigenvectors(pairs, k, epsilon, side)
    return [
        answer or exact_similarity(base, merged(base, tuned), k, side)
        for answer, (base, tuned) in zip(found, pairs, strict=True)
    ]


def _turned(
    base: Tensor, tuned: Tensor | Factors, side: Side
) -> tuple[Tensor, Tensor | tuple[Tensor, Tensor]]:
    """Return what has the vectors of a side on the left: the transposes for the right one."""
    if side == "left":
        return base, tuned
    return base.mT, tuned.mT if isinstance(tuned, Tensor) else (tuned[1].mT, tuned[0].mT)


def _by_eigenvectors(
    pairs: Sequence[tuple[Tensor, Tensor | Factors]], k: int, epsilon: float, side: Side
) -> list[Similarity | None]:
    """Judge small pairs of one shape; merged before they are turned, as in the reference."""
    before, _, _ = _scaled([base for base, _ in pairs])
    after, scales, norms = _scaled([merged(*pair) for pair in pairs])
    if side == "right":
        before, after = before.mT, after.mT
    return [
        None if answer is None else _similarity(answer, scale, scale * norm, before.device)
        for answer, scale, norm in zip(
            dense_resemblance(before, after, k, epsilon), scales, norms, strict=True
        )
    ]


def _scaled(matrices: Sequence[Tensor]) -> tuple[Tensor, list[float], list[float]]:
    """Return one float64 batch with entries near 1, the scales, and the norms that remain."""
    scales = [power_of_two_near(largest_entry(part)) or 1.0 for part in matrices]
    batch = torch.stack(
        [part.double() / scale for part, scale in zip(matrices, scales, strict=True)]
    )
    return batch, scales, torch.linalg.matrix_norm(batch).tolist()


def _by_krylov_spaces(
    base: Tensor, tuned: Tensor | Factors, k: int, epsilon: float
) -> Similarity | None:
    """Judge a large pair; an update is never added up."""
    before = linear_map(base)
    after = linear_map(tuned) if isinstance(tuned, Tensor) else linear_map(base, *tuned)
    found = certified_resemblance(before, after, k, epsilon)
    if found is None:
        return None
    norm = entry_norm(tuned) if isinstance(tuned, Tensor) else _updated_norm(before, base, *tuned)
    return _similarity(found, 1.0, norm, base.device)


def _updated_norm(before: LinearMap, base: Tensor, left: Tensor, right: Tensor) -> float:
    """Return the Frobenius norm of base + left @ right, from products with the factors."""
    up, down = left.double(), right.double()
    across = before.products(down.mT, up[:, :0])[0] * before.scale
    alone = entry_norm(base) ** 2
    square = float(((up.mT @ up) * (down @ down.mT)).sum()) + 2.0 * float((across * up).sum())
    if alone + square > CANCELLED * alone:
        return math.sqrt(alone + square)
    return entry_norm(merged(base, (left, right)))


def _similarity(found: Resemblance, scale: float, norm: float, device: torch.device) -> Similarity:
    sigma = found.sigma.to(device) * scale
    return Similarity(
        cosine=torch.tensor([verdict.cosine for verdict in found.verdicts], dtype=torch.float64).to(
            device
        ),
        best=torch.tensor([verdict.best for verdict in found.verdicts], device=device),
        tied=torch.zeros(len(found.verdicts), dtype=torch.bool, device=device),
        sigma=sigma,
        energy=(sigma / norm).square(),
        overlap=found.overlap,
        cosines=found.cosines.to(device),
        error=torch.tensor([verdict.error for verdict in found.verdicts], dtype=torch.float64).to(
            device
        ),
        decided_by=tuple(verdict.decided_by for verdict in found.verdicts),
    )
