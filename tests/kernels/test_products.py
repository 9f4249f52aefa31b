"""Products by either library against float64, whatever the strides."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from spectra.kernels import products
from spectra.kernels.lapack import FEWEST, symmetric_eigenvalues
from spectra.kernels.products import product


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
    assert_close(product(left.double(), right.double()), expected)


@pytest.mark.parametrize("slow", [False, True])
def test_eigenvalues_are_of_the_lower_half(
    slow: bool, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spectra.kernels.lapack.mkl_is_slow", lambda: slow)
    wide = torch.randn(FEWEST + 1, 600, generator=generator, dtype=torch.float64)
    gram = wide @ wide.mT
    lower = gram.tril() + torch.full_like(gram, torch.nan).triu(1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = symmetric_eigenvalues(lower)
    finally:
        torch.set_num_threads(threads)
    expected = torch.linalg.svdvals(wide).square().flip(0)
    assert_close(found, expected, rtol=1e-11, atol=0.0)
