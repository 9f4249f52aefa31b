"""Truncated matrices against LAPACK's decomposition in float64 (Eckart and Young)."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from examples import with_spectrum
from spectra.errors import NonFiniteError
from spectra.kernels.truncation import Settings, Truncation, excess, truncated

SMALL = Settings(small=64, block=12, share=2, spare=8)  # small matrices by Krylov spaces too


def first(count: int, sigma: Tensor, _energy: float) -> int:
    return min(count, len(sigma))


def holding(share: float, sigma: Tensor, energy: float) -> int:
    sums = sigma.square().cumsum(0)
    return min(int((sums < share * energy * (1 - 1e-12)).sum()) + 1, len(sigma))


def checked(matrix: Tensor, found: Truncation) -> tuple[float, float]:
    """Check what is stated against the matrix; return the loss and the best there is."""
    wide = matrix.double()
    exact = torch.linalg.svdvals(wide)
    rest = wide - found.left @ found.right
    kept = len(found.sigma)
    loss, best = float(rest.norm()), float(torch.linalg.vector_norm(exact[kept:]))
    size = float(wide.norm())
    assert math.sqrt(found.rest) == pytest.approx(loss, rel=1e-6, abs=1e-12 * size)
    assert math.sqrt(found.energy) == pytest.approx(size, rel=1e-9)
    spectral = float(torch.linalg.matrix_norm(rest, 2))
    slack = 1e-8 * size
    assert found.spectral.low - slack <= spectral <= found.spectral.high + slack
    last = float(found.sigma[-1]) ** 2 if kept else 0.0
    saved = excess(kept, found.coupling, last, found.spectral.high**2)
    assert found.rest - saved <= best**2 + slack * size  # no better one is denied
    torch.testing.assert_close(found.sigma, exact[:kept], rtol=3e-3, atol=slack)
    return loss, best


@pytest.mark.parametrize("shape", [(300, 300), (420, 200), (200, 420)])
@pytest.mark.parametrize("decay", [0.0, 0.3, 1.0, 3.0])
@pytest.mark.parametrize("kept", [1, 9, 40])
def test_few_directions_lose_what_the_best_lose(
    shape: tuple[int, int], decay: float, kept: int
) -> None:
    sigma = torch.arange(1, 201, dtype=torch.float64) ** -decay
    matrix = with_spectrum(sigma[: min(shape)], *shape).float()
    found = truncated(matrix, partial(first, kept), settings=SMALL)
    assert len(found.sigma) == kept
    loss, best = checked(matrix, found)
    assert loss <= 1.001 * best + 1e-6


def test_noise_is_cut_as_well() -> None:
    matrix = torch.randn(400, 300)
    loss, best = checked(matrix, truncated(matrix, partial(first, 12), settings=SMALL))
    assert loss <= 1.001 * best


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
@pytest.mark.parametrize("settings", [SMALL, Settings()])
def test_a_share_takes_as_few_as_hold_it(share: float, settings: Settings) -> None:
    matrix = with_spectrum(torch.arange(1, 241, dtype=torch.float64) ** -0.8, 260, 240).float()
    found = truncated(matrix, partial(holding, share), settings=settings)
    checked(matrix, found)
    exact = torch.linalg.svdvals(matrix.double()).square()
    needed = int((exact.cumsum(0) < share * exact.sum()).sum()) + 1
    assert needed <= len(found.sigma) <= needed + 1
    assert found.rest <= (1 - share) * found.energy * (1 + 1e-9)


@pytest.mark.parametrize("settings", [SMALL, Settings()])
def test_a_planted_rank_is_found_whole(settings: Settings) -> None:
    matrix = torch.randn(300, 6) @ torch.randn(6, 250)
    found = truncated(matrix, partial(first, 6), settings=settings)
    assert found.rest <= 1e-11 * found.energy
    more = truncated(matrix, partial(first, 20), settings=settings)
    assert 6 <= len(more.sigma) <= 20
    checked(matrix, more)


def test_nothing_and_everything() -> None:
    nothing = truncated(torch.zeros(90, 70), partial(first, 3))
    assert (len(nothing.sigma), nothing.rest, nothing.spectral.high) == (0, 0.0, 0.0)
    matrix = torch.randn(80, 70)
    none = truncated(matrix, partial(first, 0), settings=SMALL)
    assert none.rest == none.energy
    every = truncated(matrix, partial(first, 70), every=True)
    assert every.rest <= 1e-20 * every.energy
    matrix[3, 4] = torch.nan
    with pytest.raises(NonFiniteError, match=r"\[3, 4\]"):
        truncated(matrix, partial(first, 3))


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e25])
def test_scale_plays_no_part(scale: float) -> None:
    matrix = torch.randn(150, 120)
    one = truncated(matrix, partial(first, 5), settings=SMALL)
    other = truncated((matrix.double() * scale).float(), partial(first, 5), settings=SMALL)
    torch.testing.assert_close(other.sigma / scale, one.sigma, rtol=1e-5, atol=0)
    assert other.rest / scale**2 == pytest.approx(one.rest, rel=1e-5)
