"""The smallest singular values: proven, or not given."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from examples import with_spectrum
from spectra.kernels.singular import RELATIVE_ERROR, singular_values
from spectra.kernels.smallest import MOST, smallest_singular_values

TOLERANCE = 1e-4


def bulk_and(smallest: list[float], rank: int) -> Tensor:
    """Values from 1 down to 0.1, then these."""
    bulk = torch.linspace(1, 0.1, rank - len(smallest), dtype=torch.float64)
    return torch.cat([bulk, torch.tensor(smallest, dtype=torch.float64)])


@pytest.mark.parametrize(
    "smallest",
    [[1e-3], [1e-5, 1e-7], [3e-6] * 5, [1e-4, 1e-6, 1e-8, 1e-9], [2e-5, 1.9999e-5], [1e-9]],
    ids=str,
)
@pytest.mark.parametrize("shape", [(60, 60), (60, 61), (60, 300), (90, 400)], ids=str)
def test_prescribed_values_are_found(
    smallest: list[float], shape: tuple[int, int], generator: torch.Generator
) -> None:
    matrix = with_spectrum(bulk_and(smallest, shape[0]), *shape, generator)
    found = smallest_singular_values(matrix, len(smallest), 0.05, TOLERANCE)
    assert found is not None
    exact = torch.linalg.svdvals(matrix)[-len(smallest) :]
    torch.testing.assert_close(found, exact, rtol=TOLERANCE, atol=1e-15)


@given(st.integers(2, 40), st.integers(0, 20), st.integers(1, 6), st.integers(0, 2**31))
def test_what_is_given_is_right(rank: int, more: int, count: int, seed: int) -> None:
    """Of any matrix and any count: the values that LAPACK finds, or none."""
    source = torch.Generator().manual_seed(seed)
    matrix = torch.randn(rank, rank + more, generator=source, dtype=torch.float64)
    exact = torch.linalg.svdvals(matrix)
    count = min(count, rank)
    above = float(exact[-count - 1]) if count < rank else math.inf
    found = smallest_singular_values(matrix, count, above, TOLERANCE)
    if found is not None:
        torch.testing.assert_close(found, exact[-count:], rtol=TOLERANCE, atol=0)


def test_a_singular_matrix_gives_none(generator: torch.Generator) -> None:
    assert smallest_singular_values(torch.zeros(5, 5).double(), 1, 1.0, TOLERANCE) is None
    repeated = torch.randn(40, 50, generator=generator, dtype=torch.float64)
    repeated[3] = repeated[30]
    assert smallest_singular_values(repeated, 1, 0.1, TOLERANCE) is None
    dependent = with_spectrum(bulk_and([0.0, 0.0], 40), 40, 40, generator)
    assert smallest_singular_values(dependent, 2, 0.05, TOLERANCE) is None


def test_values_under_rounding_give_none(generator: torch.Generator) -> None:
    matrix = with_spectrum(bulk_and([1e-13], 40), 40, 40, generator)
    assert smallest_singular_values(matrix, 1, 0.05, TOLERANCE) is None


def test_a_wrong_bound_gives_none(generator: torch.Generator) -> None:
    matrix = with_spectrum(bulk_and([1e-3, 1e-5], 40), 40, 40, generator)
    assert smallest_singular_values(matrix, 2, 5e-4, TOLERANCE) is None


@pytest.mark.parametrize("count", [0, 41, MOST + 1])
def test_counts_out_of_reach_give_none(count: int) -> None:
    assert smallest_singular_values(torch.eye(40).double(), count, 2.0, TOLERANCE) is None


def test_a_residual_that_stays_large_gives_none(generator: torch.Generator) -> None:
    """The wanted values end inside a dense row of others, which twelve steps do not part."""
    sigma = torch.linspace(1.0, 0.999, 100, dtype=torch.float64)
    matrix = with_spectrum(sigma, 100, 100, generator)
    assert smallest_singular_values(matrix, 3, 0.9990302, 1e-9) is None


@pytest.mark.parametrize("kappa", [1e4, 1e5, 1e6, 1e7])
@pytest.mark.parametrize("shape", [(120, 120), (100, 260), (260, 100)], ids=str)
def test_whole_spectra_join_both_parts(
    kappa: float, shape: tuple[int, int], generator: torch.Generator
) -> None:
    sigma = torch.logspace(0, -math.log10(kappa), min(shape), dtype=torch.float64)
    matrix = with_spectrum(sigma, *shape, generator).float()
    found, exact = singular_values(matrix), singular_values(matrix.double())
    torch.testing.assert_close(found, exact, rtol=RELATIVE_ERROR, atol=0)
    assert (found.diff() <= 0).all()
