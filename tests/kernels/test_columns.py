"""The first columns of a QR factorisation, against the whole one."""

import pytest
import torch

from spectra.kernels.columns import leading_columns


@pytest.mark.parametrize("shape", [(30, 20), (20, 30), (20, 20)])
def test_leading_columns_are_those_of_the_whole_factorisation(shape: tuple[int, int]) -> None:
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    left, right, apart = leading_columns(matrix, 6)
    q, r = torch.linalg.qr(matrix.double())
    torch.testing.assert_close(left @ right, q[:, :6] @ r[:6])
    assert apart == pytest.approx(float(torch.linalg.svdvals(matrix[:, :6].double())[-1]))
    matrix[:, 3] = matrix[:, 1]
    assert leading_columns(matrix, 6)[2] <= 1e-6
