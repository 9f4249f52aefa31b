"""Leading triplets: every proven error holds against LAPACK."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from examples import with_spectrum
from kernels.pairs import SPECTRA, orthonormal, random, spectrum
from spectra.kernels import leading as module
from spectra.kernels import linear_map as maps
from spectra.kernels.leading import Leading, certified_leading, distance_from_sine
from spectra.kernels.linear_map import LinearMap, linear_map


def holds(found: Leading, of: LinearMap, matrix: Tensor) -> None:
    """Hold every claim against a full decomposition of the scaled float64 matrix."""
    left, sigma, right = torch.linalg.svd(matrix.double() / of.scale, full_matrices=False)
    right = right.mT
    rounding = 1e-12 * float(sigma[0])
    count = len(found.sigma)
    assert found.measured
    errors = (found.sigma - sigma[:count]).abs()
    assert float(errors.norm()) <= found.value_error + rounding
    assert float(sigma[count - 1]) >= found.ceiling - rounding
    assert float(sigma[count]) < found.ceiling + rounding
    gaps = (sigma[:count, None] - sigma).abs()
    gaps[torch.arange(count), torch.arange(count)] = float("inf")
    reference = 1e-14 * float(sigma[0]) / gaps.amin(dim=1).clamp(min=1e-300)
    for i in range(count):
        sign = torch.sign(left[:, i] @ found.left[:, i] + right[:, i] @ found.right[:, i])
        allowed = float(found.vector_error[i]) + 10.0 * float(reference[i]) + 1e-9
        assert float((found.left[:, i] - sign * left[:, i]).norm()) <= allowed
        assert float((found.right[:, i] - sign * right[:, i]).norm()) <= allowed
        pair = matrix.double() @ found.right[:, i] / of.scale - found.sigma[i] * found.left[:, i]
        other = matrix.double().mT @ found.left[:, i] / of.scale
        other = other - found.sigma[i] * found.right[:, i]
        residual = torch.cat([pair, other]).norm() / 2.0**0.5
        assert float(residual) <= float(found.residual[i]) + rounding


@settings(max_examples=200)
@given(
    st.integers(60, 130),
    st.integers(60, 130),
    st.integers(1, 6),
    st.sampled_from(SPECTRA),
    st.integers(0, 2**20),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0, 0, 1, 4, 16]),
    st.sampled_from([1e-3, 1e-2, 1.0]),
)
def test_every_error_is_no_less_than_the_true_one(
    rows: int,
    cols: int,
    k: int,
    kind: str,
    seed: int,
    single: bool,
    turned: bool,
    rank: int,
    tolerance: float,
) -> None:
    source = torch.Generator().manual_seed(seed)
    matrix = with_spectrum(spectrum(kind, min(rows, cols), seed), rows, cols, source).float()
    whole = matrix.double()
    parts: tuple[Tensor, ...] = (matrix,)
    if rank:
        update = random(rows, rank, seed).float() / rows, random(rank, cols, seed + 1).float()
        whole, parts = whole + update[0].double() @ update[1].double(), (matrix, *update)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maps, "SINGLE", 1 if single else 1 << 20)
        patch.setattr(module, "BLOCK", 12)
        of = linear_map(*parts)
        of, whole = (of.mT, whole.mT) if turned else (of, whole)
        found = certified_leading(of, k, tolerance)
    if found is not None:
        assert len(found.sigma) >= k
        assert float(found.vector_error[:k].max()) <= tolerance
        holds(found, of, whole)


@pytest.mark.parametrize("shape", [(200, 200), (150, 260), (260, 150)], ids=str)
@pytest.mark.parametrize("single", [False, True], ids=["float64", "float32"])
@pytest.mark.parametrize("k", [1, 10, 14])
def test_separate_values_are_found(
    shape: tuple[int, int], single: bool, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maps, "SINGLE", 1 if single else 1 << 20)
    tail = torch.linspace(0.3, 0.01, min(shape) - k)
    sigma = torch.cat([torch.linspace(3, 1, k + 1)[:k], tail])
    matrix = with_spectrum(sigma, *shape, torch.Generator().manual_seed(0)).float()
    of = linear_map(matrix)
    found = certified_leading(of, k)
    assert found is not None
    holds(found, of, matrix)


def test_an_update_is_not_formed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maps, "SINGLE", 1)
    sigma = torch.logspace(0, -2, 200)
    matrix = with_spectrum(sigma, 240, 200, torch.Generator().manual_seed(1)).float()
    up, down = 3.0 * orthonormal(240, 8, 2).float(), orthonormal(200, 8, 3).mT.float()
    down = down * torch.linspace(2, 1, 8)[:, None]
    of = linear_map(matrix, up, down)
    found = certified_leading(of, 8)
    assert found is not None
    holds(found, of, matrix.double() + up.double() @ down.double())


@pytest.mark.parametrize(
    ("sigma", "k"),
    [
        (torch.ones(130), 3),
        (torch.zeros(130), 1),
        (torch.cat([torch.ones(3), torch.zeros(127)]), 5),
        (torch.cat([torch.ones(60), torch.full((70,), 0.1)]), 5),
        (torch.linspace(1, 0.99, 130), 10),
        (torch.linspace(1, 0.1, 130), 20),
        (torch.linspace(1, 0.1, 50), 1),
    ],
    ids=["flat", "zero", "rank 3", "cluster", "crowded", "too many", "too small"],
)
def test_what_cannot_be_proven_is_left_to_a_full_decomposition(sigma: Tensor, k: int) -> None:
    size = len(sigma)
    matrix = with_spectrum(sigma, size, size, torch.Generator().manual_seed(4))
    assert certified_leading(linear_map(matrix), k) is None


@pytest.mark.parametrize("split", [1e-9, 1e-6])
def test_vectors_of_nearly_coinciding_values_are_not_claimed(split: float) -> None:
    sigma = torch.cat([torch.tensor([3.0, 2.0, 2.0 * (1 - split)]).double(),
                       torch.linspace(0.5, 0.1, 147).double()])  # fmt: skip
    matrix = with_spectrum(sigma, 150, 160, torch.Generator().manual_seed(5))
    of = linear_map(matrix)
    found = certified_leading(of, 3, tolerance=2.0)
    assert found is not None
    holds(found, of, matrix)
    assert certified_leading(linear_map(matrix.float()), 3, tolerance=1e-6) is None


def test_the_caller_decides_what_is_good_enough() -> None:
    matrix = with_spectrum(torch.logspace(0, -3, 150), 150, 150, torch.Generator().manual_seed(6))
    asked = []

    def never(found: Leading) -> bool:
        asked.append(found.measured)
        return False

    def measured(found: Leading) -> bool:
        asked.append(found.measured)
        return True

    assert certified_leading(linear_map(matrix), 2, accept=never) is None
    assert asked
    assert not any(asked)
    asked.clear()
    assert certified_leading(linear_map(matrix), 2, accept=measured) is not None
    assert asked[-2:] == [False, True]


def test_distance_from_sine() -> None:
    angle = torch.linspace(0.0, 1.5, 20, dtype=torch.float64)
    pair = torch.stack([angle.cos(), angle.sin()])
    moved = (pair - torch.tensor([[1.0], [0.0]])).norm(dim=0) * 2.0**0.5
    torch.testing.assert_close(distance_from_sine(angle.sin()), moved.clamp(max=2.0))
    assert distance_from_sine(torch.tensor([1.0, 7.0, float("inf")])).tolist() == [2.0] * 3
