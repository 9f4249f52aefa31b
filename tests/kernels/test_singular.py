"""Singular values and left vectors against float64 LAPACK, as numpy calls it."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from examples import with_spectrum
from spectra.errors import NonFiniteError
from spectra.kernels.entries import BLOCK, entry_norm, largest_entry, power_of_two_near
from spectra.kernels.inverse import lower_gram
from spectra.kernels.left_vectors import (
    left_singular,
)
from spectra.kernels.linear_map import linear_map
from spectra.kernels.rounding import EPS64
from spectra.kernels.singular import (
    Settings,
    singular_values,
)
from spectra.kernels.work import PANEL

SETTINGS = Settings()
RELATIVE_ERROR, GRAM_ERROR, SMALL = (
    SETTINGS.relative_error, SETTINGS.gram_error, SETTINGS.small,
)  # fmt: skip
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
SHAPES = ((64, 64), (60, 90), (90, 60), (20, 300), (300, 20))
SIDES = st.integers(1, 70)
SEEDS = st.integers(0, 2**31)


def random(rows: int, cols: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(rows, cols, generator=source, dtype=torch.float64).to(dtype)


def lapack(matrix: Tensor) -> Tensor:
    """Numpy's own LAPACK; torch's for sizes where numpy's threads fight over busy cores."""
    wide = matrix.double()
    if max(wide.shape) > 100:
        values: Tensor = torch.linalg.svdvals(wide)
        return values
    return torch.from_numpy(np.linalg.svd(wide.numpy(), compute_uv=False))


def check(matrix: Tensor) -> Tensor:
    """Hold the values against LAPACK's of the widened matrix; return them."""
    found, expected = singular_values(matrix), lapack(matrix)
    assert found.dtype == torch.float64
    assert found.shape == expected.shape
    assert (found.diff() <= 0).all()
    floor = max(matrix.shape) * EPS64 * float(expected[0])
    gap = (found - expected).abs()
    wrong = gap > (RELATIVE_ERROR * expected).clamp(min=floor)
    assert not wrong.any(), (gap[wrong], expected[wrong])
    assert (found[expected > 2 * floor] > 0).all()
    return found


def cond(kappa: float, rank: int) -> Tensor:
    return torch.logspace(0, -math.log10(kappa), rank, dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kappa", [1.0, 1e2, 1e4, 1e6, 1e8, 1e12], ids=lambda k: f"kappa={k:g}")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_prescribed_spectra(
    shape: tuple[int, int], kappa: float, dtype: torch.dtype, generator: torch.Generator
) -> None:
    sigma = cond(kappa, min(shape))
    found = check(with_spectrum(sigma, *shape, generator).to(dtype))
    resolution = 1e-4 if dtype == torch.float32 else 1e-12  # of what was asked for, to sigma_1
    torch.testing.assert_close(found, sigma, rtol=RELATIVE_ERROR, atol=resolution)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(5, 7), (49, 49), (64, 200), (200, 64)], ids=str)
