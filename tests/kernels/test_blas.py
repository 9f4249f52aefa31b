"""Gram matrices, factors and eigenvalues by either library against float64, of any strides."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from spectra.kernels import blas, inverse, lapack
from spectra.kernels.inverse import cholesky, gram_solve, lower_gram, square_inverse
from spectra.kernels.lapack import symmetric_eigenvalues
from spectra.kernels.linear_map import linear_map
from spectra.kernels.work import PANEL

ERROR = {torch.float32: 2e-6, torch.float64: 4e-15}


@pytest.fixture(params=["torch", "scipy"], autouse=True)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have one of them do it, whatever the processor."""
    by_scipy = request.param == "scipy"
    if by_scipy and not blas.has_own("dsyrk"):
        pytest.skip("SciPy has no OpenBLAS of its own here")
    monkeypatch.setattr(inverse, "is_faster", lambda *_: by_scipy)
    monkeypatch.setattr(lapack, "mkl_is_slow", lambda: by_scipy)
    return str(request.param)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(PANEL + 30, 70), (40, 300), (9, 9)], ids=str)
def test_half_a_gram_matrix(
    shape: tuple[int, int], dtype: torch.dtype, threads: int, generator: torch.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    matrix = 0.02 * torch.randn(*shape, generator=generator)
    for stored in (matrix, matrix.bfloat16(), matrix.mT.contiguous().mT):
        of = linear_map(stored, stored=True)
        of = of if shape[0] >= shape[1] else of.mT
        exact = stored.double() / of.scale
        exact = exact.mT @ exact if shape[0] >= shape[1] else exact @ exact.mT
        found = lower_gram(of, dtype)
        assert found.dtype == dtype
        assert float((found.double() - exact).tril().norm()) <= ERROR[dtype] * float(exact.norm())
        assert torch.equal(found, lower_gram(of, dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_cholesky_factor(dtype: torch.dtype, generator: torch.Generator) -> None:
    wide = torch.randn(60, 200, generator=generator, dtype=torch.float64)
    gram = wide @ wide.mT
    lower = (gram.tril() + torch.full_like(gram, torch.nan).triu(1)).to(dtype)
    factor = cholesky(lower)
    assert factor is not None
    assert_close(factor.double() @ factor.double().mT, gram, rtol=1e-5, atol=1e-4)
    assert_close(gram @ gram_solve(factor, wide[:, :3]), wide[:, :3], rtol=1e-3, atol=1e-4)
    assert lower.isnan().any()  # it is the caller's
    taken = cholesky(lower, overwrite=True)
    assert taken is not None
    assert taken.data_ptr() == lower.data_ptr()
    assert torch.equal(taken, factor)
    assert cholesky(torch.diag(torch.tensor([1.0, -1.0], dtype=dtype))) is None


def test_an_inverse_by_lu(generator: torch.Generator) -> None:
    square = torch.randn(50, 50, generator=generator)
    vectors = torch.randn(50, 3, generator=generator, dtype=torch.float64)
    for stored in (square, square.mT.contiguous().mT):
        of = linear_map(stored)
        found = square_inverse(of)
        assert found is not None
        both, adjoint = found
        exact = stored.double() / of.scale
        assert adjoint is not None
        assert_close(exact.mT @ (exact @ both(vectors)), vectors, rtol=1e-7, atol=1e-7)
        assert_close(exact.mT @ adjoint(vectors), vectors, rtol=1e-7, atol=1e-7)
    assert square_inverse(linear_map(torch.ones(4, 4).tril(-1))) is None


@pytest.mark.parametrize("several", [lapack.SEVERAL, 1], ids=["at once", "in two stages"])
def test_eigenvalues_are_of_the_lower_half(
    several: int, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lapack, "SEVERAL", several)
    wide = torch.randn(lapack.FEWEST + 1, 600, generator=generator, dtype=torch.float64)
    gram = wide @ wide.mT
    lower: Tensor = gram.tril() + torch.full_like(gram, torch.nan).triu(1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = symmetric_eigenvalues(lower)
    finally:
        torch.set_num_threads(threads)
    expected = torch.linalg.svdvals(wide).square().flip(0)
    assert_close(found, expected, rtol=1e-11, atol=0.0)
    assert lower.isnan().any()  # it is the caller's
