"""Lines of heads and their products against whole maps in float64."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from spectra.kernels.composition import (
    DRAWN,
    LEADING,
    energies,
    sorted_lines,
    weights_of,
    with_error,
)
from spectra.kernels.heads import grams, roots


@pytest.fixture
def lines(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Lines of five heads, 40 of 96 inputs each; the second head has one strong direction."""
    one, other = (torch.randn(5, 40, 96, generator=generator) for _ in range(2))
    one[1, 3] *= 30.0
    return one, other


def test_sorted_lines_are_the_singular_directions(lines: tuple[Tensor, Tensor]) -> None:
    values, written = lines
    sigma, found = sorted_lines(roots(grams(values)), grams(written), written)
    whole = values.double().mT @ written.double()  # V^T O
    expected = torch.linalg.svdvals(whole)[:, :40]
    assert_close(sigma, expected, rtol=1e-8, atol=1e-6)
    rows = found.double() @ found.double().mT
    assert_close(rows, torch.diag_embed(expected**2), rtol=1e-3, atol=0.5)
    # what any later map makes of them is as long as what it makes of the whole
    later = torch.randn(96, 70, dtype=torch.float64)
    assert_close(
        torch.linalg.matrix_norm(found.double() @ later), torch.linalg.matrix_norm(whole @ later),
        rtol=1e-5, atol=0.0,
    )  # fmt: skip


def test_energies_are_those_of_whole_products(lines: tuple[Tensor, Tensor]) -> None:
    writer, reader = lines
    total, error = with_error(energies(writer, reader), (False, False))
    expected = torch.stack([
        torch.stack([(one @ other.mT).square().sum() for other in reader.double()])
        for one in writer.double()
    ])  # fmt: skip
    assert_close(total, expected, rtol=1e-5, atol=0.0)
    assert float(error.abs().max()) == 0.0


def test_estimates_are_right_on_average_and_tell_their_error(lines: tuple[Tensor, Tensor]) -> None:
    writer, reader = lines
    exact = with_error(energies(writer, reader), (False, False))[0]
    found, errors = [], []
    for seed in range(200):
        sums = weights_of(40, seed), weights_of(40, 1000 + seed)
        few = energies(sums[0] @ writer, sums[1] @ reader)
        total, error = with_error(few, (True, True))
        found.append(total / exact)
        errors.append(error / exact)
    ratios, told = torch.stack(found), torch.stack(errors)
    assert_close(ratios.mean(dim=0), torch.ones_like(exact), rtol=0.0, atol=0.05)
    spread = ratios.std(dim=0)
    assert bool((told.mean(dim=0) > 0.6 * spread).all())
    assert bool((told.mean(dim=0) < 1.6 * spread).all())
    assert float(((ratios - 1.0).abs() > 3.0 * told).double().mean()) < 0.05


def test_few_rows_stay_as_they_are() -> None:
    assert_close(weights_of(LEADING + DRAWN, 1), torch.eye(LEADING + DRAWN))
    assert weights_of(LEADING + DRAWN + 1, 1).shape == (LEADING + DRAWN, LEADING + DRAWN + 1)
