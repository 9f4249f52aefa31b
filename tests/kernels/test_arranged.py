"""What stands out of noise of any kind: none of the noise, all that is planted."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from benchmarks.models import minilm
from spectra.kernels.arranged import arranged_bulk
from spectra.kernels.entries import sizes
from spectra.kernels.filtered import SMALL
from spectra.kernels.noise import Bulk, broken_off, noise_bulk
from spectra.kernels.singular import decompose

SHAPES = [(256, 256), (480, 120), (96, 768)]
KINDS = ["normal", "uniform", "laplace", "t3", "sparse", "sparser", "int4", "int8", "signs",
         "rows", "rows and columns", "channels"]  # fmt: skip
HEAVY = {"t3", "sparser", "rows", "rows and columns", "channels"}


def noise(kind: str, rows: int, cols: int, seed: int) -> Tensor:
    """Independent entries of mean square 1, in float32, of one scale or of many."""
    source = np.random.default_rng(seed)
    normal = source.standard_normal((rows, cols))
    loud, wide = (np.exp(0.5 * source.standard_normal(one)) for one in ((rows, 1), (1, cols)))
    found: NDArray[np.float64] = {
        "normal": normal,
        "uniform": source.uniform(-1, 1, (rows, cols)),
        "laplace": source.laplace(size=(rows, cols)),
        "t3": source.standard_t(3, (rows, cols)),
        "sparse": normal * (source.random((rows, cols)) < 0.3),
        "sparser": normal * (source.random((rows, cols)) < 0.02),
        "int4": (2.0 * normal).round().clip(-7, 7),
        "int8": (40.0 * normal).round().clip(-127, 127),
        "signs": np.sign(normal),
        "rows": normal * source.uniform(1, 3, (rows, 1)),
        "rows and columns": normal * loud * wide,
        "channels": normal * np.where(np.arange(cols) % 50, 1.0, 10.0),
    }[kind]
    return torch.from_numpy(found / math.sqrt(float((found**2).mean()))).float()


def planted(kind: str, rows: int, cols: int, seed: int, times: float, count: int = 5) -> Tensor:
    """That with so many directions, the weakest seen at so many times the edge."""
    edge = math.sqrt(rows) + math.sqrt(cols)
    # A planted t is seen at sqrt((t^2 + m) (t^2 + n)) / t (Benaych-Georges and Nadakuditi 2012).
    middle = (times * edge) ** 2 - rows - cols
    weakest = math.sqrt((middle + math.sqrt(middle**2 - 4.0 * rows * cols)) / 2.0)
    source = torch.Generator().manual_seed(seed + 50)
    left, right = (
        torch.linalg.qr(torch.randn(side, count, generator=source)).Q for side in (rows, cols)
    )
    signal: Tensor = weakest * left * torch.linspace(1, 4, count) @ right.mT
    return noise(kind, rows, cols, seed) + signal


def bulk_of(matrix: Tensor) -> Bulk:
    found = arranged_bulk(matrix, torch.linalg.svdvals(matrix.double()), *sizes(matrix).filled)
    assert found is not None
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_noise_of_any_kind_has_no_spike(kind: str, shape: tuple[int, int]) -> None:
    for seed in range(4):
        found = bulk_of(noise(kind, *shape, seed))
        assert found.spikes == 0
        assert found.energy == 0.0
        edge = sum(map(math.sqrt, shape))
        assert 0.4 * edge < found.edge < 1.05 * edge
        assert kind in HEAVY or found.edge > 0.98 * edge


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_what_is_planted_is_counted(kind: str, shape: tuple[int, int]) -> None:
    """At 1.3 times the edge in noise of one scale; beside loud entries at 3 times, no more."""
    for seed in range(3):
        found = bulk_of(planted(kind, *shape, seed, 3.0 if kind in HEAVY else 1.3))
        assert found.spikes in ((4, 5) if kind in HEAVY else (5,))
        assert 0.0 < found.energy < 1.0


@pytest.mark.parametrize("count", [1, 5, 40, 200])
@pytest.mark.parametrize("kind", ["normal", "uniform", "int4", "signs", "rows", "sparser"])
def test_any_number_of_directions_is_counted(kind: str, count: int) -> None:
    """At 1.3 times the edge in noise of one scale; beside loud entries at twice, two off."""
    shape, times = (640, 720), 2.0 if kind in HEAVY else 1.3
    found = bulk_of(planted(kind, *shape, 1, times, count)).spikes
    assert abs(found - count) <= (2 if kind in HEAVY else 0)


def band(count: int, low: float) -> Tensor:
    """Noise of scale 1 and so many directions from `low` to 1.6 times `low` of its edge."""
    rows, cols = 300, 150
    edge, source = math.sqrt(rows) + math.sqrt(cols), torch.Generator().manual_seed(count)
    left, right = (
        torch.linalg.qr(torch.randn(side, count, generator=source)).Q for side in (rows, cols)
    )
    sizes = edge * torch.linspace(low, 1.6 * low, count)
    made: Tensor = torch.randn(rows, cols, generator=source) + left * sizes @ right.mT
    return made


@pytest.mark.parametrize("low", [1.2, 1.5, 3.0, 30.0])
@pytest.mark.parametrize("count", [10, 50, 70, 74, 76, 100])
def test_a_band_of_directions_is_no_noise(count: int, low: float) -> None:
    """Up to half of the values all are counted; of more, nothing could be noise."""
    matrix = band(count, low)
    found = arranged_bulk(matrix, torch.linalg.svdvals(matrix.double()), *matrix.shape)
    if count > 75:
        assert found is None
        return
    assert found is not None
    assert found.spikes == count
    assert found.edge == pytest.approx(math.sqrt(300) + math.sqrt(150), rel=0.03)


@pytest.mark.parametrize("shape", [(8, 8), (40, 40), (300, 60), (60, 900)], ids=str)
def test_noise_has_no_break(shape: tuple[int, int]) -> None:
    for seed in range(40):
        sigma = torch.linalg.svdvals(noise("normal", *shape, seed).double())
        assert broken_off(sigma, *shape) == 0


@pytest.mark.parametrize("kind", ["ten loud rows", "half of the rows", "scales by row, ternary"])
def test_rows_of_two_scales_have_no_spike(kind: str) -> None:
    """Where loud rows are many, their directions take most of what tells that they are loud."""
    rows, cols = 128, 1024
    for seed in range(3):
        source = np.random.default_rng(seed)
        normal = source.standard_normal((rows, cols))
        matrix = {
            "ten loud rows": normal * np.where(np.arange(rows) < 10, 5.0, 1.0)[:, None],
            "half of the rows": normal * np.where(np.arange(rows) < 64, 4.0, 1.0)[:, None],
            "scales by row, ternary": np.sign(normal) * (abs(normal) > 0.7)
            * source.uniform(0.5, 2.0, (rows, 1)),
        }[kind]  # fmt: skip
        assert bulk_of(torch.from_numpy(matrix).float()).spikes == 0


@pytest.mark.parametrize("shape", [(32, 32), (1000, 32), (64, 1000), (200, 200)], ids=str)
@pytest.mark.parametrize(
    "kind", ["single entries", "half of the rows, silent", "half of them loud"]
)
def test_what_directions_took_as_a_whole_is_noise(kind: str, shape: tuple[int, int]) -> None:
    """Nothing is left where they live: an entry a direction, or as many of these as loud rows."""
    rows, cols = shape
    for seed in range(12):
        source = np.random.default_rng(seed)
        normal, few = source.standard_normal(shape), source.random(shape) < 24 / (rows * cols)
        loud = source.permutation(rows) < rows // 2
        signal = np.outer(*map(source.standard_normal, shape))
        signal *= 3.0 * (math.sqrt(rows) + math.sqrt(cols)) / np.linalg.norm(signal)
        matrix, expected = {
            "single entries": (normal * few, 0),
            "half of the rows, silent": (normal * loud[:, None] + signal, 1),
            "half of them loud": (normal * np.where(loud, 10.0, 1.0)[:, None], 0),
        }[kind]
        values = torch.from_numpy(matrix).float()
        found = arranged_bulk(values, torch.linalg.svdvals(values.double()), *sizes(values).filled)
        assert found is None or found.spikes == expected


@pytest.mark.parametrize("name", ["encoder.layer.4.output.dense", "encoder.layer.1.output.dense"])
def test_a_thousandth_of_noise_hardly_moves_a_count(name: str) -> None:
    """Of matrices with loud rows, of which most that stands out of one scale falls."""
    with safe_open(minilm() / "model.safetensors", "pt") as file:
        matrix = file.get_tensor(f"{name}.weight")
    size = 1e-3 * float(matrix.square().mean().sqrt())
    source = torch.Generator().manual_seed(0)
    found = [
        bulk_of(matrix + step * size * torch.randn(matrix.shape, generator=source)).spikes
        for step in (0.0, 1.0, 1.0, 1.0)
    ]
    assert max(found) - min(found) <= 1
    assert 2 <= found[0] < 10


def test_a_gram_matrix_from_before_tells_the_same() -> None:
    for matrix in (planted("t3", 300, 200, 0, 2.0), planted("rows", 150, 400, 0, 2.0)):
        sigma, gram = decompose(matrix)
        assert gram is not None
        filled = sizes(matrix).filled
        assert arranged_bulk(matrix, sigma, *filled, gram) == arranged_bulk(matrix, sigma, *filled)


def test_large_matrices_are_judged_by_iterated_vectors() -> None:
    """Sides for which not all singular vectors are made; the same count by all of them."""
    rows, cols = SMALL + 160, SMALL + 90
    assert bulk_of(noise("t3", rows, cols, 0)).spikes == 0
    assert bulk_of(planted("normal", rows, cols, 0, 1.2)).spikes == 5
    assert bulk_of(planted("sparser", rows, cols, 0, 2.0)).spikes == 5


@pytest.mark.parametrize("scale", [2.0**-100, 2.0**100])
def test_the_scale_moves_the_edge_alone(scale: float) -> None:
    matrix = planted("t3", 120, 90, 0, 2.0)
    plain, scaled = bulk_of(matrix), bulk_of(scale * matrix)
    assert scaled.edge == pytest.approx(scale * plain.edge)
    assert scaled.spikes == plain.spikes
    assert scaled.energy == pytest.approx(plain.energy)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_any_dtype_is_judged_by_its_values(dtype: torch.dtype) -> None:
    matrix = planted("t3", 120, 90, 0, 3.0).to(dtype)
    assert bulk_of(matrix).spikes == bulk_of(matrix.float()).spikes == 5


def test_noise_of_one_scale_is_judged_by_its_spectrum_alone() -> None:
    for seed in range(5):
        matrix = planted("normal", 160, 120, seed, 1.2)
        sigma = torch.linalg.svdvals(matrix.double())
        assert arranged_bulk(matrix, sigma, 160, 120) == noise_bulk(sigma, 160, 120)


def test_an_entry_or_a_row_is_none_and_hides_none() -> None:
    matrix = planted("normal", 90, 110, 2, 1.5)
    assert bulk_of(matrix + 5.0).spikes == 6  # a mean is a direction
    matrix[3, 4] = 1e4
    assert bulk_of(matrix).spikes == 5
    matrix[7] *= 40.0
    assert bulk_of(matrix).spikes == 5


def test_structure_all_over_has_no_edge() -> None:
    """A spectrum that falls without a bulk, in directions that are spread out."""
    source = torch.Generator().manual_seed(0)
    left, right = (
        torch.linalg.qr(torch.randn(90, 90, generator=source, dtype=torch.float64)).Q
        for _ in range(2)
    )
    matrix = left * torch.logspace(0, -6, 90, dtype=torch.float64) @ right
    assert arranged_bulk(matrix, torch.linalg.svdvals(matrix), 90, 90) is None
    assert arranged_bulk(torch.zeros(9, 9), torch.zeros(9, dtype=torch.float64), 9, 9) is None
