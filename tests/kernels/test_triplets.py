"""SORSA's two measures against the published lines, and what pairing and ties do to them."""

import itertools

import pytest
import torch
from torch import Tensor

from spectra.errors import NonFiniteError
from spectra.kernels.triplets import Drift, drift, triplets


def published(before: Tensor, after: Tensor) -> tuple[float, float]:
    """What `calc_x_y` of SORSA's `analysis/data.ipynb` computes, in float64 and of W^T."""
    u_0, s_0, vt_0 = torch.linalg.svd(before.double().T, full_matrices=False)
    u_t, s_t, vt_t = torch.linalg.svd(after.double().T, full_matrices=False)
    sigma = (s_t - s_0).abs().mean()
    turned = ((u_t * u_0).sum(dim=0).abs() + (vt_t * vt_0).sum(dim=1).abs()).mean() / 2
    return float(sigma), float(1 - turned)


def of(before: Tensor, after: Tensor) -> Drift:
    return drift(triplets(before), triplets(after))


@pytest.mark.parametrize("shape", [(24, 24), (40, 12), (12, 40), (1, 9), (9, 1)], ids=str)
@pytest.mark.parametrize("size", [1e-3, 0.3, 3.0])
def test_as_published(shape: tuple[int, int], size: float, generator: torch.Generator) -> None:
    before = torch.randn(shape, generator=generator)
    after = before + size * torch.randn(shape, generator=generator)
    found, (sigma, directions) = of(before, after), published(before, after)
    assert found.sigma == pytest.approx(sigma, rel=1e-9)
    assert found.directions == pytest.approx(directions, abs=1e-9)
    assert 0.0 <= found.matched <= found.directions
    assert found.tied == 0


def test_the_pairing_is_the_best_of_all(generator: torch.Generator) -> None:
    before = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    after = before + 0.8 * torch.randn(6, 5, generator=generator, dtype=torch.float64)
    one, other = triplets(before), triplets(after)
    cosines = (one.left.mT @ other.left).abs() + (one.right.mT @ other.right).abs()
    best = max(
        float(cosines[torch.arange(5), torch.tensor(way)].mean())
        for way in itertools.permutations(range(5))
    )
    assert drift(one, other).matched == pytest.approx(1.0 - best / 2.0, abs=1e-12)


def test_two_values_that_change_places_turn_nothing(generator: torch.Generator) -> None:
    q, p = (torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64)).Q
            for _ in range(2))  # fmt: skip
    sigma = torch.tensor([9.0, 8.0, 5.01, 5.0, 4.0, 3.0, 2.0, 1.0], dtype=torch.float64)
    moved = sigma.clone()
    moved[2], moved[3] = 5.0, 5.01
    found = of(q @ sigma.diag() @ p, q @ moved.diag() @ p)
    assert found.directions == pytest.approx(2 / 8, abs=1e-12)  # two of eight count as new
    assert found.matched == pytest.approx(0.0, abs=1e-12)
    assert found.sigma == pytest.approx(0.0, abs=1e-12)


def test_ties_are_counted_on_either_side(generator: torch.Generator) -> None:
    q, p = (torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64)).Q
            for _ in range(2))  # fmt: skip
    plain = torch.tensor([8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0], dtype=torch.float64)
    tied = plain.clone()
    tied[3:6] = 4.0
    one, other = (q @ sigma.diag() @ p for sigma in (plain, tied))
    assert of(one, one).tied == 0
    assert (of(one, other).tied, of(other, one).tied) == (3, 3)
    assert of(q, q).tied == 8


def test_nan_is_refused() -> None:
    with pytest.raises(NonFiniteError):
        triplets(torch.full((3, 3), torch.nan))
