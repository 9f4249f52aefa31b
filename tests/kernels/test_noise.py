"""What noise alone would do, against simulation and real rounding."""

import math

import pytest
import torch
from torch import Tensor

from spectra.errors import NonFiniteError
from spectra.kernels.entries import sizes
from spectra.kernels.noise import (
    chance_cosine,
    marchenko_pastur_edge,
    mean_rounding_floor,
    rounding_floor,
)
from spectra.kernels.singular import singular_values

UNIT = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
HALF = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)


def normal(rows: int, cols: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, cols, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(300, 300), (200, 800), (800, 200)], ids=str)
def test_the_edge_is_where_noise_ends(shape: tuple[int, int]) -> None:
    edge = marchenko_pastur_edge(0.3, *shape)
    assert edge == 0.3 * (math.sqrt(shape[0]) + math.sqrt(shape[1]))
    largest = [float(singular_values(0.3 * normal(*shape, seed))[0]) for seed in range(3)]
    assert largest == pytest.approx([edge] * 3, rel=0.05)


def spheres(dimension: int, count: int, seed: int) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    y = torch.randn(count, dimension, generator=source, dtype=torch.float64)
    lengths: Tensor = torch.linalg.vector_norm(y, dim=1, keepdim=True)
    return y / lengths


BASES = [
    *((side, side) for side in (1, 2, 3, 4, 5, 6, 8, 13, 14, 15, 16, 64, 384, 1536)),
    *((2, 1), (3, 1), (3, 2), (4, 2), (7, 1), (40, 3), (40, 13), (40, 20), (1536, 384)),
]  # fmt: skip


