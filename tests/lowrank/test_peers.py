"""Extraction beside mergekit-extract-lora's published procedure, at equal ranks and dtypes.

mergekit 0.1.5, `mergekit/scripts/extract_lora.py` (`extract_lora`, `_low_rank_decomposition`):
the difference is formed in the stored dtype, then `torch.linalg.svd` of it in float32; with
`distribute_scale`, its default, U_r sqrt(S_r) and sqrt(S_r) V_r^T, else U_r S_r and V_r^T; both in
the stored dtype, alpha the rank. It cannot be installed beside what the tests need.
"""

import copy
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import spectra.lowrank

from .nets import tensors_of
from .test_extracting import llama

RANK = 6
EXACT = 1e-6  # of the norm: what float32 makes of sums


def theirs(before: Tensor, after: Tensor, rank: int, *, distributed: bool) -> Tensor:
    """Return B A as mergekit writes it, in float64."""
    delta = (after - before).float()
    u, s, vh = torch.linalg.svd(delta, full_matrices=False)
    rank = min(rank, *delta.shape)
    root = s[:rank].sqrt() if distributed else s[:rank]
    left = u[:, :rank] * root
    right = root[:, None] * vh[:rank] if distributed else vh[:rank]
    found: Tensor = left.to(after.dtype).double() @ right.to(after.dtype).double()
    return found


def tuned(model: nn.Module, planted: int | None) -> nn.Module:
    """Return a model whose matrices got changes of a rank, or of full rank."""
    found = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, values in found.named_parameters():
            if "proj" not in name or values.ndim < 2:
                continue
            rows, cols = values.shape
            change = torch.randn(rows, cols, generator=generator)
            if planted is not None:
                left = torch.randn(rows, planted, generator=generator)
                change = left @ torch.randn(planted, cols, generator=generator)
            values.add_(0.02 * change.to(values.dtype))
    return found


@pytest.mark.parametrize("planted", [None, 3, RANK, 20], ids=["full", "3", "6", "20"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_mergekit_is_never_better(tmp_path: Path, dtype: torch.dtype, planted: int | None) -> None:
    model = llama(hidden_size=64, intermediate_size=96)
    for values in model.parameters():
        values.data = values.data.to(dtype)
    model.config.dtype = dtype
    other = tuned(model, planted)
    model.save_pretrained(tmp_path / "base")
    other.save_pretrained(tmp_path / "tuned")  # type: ignore[operator]
    found = spectra.lowrank.extract(
        tmp_path / "base", tmp_path / "tuned", tmp_path / "a", rank=RANK
    )
    tensors = tensors_of(tmp_path / "a")
    before, after = model.state_dict(), dict(other.state_dict())
    rows = {row.matrix: row for row in found.rows if "proj" in row.matrix}
    assert len(rows) == 14
    for name, row in rows.items():
        stem = f"base_model.model.{name.removesuffix('.weight')}.lora_"
        assert tensors[f"{stem}B.weight"].dtype == dtype
        exact = after[name].double() - before[name].double()
        ours = tensors[f"{stem}B.weight"].double() @ tensors[f"{stem}A.weight"].double()
        norm, kept = float(exact.norm()), int(row.number("rank_kept") or 0)
        loss = float((exact - ours).norm()) / norm
        assert row.number("loss") == pytest.approx(loss, abs=1e-5)
        least = [float((exact - theirs(before[name], after[name], kept, distributed=way)).norm())
                 for way in (True, False)]  # fmt: skip
        best = float(torch.linalg.svdvals(exact)[kept:].norm()) / norm
        assert loss >= best - EXACT
        # What storing factors in 16 bits moves is chance, alike for both: the rest is compared.
        cut = math.sqrt(max(loss**2 - float(row.number("rounding") or 0.0) ** 2, 0.0))
        assert cut <= min(least) / norm + EXACT
        assert loss <= min(least) / norm * (1.0 if dtype is torch.float32 else 1.05) + EXACT


def test_a_planted_rank_is_held_in_full_and_below_it_the_rest_is_told(tmp_path: Path) -> None:
    model = llama(hidden_size=64, intermediate_size=96)
    model.save_pretrained(tmp_path / "base")
    tuned(model, 5).save_pretrained(tmp_path / "tuned")  # type: ignore[operator]
    pair = tmp_path / "base", tmp_path / "tuned"
    whole = spectra.lowrank.extract(*pair, tmp_path / "a", delta_rank=True)
    ranks = {row.number("rank_kept") for row in whole.rows if "proj" in row.matrix}
    assert ranks == {5.0}
    assert whole.summary["loss"] < EXACT
    less = spectra.lowrank.extract(*pair, tmp_path / "b", rank=4)
    before, after = model.state_dict(), tuned(model, 5).state_dict()
    for row in less.rows:
        if "proj" not in row.matrix:
            continue
        sigma = torch.linalg.svdvals(after[row.matrix].double() - before[row.matrix].double())
        assert row.number("loss") == pytest.approx(float(sigma[4] / sigma.norm()), rel=1e-3)
