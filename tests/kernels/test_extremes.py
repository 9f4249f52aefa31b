"""Both ends of a spectrum: no bound is ever violated, and what is returned is as narrow as said."""

import math
from dataclasses import replace
from functools import partial

import mpmath  # type: ignore[import-untyped]
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from examples import with_spectrum
from spectra.errors import NonFiniteError
from spectra.kernels import extremes
from spectra.kernels.edge import UNKNOWN, Bracket, Outcome, Settings, enclosed
from spectra.kernels.extremes import (
    Extremes,
    condition_floor,
    exact_extremes,
    extreme_singular_values,
    largest_singular_value,
    singular_value_floor,
    tall_map,
)
from spectra.kernels.filtered import mirrored
from spectra.kernels.inverse import cholesky, gram_solve, lower_gram, square_inverse
from spectra.kernels.relation import measured_above, measured_below

SHAPES = [(200, 200), (280, 200), (200, 500)]
ROUNDING = 1e-10  # of the twin itself, beside the factor below


SMALL = Settings(small=60)
"""Bounds are for sides over 512; what they prove does not depend on that."""


def twin(matrix: Tensor) -> Tensor:
    """Float64 LAPACK, at a scale where squares neither overflow nor vanish."""
    scale = float(matrix.abs().max()) or 1.0
    sigma: Tensor = torch.linalg.svdvals(matrix.double() / scale) * scale
    return sigma


def within(bracket: Bracket, exact: float, slack: float) -> bool:
    return bracket.low * (1.0 - slack) <= exact <= bracket.high * (1.0 + slack)


def check(matrix: Tensor, error: float = 1e-3) -> Extremes:
    """Hold every claim against the twin."""
    found, sigma = extreme_singular_values(matrix, replace(SMALL, tolerance=error)), twin(matrix)
    largest, smallest = float(sigma[0]), float(sigma[-1])
    assert found.sigma_max == pytest.approx(largest, rel=error)
    # The twin's own sigma_min is off by eps64 * sigma_max.
    assert found.sigma_min == pytest.approx(smallest, rel=error, abs=1e-13 * largest)
    if found.decided_by == "bound":
        assert within(found.largest, largest, ROUNDING)
        assert within(found.smallest, smallest, ROUNDING + 1e-14 * largest / smallest)
        for bracket in (found.largest, found.smallest):
            assert bracket.high / bracket.low - 1.0 <= error * (1.0 + 1e-9)
    return found


def spectrum(kind: str, kappa: float, rank: int) -> Tensor:
    if kind == "graded":
        return torch.logspace(0, -math.log10(kappa), rank, dtype=torch.float64)
    if kind == "spread":
        return torch.linspace(1.0, 1.0 / kappa, rank, dtype=torch.float64)
    if kind == "one below":
        bulk = torch.linspace(1.0, 0.5, rank - 1, dtype=torch.float64)
        return torch.cat([bulk, torch.tensor([1.0 / kappa], dtype=torch.float64)])
    if kind == "twins":
        return torch.tensor([1.0] * 9 + [0.3] * (rank - 18) + [1.0 / kappa] * 9).double()
    return torch.arange(1, rank + 1, dtype=torch.float64) ** -math.log(kappa, rank)


