"""Triangular factors by products: what LAPACK's QR gives, at any condition number."""

import pytest
import torch
from torch import Tensor

from examples import with_spectrum
from spectra.kernels import triangle
from spectra.kernels.linear_map import linear_map
from spectra.kernels.rounding import EPS64
from spectra.kernels.triangle import triangle_beside

ROWS, COLS = 5000, 90


def told(matrix: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return sigma / sigma_1, |U^T y| of what R and Q^T y give, and how R^T R is off."""
    of = linear_map(matrix, stored=True)
    square, along = triangle_beside(of, vectors)
    left, sigma, _ = torch.linalg.svd(square)
    off = square.mT @ square - (matrix.double().mT @ matrix.double()) / of.scale**2
    return sigma / sigma[0], (left.mT @ along).abs(), off.abs().amax() / sigma[0] ** 2


@pytest.mark.parametrize(
    ("kappa", "steps"), [(1.5, 1), (50.0, 2), (1e5, 2), (1e12, 0)],
    ids=["flat", "graded", "steep", "beyond products"],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_factors_are_those_of_one_qr(
    kappa: float, steps: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = torch.Generator().manual_seed(1)
    wanted = torch.linspace(1.0, 1.0 / kappa, COLS, dtype=torch.float64)
    if kappa > 100.0:
        wanted = torch.logspace(0, -torch.tensor(kappa).log10().item(), COLS, dtype=torch.float64)
    matrix = with_spectrum(wanted, ROWS, COLS, source).to(dtype)
    vectors = torch.randn(ROWS, 4, generator=source, dtype=torch.float64)
    factors: list[int] = []
    reflections: list[int] = []
    for name, seen in (("cholesky", factors), ("_reflected_beside", reflections)):
        of = getattr(triangle, name)
        monkeypatch.setattr(
            triangle, name, lambda *a, of=of, seen=seen, **k: (seen.append(1), of(*a, **k))[1]
        )
    sigma, along, off = told(matrix, vectors)
    if dtype == torch.float64:  # rounded to half precision, steep ones are no longer
        assert (len(factors) == steps and not reflections) if steps else reflections
    left, expected, _ = torch.linalg.svd(matrix.double(), full_matrices=False)
    assert float((sigma - expected / expected[0]).abs().max()) < ROWS * EPS64
    assert float(off) < ROWS * EPS64
    resolved = expected > 1e-8 * expected[0]
    found = (left.mT @ vectors).abs()
    torch.testing.assert_close(along[resolved], found[resolved], rtol=0, atol=1e-5)


def test_a_matrix_without_full_rank_goes_by_reflections() -> None:
    source = torch.Generator().manual_seed(2)
    half = torch.randn(ROWS, 20, generator=source)
    matrix = torch.cat([half, half], dim=1).bfloat16()
    sigma, along, off = told(matrix, torch.randn(ROWS, 3, generator=source, dtype=torch.float64))
    assert float(sigma[20:].max()) < ROWS * EPS64
    assert float(off) < ROWS * EPS64
    assert bool(along.isfinite().all())
