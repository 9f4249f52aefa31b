"""How many eigenvalues of a Gram matrix exceed a point, and how far it is off.

As many eigenvalues of G exceed x as pivots of G - x I = L D L^T are positive. G may be made in
float32: how far it is from W^T W is measured by float64 products of W with random vectors.

Source:
    Horn and Johnson 2013, Matrix Analysis, section 4.5 (Sylvester).
"""

import math

from jaxtyping import Float

from spectra.deferred import Tensor, torch
from spectra.kernels.lanczos import INFLATION, PROBES, gaussian
from spectra.kernels.linear_map import LinearMap

TILE = 512  # rows of a Gram matrix widened to float64 at a time


def gram_error(gram: Float[Tensor, "short short"], of: LinearMap) -> float:
    """Return no less than ||G - W^T W||_F, G given by its lower half, as `lanczos` measures it."""
    probes = gaussian(len(gram), PROBES, gram.device, seed=1)
    image, back = of.normal(probes)
    for left in range(0, len(gram), TILE):
        here = slice(left, left + TILE)
        lower = gram[here].double().tril(left)
        back[here] -= lower @ probes
        lower.diagonal(left).zero_()
        back -= lower.mT @ probes[here]
    own = 2.0 * of.rounding() * float(torch.linalg.vector_norm(image))
    return INFLATION * (float(torch.linalg.vector_norm(back)) + own) / math.sqrt(PROBES)


def eigenvalues_above(gram: Float[Tensor, "short short"], point: float) -> int | None:
    """Return how many eigenvalues exceed a point; None where the lower half is not finite."""
    shifted = torch.empty_like(gram, dtype=torch.float64).mT.copy_(gram)
    shifted.diagonal().sub_(point)
    if not bool(shifted.isfinite().all()):
        return None
    if not gram.is_cpu:
        return int((torch.linalg.eigvalsh(shifted) > 0).sum())
    pivots, info = (torch.empty(size, dtype=torch.int32) for size in ((len(gram),), ()))
    # Column by column in memory, it is factored where it stands.
    factor, pivots, _ = torch.linalg.ldl_factor_ex(shifted, out=(shifted, pivots, info))
    # Two rows pivoted together have one positive eigenvalue and one negative.
    paired = pivots < 0
    return int((factor.diagonal()[~paired] > 0).sum()) + int(paired.sum()) // 2
