"""A map's products against those of the matrix that it never forms."""

import math
from operator import mul

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.pairs import random
from spectra.errors import NonFiniteError
from spectra.kernels.linear_map import FLOAT32 as LARGE
from spectra.kernels.linear_map import LinearMap, linear_map

SHAPES = ((30, 30), (20, 45), (45, 20), (300, 7), (1, 9), (9, 1))
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
FACTORS = (1e-25, 1e-3, 1.0, 1e20)
IN_FLOAT32 = 1


def formed(of: LinearMap, parts: tuple[Tensor, ...]) -> Tensor:
    """The scaled map as a float64 matrix."""
    matrix = parts[0].double()
    if len(parts) > 1:
        matrix = matrix + parts[1].double() @ parts[2].double()
    return (matrix.mT if of.turned else matrix) / of.scale


def parts_of(shape: tuple[int, int], *, updated: bool, dtype: torch.dtype) -> tuple[Tensor, ...]:
    rows, cols = shape
    matrix = random(rows, cols, 0).to(dtype)
    if not updated:
        return (matrix,)
    return matrix, random(rows, 3, 1).to(dtype), random(3, cols, 2).to(dtype)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("single", [False, True], ids=["in float64", "in float32"])
@pytest.mark.parametrize("updated", [False, True], ids=["plain", "updated"])
def test_products(
    shape: tuple[int, int],
    dtype: torch.dtype,
    single: bool,
    updated: bool,
) -> None:
    parts = parts_of(shape, updated=updated, dtype=dtype)
    plain = linear_map(*parts, float32=IN_FLOAT32 if single else LARGE)
    fast = torch.float32 if single and dtype != torch.float64 else torch.float64
    assert plain.matrix.dtype == fast
    for of in (plain, plain.mT):
        expected = formed(of, parts)
        assert of.shape == expected.shape
        assert of.norm >= float(expected.norm())
        right, left = random(of.shape[1], 4, 3), random(of.shape[0], 5, 4)
        rough = 1e-5 * of.norm if fast == torch.float32 else 1e-14 * of.norm
        torch.testing.assert_close(of.matmat(right), expected @ right, rtol=0, atol=10 * rough)
        found = of.mT.matmat(left)
        torch.testing.assert_close(found, expected.mT @ left, rtol=0, atol=10 * rough)
        assert found.dtype == torch.float64
        squared = of.gram_matmat(right)
        assert squared.dtype == torch.float64
        atol = 20 * rough * of.norm
        torch.testing.assert_close(squared, expected.mT @ expected @ right, rtol=0, atol=atol)
        before, after = of.products(right, left)
        assert float((before - expected @ right).norm(dim=0).max()) <= 6 * of.rounding()
        assert float((after - expected.mT @ left).norm(dim=0).max()) <= 6 * of.rounding()


@settings(max_examples=50)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**20), st.booleans())
def test_a_product_with_a_unit_vector_errs_by_no_more_than_its_rounding(
    rows: int, cols: int, seed: int, turned: bool
) -> None:
    parts = random(rows, cols, seed), random(rows, 2, seed + 1), random(2, cols, seed + 2)
    of = linear_map(*parts).mT if turned else linear_map(*parts)
    vector = torch.nn.functional.normalize(random(of.shape[1], 1, seed + 3), dim=0)
    found, _ = of.products(vector, random(of.shape[0], 1, seed))
    entries = vector.flatten().tolist()
    sums = [math.fsum(map(mul, row, entries)) for row in formed(of, parts).tolist()]
    expected = torch.tensor(sums, dtype=torch.float64)
    # The float64 matrix that is formed here rounds as well.
    assert float((found.flatten() - expected).norm()) <= 2 * of.rounding()


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("updated", [False, True], ids=["plain", "updated"])
def test_float32_products_of_any_scale(factor: float, updated: bool) -> None:
    parts = parts_of((40, 30), updated=updated, dtype=torch.float64)
    plain = linear_map(*(part.float() for part in parts), float32=IN_FLOAT32)
    factors = (factor, factor, 1.0)
    scaled = linear_map(
        *(part.mul(f).float() for part, f in zip(parts, factors, strict=False)), float32=IN_FLOAT32
    )
    vectors = random(30, 4, 5)
    found = scaled.matmat(vectors) * (scaled.scale / factor)
    expected = plain.matmat(vectors) * plain.scale
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.norm()))
    assert scaled.matrix.dtype == torch.float32


def test_only_large_matrices_of_single_precision_multiply_in_it() -> None:
    matrix = torch.zeros(1024, 1024)
    assert linear_map(matrix).matrix.dtype == torch.float32
    assert linear_map(matrix[1:]).matrix.dtype == torch.float64
    assert linear_map(matrix.double()).matrix.dtype == torch.float64
    assert linear_map(matrix.index_fill(0, torch.tensor([0]), 1e-30)).matrix.dtype == torch.float64
    update = torch.ones(1024, 1), torch.ones(1, 1024).double()
    assert linear_map(matrix, *update).matrix.dtype == torch.float64


