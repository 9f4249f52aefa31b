"""Eigenvalues by way of a band against numpy's, of any side."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from spectra.kernels.band import PANELS, WIDTH, band_eigenvalues, reduce_to_band
from spectra.kernels.blas import blas_threads

GROUP = PANELS * WIDTH


@pytest.mark.parametrize(
    "side", [WIDTH + 1, 2 * WIDTH - 1, 2 * WIDTH, GROUP, GROUP + WIDTH, GROUP + WIDTH + 1, 450]
)
def test_eigenvalues_of_the_lower_half(side: int, generator: torch.Generator) -> None:
    square = torch.randn(side, side, generator=generator, dtype=torch.float64)
    turn = torch.linalg.qr(square).Q
    graded = torch.logspace(-9.0, 3.0, side, dtype=torch.float64)
    for symmetric in (square + square.mT, (turn * graded) @ turn.mT):  # of either sign; of any size
        expected = torch.from_numpy(np.linalg.eigvalsh(symmetric.numpy()))
        lower = symmetric.tril() + torch.full_like(symmetric, torch.nan).triu(1)
        found = band_eigenvalues(lower)
        assert found is not None
        rounding = 5.0 * side**0.5 * 2.0**-52  # LAPACK's own are as far off
        assert_close(found, expected, rtol=0.0, atol=rounding * float(expected.abs().max()))


def test_what_is_left_is_a_band_of_the_same_eigenvalues(generator: torch.Generator) -> None:
    square = torch.randn(300, 300, generator=generator, dtype=torch.float64)
    lower = square @ square.mT
    expected = torch.linalg.eigvalsh(lower)
    with blas_threads():
        reduce_to_band(lower)
    assert not lower.tril(-WIDTH - 1).any()
    band = lower.tril() + lower.tril(-1).mT
    assert_close(torch.linalg.eigvalsh(band), expected, rtol=1e-12, atol=1e-10)
