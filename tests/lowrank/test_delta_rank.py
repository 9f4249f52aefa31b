"""`--delta-rank`: every module at the rank that stands above rounding, and what has none."""

import copy
import re
import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import LlamaForCausalLM

import spectra
import spectra.lowrank
from spectra.errors import UsageError

from .nets import config_of, merged
from .test_experts import logits, mixtral
from .test_extracting import llama

RANKS = {"q_proj": 4, "layers.1.mlp.down_proj": 12}


def merge(model: nn.Module, folder: Path, **settings: Any) -> nn.Module:  # noqa: ANN401 - PEFT's
    """Write a model before and after an adapter was merged into it; return the latter."""
    torch.manual_seed(3)
    model.save_pretrained(folder / "base")  # type: ignore[operator]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        wrapped: Any = peft.get_peft_model(copy.deepcopy(model), peft.LoraConfig(r=8, **settings))
    with torch.no_grad():
        for name, values in wrapped.named_parameters():
            if "lora_" in name:
                values.copy_(0.1 * torch.randn_like(values))
    found: nn.Module = wrapped.merge_and_unload()
    found.save_pretrained(folder / "tuned")  # type: ignore[operator]
    return found


def extracted(folder: Path, name: str = "a", **settings: Any) -> spectra.Result:  # noqa: ANN401
    return spectra.lowrank.extract(
        folder / "base", folder / "tuned", folder / name, delta_rank=True, **settings
    )


def wide(dtype: torch.dtype) -> LlamaForCausalLM:
    """A model whose smallest matrix is far wider than the ranks of the adapter."""
    model = llama(hidden_size=96, intermediate_size=128)
    for values in model.parameters():
        values.data = values.data.to(dtype)
    model.config.dtype = dtype
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_merged_lora_comes_back_at_its_own_ranks(tmp_path: Path, dtype: torch.dtype) -> None:
    model = wide(dtype)
    tuned = merge(model, tmp_path, target_modules="all-linear", rank_pattern=RANKS)
    found = extracted(tmp_path)
    ranks = {row.matrix: row.number("rank_kept") for row in found.rows}
    for name, rank in ranks.items():
        module = name.removesuffix(".weight")
        linear = "proj" in name
        expected = next((own for end, own in RANKS.items() if module.endswith(end)), 8)
        assert rank == (expected if linear else 0), name
    assert {row.values["delta_kind"] for row in found.rows} == {"low rank", "unchanged"}
    made, states = merged(model, tmp_path / "a"), tuned.state_dict()
    for name, values in states.items():  # bfloat16: the roundings of two merges
        tolerance = 1e-5 if dtype is torch.float32 else 2 * 2**-8 * float(values.abs().max())
        torch.testing.assert_close(made[name], values, atol=tolerance, rtol=0)
    cut = extracted(tmp_path, "b", rank=6)
    assert {row.number("rank_kept") for row in cut.rows} == {0.0, 4.0, 6.0}


def test_what_is_of_full_rank_is_written_whole_or_cut(tmp_path: Path) -> None:
    model = wide(torch.float32)
    tuned = merge(model, tmp_path, target_modules=["q_proj", "down_proj"])
    head: Any = tuned.lm_head
    with torch.no_grad():
        head.weight.add_(0.1 * torch.randn_like(head.weight))
    tuned.save_pretrained(tmp_path / "tuned")  # type: ignore[operator]
    found = extracted(tmp_path)
    row = next(row for row in found.rows if row.matrix == "lm_head.weight")
    assert (row.values["rank_kept"], row.values["loss"]) == (None, 0.0)
    assert row.values["delta_kind"] == "full rank"
    assert "1 matrix is of full rank and written whole, 15.0 KiB." in found.summary["reading"]
    assert "Nothing is lost but rounding." in found.summary["reading"]
    told = {item.tensor: item.reason for item in found.skipped}
    assert told["lm_head.weight"] == "written whole: its update is of full rank"
    assert config_of(tmp_path / "a")["modules_to_save"] == ["lm_head"]
    torch.testing.assert_close(
        merged(model, tmp_path / "a"), dict(tuned.state_dict()), atol=1e-5, rtol=0
    )
    cut = extracted(tmp_path, "b", rank=10)
    ranks = {row.matrix: row.number("rank_kept") for row in cut.rows}
    assert (ranks["lm_head.weight"], max(ranks.values(), key=float)) == (10, 10)  # type: ignore[arg-type]
    text = "1 update is of full rank, e.g. 'lm_head.weight' (40 x 96), and cannot be written whole"
    with pytest.raises(UsageError, match=re.escape(text)):
        extracted(tmp_path, "c", to="mlx")
    assert not (tmp_path / "c").exists()


