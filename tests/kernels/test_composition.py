"""Lines of heads and their products against whole maps in float64."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from spectra.kernels import composition
from spectra.kernels.composition import (
    DRAWN,
    LEADING,
    HeadsLines,
    energies,
    frame_of,
    gram_shares,
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


@pytest.mark.parametrize(("held", "threads"), [(1, 1), (1, 3), (1 << 14, 2), (12 << 20, 2)])
def test_shares_by_gram_matrices_are_those_of_whole_products(
    held: int, threads: int, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(composition, "HELD", held)
    made = [torch.randn(heads, rows, 90, generator=generator) * scale for heads, rows, scale in
            ((3, 20, 1.0), (2, 7, 1e-12), (3, 20, 1e12), (2, 9, 1.0), (3, 1, 1e-6))]  # fmt: skip
    falling = torch.arange(1.0, 21.0)[:, None] ** -3
    made[0][1] *= falling
    made[2][1] = falling * torch.linalg.qr(made[2][1].mT).Q.mT
    made[2][2] = 0.0
    # what one head writes and another reads, but for a thousandth, lies in other directions
    inside = torch.linalg.qr(made[0][1].mT).Q
    made[3][0] -= made[3][0] @ inside @ inside.mT
    made[3][0] += 1e-3 * falling[:9] * made[0][1][:9]
    sides = [HeadsLines(one, torch.linalg.matrix_norm(one.double())) for one in made]
    writers, readers = sides[:3], [sides[3], sides[4], sides[2], sides[0]]
    reads = [range(2), range(2), range(1, 3), range(3)]
    for reader, some, found in zip(
        readers, reads, gram_shares(writers, readers, reads, threads), strict=True
    ):  # fmt: skip
        expected = torch.cat([
            torch.stack([
                torch.stack([(a @ b.mT).square().sum() for b in reader.lines.double()])
                for a in writers[at].lines.double()
            ]) / (writers[at].length[:, None] * reader.length).square()
            for at in some
        ])  # fmt: skip
        assert_close(found.sqrt(), expected.nan_to_num(0.0).sqrt(), rtol=1.5e-6, atol=1e-8)


def test_frames_turn_lines_to_singular_directions(lines: tuple[Tensor, Tensor]) -> None:
    sigma, turn = frame_of(lines[0][1])
    wide = lines[0][1].double()
    left, expected, _ = torch.linalg.svd(wide, full_matrices=False)
    assert_close(sigma, expected, rtol=1e-10, atol=0.0)
    assert_close((turn @ left).abs(), torch.eye(40, dtype=torch.float64), rtol=0.0, atol=1e-8)
