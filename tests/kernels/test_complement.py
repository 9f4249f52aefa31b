"""sigma_min by what is left beside a few vectors: never above the truth, whatever factors say."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from examples import with_spectrum
from spectra.kernels.edge import UNKNOWN, Bracket, GramMatrix, Settings
from spectra.kernels.extremes import tall_map
from spectra.kernels.inverse import cholesky, lower_gram
from spectra.kernels.linear_map import LinearMap


def smallest(of: LinearMap, gram: Tensor | None = None, tolerance: float = 1e-3) -> Bracket:
    lower = lower_gram(of, torch.float32) if gram is None else gram
    triangle = cholesky(lower)
    largest = 1.001 * float(torch.linalg.matrix_norm(of.held.double(), 2)) / of.scale
    if triangle is None:
        return UNKNOWN
    found = GramMatrix(of, lower, largest).smallest(triangle, Settings(tolerance=tolerance))
    return found.times(of.scale)


def twin(of: LinearMap) -> float:
    return float(torch.linalg.svdvals(of.held.double())[-1])


@pytest.mark.parametrize("kappa", [1.0, 1.5, 10.0, 100.0, 300.0])
@pytest.mark.parametrize("shape", [(500, 300), (300, 1000), (300, 300)], ids=str)
@pytest.mark.parametrize("kind", ["graded", "one below", "cluster", "noise"])
def test_what_a_float32_gram_matrix_proves(
    kind: str, kappa: float, shape: tuple[int, int], generator: torch.Generator
) -> None:
    short = min(shape)
    sigma = torch.logspace(0, -math.log10(kappa), short, dtype=torch.float64)
    if kind == "one below":
        sigma[:-1] = torch.linspace(1.0, 1.0 / math.sqrt(kappa), short - 1)
    if kind == "cluster":
        sigma[-40:] = sigma[-1]
    matrix = with_spectrum(sigma, *shape, generator)
    if kind == "noise":
        matrix = torch.randn(*shape, generator=generator) + kappa * torch.ones(shape)
    of = tall_map(matrix)
    found, truth = smallest(of), twin(of)
    assert found.low * (1.0 - 1e-9) <= truth <= found.high * (1.0 + 1e-9)
    # Noise may take more steps than there is room for, and what cannot be set apart, as a
    # cluster larger than a block, needs an error as small as the bracket.
    if kind in ("graded", "one below") or (kind == "cluster" and kappa <= 10.0):
        assert found.width <= 1e-3


@settings(max_examples=40)
@given(power=st.floats(0.0, 5.0), error=st.floats(1e-6, 0.3), seed=st.integers(0, 1000))
def test_no_error_of_the_gram_matrix_proves_what_is_not_so(
    power: float, error: float, seed: int
) -> None:
    """One that is too large would leave too much beside the vectors."""
    generator = torch.Generator().manual_seed(seed)
    sigma = torch.logspace(0, -power, 200, dtype=torch.float64)
    of = tall_map(with_spectrum(sigma, 280, 200, generator))
    gram = lower_gram(of, torch.float32)
    gram.diagonal().add_(error * float(gram.diagonal().mean()))
    found, truth = smallest(of, gram), twin(of)
    assert found.low * (1.0 - 1e-7) <= truth <= found.high * (1.0 + 1e-7)


def test_a_gram_matrix_of_another_matrix_proves_nothing(generator: torch.Generator) -> None:
    of = tall_map(torch.randn(500, 200, generator=generator))
    other = tall_map(torch.randn(500, 200, generator=generator))
    assert smallest(of, lower_gram(other, torch.float32)) == UNKNOWN


def test_a_vector_that_the_space_has_not_met_is_not_missed(generator: torch.Generator) -> None:
    """The factor says that there is nothing small; W does not."""
    sigma = torch.ones(200, dtype=torch.float64)
    sigma[-1] = 0.1
    of = tall_map(with_spectrum(sigma, 300, 200, generator))
    right = torch.linalg.svd(of.held.double()).Vh[-1:]
    gram = (lower_gram(of, torch.float64) + (1.0 / of.scale) ** 2 * right.mT @ right).float()
    assert smallest(of, gram) == UNKNOWN