@pytest.mark.parametrize(("dimension", "vectors"), BASES)
def test_chance_cosine_against_simulation(dimension: int, vectors: int) -> None:
    count = max(3000, min(200_000, 4_000_000 // dimension))
    drawn = spheres(dimension, count, seed=dimension)[:, :vectors]
    largest = drawn.abs().amax(dim=1).sort().values
    middle, spread = count // 2, int(2 * math.sqrt(count))  # four standard errors of a rank
    low, high = largest[middle - spread], largest[middle + spread]
    found = chance_cosine(dimension, vectors)
    assert float(low) - 1e-6 <= found <= float(high) + 1e-6
    assert found == pytest.approx(float(largest[middle]), rel=0.01)


def test_chance_cosine_where_geometry_gives_it() -> None:
    assert chance_cosine(1, 1) == 1.0
    assert chance_cosine(2, 2) == pytest.approx(math.cos(math.pi / 8), abs=1e-7)
    assert chance_cosine(2, 1) == pytest.approx(math.cos(math.pi / 4), abs=1e-7)
    # Caps of the sphere's area, by Archimedes
    assert [chance_cosine(3, count) for count in (1, 2, 3)] == pytest.approx(
        [1 / 2, 3 / 4, 5 / 6], abs=1e-7
    )


def test_chance_cosine_of_a_tall_matrix_is_that_of_its_columns() -> None:
    """Medians of 200,000 draws; with as many vectors as dimensions 0.0588 and 0.0895."""
    assert chance_cosine(4096, 64) == pytest.approx(0.0399, abs=2e-4)
    assert chance_cosine(1536, 384) == pytest.approx(0.0796, abs=3e-4)


def test_chance_cosine_falls_with_the_dimension_as_extreme_values_do() -> None:
    found = [chance_cosine(2**power, 2**power) for power in range(19)]
    assert found == sorted(found, reverse=True)
    dimension = 2.0**18
    law = torch.distributions.Normal(0.0, 1.0)
    quantile = law.icdf(torch.tensor((1 + 0.5 ** (1 / dimension)) / 2, dtype=torch.float64))
    assert found[-1] == pytest.approx(float(quantile) / math.sqrt(dimension), rel=1e-4)


def rounding_norm(matrix: Tensor, dtype: torch.dtype) -> float:
    return float(singular_values(matrix.to(dtype).double() - matrix.double())[0])


@HALF
@pytest.mark.parametrize("shape", [(300, 300), (120, 700), (700, 120)], ids=str)
def test_rounding_of_normal_entries_stays_below_its_floor(
    dtype: torch.dtype, shape: tuple[int, int]
) -> None:
    matrix = 0.02 * normal(*shape)
    floor = rounding_floor(sizes(matrix.to(dtype)), UNIT[dtype])
    assert floor / 3 < rounding_norm(matrix, dtype) <= floor


@HALF
@pytest.mark.parametrize("decades", [1, 3])
@pytest.mark.parametrize("by", ["rows", "cols"])
def test_rounding_of_rows_and_columns_of_different_scales(
    dtype: torch.dtype, decades: int, by: str
) -> None:
    matrix = normal(300, 200) * torch.logspace(0, -decades, 300)[:, None]
    matrix = matrix if by == "rows" else matrix.mT
    floor = rounding_floor(sizes(matrix.to(dtype)), UNIT[dtype])
    assert floor / 6 < rounding_norm(matrix, dtype) <= floor


@HALF
def test_rounding_of_one_huge_row(dtype: torch.dtype) -> None:
    matrix = normal(200, 200)
    matrix[17] *= 100.0
    assert rounding_norm(matrix, dtype) <= rounding_floor(sizes(matrix.to(dtype)), UNIT[dtype])


@HALF
def test_rounding_of_real_matrices(dtype: torch.dtype, real: dict[str, Tensor]) -> None:
    ratios = [
        rounding_norm(matrix, dtype) / rounding_floor(sizes(matrix.to(dtype)), UNIT[dtype])
        for name, matrix in real.items()
        if "layer.1." in name or "layer.5." in name or "position" in name
    ]
    assert len(ratios) == 13
    assert max(ratios) <= 1.02
    assert min(ratios) > 1 / 6


def test_rounding_of_numbers_below_the_normal_range_of_float16() -> None:
    matrix = 1e-6 * normal(200, 200)
    floor = rounding_floor(sizes(matrix.half()), UNIT[torch.float16], smallest=2.0**-24)
    assert floor / 3 < rounding_norm(matrix, torch.float16) <= floor
    assert rounding_floor(sizes(matrix.half()), UNIT[torch.float16]) < floor / 6


def test_the_floor_of_equal_entries_is_the_formula() -> None:
    signs = 0.7 * normal(600, 300).sign().double()
    formula = 2.0**-8 * 0.7 * (math.sqrt(600) + math.sqrt(300)) / math.sqrt(3)
    assert rounding_floor(sizes(signs), 2.0**-8) == pytest.approx(formula, rel=1e-12)


@pytest.mark.parametrize(
    ("factor", "dtype"),
    [(2.0**100, torch.float32), (2.0**-100, torch.float32), (2.0**900, torch.float64)],
)
def test_the_floor_scales_with_the_matrix(factor: float, dtype: torch.dtype) -> None:
    matrix = normal(300, 20).to(dtype)
    expected = rounding_floor(sizes(matrix), 2.0**-8) * factor
    assert rounding_floor(sizes(matrix * factor), 2.0**-8) == expected


def test_a_zero_matrix_has_no_rounding() -> None:
    assert rounding_floor(sizes(torch.zeros(3, 4)), 2.0**-8) == 0.0


def test_the_floor_refuses_what_is_not_finite() -> None:
    with pytest.raises(NonFiniteError, match=r"first at \[0, 1\]"):
        rounding_floor(sizes(torch.tensor([[1.0, math.nan]])), 2.0**-8)


@HALF
@pytest.mark.parametrize("shape", [(300, 300), (700, 200)], ids=str)
def test_the_mean_rounding_floor_is_just_above_real_rounding(
    dtype: torch.dtype, shape: tuple[int, int]
) -> None:
    matrix = 0.02 * normal(*shape)
    lost = singular_values(matrix.to(dtype).float() - matrix)[0]
    floor = mean_rounding_floor(float(matrix.norm()), *shape, UNIT[dtype])
    assert 0.6 < float(lost) / floor < 1.0
    assert floor == pytest.approx(rounding_floor(sizes(matrix), UNIT[dtype]), rel=0.2)


def test_the_mean_rounding_floor_of_equal_entries_is_the_other_one() -> None:
    for size in (1e-150, 1.0, 1e150):
        matrix = torch.full((30, 50), size, dtype=torch.float64)
        norm = size * math.sqrt(1500)
        assert mean_rounding_floor(norm, 30, 50, 2.0**-8) == pytest.approx(
            rounding_floor(sizes(matrix), 2.0**-8)
        )
    assert mean_rounding_floor(0.0, 30, 50, 2.0**-8) == 0.0
