"""All left singular vectors by levels of Gram matrices, against LAPACK's float64 SVD."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.pairs import DTYPES, SPECTRA, orthonormal, random, spectrum
from spectra.errors import NonFiniteError
from spectra.kernels.eigenvectors import (
    leading_by_gram,
    left_singular_by_gram,
    left_singular_by_gram_cost,
)
from spectra.kernels.rounding import EPS64
from spectra.kernels.similarity import closest_of
from spectra.kernels.singular import left_singular

SHAPES = ((80, 80), (60, 90), (90, 60))


def holds(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Hold vectors and values against a full decomposition, and return them."""
    vectors, values = left_singular_by_gram(matrix)
    wide, rank = matrix.double(), min(matrix.shape)
    assert vectors.dtype == values.dtype == torch.float64
    assert vectors.shape == (len(matrix), rank)
    unit = torch.eye(rank, dtype=torch.float64)
    torch.testing.assert_close(vectors.mT @ vectors, unit, rtol=0, atol=1e-13)
    assert torch.equal(values, values.sort(descending=True).values)
    true = torch.linalg.svdvals(wide)
    rounding = (20 + max(matrix.shape)) * EPS64 * float(true[0])
    torch.testing.assert_close(values, true, rtol=0, atol=rounding)
    # u_i^T W is sigma_i v_i; what is next to nothing may have 1e-9 of what is large.
    images = vectors.mT @ wide
    torch.testing.assert_close(images.norm(dim=1), values, rtol=0, atol=1e-11 * float(true[0]))
    return vectors, values


def made(shape: tuple[int, int], sigma: Tensor, seed: int) -> Tensor:
    rank = len(sigma)
    return (orthonormal(shape[0], rank, seed) * sigma) @ orthonormal(shape[1], rank, seed + 1).mT


@settings(max_examples=150)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.sampled_from(SPECTRA),
    st.integers(0, 2**20),
    st.sampled_from(DTYPES),
)
def test_any_spectrum(rows: int, cols: int, kind: str, seed: int, dtype: torch.dtype) -> None:
    matrix = made((rows, cols), spectrum(kind, min(rows, cols), seed), seed).to(dtype)
    holds(matrix)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("small", [0.3, 1e-2, 1e-3, 4e-4, 3e-4, 1e-4, 1e-6, 1e-10, 1e-14])
@pytest.mark.parametrize("equal", [False, True], ids=["apart", "repeated"])
def test_levels_leave_nothing_mixed(shape: tuple[int, int], small: float, equal: bool) -> None:
    """Wherever values lie to where a level ends, those below and exact zeros are as they are."""
    spread = torch.ones(20) if equal else torch.linspace(1.0, 0.5, 20)
    sigma = torch.cat([torch.linspace(1.0, 0.5, 20), small * spread, torch.zeros(20)]).double()
    matrix = made(shape, sigma, 3)
    vectors, values = holds(matrix)
    floor = max(shape) * EPS64  # as `closest_of` has it
    assert (values[40:] <= floor).all()
    if equal and small > 1e-13:
        assert float(values[20] - values[39]) <= floor
    # The subspaces that each part spans.
    left = orthonormal(shape[0], 60, 3)
    parts = (slice(0, 20), slice(20, 40))
    for part in parts if small > 1e-12 else parts[:1]:
        seen = (left[:, part].mT @ vectors[:, part]).square().sum()
        lost = 20.0 * EPS64 / float(sigma[part][-1] - (small if part.start == 0 else 0.0))
        assert math.sqrt(max(20.0 - float(seen), 0.0)) <= 1e-6 + 100.0 * lost


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("small", [1e-2, 1e-3, 4e-4, 3e-4, 1e-6])
def test_the_closest_are_those_of_a_full_decomposition(
    shape: tuple[int, int], small: float
) -> None:
    """A repeated value and a null space count as one, whichever way they are found."""
    sigma = torch.cat([torch.linspace(1.0, 0.5, 20), torch.full((20,), small), torch.zeros(20)])
    matrix = made(shape, sigma.double(), 4)
    left = orthonormal(shape[0], 60, 4)
    asked = torch.stack([left[:, 22:35].sum(dim=1), left[:, 41:52].sum(dim=1), left[:, 5],
                         random(shape[0], 1, 5).flatten()], dim=1)  # fmt: skip
    asked = torch.nn.functional.normalize(asked, dim=0)
    fast, exact = (
        closest_of(*found, asked, matrix)
        for found in (left_singular_by_gram(matrix), left_singular(matrix))
    )
    torch.testing.assert_close(fast.cosine, exact.cosine, rtol=0, atol=1e-6)
    assert torch.equal(fast.best[:3], exact.best[:3])
    assert fast.leads == exact.leads


@pytest.mark.parametrize("shape", [*SHAPES, (1, 7), (7, 1), (1, 1)], ids=str)
def test_a_zero_matrix(shape: tuple[int, int]) -> None:
    _, values = holds(torch.zeros(shape))
    assert not values.any()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("factor", [1e-300, 1e-200, 1e-40, 1e40, 1e200, 1e300])
def test_any_scale(shape: tuple[int, int], factor: float) -> None:
    matrix = made(shape, spectrum("mild", min(shape), 6), 6)
    plain, scaled = left_singular_by_gram(matrix), left_singular_by_gram(matrix * factor)
    torch.testing.assert_close(scaled[1] / factor, plain[1], rtol=1e-12, atol=1e-14)
    assert float((scaled[0].mT @ plain[0]).diagonal().abs().min()) >= 1.0 - 1e-9


@pytest.mark.parametrize(
    "layer", ["intermediate.dense", "output.dense", "attention.self.query"]
)  # tall, wide, square
def test_real_matrices(layer: str, real: dict[str, Tensor]) -> None:
    (matrix,) = [real[name] for name in real if name.endswith(f"layer.0.{layer}.weight")]
    vectors, values = holds(matrix)
    expected = torch.linalg.svd(matrix.double(), full_matrices=False)
    gaps = torch.full_like(values, math.inf)
    gaps[:-1] = values[:-1] - values[1:]
    gaps[1:] = gaps[1:].minimum(values[:-1] - values[1:])
    turned = torch.linalg.vector_norm(
        vectors - expected.U * (vectors * expected.U).sum(dim=0), dim=0
    )
    assert (turned <= 1e-11 * values[0] / gaps + 1e-9).all()


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_what_is_not_finite_is_refused(value: float, shape: tuple[int, int]) -> None:
    matrix = random(*shape, 7)
    matrix[2, 3] = value
    with pytest.raises(NonFiniteError, match=r"1 of [0-9,]+ entries .* first at \[2, 3\]"):
        left_singular_by_gram(matrix)


def test_what_it_costs() -> None:
    assert left_singular_by_gram_cost(100, 200) == left_singular_by_gram_cost(200, 100)
    assert left_singular_by_gram_cost(200, 200) > left_singular_by_gram_cost(100, 200)


@settings(max_examples=100)
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
    with pytest.raises(NonFiniteError, match=r"1 of [0-9,]+ entries .* first at \[2, 3\]"):
        leading_by_gram(matrix, 5)
