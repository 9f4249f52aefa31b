"""What a few directions hold of a matrix, against its SVD."""

import pytest
import torch
from torch import Tensor

from examples import with_spectrum
from spectra.kernels.dominant import dominant, dominant_of_factors, held, projected

SHAPES = [(60, 40), (40, 60), (3, 9), (1, 5), (5, 1), (1, 1)]


def normal(rows: int, cols: int, seed: int) -> Tensor:
    return torch.randn(
        rows, cols, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("scale", [1.0, 1e-20, 1e20])
def test_leading_directions_of_a_spectrum_that_falls(shape: tuple[int, int], scale: float) -> None:
    sigma = 3.0 ** -torch.arange(min(shape), dtype=torch.float64)
    change = with_spectrum(sigma, *shape, torch.Generator().manual_seed(2)) * scale
    left, values, right = torch.linalg.svd(change, full_matrices=False)
    found = dominant(change, 2)
    share = values.square() / values.square().sum()
    assert found.shares.tolist() == pytest.approx(share[:2].tolist(), rel=1e-6)
    assert abs(float(found.directions[:, 0] @ left[:, 0])) == pytest.approx(1.0, abs=1e-8)
    image = found.directions[:, 0] @ change
    assert torch.allclose(found.image / scale, image / scale, atol=1e-10)
    assert abs(float(image @ right[0])) == pytest.approx(float(values[0]), rel=1e-6)


def test_factors_and_their_product_agree() -> None:
    left, right = normal(50, 3, 1).float(), normal(3, 70, 2).float()
    one, other = dominant_of_factors(left, right, 2), dominant(left @ right, 2)
    assert one.shares.tolist() == pytest.approx(other.shares.tolist(), rel=1e-4)
    assert abs(float(one.directions[:, 0] @ other.directions[:, 0])) == pytest.approx(1.0, abs=1e-5)
    sign = torch.sign(one.directions[:, 0] @ other.directions[:, 0])
    assert torch.allclose(one.image, other.image * sign, atol=1e-3)


@pytest.mark.parametrize("spread", [0.0, 0.3, 3.0, 30.0])
def test_what_any_vector_holds_lies_where_it_is_proven_to(spread: float) -> None:
    for seed in range(30):
        change = normal(40, 30, seed) + spread * normal(40, 1, seed + 99) @ normal(1, 30, seed + 7)
        found = dominant(change, 1 + seed % 3)
        near = found.directions[:, 0] + 0.05 * seed * normal(40, 1, seed + 5)[:, 0]
        unit = near / near.norm()
        low, high = held(found.directions, found.shares, unit)
        true = float((unit @ change).square().sum() / change.square().sum())
        assert low - 1e-12 <= true <= high + 1e-12
        if spread == 30.0 and seed == 0:
            assert high - low < 0.01


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_projections(dtype: torch.dtype) -> None:
    matrix, vector = normal(70, 30, 1).to(dtype), normal(70, 1, 2)[:, 0]
    expected = vector @ matrix.double()
    assert torch.allclose(projected(matrix, vector), expected, atol=1e-4)
