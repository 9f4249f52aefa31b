"""Leading singular vectors by levels of Gram matrices, against LAPACK's float64 SVD."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.pairs import DTYPES, SPECTRA, made, orthonormal, random, spectrum
from spectra.errors import NonFiniteError
from spectra.kernels import left_vectors
from spectra.kernels.left_vectors import leading_by_gram
from spectra.kernels.rounding import EPS64

SHAPES = ((80, 80), (60, 90), (90, 60))


@settings(max_examples=50)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.sampled_from(SPECTRA),
    st.integers(0, 2**20),
    st.integers(1, 90),
    st.sampled_from(DTYPES),
)
def test_the_leading_ones_alone(
    rows: int, cols: int, kind: str, seed: int, count: int, dtype: torch.dtype
) -> None:
    """As exact as all of them are, whatever their number and their spectrum."""
    rank = min(rows, cols)
    count = min(count, rank)
    matrix = made((rows, cols), spectrum(kind, rank, seed), seed).to(dtype)
    vectors, values = leading_by_gram(matrix, count)
    assert vectors.shape == (rows, count)
    assert values.shape == (count,)
    unit = torch.eye(count, dtype=torch.float64)
    torch.testing.assert_close(vectors.mT @ vectors, unit, rtol=0, atol=1e-13)
    true = torch.linalg.svdvals(matrix.double())
    rounding = (20 + max(rows, cols)) * EPS64 * float(true[0])
    torch.testing.assert_close(values, true[:count], rtol=0, atol=rounding)
    images = vectors.mT @ matrix.double()
    torch.testing.assert_close(images.norm(dim=1), values, rtol=0, atol=1e-11 * float(true[0]))
    # What they leave of the matrix is no larger than the next.
    left = matrix.double() - vectors @ images
    following = float(true[count]) if count < rank else 0.0
    assert float(torch.linalg.matrix_norm(left, 2)) <= following + 1e-11 * float(true[0])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_leading_ones_of_what_is_zero_or_not_finite(shape: tuple[int, int]) -> None:
    vectors, values = leading_by_gram(torch.zeros(shape), 5)
    assert not values.any()
    assert vectors.shape == (shape[0], 5)
    matrix = random(*shape, 8)
    matrix[2, 3] = math.nan
    with pytest.raises(NonFiniteError, match=r"1 (NaN|Inf), the first at \[2, 3\]"):
        leading_by_gram(matrix, 5)


@pytest.mark.parametrize("small", [1e-2, 4e-4, 3e-4, 1e-6, 1e-10])
def test_small_values_are_not_mixed_among_each_other(small: float) -> None:
    sigma = torch.cat([torch.linspace(1.0, 0.5, 5), small * torch.linspace(1.0, 0.5, 5)]).double()
    for shape in SHAPES:
        vectors, values = leading_by_gram(made(shape, sigma, 3), 10)
        torch.testing.assert_close(values, sigma, rtol=0, atol=1e-13)
        seen = (orthonormal(shape[0], 10, 3) * vectors).sum(dim=0).abs()
        assert float(seen.min()) >= 1.0 - (1e-13 / small) ** 2 - 1e-9


@pytest.mark.parametrize("factor", [1e-300, 1e-40, 1e40, 1e300])
def test_any_scale(factor: float) -> None:
    matrix = made((60, 90), spectrum("mild", 60, 6), 6)
    plain, scaled = leading_by_gram(matrix, 7), leading_by_gram(matrix * factor, 7)
    torch.testing.assert_close(scaled[1] / factor, plain[1], rtol=1e-12, atol=1e-14)
    assert float((scaled[0].mT @ plain[0]).diagonal().abs().min()) >= 1.0 - 1e-9


def test_what_lapack_does_not_find_is_found_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = random(40, 50, 9)
    expected = leading_by_gram(matrix, 6)
    monkeypatch.setattr(left_vectors, "leading_eigenpairs", lambda gram, count: None)
    found = leading_by_gram(matrix, 6)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-12, atol=0.0)
    torch.testing.assert_close((found[0] * expected[0]).sum(dim=0).abs(), torch.ones(6).double())
