"""The smallest singular values: proven, or none."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from examples import with_spectrum
from spectra.kernels.singular import RELATIVE_ERROR, singular_values
from spectra.kernels.smallest import MOST, smallest_singular_values


def bulk_and(smallest: list[float], rank: int = 60) -> Tensor:
    bulk = torch.linspace(1.0, 0.1, rank - len(smallest), dtype=torch.float64)
    return torch.cat([bulk, torch.tensor(smallest, dtype=torch.float64)])


@given(
    st.lists(st.floats(-9.0, -2.0), min_size=1, max_size=6),
    st.sampled_from([(60, 60), (60, 61), (60, 200)]),
    st.integers(0, 100),
)
def test_what_is_returned_is_within_the_tolerance(
    powers: list[float], shape: tuple[int, int], seed: int
) -> None:
    sigma = bulk_and(sorted((10.0**power for power in powers), reverse=True))
    matrix = with_spectrum(sigma, *shape, torch.Generator().manual_seed(seed))
    found = smallest_singular_values(matrix, len(powers), 0.09, 1e-4)
    assert found is not None
    exact = torch.linalg.svdvals(matrix)[-len(powers) :]
    assert ((found - exact).abs() <= 1e-4 * exact + 1e-14).all()


@pytest.mark.parametrize("twins", [2, 3, 20])
def test_repeated_smallest_values_are_all_found(twins: int) -> None:
    matrix = with_spectrum(bulk_and([1e-6] * twins), 60, 60, torch.Generator().manual_seed(1))
    found = smallest_singular_values(matrix, twins, 0.09, 1e-4)
    assert found is not None
    assert found.tolist() == pytest.approx([1e-6] * twins, rel=1e-4)


def test_a_singular_matrix_has_no_proof() -> None:
    matrix = torch.zeros(60, 60, dtype=torch.float64)
    matrix[:59, :59] = torch.eye(59)
    assert smallest_singular_values(matrix, 1, 0.5, 1e-4) is None
    rounded = with_spectrum(bulk_and([0.0]), 60, 60, torch.Generator().manual_seed(2))
    assert smallest_singular_values(rounded, 1, 0.05, 1e-4) is None


def test_values_over_the_bound_are_not_returned() -> None:
    matrix = with_spectrum(bulk_and([1e-5]), 60, 60, torch.Generator().manual_seed(3))
    assert smallest_singular_values(matrix, 1, 0.9e-5, 1e-4) is None


def test_no_gap_to_the_rest_is_no_proof_rather_than_a_guess() -> None:
    sigma = torch.logspace(0, -7, 200, dtype=torch.float64)
    matrix = with_spectrum(sigma, 200, 200, torch.Generator().manual_seed(4))
    found = smallest_singular_values(matrix, 30, float(sigma[170]), 1e-9)
    exact = torch.linalg.svdvals(matrix)[-30:]
    assert found is None or ((found - exact).abs() <= 1e-8 * exact).all()


@pytest.mark.parametrize("count", [0, MOST + 1, 61])
def test_counts_it_is_not_made_for_are_declined(count: int) -> None:
    assert smallest_singular_values(torch.eye(60, dtype=torch.float64), count, 2.0, 1e-4) is None


def test_all_singular_values_use_it_in_place_of_an_svd(monkeypatch: pytest.MonkeyPatch) -> None:
    sigma = bulk_and([3e-6, 1e-7], rank=120)
    matrix = with_spectrum(sigma, 120, 150, torch.Generator().manual_seed(5)).float()
    exact = torch.linalg.svdvals(matrix.double())

    def forbidden(*_: object) -> Tensor:
        raise AssertionError("a full decomposition was made")

    monkeypatch.setattr(torch.linalg, "svdvals", forbidden)
    found = singular_values(matrix)
    assert ((found - exact).abs() <= RELATIVE_ERROR * exact).all()
