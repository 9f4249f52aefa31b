"""Pairs as long as a vocabulary: what others give, and neither a copy nor a change of either."""

import gc
import math
import weakref
from collections.abc import Callable, Mapping
from itertools import product

import pytest
import torch
from torch import Tensor

import device
import pretend
from analyzers.subjects import pair_of
from largest import Made
from spectra.analyzers import Diff
from spectra.kernels import work
from spectra.matrices import LowRank, Pair

SEEN = pytest.mark.skipif(device.NAME == pretend.NAME, reason="its tensors hold no memory")
LARGE, SMALL = (2600, 530), (2200, 72)


def normal(rows: int, cols: int, seed: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(rows, cols, generator=torch.Generator().manual_seed(seed))


def orthonormal(rows: int, cols: int, seed: int) -> Tensor:
    vectors: Tensor = torch.linalg.qr(normal(rows, cols, seed)).Q
    return vectors


def weight(rows: int, cols: int) -> Tensor:
    """Noise and ten directions that stand out, as those of trained embeddings do."""
    heads = torch.linspace(3.0, 1.0, 10) * math.sqrt(rows / 20.0)
    left, right = orthonormal(rows, 10, 1), orthonormal(cols, 10, 2)
    return normal(rows, cols, 3, 0.02) + (left * heads) @ right.mT


def low_rank(base: Tensor) -> Tensor:
    rows, cols = base.shape
    return base + normal(rows, 4, 4, 0.1) @ normal(4, cols, 5, 0.05)


def intruding(base: Tensor) -> Tensor:
    rows, cols = base.shape
    left, right = (orthonormal(side, 2, 6) for side in (rows, cols))
    return base + 2.2 * math.sqrt(rows / 20.0) * left @ right.mT


def full(base: Tensor) -> Tensor:
    rows, cols = base.shape
    return base + normal(rows, cols, 7, 2e-3)


def few_rows(base: Tensor) -> Tensor:
    tuned = base.clone()
    tuned[10:60] += normal(50, base.shape[1], 8, 0.01)
    return tuned


def most_rows(base: Tensor) -> Tensor:
    half = base.shape[0] * 9 // 20
    tuned = base.clone()
    tuned[:half] += normal(half, 4, 9, 0.1) @ normal(4, base.shape[1], 9, 0.05)
    return tuned


def scaled_rows(base: Tensor) -> Tensor:
    return base * (1.0 + 0.02 * normal(base.shape[0], 1, 10))


def pruned(base: Tensor) -> Tensor:
    return torch.where(base.abs() < 0.004, 0.0, base)


def run_lost(base: Tensor) -> Tensor:
    tuned = base.clone()
    tuned.view(-1)[1000:9000] = 0.0
    return tuned


def rows_lost(base: Tensor) -> Tensor:
    tuned = low_rank(base)
    tuned[40:70] = 0.0
    return tuned


def reordered(base: Tensor) -> Tensor:
    return base.roll(3, dims=0)


def columns_reordered(base: Tensor) -> Tensor:
    return base.roll(3, dims=1)


def collapsed(base: Tensor) -> Tensor:
    left, sigma, right = torch.linalg.svd(base, full_matrices=False)
    found: Tensor = (left[:, :5] * sigma[:5]) @ right[:5]
    return found


def unlike(base: Tensor) -> Tensor:
    rows, cols = base.shape
    return normal(rows, cols, 11, 0.03)


def uneven(base: Tensor) -> Tensor:
    return low_rank(base)


KINDS = (
    low_rank, intruding, full, few_rows, most_rows, scaled_rows, pruned, run_lost, rows_lost,
    reordered, columns_reordered, collapsed, unlike, uneven,
)  # fmt: skip


def made(kind: Callable[[Tensor], Tensor], shape: tuple[int, int], dtype: torch.dtype) -> Pair:
    base = weight(*shape)
    if kind is uneven:
        base[::100] *= 50.0
    base = base.to(dtype)
    return pair_of(base, kind(base.float()).to(dtype))


def same(found: object, expected: object, near: float = 1e-6) -> bool:
    """Say whether two results agree: numbers to a millionth, all else in every letter."""
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        return found.keys() == expected.keys() and all(
            same(found[key], expected[key], 1e-3 if "cos" in str(key) else near) for key in found
        )
    if isinstance(found, list | tuple) and isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(same, found, expected))
    if isinstance(found, float) and isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=near, abs_tol=1e-9)
    return found == expected


