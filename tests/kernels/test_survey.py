"""What exceeds a level, against all singular values by LAPACK."""

import pytest
import torch
from torch import Tensor

import device
import pretend
from largest import Made
from spectra.kernels.deflated import Settings
from spectra.kernels.streamed import Streamed
from spectra.kernels.survey import Survey, along, survey

QUICK = Settings(small=16, block=16, many=48)
SHAPES = [(300, 300), (420, 260), (260, 420)]


def planted(shape: tuple[int, int], sigma: list[float], seed: int = 0) -> Tensor:
    """Directions of given size in noise whose largest singular value is about 1."""
    source = torch.Generator().manual_seed(seed)
    rows, cols = shape
    noise = torch.randn(rows, cols, generator=source) / (rows**0.5 + cols**0.5)
    left = torch.linalg.qr(torch.randn(rows, len(sigma), generator=source)).Q
    right = torch.linalg.qr(torch.randn(cols, len(sigma), generator=source)).Q
    found: Tensor = noise + (left * torch.tensor(sigma)) @ right.mT
    return found


def agrees(matrix: Tensor, level: float, settings: Settings = QUICK) -> Survey:
    exact = torch.linalg.svdvals(matrix.double())
    above = int((exact > level).sum())
    found = survey(matrix, level, settings=settings)
    assert found.rank <= above
    assert found.rank == above or not found.exact
    assert found.energy == pytest.approx(float(exact.square().sum()), rel=1e-12)
    seen = found.values[: found.rank]
    assert bool((seen <= exact[: len(seen)] * (1 + 1e-5)).all())
    bracket = found.largest()
    if bracket is not None:
        assert bracket.low * (1 - 1e-12) <= float(exact[0]) <= bracket.high * (1 + 1e-12)
        assert bracket.high <= 1.0011 * bracket.low
    share = exact.square().cumsum(0) / exact.square().sum()
    for asked in (0.1, 0.5, 0.9):
        told = found.energy_rank(asked)
        assert told is None or told == int((share < asked).sum()) + 1
    return found


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("rank", [0, 1, 8, 20, 60])
@pytest.mark.parametrize("strength", [3.0, 30.0, 1e4])
def test_few_directions_are_counted_and_no_other_is_there(
    shape: tuple[int, int], rank: int, strength: float
) -> None:
    sigma = [strength * (1.0 - 0.5 * i / max(rank, 1)) for i in range(rank)]
    found = agrees(planted(shape, sigma), 1.4)
    assert (found.rank, found.exact) == (rank, True)
    if rank:
        assert found.largest() is not None or strength < 30


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sizes_that_float32_products_drown(shape: tuple[int, int]) -> None:
    found = agrees(planted(shape, [1e6, 4e5, 1e4, 300.0, 5.0]).double(), 1.5)
    assert (found.rank, found.exact) == (5, True)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_more_than_half_are_proven_by_a_part(shape: tuple[int, int]) -> None:
    found = agrees(planted(shape, []) * 60.0, 1.0)
    assert not found.exact
    assert 2 * found.rank > min(shape)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("level", [0.2, 0.5, 0.9, 0.99])
def test_what_ends_at_no_gap_is_counted_or_bounded(shape: tuple[int, int], level: float) -> None:
    matrix = planted(shape, [5.0, 2.0])
    exact = torch.linalg.svdvals(matrix.double())
    found = agrees(matrix, level)
    # Within the margin of a Gram matrix.
    assert int((exact > 1.001 * level).sum()) <= found.count(level)
    assert found.count(level) <= int((exact > 0.999 * level).sum())


def test_a_spectrum_too_wide_for_any_gram_matrix_is_decomposed() -> None:
    source = torch.Generator().manual_seed(1)
    left = torch.linalg.qr(torch.randn(200, 200, generator=source, dtype=torch.float64)).Q
    right = torch.linalg.qr(torch.randn(200, 200, generator=source, dtype=torch.float64)).Q
    matrix = left * torch.logspace(0, -12, 200, dtype=torch.float64) @ right
    found = agrees(matrix, 1e-10)
    assert found.count(1e-10) == int((torch.linalg.svdvals(matrix) > 1e-10).sum())


def test_nothing_but_a_few_directions() -> None:
    source = torch.Generator().manual_seed(2)
    matrix = torch.randn(200, 3, generator=source, dtype=torch.float64)
    matrix = matrix @ torch.randn(3, 150, generator=source, dtype=torch.float64)
    assert agrees(matrix, 1e-6).rank == 3


@pytest.mark.parametrize("scale", [1e-18, 1e15])
def test_any_scale(scale: float) -> None:
    found = agrees(planted((300, 200), [9.0, 7.0]) * scale, 1.5 * scale)
    assert (found.rank, found.exact) == (2, True)


@pytest.mark.parametrize("rank", [1, 20])
def test_what_is_left_beside_strong_directions_is_seen_and_not_the_rounding_of_all(
    rank: int,
) -> None:
    """Differences of sums near 1e18 would be off by hundreds."""
    rows, cols = 420, 260
    noise = planted((rows, cols), []).double()
    left, right = (torch.linalg.qr(noise[:side, :rank] + 0.1).Q for side in (rows, cols))
    noise -= left @ (left.mT @ noise)
    noise -= (noise @ right) @ right.mT
    matrix = 1e9 * left @ right.mT + noise
    streamed = Streamed(
        (rows, cols), matrix.dtype, matrix.device, lambda here: matrix[here].clone()
    )
    for given in (matrix, streamed):
        found = survey(given, 1.5, settings=QUICK)
        assert (found.rank, found.exact) == (rank, True)
        assert found.left == pytest.approx(float(noise.square().sum()), rel=1e-3)


@pytest.mark.skipif(device.NAME == pretend.NAME, reason="its tensors hold no memory")
def test_directions_of_what_is_streamed_are_not_held_along_its_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("spectra.kernels.streamed.BLOCK", 1 << 16)
    rows, cols, rank = 12000, 200, 60
    matrix = planted((rows, cols), [3.0 - i / rank for i in range(rank)])
    shape, dtype, where = (rows, cols), matrix.dtype, matrix.device
    streamed = Streamed(shape, dtype, where, lambda here: matrix[here].clone())
    expected = survey(matrix, 1.4, settings=QUICK)
    assert expected.right is not None
    with Made(matrix) as seen:
        found = survey(streamed, 1.4, settings=QUICK)
        others = along(streamed, expected.right)
    assert (found.rank, found.exact) == (expected.rank, expected.exact) == (rank, True)
    for one in (found, others):
        assert torch.allclose(one.values[:rank], expected.values[:rank], rtol=1e-6)
    assert others.rest == pytest.approx(expected.left**0.5, rel=1e-6)
    assert seen.most < 8 * rows * rank / 2
