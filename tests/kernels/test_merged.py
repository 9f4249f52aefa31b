"""How often an update was added, where the stored values round it."""

import pytest
import torch
from torch import Tensor

from spectra.kernels.merged import Added, Store, added, products
from spectra.kernels.rounding import GRIDS, grid_of, half_steps

BF16, F16 = torch.bfloat16, torch.float16
SIZE = 256
RELATIVE = (0.1, 0.01, 0.003, 0.001, 0.0003)


def factors(base: Tensor, relative: float) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(1)
    up, down = torch.randn(SIZE, 8, generator=source), torch.randn(8, SIZE, generator=source)
    return up * (relative * base.float().norm() / (up @ down).norm()), down


def found(base: Tensor, tuned: Tensor, update: Tensor) -> Added:
    wide = tuned.float()
    stored = next(grid for grid in GRIDS if grid.dtype is tuned.dtype)
    grid = grid_of(wide, stored)
    store = Store(grid.rounded, half_steps(wide, grid, stored))
    return added(base.float(), wide, update, store)


@pytest.fixture
def master() -> Tensor:
    return 0.02 * torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("relative", RELATIVE)
def test_right_merges_hold_it_once(master: Tensor, relative: float) -> None:
    base = master.to(BF16)
    up, down = factors(master, relative)
    update = up @ down
    float8 = (100 * master).to(torch.float8_e4m3fn).float() / 100
    summed = base.float() + update
    lengths = base.float().norm(dim=1, keepdim=True) * torch.linspace(0.99, 1.01, SIZE)[:, None]
    dora = summed / summed.norm(dim=1, keepdim=True) * lengths
    ways = {
        "bfloat16": (base, summed.to(BF16), update),
        "in bfloat16, as PEFT does": (base, base + up.to(BF16) @ down.to(BF16), update),
        "float16": (master.to(F16), (master.to(F16).float() + update).to(F16), update),
        "float32": (master, master + update, update),
        "bfloat16 in float32's file": (base.float(), summed.to(BF16).float(), update),
        "float32 base, rounded first": (master, summed.to(BF16), update),
        "float32 base, rounded last": (master, (master + update).to(BF16), update),
        "float32 base, through float16": (
            master, (master.to(F16).float() + update).to(BF16), update),
        "float8 base": (float8, (float8.to(BF16).float() + update).to(BF16), update),
        "DoRA": (base, dora.to(BF16), dora - base.float()),
    }  # fmt: skip
    for way, given in ways.items():
        scale, rest, *_ = found(*given)
        assert scale == pytest.approx(1.0, abs=0.01), way
        assert rest < 0.15, way


@pytest.mark.parametrize("relative", RELATIVE)
def test_wrong_merges_are_told(master: Tensor, relative: float) -> None:
    base = master.to(BF16)
    up, down = factors(master, relative)
    update = up @ down
    for times in (2.0, 0.5, -1.0, 16.0):
        scale, *_ = found(base, (base.float() + times * update).to(BF16), update)
        assert scale == pytest.approx(times, rel=0.02)
        scale, *_ = found(master, master + times * update, update)
        assert scale == pytest.approx(times, rel=1e-3)
    twice = ((base.float() + update).to(BF16).float() + update).to(BF16)
    assert (found(base, twice, update).scale or 0.0) > 1.3
    assert found(base, base, update).scale == 0.0
    assert abs(found(master, master.to(BF16), update).scale or 0.0) < 0.05


def test_a_merge_into_another_base_leaves_a_rest(master: Tensor) -> None:
    base = master.to(BF16)
    up, down = factors(master, 0.01)
    other = base.float() + 0.1 * master.flip(0)
    assert found(base, (other + up @ down).to(BF16), up @ down).rest > 0.9


def test_what_rounding_hides_is_not_known(master: Tensor) -> None:
    base = master.to(BF16)
    up, down = factors(master, 1e-7)
    assert found(base, base, up @ down) == Added(None)
    assert found(base, base, torch.zeros(SIZE, SIZE)) == Added(None)


def test_values_of_a_codec_are_taken_with_its_noise(master: Tensor) -> None:
    step = 0.001
    up, down = factors(master, 0.3)
    tuned = ((master + up @ down) / step).round() * step
    store = Store(None, torch.full((SIZE, SIZE), step / 2))
    once = added(master, tuned, up @ down, store)
    assert once.scale == pytest.approx(1.0, abs=0.01)
    assert once.rest < 0.1
    assert added(master, tuned, 0.01 * up @ down, store) == Added(None)


def test_nothing_changed_and_nothing_known() -> None:
    bad = torch.full((4, 4), torch.inf)
    store = Store(None, torch.zeros(4, 4))
    assert added(torch.ones(4, 4), bad, torch.ones(4, 4), store) == Added(None)
    assert products(torch.ones(2, 3), torch.ones(2, 3)) == (6.0, 6.0, 6.0)
