"""Block Lanczos: its recurrence, its Ritz pairs and what its probes can see."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from device import NAME
from kernels.pairs import SPECTRA, orthonormal, random, spectrum
from spectra.kernels.lanczos import INFLATION, PROBES, Lanczos, Ritz, gaussian

HERE = torch.device(NAME)


def symmetric(values: Tensor, seed: int) -> Tensor:
    """A symmetric matrix of these eigenvalues."""
    vectors = orthonormal(len(values), len(values), seed)
    return (vectors * values) @ vectors.mT


def grown(operator: Tensor | Callable[[Tensor], Tensor], start: Tensor, steps: int) -> Lanczos:
    apply = operator.__matmul__ if isinstance(operator, Tensor) else operator
    krylov = Lanczos(apply, start, steps)
    for _ in range(steps):
        krylov.step()
    return krylov


def pairs_of(krylov: Lanczos) -> Ritz:
    assert krylov.finite
    return krylov.ritz()


def skew(krylov: Lanczos) -> float:
    unit = torch.eye(krylov.size, dtype=torch.float64)
    return float((krylov.basis.mT @ krylov.basis - unit).abs().max())


@settings(max_examples=100)
@given(
    st.integers(30, 90),
    st.integers(1, 8),
    st.integers(1, 6),
    st.sampled_from(SPECTRA),
    st.integers(0, 2**20),
    st.integers(0, 3),
)
def test_the_recurrence_and_its_ritz_pairs(
    side: int, block: int, steps: int, kind: str, seed: int, given_columns: int
) -> None:
    """In float64, whatever the spectrum and the columns beside random ones."""
    values = spectrum(kind, side, seed).square()
    operator = symmetric(values, seed)
    start = torch.cat([random(side, block, seed + 1), operator[:, :given_columns]], dim=1)
    steps = min(steps, side // start.shape[1] - 1)
    krylov = grown(operator, start, steps)
    unit = torch.eye(krylov.size, dtype=torch.float64)
    assert krylov.orthonormal()
    assert skew(krylov) <= 1e-11
    rounding = 1e-12 * float(values[0])
    image = operator @ krylov.basis
    torch.testing.assert_close(krylov.mapped(unit), image, rtol=0, atol=rounding)
    inside = krylov.band[: krylov.size]
    torch.testing.assert_close(inside, krylov.basis.mT @ image, rtol=0, atol=rounding)

    ritz = pairs_of(krylov)
    assert ritz.values.device.type == ritz.coordinates.device.type == "cpu"
    assert torch.equal(ritz.values, ritz.values.sort(descending=True).values)
    assert float(ritz.values[-1]) >= 0.0
    vectors = krylov.basis @ ritz.coordinates
    left_over = (operator @ vectors - vectors * ritz.values).norm(dim=0)
    torch.testing.assert_close(left_over, ritz.residual, rtol=1e-6, atol=10 * rounding)
    torch.testing.assert_close(ritz.start, vectors.mT @ start, rtol=0, atol=1e-9)
    # From below, and within its residual of an eigenvalue.
    true = torch.linalg.eigvalsh(operator).flip(0)
    assert (ritz.values <= true[: krylov.size] + rounding).all()
    apart = (ritz.values[:, None] - true).abs().amin(dim=1)
    assert (apart <= ritz.residual + rounding).all()


@pytest.mark.parametrize("block", [1, 3, 8])
def test_the_space_is_that_of_the_powers(block: int) -> None:
    operator, start = symmetric(torch.linspace(1, 0.1, 60).double(), 0), random(60, block, 1)
    krylov = grown(operator, start, 4)
    power = start
    for step in range(4):
        within = krylov.basis[:, : (step + 1) * block]
        assert float((power - within @ (within.mT @ power)).norm()) <= 1e-11 * float(power.norm())
        power = operator @ power
    # And no more than as many products were needed.
    applied: list[int] = []

    def counted(vectors: Tensor) -> Tensor:
        applied.append(vectors.shape[1])
        return operator @ vectors

    grown(counted, start, 4)
    assert applied == [block] * 4


def test_a_space_grows_as_it_is_looked_at() -> None:
    operator, start = symmetric(torch.linspace(1, 0.1, 60).double(), 2), random(60, 4, 3)
    krylov, seen = Lanczos(operator.__matmul__, start, 5), []
    assert (krylov.size, krylov.block, krylov.most) == (0, 4, 5)
    for steps in range(1, 6):
        krylov.step()
        assert (krylov.steps, krylov.size) == (steps, 4 * steps)
        assert krylov.band.shape == (4 * steps + 4, 4 * steps)
        seen.append(float(pairs_of(krylov).values[0]))
        torch.testing.assert_close(
            pairs_of(krylov).values, pairs_of(grown(operator, start, steps)).values
        )
    assert seen == sorted(seen)


def test_the_largest_values_are_found_first() -> None:
    values = torch.cat([torch.tensor([9.0, 8.0, 7.0]), torch.full((60,), 0.5)]).double()
    krylov = grown(symmetric(values, 4), gaussian(63, 6, HERE), 4)
    found = pairs_of(krylov)
    torch.testing.assert_close(found.values[:3], values[:3], rtol=1e-9, atol=0)
    assert float(found.residual[:3].max()) < 1e-6


@pytest.mark.parametrize("rank", [3, 8, 20])
def test_a_space_that_is_exhausted_goes_on(rank: int) -> None:
    """Beyond the rank of the matrix all images are rounding."""
    matrix = random(80, rank, 5) @ random(rank, 60, 6)
    operator = matrix.mT @ matrix
    krylov = grown(operator, gaussian(60, 6, HERE), 6)
    true = torch.linalg.eigvalsh(operator).flip(0)
    rounding = 1e-12 * float(true[0])
    unit = torch.eye(krylov.size, dtype=torch.float64)
    torch.testing.assert_close(krylov.mapped(unit), operator @ krylov.basis, rtol=0, atol=rounding)
    ritz = pairs_of(krylov)
    torch.testing.assert_close(ritz.values[:rank], true[:rank], rtol=1e-9, atol=0)
    assert float(ritz.values[rank:].abs().max()) <= rounding
    assert float(ritz.residual.max()) <= rounding
    assert krylov.orthonormal()
    assert skew(krylov) <= 1e-9


@pytest.mark.parametrize("value", [0.0, 1.0, 0.3, 1e-300])
def test_a_multiple_of_the_identity_leaves_nothing(value: float) -> None:
    """All that a step leaves is rounding, or exactly nothing: it is told, or the basis is good."""
    krylov = grown(value * torch.eye(50, dtype=torch.float64), gaussian(50, 5, HERE), 4)
    if not krylov.finite:
        return
    ritz = krylov.ritz()
    torch.testing.assert_close(ritz.values, torch.full_like(ritz.values, value))
    assert float(ritz.residual.max()) <= 1e-14 * value
    assert krylov.orthonormal() == (skew(krylov) <= 1e-9)


@pytest.mark.parametrize("factor", [math.inf, 1e308, math.nan])
@pytest.mark.parametrize("after", [0, 2])
def test_products_that_overflow_are_told(factor: float, after: int) -> None:
    operator = symmetric(torch.linspace(100, 1, 60).double(), 7)
    calls = [1.0] * after + [factor] * 5

    krylov = Lanczos(lambda v: operator @ v * calls.pop(0), random(60, 4, 8), 5)
    for step in range(5):
        krylov.step()
        assert krylov.finite == (step < after)


@pytest.mark.parametrize("columns", [(7, 2), (15, 0), (3, 12)], ids=str)
def test_bases_that_lost_orthogonality_are_seen(columns: tuple[int, int]) -> None:
    krylov = grown(symmetric(torch.linspace(1, 0.1, 50).double(), 9), gaussian(50, 4, HERE), 4)
    assert krylov.orthonormal()
    to, of = columns
    krylov.basis[:, to] += 1e-12 * krylov.basis[:, of]
    assert krylov.orthonormal()
    krylov.basis[:, to] += 1e-8 * krylov.basis[:, of]
    assert skew(krylov) > 1e-9
    assert not krylov.orthonormal()


def test_vectors_that_are_not_of_length_one_are_seen() -> None:
    krylov = grown(symmetric(torch.linspace(1, 0.1, 50).double(), 10), gaussian(50, 4, HERE), 4)
    krylov.basis[:, 5] *= 1.0 + 1e-8
    assert not krylov.orthonormal()


@pytest.mark.parametrize("size", [1, 5, 40])
@pytest.mark.parametrize("rank", [1, 3, 40])
def test_sixteen_probes_see_a_tenth_of_any_norm(size: int, rank: int) -> None:
    """Rank one is the worst case: a chi-squared variable of 16 degrees of freedom."""
    assert PROBES == 16
    rank = min(rank, size)
    error = orthonormal(50, rank, 11) @ orthonormal(size, rank, 12).mT
    draws = random(size, PROBES * 4000, 13)
    seen = (error @ draws).reshape(50, 4000, PROBES).square().sum(dim=(0, 2)) / PROBES
    assert float(seen.min().sqrt()) > math.sqrt(rank) / INFLATION


def test_probes_are_normal_and_the_same_every_time() -> None:
    krylov = grown(symmetric(torch.linspace(1, 0.1, 100).double(), 14), random(100, 8, 15), 10)
    probes = krylov.probes()
    assert probes.shape == (80, PROBES)
    assert torch.equal(probes, krylov.probes())
    assert float(probes.mean().abs()) < 0.1
    assert float(probes.std()) == pytest.approx(1.0, abs=0.1)


def test_the_start_is_the_same_every_time() -> None:
    start = gaussian(7, 3, HERE)
    assert torch.equal(start, gaussian(7, 3, HERE))
    assert start.dtype == torch.float64
    assert start.device.type == HERE.type
    assert not torch.equal(start[:, 0], start[:, 1])
