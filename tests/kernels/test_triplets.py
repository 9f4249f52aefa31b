"""Leading singular triplets of any matrix against LAPACK in float64."""

import pytest
import torch
from torch import Tensor

from examples import with_spectrum
from spectra.errors import NonFiniteError
from spectra.kernels.triplets import Triplets, leading_triplets


def random(rows: int, cols: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, cols, generator=torch.Generator().manual_seed(seed))


def holds(found: Triplets, matrix: Tensor, k: int) -> None:
    left, sigma, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    k = min(k, len(sigma))
    rounding = 1e-12 * float(sigma[0]) if k else 0.0
    assert len(found.sigma) == k
    assert not k or float((found.sigma - sigma[:k]).abs().max()) <= found.value_error + rounding
    for ours, theirs in ((found.left, left[:, :k]), (found.right, right.mT[:, :k])):
        sign = (ours * theirs).sum(dim=0).sign()
        off = torch.linalg.vector_norm(ours * sign - theirs, dim=0)
        determined = found.vector_error < 1.0
        assert bool((off <= found.vector_error + 1e-9)[determined].all())


CASES = {
    "square": random(400, 400),
    "wide": random(300, 500),
    "tall": random(500, 300),
    "row": random(1, 7),
    "column": random(7, 1),
    "low rank": random(300, 3, 1) @ random(3, 280, 2),
    "below rank k": random(40, 2, 1) @ random(2, 30, 2),
    "bfloat16": random(260, 270).bfloat16(),
    "entries near 1e20": random(260, 270) * 1e20,
    "entries near 1e-25": random(260, 270) * 1e-25,
    "float64 near 1e200": random(260, 270).double() * 1e200,
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("k", [1, 6, 19])
def test_any_shape_scale_and_rank(name: str, k: int) -> None:
    holds(leading_triplets(CASES[name], k), CASES[name], k)


@pytest.mark.parametrize("times", [2, 3, 100])
def test_repeated_singular_values_span_their_subspace(times: int) -> None:
    sigma = torch.cat([torch.full((times,), 3.0), torch.linspace(1.0, 0.1, 300 - times)])
    source = torch.Generator().manual_seed(5)
    matrix = with_spectrum(sigma, 320, 300, source)
    found = leading_triplets(matrix, 3)
    holds(found, matrix, 3)
    assert float(found.vector_error[:2].min()) >= 1.0
    torch.testing.assert_close(matrix @ found.right, found.left * found.sigma, rtol=0, atol=1e-5)


def test_two_nearly_equal_values_share_their_uncertainty() -> None:
    sigma = torch.cat([torch.tensor([3.0, 3.0 - 1e-9]), torch.linspace(1.0, 0.1, 298)])
    source = torch.Generator().manual_seed(6)
    holds(leading_triplets(with_spectrum(sigma, 300, 300, source), 2), with_spectrum(
        sigma, 300, 300, torch.Generator().manual_seed(6)), 2)  # fmt: skip


@pytest.mark.parametrize("shape", [(300, 320), (320, 300), (20, 30)], ids=str)
def test_an_update_is_added_without_forming_the_sum(shape: tuple[int, int]) -> None:
    base, left, right = random(*shape), random(shape[0], 4, 1), random(4, shape[1], 2)
    found = leading_triplets(base, 5, update=(left, right))
    holds(found, base.double() + left.double() @ right.double(), 5)


def test_a_zero_matrix_has_zeros_and_no_determined_vector() -> None:
    found = leading_triplets(torch.zeros(5, 3), 2)
    assert found.sigma.tolist() == [0.0, 0.0]
    assert found.vector_error.tolist() == [2.0, 2.0]


def test_an_empty_matrix_has_none() -> None:
    assert leading_triplets(torch.zeros(0, 4), 2).sigma.tolist() == []


def test_nan_is_an_error() -> None:
    with pytest.raises(NonFiniteError, match="1 of 6 entries"):
        leading_triplets(torch.tensor([[1.0, 2.0, float("nan")], [0.0, 0.0, 0.0]]), 1)
