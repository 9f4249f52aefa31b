"""Matrices as long as a vocabulary: what shorter ones give, and never a copy of them."""

import math

import pytest
import torch
from torch import Tensor

import device
import pretend
from analyzers.subjects import matrix_of
from examples import with_spectrum
from largest import most_made
from spectra.analyzers import Kappa, Spectrum
from spectra.errors import NonFiniteError
from spectra.kernels import arranged, linear_map, noise, work
from spectra.kernels.entries import sizes
from spectra.kernels.extremes import extreme_singular_values, largest_singular_value
from spectra.kernels.noise import resolved_rank
from spectra.kernels.rounding import EPS64
from spectra.kernels.singular import decompose
from spectra.kernels.triangle import reflected

HALVES = (torch.bfloat16, torch.float16)
SEEN = pytest.mark.skipif(device.NAME == pretend.NAME, reason="its tensors hold no memory")


@pytest.fixture
def all_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "LONG", 1)
    monkeypatch.setattr(arranged, "ENTRIES", 1 << 14)


def tall(rows: int, cols: int, dtype: torch.dtype, *, turned: bool = False) -> Tensor:
    """Noise, unlike columns, some directions that stand out, and one that nearly vanishes."""
    source = torch.Generator().manual_seed(rows + cols)
    found = torch.randn(rows, cols, generator=source) * torch.linspace(0.1, 1.0, cols)
    planted = [torch.randn(*shape, generator=source) for shape in ((rows, 3), (3, cols))]
    found += 0.3 * planted[0] @ planted[1]
    found[:, 1] = found[:, 0] * 1.01
    found = found.to(dtype)
    return found.mT.contiguous() if turned else found


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("turned", [False, True], ids=["tall", "wide"])
def test_every_number_is_that_of_shorter_matrices(
    dtype: torch.dtype, turned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = (tall(*shape, dtype, turned=turned) for shape in ((18000, 64), (3000, 560)))

    def told() -> list[object]:
        kappa = [Kappa().measure(matrix_of(one)).values for one in (small, large)]
        bracket = largest_singular_value(large)
        return [*kappa, bracket, Spectrum().measure(matrix_of(small)).values]

    expected = told()
    monkeypatch.setattr(work, "LONG", 1)
    assert told() == expected


@SEEN
@pytest.mark.parametrize("turned", [False, True], ids=["tall", "wide"])
@pytest.mark.usefixtures("all_long")
def test_no_copy_is_made_of_all_of_it(turned: bool) -> None:
    spectrum, kappa = Spectrum(), Kappa()
    long = tall(30000, 64, torch.bfloat16, turned=turned)
    assert spectrum.measure(matrix_of(long)).values["spikes"] == 3  # by its vectors, which count
    assert most_made(long, lambda one: spectrum.measure(matrix_of(one))) < long.nbytes
    large = tall(6000, 560, torch.bfloat16, turned=turned)
    assert extreme_singular_values(large).decided_by == "bound"
    assert most_made(large, lambda one: kappa.measure(matrix_of(one))) < large.nbytes
    # Where nothing but a decomposition decides: half of all values are 0.
    half = torch.cat([tall(12000, 70, torch.bfloat16)] * 2, dim=1)
    half = half.mT.contiguous() if turned else half
    assert decompose(half).gram is None
    assert most_made(half, decompose) < half.nbytes


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32, torch.float64], ids=str)
@pytest.mark.usefixtures("all_long")
def test_values_that_the_gram_matrix_loses_come_from_panels(dtype: torch.dtype) -> None:
    sigma = torch.logspace(0, -9, 80, dtype=torch.float64)
    matrix = (1e-3 * with_spectrum(sigma, 5000, 80, torch.Generator().manual_seed(2))).to(dtype)
    expected = torch.linalg.svdvals(matrix.double())
    for one in (matrix, matrix.mT):
        found = decompose(one).values
        floor = 5000 * EPS64 * float(expected[0])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=floor)
    of = linear_map.linear_map(matrix, stored=True)
    own = reflected(of) * of.scale
    assert torch.equal(own, own.triu())
    torch.testing.assert_close(own.mT @ own, matrix.double().mT @ matrix.double())


@SEEN
@pytest.mark.parametrize("turned", [False, True], ids=["tall", "wide"])
@pytest.mark.usefixtures("all_long")
def test_a_rank_that_loud_rows_hide_takes_no_copy(
    turned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = torch.Generator().manual_seed(7)
    left, right = (torch.randn(*of, generator=source) for of in ((20000, 5), (5, 80)))
    left[::5000] *= 1000.0
    matrix = (left @ right).to(torch.bfloat16)
    matrix = matrix.mT.contiguous() if turned else matrix
    sigma, weigh, looked = decompose(matrix).values, noise._balanced, 0

    def balanced(one: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal looked
        looked += 1
        return weigh(one)

    monkeypatch.setattr(noise, "_balanced", balanced)

    def rank(one: Tensor) -> int:
        return resolved_rank(one, sizes(one), sigma, 2.0**-9)

    assert rank(matrix) == 5
    assert looked == 1
    assert most_made(matrix, rank) < matrix.nbytes


@pytest.mark.usefixtures("all_long")
def test_one_long_line_has_its_norm() -> None:
    line = torch.linspace(-1.0, 2.0, 5000).to(torch.bfloat16)
    for one in (line.unsqueeze(0), line.unsqueeze(1)):
        assert float(decompose(one).values) == pytest.approx(float(line.double().norm()))


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("turned", [False, True])
def test_products_of_what_stays_as_stored(dtype: torch.dtype, turned: bool) -> None:
    matrix = tall(90, 40, dtype)
    kept, wide = (
        linear_map.linear_map(matrix, float32=1, stored=stored) for stored in (True, False)
    )
    assert kept.held.data_ptr() == matrix.data_ptr()
    assert kept.dtype == wide.dtype == torch.float32
    kept, wide = (one.mT if turned else one for one in (kept, wide))
    vectors = torch.randn(kept.shape[1], 3, dtype=torch.float64)
    for name in ("matmat", "gram_matmat"):
        torch.testing.assert_close(getattr(kept, name)(vectors), getattr(wide, name)(vectors))
    assert all(map(torch.equal, kept.normal(vectors), wide.normal(vectors)))
    assert torch.equal(kept.row_norms(), wide.row_norms())


def test_what_is_no_number_is_counted_a_block_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spectra.kernels.entries.BLOCK", 16)
    matrix = torch.ones(50, 8, dtype=torch.bfloat16)
    matrix[7, 3], matrix[7, 5], matrix[49, 0] = math.inf, math.nan, -math.inf
    with pytest.raises(NonFiniteError, match=r"1 NaN and 2 Inf, the first at \[7, 3\]"):
        decompose(matrix)
