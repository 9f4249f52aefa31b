"""Leading eigenvectors by a filter, against all of them."""

import pytest
import torch
from torch import Tensor

from spectra.kernels.filtered import SMALL, leading_eigenvectors


def spiked(side: int, largest: float) -> tuple[Tensor, Tensor, Tensor]:
    """A Gram matrix with 20 directions beyond a bulk in [0, 1]; values and vectors."""
    source = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(side, side, generator=source, dtype=torch.float64)).Q
    values = torch.linspace(1.0, 0.0, side, dtype=torch.float64)
    values[:20] = torch.logspace(1.0, 0.0, 20, dtype=torch.float64) ** torch.tensor(largest).log10()
    values[:20] *= 2.0
    return (turn * values) @ turn.mT, values, turn


@pytest.mark.parametrize("side", [SMALL, 400])
@pytest.mark.parametrize("largest", [10.0, 1e3, 1e7])
def test_directions_that_stand_apart_are_found(side: int, largest: float) -> None:
    gram, values, turn = spiked(side, largest)
    found = leading_eigenvectors(gram.tril(), values, 20)
    assert found.dtype == (torch.float32 if largest < 1e4 else torch.float64)
    assert (found.mT @ found - torch.eye(20)).abs().max() < 1e-5
    cosine = (found.double() * turn[:, :20]).sum(0).abs()
    assert cosine[:16].min() > 0.999
    assert cosine.min() > 0.95


def test_only_the_lower_half_is_read() -> None:
    gram, values, _ = spiked(300, 10.0)
    noise = torch.randn(300, 300, dtype=torch.float64)
    one, other = (leading_eigenvectors(gram.tril() + upper, values, 20)
                  for upper in (0.0 * noise.triu(1), noise.triu(1)))  # fmt: skip
    assert torch.equal(one, other)


def test_where_all_that_is_not_sought_is_nothing() -> None:
    source = torch.Generator().manual_seed(1)
    thin = torch.randn(300, 10, generator=source, dtype=torch.float64)
    values, turn = torch.linalg.eigh(thin @ thin.mT)
    found = leading_eigenvectors(thin @ thin.mT, values.flip(0).clamp(min=0.0), 10)
    assert (found.double().mT @ turn[:, -10:]).square().sum() == pytest.approx(10.0, rel=1e-6)
