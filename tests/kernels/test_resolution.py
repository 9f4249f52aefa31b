"""Directions above rounding, on updates whose rank is known."""

import math

import pytest
import torch
from torch import Tensor

from spectra.kernels.resolution import Resolution, resolve


def noisy(rows: int, cols: int, sigma: list[float], levels: tuple[Tensor, Tensor], seed: int) -> (
    tuple[Tensor, Tensor]
):  # fmt: skip
    """Return an update of low rank under uniform noise of given deviations, scaled alike."""
    source = torch.Generator().manual_seed(seed)
    deviation = levels[0].unsqueeze(1) * levels[1]
    noise = (torch.rand(rows, cols, generator=source) - 0.5) * math.sqrt(12.0) * deviation
    left = torch.linalg.qr(torch.randn(rows, len(sigma), generator=source)).Q
    right = torch.linalg.qr(torch.randn(cols, len(sigma), generator=source)).Q
    update = (left * torch.tensor(sigma)) @ right.mT * deviation
    return update + noise, deviation


def resolved(delta: Tensor, deviation: Tensor, *, coherent: bool) -> Resolution:
    return resolve(delta, deviation.square(), coherent=coherent)[0]


def level(size: int, kind: str) -> Tensor:
    found = torch.ones(size)
    if kind == "outlier":
        found[3] = 50.0
    if kind == "spread":
        found = torch.randn(size, generator=torch.Generator().manual_seed(5)).exp()
    return found


@pytest.mark.parametrize("shape", [(120, 120), (60, 240), (240, 60)], ids=str)
@pytest.mark.parametrize("rows", ["even", "outlier", "spread"])
@pytest.mark.parametrize("cols", ["even", "outlier", "spread"])
def test_a_planted_rank_is_counted_whatever_rows_and_columns_weigh(
    shape: tuple[int, int], rows: str, cols: str
) -> None:
    edge = math.sqrt(shape[0]) + math.sqrt(shape[1])
    levels = level(shape[0], rows), level(shape[1], cols)
    for rank in (0, 1, 5):
        sigma = [(12.0 - 0.2 * i) * edge for i in range(rank)]
        delta, deviation = noisy(*shape, sigma, levels, rank)
        found = resolved(delta, deviation, coherent=False)
        assert found == Resolution(rank, clear=True)


def test_more_directions_than_are_looked_at_one_by_one() -> None:
    levels = level(200, "outlier"), level(200, "spread")
    edge = 2 * math.sqrt(200)
    delta, deviation = noisy(200, 200, [6.0 * edge] * 70, levels, 1)
    found = resolved(delta, deviation, coherent=False)
    assert found == Resolution(70, clear=True)
    fading, deviation = noisy(200, 200, [6 * edge / i**0.5 for i in range(1, 91)], levels, 1)
    found = resolved(fading, deviation, coherent=False)
    assert 20 < found.rank < 80
    assert not found.clear


@pytest.mark.parametrize("levels", ["even", "spread"])
@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_a_spectrum_that_fades_through_the_floor_is_not_clear(levels: str, power: float) -> None:
    edge = 2 * math.sqrt(150)
    for top in (2.5, 9.0, 40.0):
        sigma = [top * edge / i**power for i in range(1, 151)]
        both = level(150, levels), level(150, levels)
        delta, deviation = noisy(150, 150, sigma, both, 3)
        found = resolved(delta, deviation, coherent=False)
        assert found.rank > 0
        assert not found.clear or 2 * found.rank > 150


@pytest.mark.parametrize("levels", ["even", "spread"])
@pytest.mark.parametrize("ratio", [1.7, 2.0, 5.0])
def test_a_spectrum_that_falls_step_by_step_is_not_clear(levels: str, ratio: float) -> None:
    edge = 2 * math.sqrt(150)
    for top in (2.5, 9.0, 40.0, 1e4):
        sigma = [top * edge / ratio**i for i in range(60)]
        both = level(150, levels), level(150, levels)
        delta, deviation = noisy(150, 150, sigma, both, 3)
        found = resolved(delta, deviation, coherent=False)
        assert found.rank > 0
        assert not found.clear


@pytest.mark.parametrize("levels", ["even", "spread"])
def test_more_energy_than_rounding_makes_is_not_clear(levels: str) -> None:
    """What hides below the floor in every direction is still there in sum."""
    edge = 2 * math.sqrt(150)
    both = level(150, levels), level(150, levels)
    for rest, clear in ((0.4, False), (0.0, True)):
        sigma = [20.0 * edge] * 4 + [rest * edge] * 140
        delta, deviation = noisy(150, 150, sigma, both, 3)
        found = resolved(delta, deviation, coherent=False)
        assert found.clear == clear


def test_large_directions_do_not_drown_the_rest() -> None:
    """Of a Gram matrix alone, what lies 1e-8 below the largest value is not known."""
    levels = level(100, "outlier"), level(100, "spread")
    edge = 2 * math.sqrt(100)
    deviation = levels[0].double().unsqueeze(1) * levels[1].double()
    source = torch.Generator().manual_seed(9)
    left = torch.linalg.qr(torch.randn(100, 3, generator=source, dtype=torch.float64)).Q
    right = torch.linalg.qr(torch.randn(100, 3, generator=source, dtype=torch.float64)).Q
    sizes = torch.tensor([1e10, 5e9, 9.0], dtype=torch.float64) * edge
    noise = torch.randn(100, 100, generator=source, dtype=torch.float64)
    delta = ((left * sizes) @ right.mT + noise) * deviation
    assert resolved(delta, deviation, coherent=False).rank == 3


def test_rounding_of_a_steep_function_is_not_a_direction() -> None:
    """round(W + x y^T) - W has a part along x^3 (y^3)^T where W lies on the grid."""
    source = torch.Generator().manual_seed(0)
    base = (0.02 * torch.randn(1024, 1024, generator=source)).bfloat16().float()
    update = torch.randn(1024, 1, generator=source) @ torch.randn(1, 1024, generator=source)
    update *= 0.01 * base.norm() / update.norm()
    delta = (base + update).bfloat16().float() - base
    step = torch.ldexp(torch.ones_like(base), torch.frexp(base).exponent - 8)
    deviation = step / math.sqrt(6.0)  # of either side
    assert resolved(delta, deviation, coherent=False).rank > 1
    assert resolved(delta, deviation, coherent=True) == Resolution(1, clear=True)


def test_steps_that_nothing_blurs_add_no_directions() -> None:
    """Of a base whose values are all of one size, rounding repeats an update the most."""
    source = torch.Generator().manual_seed(0)
    base = (torch.randn(512, 512, generator=source).sign() * 0.021).bfloat16().float()
    for share in (0.004, 0.002, 0.001):
        update = torch.randn(512, 1, generator=source) @ torch.randn(1, 512, generator=source)
        update *= share * base.norm() / update.norm()
        delta = (base + update).bfloat16().float() - base
        step = torch.ldexp(torch.ones_like(base), torch.frexp(base).exponent - 8)
        found = resolved(delta, step / math.sqrt(6.0), coherent=True)
        assert found.rank == 1


def test_no_change_has_no_directions() -> None:
    zero = torch.zeros(4, 5)
    assert resolved(zero, zero, coherent=True) == Resolution(0, clear=True)