def told(pair: Pair, diff: Diff) -> dict[str, object]:
    return dict(diff.measure(pair).values)


@pytest.mark.parametrize(
    ("kind", "shape", "dtype"),
    [
        (kind, shape, dtype)
        for kind, shape, dtype in product(KINDS, (LARGE, SMALL), (torch.bfloat16, torch.float32))
        if dtype == torch.bfloat16 or shape == SMALL or kind in (low_rank, full, uneven)
    ],
)
def test_a_change_that_is_never_formed_is_told_as_others_are(
    kind: Callable[[Tensor], Tensor],
    shape: tuple[int, int],
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair, diff = made(kind, shape, dtype), Diff(intruders=True, side="both")
    expected = told(pair, diff)
    monkeypatch.setattr(work, "LONG", 1)
    found = told(pair, diff)
    different = {key: (found[key], expected[key]) for key in expected
                 if not same(found[key], expected[key])}  # fmt: skip
    assert not different


@pytest.mark.parametrize("shape", [(900, 130), (900, 700)], ids=["bounds", "no room"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_an_update_is_not_added_to_what_is_long(
    shape: tuple[int, int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, cols = shape
    base = weight(rows, cols).to(dtype)
    update = LowRank(normal(rows, 3, 1, 0.3), normal(3, cols, 2, 0.3))
    pair, diff = pair_of(base, update), Diff(intruders=True, side="both")
    expected = told(pair, diff)
    monkeypatch.setattr(work, "RATIO", 1)
    small_blocks(monkeypatch)
    assert same(told(pair, diff), expected)
    wide = pair_of(base.mT.contiguous(), LowRank(update.right.mT, update.left.mT))
    assert same(told(wide, diff)["intruders"], expected["intruders_right"])


@SEEN
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("kind", [low_rank, rows_lost, run_lost, columns_reordered, unlike, uneven])
def test_nothing_is_made_that_is_as_large(
    kind: Callable[[Tensor], Tensor], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_blocks(monkeypatch)
    pair = made(kind, (6000, 200), dtype)
    assert isinstance(pair.tuned, Tensor)
    with Made(pair.base, pair.tuned) as seen:
        Diff(intruders=True, side="both").measure(pair)
    assert seen.most < pair.base.nbytes


@pytest.mark.parametrize(
    ("kind", "shape"),
    [(low_rank, SMALL), (few_rows, SMALL), (pruned, SMALL), (full, LARGE), (uneven, LARGE)],
)
def test_a_pair_is_let_go_with_its_last_name(
    kind: Callable[[Tensor], Tensor], shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "LONG", 1)
    pair = made(kind, shape, torch.bfloat16)
    assert isinstance(pair.tuned, Tensor)
    sides = [weakref.ref(pair.base), weakref.ref(pair.tuned)]
    gc.collect()
    gc.disable()  # it comes when many objects were made, however large they are
    try:
        Diff(intruders=True, side="both").measure(pair)
        del pair
        assert [side() for side in sides] == [None, None]
    finally:
        gc.enable()


def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every matrix a long one, and what is looked at together a few of its rows."""
    monkeypatch.setattr(work, "LONG", 1)
    for name in BLOCKS:
        monkeypatch.setattr(f"spectra.{name}", 1 << 14)
    monkeypatch.setattr("spectra.kernels.singular.PANEL", 256)


BLOCKS = (
    "kernels.streamed.BLOCK", "kernels.entries.BLOCK",
    "kernels.rounding.BLOCK", "kernels.resolution.BLOCK", "kernels.dominant.PANEL",
    "analyzers.difference.BLOCK", "analyzers.damage.BLOCK", "analyzers.damage.COPIED",
    "analyzers.null_directions.BLOCK",
)  # fmt: skip
