"""Products by either library against float64, whatever the strides."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from spectra.kernels import products
from spectra.kernels.products import add_product, product


def turned(matrix: Tensor) -> Tensor:
    """Return the same, column by column in memory."""
    return matrix.mT.contiguous().mT


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("shape", [(3, 5, 2), (70, 300, 65), (130, 64, 257)])
def test_products_are_those_of_float64(
    slow: bool, shape: tuple[int, int, int], generator: torch.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if slow and not torch.backends.mkldnn.is_available():
        pytest.skip("torch has no oneDNN here")
    monkeypatch.setattr(products, "mkl_is_slow", lambda: slow)
    rows, inner, cols = shape
    left, right = (torch.randn(*one, generator=generator) for one in ((rows, inner), (inner, cols)))
    expected = left.double() @ right.double()
    for one, other in ((left, right), (turned(left), right), (left, turned(right)),
                       (turned(left), turned(right))):  # fmt: skip
        found = product(one, other)
        assert_close(found.double(), expected, rtol=0.0, atol=2e-6 * inner**0.5)
        assert torch.equal(found, product(one, other))
        into = torch.ones(cols, 2 * rows).mT[::2]
        add_product(into, one, other)
        assert_close(into.double() - 1.0, expected, rtol=0.0, atol=2e-6 * inner**0.5)
    apart = torch.randn(2 * inner, cols, generator=generator)[::2]  # with gaps
    assert_close(product(left, apart), left @ apart)
    assert_close(product(left.double(), right.double()), expected)