@settings(max_examples=125)
@given(
    kind=st.sampled_from(["graded", "spread", "one below", "twins", "slow"]),
    power=st.floats(0.01, 9.0),
    shape=st.sampled_from(SHAPES),
    scale=st.sampled_from([1.0, 1e20, 1e-25]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    seed=st.integers(0, 1000),
)
def test_no_bound_is_violated(
    kind: str, power: float, shape: tuple[int, int], scale: float, dtype: torch.dtype, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    sigma = spectrum(kind, 10.0**power, min(shape))
    check((with_spectrum(sigma, *shape, generator) * scale).to(dtype))


@settings(max_examples=15)
@given(shape=st.sampled_from(SHAPES), error=st.floats(1e-5, 0.1), seed=st.integers(0, 1000))
def test_noise_at_any_tolerance(shape: tuple[int, int], error: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    check(torch.randn(*shape, generator=generator), error)


@settings(max_examples=10)
@given(shape=st.sampled_from(SHAPES), seed=st.integers(0, 1000), scale=st.floats(-20.0, 20.0))
def test_turned_and_scaled(shape: tuple[int, int], seed: int, scale: float) -> None:
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    plain = extreme_singular_values(matrix, SMALL)
    for other, factor in ((matrix.mT, 1.0), (10.0**scale * matrix, 10.0**scale)):
        found = extreme_singular_values(other, SMALL)
        assert found.sigma_max == pytest.approx(factor * plain.sigma_max, rel=1e-3)
        assert found.sigma_min == pytest.approx(factor * plain.sigma_min, rel=1e-3)


@pytest.mark.parametrize("shape", [(1030, 1030), (1600, 700), (700, 1600)], ids=str)
def test_float32_products_are_proven_in_float64(
    shape: tuple[int, int], generator: torch.Generator
) -> None:
    found = check(torch.randn(*shape, generator=generator))
    assert found.decided_by == "bound"


@pytest.mark.parametrize("shape", [(1700, 640), (640, 2000), (1030, 1030)], ids=str)
def test_orthogonal_columns_have_bounds(shape: tuple[int, int], generator: torch.Generator) -> None:
    found = check(with_spectrum(torch.ones(min(shape)).double(), *shape, generator).float())
    assert found.decided_by == "bound"


def test_real_weights(real: dict[str, Tensor]) -> None:
    for name in list(real)[2:14]:
        assert check(real[name]).decided_by == "bound"


@pytest.mark.parametrize("kappa", [3.0, 30.0, 150.0, 1e3, 1e5])
def test_a_factor_of_the_gram_matrix_leads_there_or_says_no(
    kappa: float, generator: torch.Generator
) -> None:
    of = tall_map(with_spectrum(spectrum("one below", kappa, 200), 600, 200, generator))
    triangle = cholesky(lower_gram(of, torch.float64))
    assert triangle is not None
    apply, measure = partial(gram_solve, triangle), partial(measured_below, of, None)
    outcome, found = enclosed(apply, of, measure, Settings(guess=1e-13, narrow=16))
    assert outcome is Outcome.PROVEN
    assert within(found.times(1.0 / of.scale), kappa, 1e-9)


def test_a_wrong_factor_proves_nothing(generator: torch.Generator) -> None:
    """Whatever is iterated with, the bound is against W itself."""
    matrix = with_spectrum(spectrum("graded", 100.0, 100), 100, 100, generator)
    of, other = tall_map(matrix), tall_map(matrix * 1.01)
    inverse = square_inverse(other)
    assert inverse is not None
    # Another scale was taken out of the other map, so that it is wrong by a per cent or more.
    normal, transposed = inverse
    below = enclosed(normal, of, partial(measured_below, of, transposed), Settings(guess=1e-13))
    above = enclosed(lambda v: 0.9 * of.gram_matmat(v), of, partial(measured_above, of))
    assert below == above == (Outcome.ROUNDED, UNKNOWN)


def test_an_enclosure_says_why_it_is_none(generator: torch.Generator) -> None:
    of = tall_map(torch.randn(300, 200, generator=generator))
    measure = partial(measured_above, of)
    for apply, given_settings, outcome in (
        (of.gram_matmat, Settings(steps=3), Outcome.SLOW),
        (of.gram_matmat, Settings(ceiling=1.0), Outcome.BEYOND),
        (lambda v: of.gram_matmat(v) * math.inf, Settings(), Outcome.BEYOND),
    ):
        assert enclosed(apply, of, measure, given_settings) == (outcome, UNKNOWN)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kappa", [1.0, 5.0, 1e4])
def test_the_floor_of_kappa_and_sigma_max_alone(
    kappa: float, shape: tuple[int, int], generator: torch.Generator
) -> None:
    matrix = with_spectrum(spectrum("spread", kappa, 100), *shape, generator)
    sigma = twin(matrix)
    assert 1.0 <= condition_floor(matrix, SMALL) <= float(sigma[0] / sigma[-1]) * (1.0 + ROUNDING)
    assert within(largest_singular_value(matrix, SMALL), float(sigma[0]), ROUNDING)


@pytest.mark.parametrize(
    "matrix",
    [
        torch.zeros(100, 100),
        torch.zeros(70, 300),
        torch.ones(100, 100),
        torch.ones(1, 300),
        torch.diag(torch.tensor([1.0] * 99 + [0.0])),
        torch.diag(torch.logspace(6, -12, 100, dtype=torch.float64)),
        torch.full((100, 150), 1e-25),
    ],
    ids=["zero", "zero wide", "ones", "row", "singular", "graded", "tiny"],
)  # fmt: skip
def test_what_has_no_bound_is_exact(matrix: Tensor) -> None:
    found = check(matrix)
    assert found.decided_by == "exact"
    for bracket, value in ((found.largest, found.sigma_max), (found.smallest, found.sigma_min)):
        assert bracket.low < value < bracket.high or 0.0 == value == bracket.low <= bracket.high
        assert bracket.high > 0.0 or not matrix.any()
    if found.sigma_min:
        assert 1.0 <= condition_floor(matrix, SMALL) <= found.sigma_max / found.sigma_min
    assert largest_singular_value(matrix, SMALL).low == pytest.approx(found.sigma_max, rel=1e-3)


def rational_minimum(matrix: Tensor) -> float:
    """sigma_min of a float64 matrix, 60 digits of mpmath."""
    with mpmath.workdps(60):
        values = mpmath.svd_r(mpmath.matrix(matrix.tolist()), compute_uv=False)
        return float(min(values))


@pytest.mark.parametrize("decades", [3.0, 10.0, 12.0, 13.0])
@pytest.mark.parametrize("shape", [(24, 24), (24, 40)], ids=str)
def test_the_bracket_of_a_decomposition_holds_the_truth(
    decades: float, shape: tuple[int, int], generator: torch.Generator
) -> None:
    sigma = torch.logspace(0, -decades, 24, dtype=torch.float64)
    matrix = with_spectrum(sigma, *shape, generator)
    found, truth = exact_extremes(matrix), rational_minimum(matrix)
    assert found.smallest.low <= truth <= found.smallest.high
    promised = max(max(shape) * 2.0**-52 * found.sigma_max, 1e-4 * found.sigma_min)
    assert found.smallest.high - found.smallest.low <= 2.1 * promised


def test_what_lies_within_the_rounding_of_float64_is_singular(generator: torch.Generator) -> None:
    sigma = torch.logspace(0, -16, 100, dtype=torch.float64)
    found = exact_extremes(with_spectrum(sigma, 100, 100, generator))
    assert found.sigma_min == found.smallest.low == 0.0
    assert 1e-16 <= found.smallest.high <= 1e-13


@pytest.mark.parametrize("question", [extreme_singular_values, condition_floor])
def test_what_is_not_finite_is_an_error(question: object) -> None:
    matrix = torch.ones(100, 100)
    matrix[2, 3] = math.nan
    assert callable(question)
    with pytest.raises(NonFiniteError, match=r"1 (NaN|Inf), the first at \[2, 3\]"):
        question(matrix)


@pytest.mark.parametrize("shape", [(900, 300), (300, 900)], ids=["tall", "wide"])
def test_a_floor_by_a_gram_matrix_that_is_known_makes_none(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = 3e-3 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    least = float(torch.linalg.svdvals(matrix.double())[-1])
    gram = mirrored(lower_gram(tall_map(matrix), torch.float64), torch.float64)
    assert 0.5 * least < singular_value_floor(matrix) <= least
    monkeypatch.setattr(extremes, "lower_gram", None)
    assert 0.5 * least < singular_value_floor(matrix, gram) <= least


@pytest.mark.parametrize("scale", [2.0**-1035, 2.0**-1000, 2.0**1005])
def test_the_smallest_and_largest_float64_have_a_kappa(
    scale: float, generator: torch.Generator
) -> None:
    plain = (torch.randn(90, 70, generator=generator, dtype=torch.float64) * 1000).round()
    found = extreme_singular_values(scale * plain, SMALL)
    values = torch.linalg.svdvals(plain)
    assert found.sigma_max == pytest.approx(scale * float(values[0]), rel=1e-3)
    assert found.sigma_min == pytest.approx(scale * float(values[-1]), rel=1e-3)
