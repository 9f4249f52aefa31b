"""What few columns of a cosine basis hold, against SciPy's transform and the basis written out."""

import math

import numpy as np
import pytest
import scipy.fft
import torch

from spectra.errors import NonFiniteError
from spectra.kernels.cosine import by_short_side, core_of, cosine_shares, dct3

SIZES = [(5, 1), (4, 2), (7, 3), (9, 8), (31, 17), (64, 64), (12, 33)]


def basis(size: int) -> np.ndarray:
    """The matrix as the optimiser's code writes it out."""
    i, j = np.arange(size)[:, None], np.arange(size)[None]
    made = math.sqrt(2.0 / size) * np.cos(np.pi * i * (2 * j + 1) / (2 * size))
    made[0] *= math.sqrt(0.5)
    return made


@pytest.mark.parametrize(("rows", "cols"), SIZES)
def test_it_is_scipys_transform_and_the_basis_written_out(rows: int, cols: int) -> None:
    lines = torch.randn(rows, cols, generator=torch.Generator().manual_seed(1)).double()
    found = dct3(lines).cpu().numpy()
    np.testing.assert_allclose(found, lines.numpy() @ basis(cols), atol=1e-12)
    expected = scipy.fft.dct(lines.numpy(), type=3, norm="ortho", axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize(("rows", "cols"), SIZES)
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_shares_are_those_of_the_largest_columns(rows: int, cols: int, scale: float) -> None:
    matrix = torch.randn(rows, cols, generator=torch.Generator().manual_seed(2)) * scale
    values = matrix.double().numpy() / scale
    projected = basis(rows).T @ values if rows < cols else values @ basis(cols)
    squares = np.sort((projected**2).sum(axis=1 if rows < cols else 0))[::-1]
    found = cosine_shares(by_short_side(matrix)).cpu().numpy()
    np.testing.assert_allclose(found, squares / squares.sum(), rtol=1e-6, atol=1e-12)


def test_what_lies_on_one_column_is_found_and_signs_scatter_it() -> None:
    tall = torch.randn(50, 1).double() @ torch.from_numpy(basis(40)[:, 3:4].T)
    assert float(cosine_shares(tall)[0]) == pytest.approx(1.0)
    mixed = cosine_shares(tall, seed=0)
    assert float(mixed[0]) < 0.5
    assert torch.equal(mixed, cosine_shares(tall, seed=0))
    assert not torch.equal(mixed, cosine_shares(tall, seed=1))


@pytest.mark.parametrize(("rows", "cols"), [(20, 30), (30, 20), (16, 16)])
def test_a_product_is_taken_by_its_factors(rows: int, cols: int) -> None:
    left = torch.randn(rows, 3, generator=torch.Generator().manual_seed(1))
    right = torch.randn(3, cols, generator=torch.Generator().manual_seed(2))
    for seed in (None, 5):
        whole = cosine_shares(by_short_side(left.double() @ right.double()), seed)
        torch.testing.assert_close(cosine_shares(core_of(left, right), seed), whole)


def test_zeros_have_none_and_what_is_no_number_is_raised() -> None:
    assert not cosine_shares(torch.zeros(4, 3)).any()
    with pytest.raises(NonFiniteError):
        cosine_shares(torch.tensor([[1.0, math.nan]]))
