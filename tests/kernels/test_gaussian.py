"""The condition number of Gaussian matrices, against simulation and the published limits."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spectra.kernels.gaussian import kappa_null


def simulated(rows: int, cols: int, times: int) -> tuple[float, float]:
    """Return the mean and the standard deviation of ln kappa."""
    source = torch.Generator().manual_seed(rows * 1000 + cols)
    many = torch.randn(times, rows, cols, generator=source, dtype=torch.float64)
    sigma = torch.linalg.svdvals(many)
    log = (sigma[:, 0] / sigma[:, -1]).log()
    return float(log.mean()), float(log.std())


@pytest.mark.parametrize(
    ("rows", "cols", "times", "low", "high"),
    [
        (16, 16, 8000, 0.87, 0.96),
        (64, 64, 1500, 0.86, 1.03),
        (17, 16, 4000, 0.76, 0.83),
        (20, 16, 4000, 0.78, 0.82),
        (68, 64, 600, 0.81, 0.88),
        (80, 64, 600, 0.87, 0.91),
        (64, 128, 200, 0.92, 0.95),
        (256, 64, 100, 0.94, 0.97),
        (1024, 64, 25, 0.97, 0.99),
        (320, 256, 12, 0.92, 0.98),
        (512, 256, 8, 0.96, 0.98),
    ],
)
def test_simulated_matrices_have_this_share_of_it(
    rows: int, cols: int, times: int, low: float, high: float
) -> None:
    mean, _ = simulated(rows, cols, times)
    assert low < math.exp(mean) / kappa_null(rows, cols) < high


@pytest.mark.parametrize(("rows", "cols", "spread"), [(32, 32, 1.1), (68, 64, 0.33), (96, 64, 0.1)])
def test_single_matrices_scatter_as_said(rows: int, cols: int, spread: float) -> None:
    assert simulated(rows, cols, 800)[1] == pytest.approx(spread, rel=0.15)


@given(st.integers(2, 100_000))
def test_a_square_has_edelmans_geometric_mean(side: int) -> None:
    assert kappa_null(side, side) == pytest.approx(math.exp(math.log(side) + 1.537), rel=1e-12)


@given(st.integers(2, 20_000), st.integers(2, 64))
def test_a_long_matrix_has_the_ratio_of_its_edges(short: int, times: int) -> None:
    root = math.sqrt(1 / times)
    expected = (1 + root) / (1 - root)
    assert kappa_null(short * times, short) == pytest.approx(
        expected, rel=1.0 / (short * (times - 1))
    )


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_the_transpose_has_the_same_and_none_is_below_one(rows: int, cols: int) -> None:
    assert kappa_null(rows, cols) == kappa_null(cols, rows) >= 1.0


@given(st.integers(2, 3000), st.integers(0, 3000))
def test_it_falls_as_a_matrix_grows_longer(short: int, more: int) -> None:
    assert kappa_null(short + more + 1, short) < kappa_null(short + more, short)


@pytest.mark.parametrize("cols", [1, 2, 768])
def test_a_single_row_has_one_singular_value(cols: int) -> None:
    assert kappa_null(1, cols) == 1.0