def test_every_stored_dtype(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    check(random(*shape, seed=1, dtype=dtype))


@pytest.mark.parametrize("short", [SMALL - 1, SMALL, SMALL + 1, SMALL + 2])
@pytest.mark.parametrize("long", [SMALL + 2, PANEL - 1, PANEL, PANEL + 1, 2 * PANEL + 3])
def test_sizes_around_the_thresholds(short: int, long: int) -> None:
    wide = random(short, long, seed=short + long)
    torch.testing.assert_close(check(wide), check(wide.mT), rtol=2 * RELATIVE_ERROR, atol=0)


@pytest.mark.parametrize(
    "sigma",
    [
        torch.cat([torch.ones(30), torch.full((30,), 0.5)]),
        torch.cat([torch.full((59,), 3.0), torch.full((1,), 1e-3)]),
        torch.cat([torch.ones(1), torch.full((59,), 1e-3)]),
        1 + torch.arange(60).flip(0) * 1e-9,
    ],
    ids=["two levels", "one small", "one large", "cluster"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_repeated_and_clustered_values(
    sigma: Tensor, dtype: torch.dtype, generator: torch.Generator
) -> None:
    check(with_spectrum(sigma, 60, 75, generator).to(dtype))


def test_an_orthogonal_matrix_has_only_ones() -> None:
    found = singular_values(torch.eye(80)[torch.randperm(80)])
    torch.testing.assert_close(found, torch.ones(80, dtype=torch.float64), rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("shape", [(4, 4), (5, 9), (60, 60), (60, 200), (200, 60)], ids=str)
def test_exactly_dependent_rows_give_exactly_zero(
    dtype: torch.dtype, rank: int, shape: tuple[int, int], generator: torch.Generator
) -> None:
    left = torch.randint(-1, 2, (shape[0], rank), generator=generator)
    right = torch.randint(-1, 2, (rank, shape[1]), generator=generator)
    left[:rank], right[:, :rank] = torch.eye(rank), torch.eye(rank)
    found = check((left @ right).to(dtype))
    assert (found[:rank] > 0.1).all()
    assert found[rank:].tolist() == [0.0] * (len(found) - rank)


def test_a_repeated_row_and_an_empty_row_are_singular() -> None:
    repeated = random(70, 80)
    repeated[33] = repeated[12]
    assert check(repeated)[-1].item() == 0.0
    empty = random(70, 80)
    empty[5] = 0.0
    assert check(empty)[-1].item() == 0.0
    assert check(empty)[-2].item() > 0.0


@pytest.mark.parametrize("shape", [(1, 1), (3, 4), (70, 80)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_zero_matrix_has_only_zeros(shape: tuple[int, int], dtype: torch.dtype) -> None:
    assert singular_values(torch.zeros(shape, dtype=dtype)).tolist() == [0.0] * min(shape)


@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (1, 5000), (5000, 1)], ids=str)
def test_one_row_or_column_has_its_norm(shape: tuple[int, int]) -> None:
    matrix = random(*shape)
    assert check(matrix).item() == pytest.approx(matrix.double().norm().item(), rel=1e-14)


@pytest.mark.parametrize("value", [3.25, -3.25, 1e-40, 2.0**-149])
def test_one_entry_is_its_own_value(value: float) -> None:
    matrix = torch.tensor([[value]])
    assert singular_values(matrix).tolist() == [abs(matrix.item())]


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)], ids=str)
def test_an_empty_matrix_has_no_values(shape: tuple[int, int]) -> None:
    assert len(singular_values(torch.zeros(shape))) == 0
    assert entry_norm(torch.zeros(shape)) == 0.0


@pytest.mark.parametrize(
    ("factor", "dtype"),
    [
        (1e20, torch.float32),
        (1e-25, torch.float32),
        (1e36, torch.float32),
        (1e-42, torch.float32),
        (1e200, torch.float64),
        (1e-200, torch.float64),
        (1e306, torch.float64),
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", [(10, 12), (70, 70), (1, 6), (60, 80)], ids=str)
def test_extreme_scales(factor: float, dtype: torch.dtype, shape: tuple[int, int]) -> None:
    matrix = random(*shape, dtype=dtype) * factor
    found = singular_values(matrix)
    assert found.isfinite().all()
    unit = lapack(matrix.double() / factor) * factor
    torch.testing.assert_close(found, unit, rtol=RELATIVE_ERROR, atol=0)


def test_entries_of_very_different_sizes() -> None:
    check(random(60, 70) * torch.logspace(-30, 30, 70))
    check(random(60, 70) * torch.logspace(-15, 15, 60)[:, None])


def without_svd(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_matrix: Tensor) -> Tensor:
        raise AssertionError("fell back to the SVD")

    monkeypatch.setattr(torch.linalg, "svdvals", refuse)


def test_a_well_conditioned_matrix_needs_no_svd(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = random(80, 120)
    expected = singular_values(matrix.double())
    without_svd(monkeypatch)
    found = singular_values(matrix)
    torch.testing.assert_close(found, expected, rtol=RELATIVE_ERROR, atol=0)


@pytest.mark.parametrize("kappa", [1e3, 3e4, 7e4, 1e5, 2e5, 1e6])
def test_both_paths_agree_up_to_where_the_svd_takes_over(
    kappa: float, generator: torch.Generator
) -> None:
    matrix = with_spectrum(cond(kappa, 100), 100, 100, generator).float()
    found, exact = singular_values(matrix), singular_values(matrix.double())
    torch.testing.assert_close(found, exact, rtol=RELATIVE_ERROR, atol=0)


def test_a_few_zeros_are_proven_and_many_are_left_to_the_svd(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few, many = random(80, 120), random(80, 120)
    few[7] = few[70]
    few[:, 3] = 0.0
    many[:7] = 0.0
    expected = lapack(few)
    without_svd(monkeypatch)
    found = singular_values(few)
    assert found[-1].item() == 0.0
    torch.testing.assert_close(found[:-1], expected[:-1], rtol=RELATIVE_ERROR, atol=0)
    assert singular_values(many)[-8:].count_nonzero() == 1
    with pytest.raises(AssertionError, match="fell back"):
        singular_values(many, Settings(most=6))


def graded(matrix: Tensor) -> Tensor:
    return matrix * torch.logspace(0, -3, len(matrix))[:, None]


def two_levels(matrix: Tensor) -> Tensor:
    rows, cols = matrix.shape
    rank = min(rows, cols)
    sigma = torch.cat([torch.ones(rank // 2), torch.full((rank - rank // 2,), 3e-4)])
    return with_spectrum(sigma, rows, cols, torch.Generator().manual_seed(0)).float()


def shifted(matrix: Tensor) -> Tensor:
    """Without what the mean direction had, but for a millionth: as centred weights are."""
    return matrix - (1.0 - 1e-6) * matrix.mean(dim=0, keepdim=True)


KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "normal": lambda w: w,
    "positive": lambda w: w.abs(),
    "signs": lambda w: w.sign() * 0.0371,
    "ternary": lambda w: w.round().clamp(-1, 1) * 0.0371,
    "int8 grid": lambda w: (30 * w).round() * 0.00123,
    "graded": graded,
    "nearly constant": lambda w: 1 + 1e-3 * w,
    "heavy tails": lambda w: w**3,
    "bfloat16": lambda w: w.bfloat16().float(),
    "heavy head": lambda w: w + 20.0 * w[:, :1] * w[:1] / w[:, :1].norm(),
    "giant row": lambda w: torch.cat([1e3 * w[:1], w[1:]]),
    "two levels": two_levels,
    "cluster": lambda w: 0.1 * torch.eye(*w.shape) + 1e-5 * w + w[:, :1] * w[:1] / w[:, :1].norm(),
    "low rank": lambda w: w[:, :20] @ w[:20],
    "one tiny": shifted,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(256, 256), (130, 300), (300, 130)], ids=str)
def test_every_value_is_as_promised(kind: str, shape: tuple[int, int]) -> None:
    check(KINDS[kind](random(*shape, seed=11)))


@pytest.mark.parametrize(
    ("kind", "shape"),
    [(kind, shape) for kind in KINDS for shape in ((49, 49), (128, 160), (256, 256))]
    + [("normal", (600, 600)), ("ternary", (600, 600))],
    ids=str,
)
def test_the_stated_error_of_the_gram_path(kind: str, shape: tuple[int, int]) -> None:
    matrix = KINDS[kind](random(*shape, seed=7))
    of = linear_map(matrix.mT)
    squares = torch.linalg.eigvalsh(lower_gram(of, torch.float64)).flip(0).mul_(of.scale**2)
    exact = lapack(matrix)
    # LAPACK's own sigma errs by many eps of sigma_1: squared, that is little only for small ones.
    small = exact < 0.1 * exact[0]
    error = (squares - exact.square())[small].abs().max() / exact[0].square()
    assert error < 0.2 * GRAM_ERROR * math.sqrt(max(shape)) * EPS64


def test_equal_products_that_cancel_stay_within_the_stated_error() -> None:
    """The worst structure known: rounding of one sign in every entry of the Gram matrix."""
    side = torch.ones(1, 1, dtype=torch.float64)
    for _ in range(8):
        side = torch.cat([torch.cat([side, side], 1), torch.cat([side, -side], 1)])
    side /= math.sqrt(256)
    for smallest in (1e-3, 1e-4, 3e-5):
        sigma = torch.ones(256, dtype=torch.float64)
        sigma[-1] = smallest
        check(((side * sigma) @ side.mT).float())


@given(SIDES, SIDES, SEEDS, st.integers(-90, 90))
def test_scaling_by_a_power_of_two_is_exact(rows: int, cols: int, seed: int, power: int) -> None:
    matrix, factor = random(rows, cols, seed), math.ldexp(1.0, power)
    assert torch.equal(singular_values(matrix * factor), singular_values(matrix) * factor)


@given(SIDES, SIDES, SEEDS)
def test_transposing_changes_nothing(rows: int, cols: int, seed: int) -> None:
    matrix = random(rows, cols, seed)
    found, turned = singular_values(matrix), singular_values(matrix.mT)
    floor = 10 * max(rows, cols) * EPS64 * float(found[0])
    torch.testing.assert_close(found, turned, rtol=2 * RELATIVE_ERROR, atol=floor)


@given(SIDES, SIDES, SEEDS)
def test_permuting_rows_and_columns_changes_nothing(rows: int, cols: int, seed: int) -> None:
    source = torch.Generator().manual_seed(seed)
    matrix = random(rows, cols, seed, torch.float64)
    mixed = matrix[torch.randperm(rows, generator=source)]
    mixed = mixed[:, torch.randperm(cols, generator=source)]
    found = singular_values(matrix)
    floor = max(rows, cols) * EPS64 * float(found[0])
    torch.testing.assert_close(singular_values(mixed), found, rtol=0, atol=10 * floor)


@given(SIDES, SIDES, SEEDS)
def test_rotating_changes_nothing(rows: int, cols: int, seed: int) -> None:
    matrix = random(rows, cols, seed, torch.float64)
    left = torch.linalg.qr(random(rows, rows, seed + 1, torch.float64)).Q
    right = torch.linalg.qr(random(cols, cols, seed + 2, torch.float64)).Q
    found = singular_values(matrix)
    floor = max(rows, cols) * EPS64 * float(found[0])
    turned = singular_values(left @ matrix @ right)
    torch.testing.assert_close(turned, found, rtol=0, atol=20 * floor)


@given(SIDES, SIDES, SEEDS)
def test_the_norm_is_that_of_the_entries(rows: int, cols: int, seed: int) -> None:
    matrix = random(rows, cols, seed)
    norm = matrix.double().norm().item()
    assert singular_values(matrix).norm().item() == pytest.approx(norm, rel=RELATIVE_ERROR)
    assert entry_norm(matrix) == pytest.approx(norm, rel=1e-13)


@pytest.mark.parametrize("factor", [1e-300, 1.0, 1e300])
def test_the_norm_of_entries_at_any_scale(factor: float) -> None:
    matrix = random(BLOCK // 2 + 5, 3, dtype=torch.float64)
    expected = matrix.norm().item() * factor
    assert entry_norm(matrix * factor) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("function", [singular_values, left_singular, largest_entry, entry_norm])
def test_nan_and_inf_are_an_error_that_says_where(
    function: Callable[[Tensor], object], value: float, dtype: torch.dtype
) -> None:
    matrix = torch.ones(40, 30, dtype=dtype)
    matrix[31, 4] = matrix[7, 29] = value
    with pytest.raises(NonFiniteError) as caught:
        function(matrix)
    kind = "NaN" if math.isnan(value) else "Inf"
    assert str(caught.value) == f"2 {kind}, the first at [7, 29]"


def test_nan_and_inf_are_both_counted() -> None:
    matrix = torch.tensor([[1.0, math.inf], [math.nan, -math.inf]])
    with pytest.raises(NonFiniteError, match=r"^1 NaN and 2 Inf, the first at \[0, 1\]$"):
        singular_values(matrix)


@pytest.mark.parametrize("shape", [*SHAPES, (1, 7), (7, 1), (2, 3)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_left_vectors_are_orthonormal_and_rebuild_the_matrix(
    shape: tuple[int, int], dtype: torch.dtype
) -> None:
    matrix = random(*shape, seed=3, dtype=dtype)
    left, sigma = left_singular(matrix)
    wide, rank = matrix.double(), min(shape)
    tolerance, largest = 20 * max(shape) * EPS64, float(sigma[0])
    identity = torch.eye(rank, dtype=torch.float64)
    torch.testing.assert_close(left.mT @ left, identity, rtol=0, atol=tolerance)
    torch.testing.assert_close(left @ (left.mT @ wide), wide, rtol=0, atol=tolerance * largest)
    torch.testing.assert_close(sigma, lapack(matrix), rtol=0, atol=tolerance * largest)
    projected = left.mT @ wide
    torch.testing.assert_close(projected.norm(dim=1), sigma, rtol=0, atol=tolerance * largest)


@pytest.mark.parametrize("shape", [(30, 31), (30, 200), (200, 30), (50, 50)], ids=str)
def test_left_vectors_equal_those_of_a_full_svd_up_to_sign(
    shape: tuple[int, int], generator: torch.Generator
) -> None:
    sigma = torch.linspace(2, 1, min(shape), dtype=torch.float64)
    matrix = with_spectrum(sigma, *shape, generator)
    found, _ = left_singular(matrix)
    expected = torch.linalg.svd(matrix, full_matrices=False).U
    cosine = (found * expected).sum(dim=0).abs()
    torch.testing.assert_close(cosine, torch.ones_like(cosine), rtol=0, atol=1e-12)


@pytest.mark.parametrize("factor", [1e-200, 1e200])
def test_left_vectors_at_extreme_scales(factor: float) -> None:
    matrix = random(20, 30, dtype=torch.float64)
    left, sigma = left_singular(matrix * factor)
    unit, values = left_singular(matrix)
    torch.testing.assert_close(left.abs(), unit.abs(), rtol=0, atol=1e-12)
    torch.testing.assert_close(sigma, values * factor, rtol=1e-12, atol=0)


def test_left_vectors_of_nothing() -> None:
    left, sigma = left_singular(torch.zeros(0, 5))
    assert left.shape == (0, 0)
    assert len(sigma) == 0


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0, 0.0), (1.0, 1.0), (1.99, 1.0), (2.0, 2.0), (0.3, 0.25), (5e-324, 2.0**-1022)],
)
def test_the_power_of_two_next_below(value: float, expected: float) -> None:
    assert power_of_two_near(value) == expected