def test_a_zero_matrix() -> None:
    of = linear_map(torch.zeros(5, 4))
    assert (of.scale, of.norm, of.rounding()) == (1.0, 0.0, 0.0)
    assert not of.matmat(random(4, 2, 0)).any()


@pytest.mark.parametrize("which", [0, 1, 2])
def test_what_is_not_finite_is_refused(which: int) -> None:
    parts = [random(6, 5, 0), random(6, 2, 1), random(2, 5, 2)]
    parts[which][1, 1] = math.inf
    with pytest.raises(NonFiniteError, match=r"^1 (NaN|Inf), the first at \[1, 1\]$"):
        linear_map(*parts)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("updated", [False, True], ids=["plain", "updated"])
def test_precise(shape: tuple[int, int], dtype: torch.dtype, updated: bool) -> None:
    """The same map, multiplied in float64, and what its products err by is told more sharply."""
    parts = parts_of(shape, updated=updated, dtype=dtype)
    plain = linear_map(*parts, float32=IN_FLOAT32)
    for of in (plain, plain.mT):
        sharp, expected = of.precise(), formed(of, parts)
        assert (sharp.shape, sharp.scale, sharp.turned) == (of.shape, of.scale, of.turned)
        assert all(part is None or part.dtype == torch.float64
                   for part in (sharp.matrix, sharp.left, sharp.right))  # fmt: skip
        assert (sharp.left is None) == (sharp.right is None) == (not updated)
        assert float(expected.norm()) <= sharp.norm <= 1.002 * of.norm
        vectors = random(of.shape[1], 4, 3)
        most = 4.0 * sharp.rounding()
        assert float((sharp.matmat(vectors) - expected @ vectors).norm(dim=0).max()) <= most
        before, _ = sharp.products(vectors, vectors.new_zeros(of.shape[0], 0))
        assert float((before - expected @ vectors).norm(dim=0).max()) <= most


def test_a_precise_norm_is_sharper_where_entries_differ() -> None:
    matrix = random(60, 50, 6)
    matrix[3, 4] = 1e3
    of = linear_map(matrix)
    assert of.precise().norm < 0.1 * of.norm
    assert of.precise().rounding() < 0.1 * of.rounding()


@pytest.mark.parametrize("factor", [1e-300, 1e-200, 1e-160, 1e-25, 1e20, 1e160, 1e200, 1e300])
@pytest.mark.parametrize("updated", [False, True], ids=["plain", "updated"])
def test_a_precise_norm_neither_vanishes_nor_overflows(factor: float, updated: bool) -> None:
    parts = parts_of((40, 30), updated=updated, dtype=torch.float64)
    scaled = tuple(part * f for part, f in zip(parts, (factor, factor, 1.0), strict=False))
    of = linear_map(*scaled)
    expected = float(formed(of, scaled).norm())
    assert expected <= of.precise().norm <= 1.002 * of.norm


@pytest.mark.parametrize("shape", [*SHAPES, (700, 40), (40, 700)], ids=str)
@pytest.mark.parametrize("columns", [1, 5, 16, 24])
@pytest.mark.parametrize("rank", [0, 3], ids=["plain", "updated"])
@pytest.mark.parametrize("single", [False, True], ids=["in float64", "in float32"])
def test_normal_and_gram_products(
    shape: tuple[int, int],
    columns: int,
    rank: int,
    single: bool,
) -> None:
    """W v, W^T W v of float64, in parts of rows; and the fast one, which is as it may be."""
    parts = parts_of(shape, updated=bool(rank), dtype=torch.float32)
    plain = linear_map(*parts, float32=IN_FLOAT32 if single else LARGE)
    for of in (plain, plain.mT):
        expected = formed(of, parts)
        vectors = torch.nn.functional.normalize(random(of.shape[1], columns, 5), dim=0)
        kept = vectors.clone()
        image, back = of.normal(vectors)
        assert torch.equal(vectors, kept)
        assert image.dtype == back.dtype == torch.float64
        assert image.shape == (of.shape[0], columns)
        assert back.shape == vectors.shape
        assert float((image - expected @ vectors).norm(dim=0).max()) <= 2.0 * of.rounding()
        twice = expected.mT @ (expected @ vectors)
        assert float((back - twice).norm(dim=0).max()) <= 4.0 * of.norm * of.rounding()
        rough = (1e-5 if single else 1e-13) * of.norm**2
        fast = of.gram_matmat(vectors)
        assert fast.dtype == torch.float64
        assert float((fast - twice).norm(dim=0).max()) <= rough
        assert torch.equal(vectors, kept)
