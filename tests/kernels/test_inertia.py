"""Eigenvalues of Gram matrices that exceed a point, against all of them by LAPACK."""

import pytest
import torch

from spectra.kernels.inertia import eigenvalues_above, gram_error
from spectra.kernels.inverse import lower_gram
from spectra.kernels.linear_map import linear_map


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0, 1.7, 9.0])
def test_pivots_count_as_eigenvalues_do(dtype: torch.dtype, share: float) -> None:
    source = torch.Generator().manual_seed(0)
    matrix = torch.randn(120, 70, generator=source)
    gram = (matrix.mT @ matrix).to(dtype)
    gram.diagonal()[::2] -= share * 120.0  # indefinite: rows are pivoted two by two
    expected = torch.linalg.eigvalsh(gram.double())
    for point in (-50.0, 0.0, 30.0, 400.0):
        assert eigenvalues_above(gram.tril(), point) == int((expected > point).sum())
    assert eigenvalues_above(torch.full((3, 3), torch.inf), 0.0) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_how_far_a_gram_matrix_is_off_is_not_understated(dtype: torch.dtype) -> None:
    source = torch.Generator().manual_seed(1)
    matrix = torch.randn(900, 600, generator=source)
    of = linear_map(matrix)
    gram = lower_gram(of, dtype)
    wide = matrix.double() / of.scale
    off = float(torch.linalg.matrix_norm((gram.double() - wide.mT @ wide).tril()))
    told = gram_error(gram, of)
    assert off <= told <= 40.0 * max(off, 1e-8)
    gram[5, 3] += 1.0
    assert 1.0 <= gram_error(gram, of) <= 20.0
