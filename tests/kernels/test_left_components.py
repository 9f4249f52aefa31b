"""Vectors along all left singular vectors, against LAPACK's float64 SVD."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.pairs import DTYPES, SPECTRA, made, random, spectrum
from spectra.errors import NonFiniteError
from spectra.kernels import left_vectors
from spectra.kernels.left_vectors import left_components
from spectra.kernels.rounding import EPS64

SHAPES = ((80, 80), (60, 90), (90, 60), (1, 7), (7, 1), (1, 1))


def holds(matrix: Tensor, seed: int) -> None:
    """Hold values, and what each group of values has of a vector, against a decomposition."""
    asked = random(len(matrix), 5, seed)
    components, values = left_components(matrix, asked)
    assert components.dtype == values.dtype == torch.float64
    assert components.shape == (min(matrix.shape), 5)
    true = torch.linalg.svd(matrix.double(), full_matrices=False)
    rounding = (20 + max(matrix.shape)) * EPS64 * float(true.S[0])
    torch.testing.assert_close(values, true.S, rtol=0, atol=rounding)
    assert torch.equal(values, values.sort(descending=True).values)
    expected = true.U.mT @ asked
    far = true.S[:-1] - true.S[1:] > 1e5 * rounding
    ends = [0, *(far.nonzero().flatten() + 1).tolist(), len(values)]
    for first, last in pairwise(ends):
        if len(matrix) > matrix.shape[1] and not true.S[last - 1] > 1e5 * rounding:
            break  # these mix with what a tall matrix lacks
        norms = [part[first:last].norm(dim=0) for part in (components, expected)]
        torch.testing.assert_close(norms[0], norms[1], rtol=0, atol=1e-4)


@settings(max_examples=75)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.sampled_from(SPECTRA),
    st.integers(0, 2**20),
    st.sampled_from(DTYPES),
)
def test_any_spectrum(rows: int, cols: int, kind: str, seed: int, dtype: torch.dtype) -> None:
    holds(made((rows, cols), spectrum(kind, min(rows, cols), seed), seed).to(dtype), seed)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_what_it_leaves_alone(shape: tuple[int, int]) -> None:
    for matrix in (random(*shape, 1), random(shape[1], shape[0], 1).mT, torch.zeros(shape)):
        asked = random(shape[0], 3, 2)
        before = matrix.clone(), asked.clone()
        holds(matrix, 2)
        left_components(matrix, asked)
        assert torch.equal(matrix, before[0])
        assert torch.equal(asked, before[1])
        components, values = left_components(matrix, asked[:, :0])
        assert components.shape == (min(shape), 0)
        assert len(values) == min(shape)


@pytest.mark.parametrize("layer", ["intermediate.dense", "output.dense", "attention.self.query"])
def test_real_matrices(layer: str, real: dict[str, Tensor]) -> None:
    (matrix,) = [real[name] for name in real if name.endswith(f"layer.0.{layer}.weight")]
    asked = random(len(matrix), 4, 3)
    components, values = left_components(matrix, asked)
    true = torch.linalg.svd(matrix.double(), full_matrices=False)
    torch.testing.assert_close(values, true.S, rtol=1e-12, atol=0.0)
    torch.testing.assert_close(components.abs(), (true.U.mT @ asked).abs(), rtol=0, atol=1e-8)


@pytest.mark.parametrize("factor", [1e-300, 1e-40, 1e40, 1e300])
def test_any_scale(factor: float) -> None:
    matrix, asked = made((60, 90), spectrum("mild", 60, 6), 6), random(60, 3, 7)
    plain, scaled = left_components(matrix, asked), left_components(matrix * factor, asked)
    torch.testing.assert_close(scaled[1] / factor, plain[1], rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(scaled[0].abs(), plain[0].abs(), rtol=0, atol=1e-9)


def test_rotations_that_do_not_converge(monkeypatch: pytest.MonkeyPatch) -> None:
    for shape in SHAPES:
        matrix, asked = random(*shape, 4), random(shape[0], 2, 5)
        expected = left_components(matrix, asked)
        with monkeypatch.context() as patch:
            patch.setattr(
                left_vectors, "bidiagonal_components", lambda square, lines, _others: None
            )
            found = left_components(matrix, asked)
        torch.testing.assert_close(found[1], expected[1], rtol=1e-11, atol=1e-14)
        torch.testing.assert_close(found[0].abs(), expected[0].abs(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_refused(value: float) -> None:
    matrix = random(30, 40, 7)
    matrix[2, 3] = value
    with pytest.raises(NonFiniteError, match=r"1 (NaN|Inf), the first at \[2, 3\]"):
        left_components(matrix, random(30, 2, 8))
