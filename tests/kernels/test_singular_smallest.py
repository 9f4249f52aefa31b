"""The smallest singular values: proven, or none."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from examples import with_spectrum
from spectra.kernels.inverse import lower_gram
from spectra.kernels.linear_map import linear_map
from spectra.kernels.singular import (
    Settings,
    Smallest,
    singular_values,
    smallest_singular_values,
)

SETTINGS = Settings()


def bulk_and(smallest: list[float], rank: int = 60) -> Tensor:
    bulk = torch.linspace(1.0, 0.1, rank - len(smallest), dtype=torch.float64)
    return torch.cat([bulk, torch.tensor(smallest, dtype=torch.float64)])


def smallest(
    matrix: Tensor, count: int, relative: float = 1e-4, settings: Settings = SETTINGS
) -> Smallest:
    """As `singular_values` asks, in the units of the matrix."""
    of = linear_map(matrix if matrix.shape[0] >= matrix.shape[1] else matrix.mT)
    gram = lower_gram(of, torch.float64)
    gram.diagonal().add_(1e-13)
    settings = replace(settings, relative_error=relative)
    found = smallest_singular_values(of, gram, count, 1e-15, settings)
    return Smallest(found.values * of.scale, found.error * of.scale)


@given(
    st.lists(st.floats(-9.0, -2.0), min_size=1, max_size=6),
    st.sampled_from([(60, 60), (60, 61), (60, 200), (200, 60)]),
    st.integers(0, 100),
)
def test_what_is_returned_is_within_its_error(
    powers: list[float], shape: tuple[int, int], seed: int
) -> None:
    sigma = bulk_and(sorted((10.0**power for power in powers), reverse=True))
    matrix = with_spectrum(sigma, *shape, torch.Generator().manual_seed(seed))
    found = smallest(matrix, len(powers))
    exact = torch.linalg.svdvals(matrix)[-len(powers) :]
    assert found.below(0.09)
    assert found.error <= 1e-4 * float(found.values[-1])
    assert ((found.values - exact).abs() <= found.error + 1e-15).all()


@pytest.mark.parametrize("twins", [2, 3, 20])
@pytest.mark.parametrize("value", [1e-6, 0.0])
def test_repeated_smallest_values_are_all_found(twins: int, value: float) -> None:
    matrix = with_spectrum(bulk_and([value] * twins), 60, 60, torch.Generator().manual_seed(1))
    of = linear_map(matrix)
    gram = lower_gram(of, torch.float64)
    gram.diagonal().add_(1e-13)
    found = smallest_singular_values(of, gram, twins, 1e-13)
    assert (found.values * of.scale).tolist() == pytest.approx([value] * twins, rel=1e-4, abs=1e-14)


def test_zeros_that_no_rounding_is_allowed_have_no_proof() -> None:
    matrix = torch.zeros(60, 60, dtype=torch.float64)
    matrix[:59, :59] = torch.eye(59)
    assert not smallest(matrix, 1).below(math.inf)


def test_the_bound_that_tells_them_from_the_others() -> None:
    found = Smallest(torch.tensor([2.0, 1.0], dtype=torch.float64), 0.5)
    assert found.below(2.6)
    assert not found.below(2.5)
    assert Smallest(torch.zeros(0, dtype=torch.float64), 0.0).below(0.1)
    assert not Smallest(torch.zeros(0, dtype=torch.float64), math.inf).below(math.inf)


def test_no_gap_to_the_rest_is_no_proof_rather_than_a_guess() -> None:
    sigma = torch.logspace(0, -7, 200, dtype=torch.float64)
    matrix = with_spectrum(sigma, 200, 200, torch.Generator().manual_seed(4))
    found = smallest(matrix, 30, 1e-9)
    exact = torch.linalg.svdvals(matrix)[-30:]
    assert not found.below(float(sigma[169]))
    assert not found.below(math.inf) or ((found.values - exact).abs() <= 1e-8 * exact).all()


@pytest.mark.parametrize("count", [0, SETTINGS.most + 1, 61])
def test_counts_it_is_not_made_for_are_declined(count: int) -> None:
    assert not smallest(torch.eye(60, dtype=torch.float64), count).below(math.inf)


def test_too_few_steps_are_no_proof() -> None:
    matrix = with_spectrum(bulk_and([1e-3, 9e-4, 8e-4] * 4), 60, 60)
    assert not smallest(matrix, 2, 1e-12, Settings(spare=0, steps=1)).below(math.inf)


def test_all_singular_values_use_it_in_place_of_an_svd(monkeypatch: pytest.MonkeyPatch) -> None:
    sigma = bulk_and([3e-6, 1e-7], rank=120)
    matrix = with_spectrum(sigma, 120, 150, torch.Generator().manual_seed(5)).float()
    exact = torch.linalg.svdvals(matrix.double())

    def forbidden(*_: object) -> Tensor:
        raise AssertionError("a full decomposition was made")

    monkeypatch.setattr(torch.linalg, "svdvals", forbidden)
    found = singular_values(matrix)
    assert ((found - exact).abs() <= Settings().relative_error * exact).all()
