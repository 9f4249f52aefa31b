"""Block bidiagonalisation: its relations, and how far rounding may have led it astray."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from examples import with_spectrum
from kernels.pairs import SPECTRA, orthonormal, random, spectrum
from spectra.kernels import linear_map as module
from spectra.kernels.krylov import Bidiagonalization, gaussian, measure
from spectra.kernels.krylov import orthonormal as bases_are_orthonormal
from spectra.kernels.linear_map import LinearMap, linear_map

CPU = torch.device("cpu")


def grown(of: LinearMap, block: int, steps: int) -> Bidiagonalization:
    krylov = Bidiagonalization(of, gaussian(of.shape[0], block, CPU), steps)
    for _ in range(steps):
        krylov.step()
    return krylov


def relation_errors(krylov: Bidiagonalization, scaled: Tensor) -> tuple[float, float]:
    """||F_1|| and ||F_2||, from the scaled float64 matrix itself."""
    size, outward = krylov.size, krylov.size + krylov.block
    unit = torch.eye(size, dtype=torch.float64)
    before, after = krylov.predicted(unit)
    assert before.shape[0] >= outward
    first = scaled @ krylov.right - before
    second = scaled.mT @ krylov.left - after
    return float(first.norm()), float(second.norm())


@settings(max_examples=250)
@given(
    st.integers(40, 90),
    st.integers(40, 90),
    st.integers(1, 8),
    st.integers(1, 4),
    st.sampled_from(SPECTRA),
    st.integers(0, 2**20),
    st.booleans(),
    st.booleans(),
)
def test_measured_rounding_is_no_less_than_the_true_one(
    rows: int, cols: int, block: int, steps: int, kind: str, seed: int, single: bool, turned: bool
) -> None:
    source = torch.Generator().manual_seed(seed)
    sigma = spectrum(kind, min(rows, cols), seed)
    matrix = with_spectrum(sigma, rows, cols, source).float()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SINGLE", 1 if single else 1 << 20)
        of = linear_map(matrix).mT if turned else linear_map(matrix)
    krylov = grown(of, block, steps)
    scaled = (matrix.mT if turned else matrix).double() / of.scale
    right, left = random(of.shape[1], 2, seed), random(of.shape[0], 2, seed)
    seen = measure(krylov, of, right, left)
    first, second = relation_errors(krylov, scaled)
    assert seen.rounding_right >= first
    assert seen.rounding_left >= second
    assert seen.orthogonal
    # Not vacuous: float32 products of entries near 1 stay far below this.
    assert max(seen.rounding_right, seen.rounding_left) < (1e-3 if single else 1e-9) * of.norm
    torch.testing.assert_close(seen.before, scaled @ right, rtol=0, atol=1e-11)
    torch.testing.assert_close(seen.after, scaled.mT @ left, rtol=0, atol=1e-11)


@pytest.mark.parametrize("shape", [(70, 50), (50, 70), (60, 60)], ids=str)
@pytest.mark.parametrize("block", [1, 3, 8])
def test_bases_and_ritz_pairs(shape: tuple[int, int], block: int) -> None:
    matrix = random(*shape, 1)
    of = linear_map(matrix)
    scaled = matrix / of.scale
    krylov = grown(of, block, 5)
    for basis in (krylov.left, krylov.right):
        unit = torch.eye(5 * block, dtype=torch.float64)
        torch.testing.assert_close(basis.mT @ basis, unit, rtol=0, atol=1e-12)
    ritz = krylov.ritz()
    vectors = krylov.left @ ritz.coordinates
    missed = scaled @ (scaled.mT @ vectors) - vectors * ritz.values
    torch.testing.assert_close(missed.norm(dim=0), ritz.residual, rtol=1e-6, atol=1e-10)
    start = vectors.mT @ gaussian(shape[0], block, CPU)
    torch.testing.assert_close(ritz.start, start, rtol=0, atol=1e-10)
    assert torch.equal(ritz.values, ritz.values.sort(descending=True).values)
    assert float(ritz.values[0]) <= float(torch.linalg.svdvals(scaled)[0]) ** 2 * (1 + 1e-12)
    # The last block of the left basis is the only one that the operator leaves by.
    out = krylov.leaving(ritz.coordinates)
    torch.testing.assert_close(out.norm(dim=0), ritz.residual, rtol=1e-9, atol=1e-12)


def test_the_largest_values_are_found_first() -> None:
    sigma = torch.cat([torch.tensor([9.0, 8.0, 7.0]), torch.full((60,), 0.5)])
    matrix = with_spectrum(sigma, 80, 63, torch.Generator().manual_seed(0))
    of = linear_map(matrix)
    ritz = grown(of, 6, 4).ritz()
    found = ritz.values[:3].sqrt() * of.scale
    torch.testing.assert_close(found, sigma[:3].double(), rtol=1e-9, atol=0)


@pytest.mark.parametrize("rank", [3, 8, 20])
def test_a_space_that_is_exhausted_goes_on(rank: int) -> None:
    """Beyond the rank of the matrix all images are rounding."""
    matrix = random(80, rank, 2) @ random(rank, 60, 3)
    of = linear_map(matrix)
    krylov = grown(of, 6, 5)
    seen = measure(krylov, of, random(60, 1, 4), random(80, 1, 5))
    first, second = relation_errors(krylov, matrix / of.scale)
    assert seen.rounding_right >= first
    assert seen.rounding_left >= second
    assert seen.orthogonal == bases_are_orthonormal(krylov, krylov.probes())
    values = krylov.ritz().values[:rank].sqrt() * of.scale
    torch.testing.assert_close(values, torch.linalg.svdvals(matrix)[:rank], rtol=1e-9, atol=0)


def test_bases_that_lost_orthogonality_are_seen() -> None:
    krylov = grown(linear_map(random(60, 50, 6)), 4, 4)
    assert bases_are_orthonormal(krylov, krylov.probes())
    krylov._right[:, 7] += 1e-8 * krylov._right[:, 2]
    assert not bases_are_orthonormal(krylov, krylov.probes())


@pytest.mark.parametrize("size", [1, 5, 40])
@pytest.mark.parametrize("rank", [1, 3, 40])
def test_sixteen_probes_see_a_tenth_of_any_norm(size: int, rank: int) -> None:
    """Rank one is the worst case: a chi-squared variable of 16 degrees of freedom."""
    rank = min(rank, size)
    error = orthonormal(50, rank, 7) @ orthonormal(size, rank, 8).mT
    draws = random(size, 16 * 4000, 9)
    seen = (error @ draws).reshape(50, 4000, 16).square().sum(dim=(0, 2)) / 16
    assert float(seen.min().sqrt()) > math.sqrt(rank) / 10.0


def test_the_start_is_the_same_every_time() -> None:
    assert torch.equal(gaussian(7, 3, CPU), gaussian(7, 3, CPU))
    assert gaussian(7, 3, CPU).dtype == torch.float64
