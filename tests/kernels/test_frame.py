"""A change in the singular frame of what it changed, against C = U^T D V in full."""

import pytest
import torch
from torch import Tensor

from examples import with_spectrum
from spectra.kernels.frame import Shares, shares_in, singular_frame

SHAPES = [(40, 40), (60, 30), (30, 60), (1, 7), (7, 1), (1, 1)]


def normal(rows: int, cols: int, seed: int) -> Tensor:
    return torch.randn(
        rows, cols, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def naive(base: Tensor, change: Tensor, k: int, kept: int) -> dict[str, float]:
    left, _, right = torch.linalg.svd(base.double())  # with what the base's rank does not reach
    block = left.mT @ change.double() @ right.mT
    rank = min(base.shape)
    square = block.square() / block.square().sum()
    diagonal = square.diagonal()[:rank]
    tail = float(square[k:rank, k:rank].sum())
    return {
        "diagonal": float(diagonal.sum()), "top": float(square[:k, :k].sum()), "tail": tail,
        "outside": float(square.sum() - square[:rank, :rank].sum()),
        "svfit": float(diagonal[:kept].sum()), "salt": float(diagonal[:k].sum()) + tail,
    }  # fmt: skip


def agree(found: Shares, expected: dict[str, float]) -> None:
    for name, value in expected.items():
        assert getattr(found, name) == pytest.approx(value, abs=1e-10), name


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", ["dense", "factors", "float32"])
def test_shares_are_those_of_the_whole_block(shape: tuple[int, int], kind: str) -> None:
    base, left, right = normal(*shape, 1), normal(shape[0], 3, 2), normal(3, shape[1], 3)
    base[0] *= 4.0
    change = left @ right if kind != "float32" else normal(*shape, 4).float()
    given = (left, right) if kind == "factors" else change
    k = min(4, *shape)
    found = shares_in(singular_frame(base), given, k, 0.9)
    sigma = torch.linalg.svdvals(base).square()
    kept = int((sigma.cumsum(0) < 0.9 * sigma.sum()).sum()) + 1
    agree(found, naive(base, change, k, kept))
    assert (found.kept, found.tied, found.split) == (kept, 0.0, False)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_scale_plays_no_part(scale: float) -> None:
    base, change = normal(20, 30, 1).float(), normal(20, 30, 2).float()
    plain = shares_in(singular_frame(base), change, 5, 0.9)
    for given in (change * scale, (change * scale, torch.eye(30))):
        scaled = shares_in(singular_frame(base * scale), given, 5, 0.9)
        assert scaled[:7] == pytest.approx(plain[:7], abs=1e-5)


def test_what_a_random_change_has_on_average() -> None:
    base = normal(30, 50, 1)
    frame = singular_frame(base)
    found = [shares_in(frame, normal(30, 50, seed), 5, 0.99) for seed in range(2, 30)]
    found += [shares_in(frame, (normal(30, 2, s), normal(2, 50, -s)), 5, 0.99) for s in range(60)]
    mean = torch.tensor([one[:3] for one in found]).mean(dim=0)
    assert mean.tolist() == pytest.approx([1 / 50, 25 / 1500, 625 / 1500], rel=0.2)


def test_singular_values_alone_lie_on_the_diagonal() -> None:
    base = normal(40, 30, 1)
    left, _, right = torch.linalg.svd(base, full_matrices=False)
    found = shares_in(singular_frame(base), (left * normal(1, 30, 2)) @ right, 5, 0.99)
    assert found.diagonal == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("shape", [(40, 40), (60, 40), (40, 60)], ids=str)
def test_values_that_coincide_leave_the_diagonal_open(shape: tuple[int, int]) -> None:
    sigma = torch.cat([torch.linspace(9.0, 5.0, 30), torch.full((10,), 2.0)])
    base = with_spectrum(sigma.double(), *shape, torch.Generator().manual_seed(1))
    change = normal(*shape, 5)
    frame = singular_frame(base)
    assert frame.cluster.bincount().tolist() == [1] * 30 + [10]
    found = shares_in(frame, change, 4, 0.99)
    inside = frame.left[:, 30:].mT @ change @ frame.right[:, 30:]
    assert found.tied == pytest.approx(float((inside.norm() / change.norm()) ** 2))
    assert not found.split
    assert shares_in(frame, change, 34, 0.99).split


def test_the_identity_has_one_cluster_and_no_directions() -> None:
    found = shares_in(singular_frame(torch.eye(12)), normal(12, 12, 1), 3, 0.99)
    assert found.tied == pytest.approx(1.0)
    assert found.split