def test_more_than_half_of_all_directions_are_factors_where_these_are_smaller(
    tmp_path: Path,
) -> None:
    """Of three of four outputs nothing is lost."""
    base = {"layers.0.self_attn.k_proj.weight": torch.randn(4, 32),
            "layers.0.mlp.up_proj.weight": torch.randn(48, 32)}  # fmt: skip
    tuned = dict(base)
    for name, rank in zip(base, (3, 30), strict=True):  # 30 (48 + 32) > 48 * 32
        rows, cols = base[name].shape
        tuned[name] = base[name] + 0.1 * torch.randn(rows, rank) @ torch.randn(rank, cols)
    for name, tensors in (("base", base), ("tuned", tuned)):
        (tmp_path / name).mkdir()
        save_file(tensors, tmp_path / name / "model.safetensors")
    found = extracted(tmp_path)
    kept = {row.place.role: row.number("rank_kept") for row in found.rows}
    assert kept == {"attn.k": 3.0, "mlp.up": None}
    assert {row.values["delta_kind"] for row in found.rows} == {"full rank"}
    assert "1 matrix is of full rank and written whole" in str(found.summary["reading"])
    assert float(found.summary["loss"]) < 1e-6


def test_a_full_fine_tune_has_no_such_rank(tmp_path: Path) -> None:
    model = wide(torch.float32)
    model.save_pretrained(tmp_path / "base")
    with torch.no_grad():
        for values in model.parameters():
            values.add_(0.01 * torch.randn_like(values))
    model.save_pretrained(tmp_path / "tuned")
    text = r"finds no update that factors hold in full: full rank is all .* Expected rank=, energy="
    with pytest.raises(UsageError, match=text):
        extracted(tmp_path)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("other", [{"energy": 0.9}, {"budget": "1MB"}], ids=str)
def test_ranks_are_chosen_in_one_way(tmp_path: Path, other: dict[str, Any]) -> None:
    llama().save_pretrained(tmp_path / "base")
    llama().save_pretrained(tmp_path / "tuned")
    word = next(iter(other))
    with pytest.raises(UsageError, match=f"{word}= and delta_rank=True each choose ranks"):
        extracted(tmp_path, **other)


def test_experts_have_ranks_of_their_own(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = mixtral(hidden_size=64, intermediate_size=96, num_hidden_layers=1)
    stacks = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    tuned = merge(model, tmp_path, target_modules=["q_proj"], target_parameters=stacks)
    found = extracted(tmp_path)
    ranks = {row.matrix: row.number("rank_kept") for row in found.rows if row.number("rank_kept")}
    assert set(ranks.values()) == {8.0}
    assert len(ranks) == 7
    with torch.no_grad():
        expected = logits(tuned)
        model.load_state_dict(merged(model, tmp_path / "a"))
    torch.testing.assert_close(logits(model), expected, atol=1e-4, rtol=0)
    name = next(name for name in load_file(tmp_path / "tuned/model.safetensors") if ".w1." in name)
    tensors = load_file(tmp_path / "tuned/model.safetensors")
    tensors[name] += 0.1 * torch.randn_like(tensors[name])
    save_file(tensors, tmp_path / "tuned/model.safetensors", {"format": "pt"})
    text = r"1 update is of full rank, e\.g\. 'model\.layers\.0\.mlp\.experts\.gate_up_proj\[exp"
    with pytest.raises(UsageError, match=text):
        extracted(tmp_path, "b")
    assert extracted(tmp_path, "b", rank=9).summary["rank_kept"] == 6 * 8 + 9
