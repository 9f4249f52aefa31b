"""What stands out of noise, whatever the noise is made of."""

import math

import pytest
import torch
from torch import Tensor

from spectra.kernels.entries import sizes
from spectra.kernels.noise import Bulk, heavy_tail, noise_bulk

SHAPES = [(96, 96), (160, 40), (32, 512)]


def noise(kind: str, rows: int, cols: int, seed: int) -> Tensor:
    """Independent entries of variance 1, float64."""
    source = torch.Generator().manual_seed(seed)
    uniform = torch.rand(rows, cols, generator=source, dtype=torch.float64)
    normal = torch.randn(rows, cols, generator=source, dtype=torch.float64)
    grid = (2.0 * normal).round().clamp(-7, 7)
    return {
        "normal": normal,
        "uniform": (uniform - 0.5) * math.sqrt(12.0),
        "ternary": (3.0 * uniform).floor().sub(1.0) * math.sqrt(1.5),
        "four bits": grid / grid.std(),
        "sparse": normal * (uniform < 0.3) / math.sqrt(0.3),
        "laplace": -(2.0 * uniform - 1.0).sign() * (1.0 - (2.0 * uniform - 1.0).abs()).log()
        / math.sqrt(2.0),
    }[kind]  # fmt: skip


KINDS = ["normal", "uniform", "ternary", "four bits", "sparse", "laplace"]


def bulk_of(matrix: Tensor) -> Bulk:
    rows, cols = matrix.shape
    found = noise_bulk(torch.linalg.svdvals(matrix), rows, cols)
    assert found is not None
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_noise_has_no_spike_and_ends_at_its_edge(kind: str, shape: tuple[int, int]) -> None:
    true = sum(map(math.sqrt, shape))
    found = [bulk_of(noise(kind, *shape, seed)) for seed in range(40)]
    assert sum(one.spikes for one in found) <= (4 if kind in ("sparse", "laplace") else 1)
    assert [one.edge for one in found] == pytest.approx([true] * 40, rel=0.05)


@pytest.mark.parametrize("shape", [(8, 8), (6, 80), (16, 16), (40, 40)], ids=str)
def test_at_most_one_small_matrix_of_noise_in_a_hundred_has_a_spike(shape: tuple[int, int]) -> None:
    found = [bulk_of(noise("normal", *shape, seed)).spikes > 0 for seed in range(300)]
    assert sum(found) <= 3


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "sparse"])
@pytest.mark.parametrize("shape", [(160, 160), (300, 80), (64, 512)], ids=str)
def test_planted_directions_are_counted(kind: str, shape: tuple[int, int]) -> None:
    """Ten that are seen at 1.2 times the edge."""
    rows, cols = shape
    edge = math.sqrt(rows) + math.sqrt(cols)
    # A planted t is seen at sqrt((t^2 + m) (t^2 + n)) / t (Benaych-Georges and Nadakuditi 2012).
    middle = (1.2 * edge) ** 2 - rows - cols
    planted = math.sqrt((middle + math.sqrt(middle**2 - 4.0 * rows * cols)) / 2.0)
    source = torch.Generator().manual_seed(5)
    left, right = (
        torch.linalg.qr(torch.randn(side, 10, generator=source, dtype=torch.float64)).Q
        for side in shape
    )
    matrix = noise(kind, *shape, 7) + planted * left @ right.mT
    found = bulk_of(matrix)
    assert found.spikes == 10
    assert found.edge == pytest.approx(edge, rel=0.05)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_scale_moves_the_edge_alone(scale: float) -> None:
    matrix = noise("normal", 50, 90, 1)
    plain, scaled = bulk_of(matrix), bulk_of(scale * matrix)
    assert scaled.edge == pytest.approx(scale * plain.edge)
    assert scaled.spikes == plain.spikes == 0


def test_a_mean_or_an_entry_is_one_spike_and_hides_none() -> None:
    matrix = noise("normal", 90, 90, 2)
    source = torch.Generator().manual_seed(3)
    one = torch.randn(90, 1, generator=source, dtype=torch.float64)
    weak = 2.0 * one @ one.mT / math.sqrt(90)
    assert bulk_of(matrix + weak).spikes == 1
    assert bulk_of(matrix + weak + 5.0 * torch.ones(90, 90)).spikes == 2
    matrix[3, 4] = 1e6
    assert bulk_of(matrix + weak).spikes == 2


def test_zero_rows_and_columns_make_a_smaller_matrix() -> None:
    matrix = noise("normal", 60, 80, 4)
    inside = torch.zeros(100, 200, dtype=torch.float64)
    inside[:60, :80] = matrix
    sigma = torch.linalg.svdvals(inside)
    sigma[60:] = 0.0
    assert noise_bulk(sigma, 60, 80) == pytest.approx(bulk_of(matrix))


def test_no_noise_no_edge() -> None:
    assert noise_bulk(torch.zeros(9, dtype=torch.float64), 9, 9) is None
    assert noise_bulk(torch.ones(3, dtype=torch.float64), 3, 9) is None
    assert noise_bulk(torch.logspace(0, -6, 90, dtype=torch.float64), 90, 90) is None
    identity = noise_bulk(torch.ones(50, dtype=torch.float64), 50, 50)
    assert identity is not None
    assert identity.edge == pytest.approx(2.0)
    assert identity.spikes == 0


@pytest.mark.parametrize(
    ("kind", "heavy"),
    [("normal", False), ("uniform", False), ("ternary", False), ("four bits", False),
     ("sparse", False), ("laplace", True)],
)  # fmt: skip
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_heavy_tails(kind: str, heavy: bool, shape: tuple[int, int]) -> None:
    for seed in range(5):
        matrix = noise(kind, *shape, seed)
        assert heavy_tail(sizes(matrix), torch.linalg.svdvals(matrix)) is heavy
        assert (
            heavy_tail(sizes(matrix.float() * 1e-30), torch.linalg.svdvals(matrix) * 1e-30) is heavy
        )


def test_a_giant_entry_and_few_entries() -> None:
    matrix = noise("normal", 40, 40, 0)
    matrix[1, 2] = 1e4
    assert heavy_tail(sizes(matrix), torch.linalg.svdvals(matrix)) is True
    few = noise("normal", 10, 10, 0)
    assert heavy_tail(sizes(few), torch.linalg.svdvals(few)) is None
    assert heavy_tail(sizes(torch.eye(500)), torch.ones(500, dtype=torch.float64)) is False
    assert heavy_tail(sizes(torch.zeros(40, 40)), torch.zeros(40, dtype=torch.float64)) is None
