"""Stacks of experts as PEFT's `target_parameters` hold them: each expert its own factors."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    GptOssConfig,
    GptOssForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

import spectra
import spectra.exports.memory
import spectra.lowrank
from spectra.errors import UsageError

from .nets import config_of, loaded, merged, tensors_of

SIZES: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "vocab_size": 32, "tie_word_embeddings": False,
}  # fmt: skip


def mixtral(**settings: Any) -> PreTrainedModel:  # noqa: ANN401 - the config's own
    return MixtralForCausalLM(MixtralConfig(**{**SIZES, **settings}, num_local_experts=3))


def qwen() -> PreTrainedModel:
    return Qwen3MoeForCausalLM(Qwen3MoeConfig(
        **{**SIZES, "head_dim": 8}, num_experts=4, moe_intermediate_size=8, num_experts_per_tok=2
    ))  # fmt: skip


def gpt_oss() -> PreTrainedModel:  # stacks [experts, in, out], and a bias for each
    return GptOssForCausalLM(GptOssConfig(**SIZES, num_local_experts=4, head_dim=8))


def deepseek() -> PreTrainedModel:  # dense layers beside, which PEFT takes for experts by name
    return DeepseekV3ForCausalLM(DeepseekV3Config(
        **{**SIZES, "num_key_value_heads": 2}, n_routed_experts=4, num_experts_per_tok=2,
        moe_intermediate_size=8, n_group=1, topk_group=1, q_lora_rank=8, kv_lora_rank=8,
        qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=8, first_k_dense_replace=1,
    ))  # fmt: skip


def tuned_pair(
    make: Callable[[], PreTrainedModel], folder: Path, *, fused: bool = False,
    rank: int | None = None, only: Callable[[str], bool] = lambda _: True,
) -> tuple[PreTrainedModel, PreTrainedModel]:  # fmt: skip
    """Write a model before and after its parameters moved, all or by a low rank."""
    torch.manual_seed(0)
    model = make()
    model.train(mode=False)
    tuned = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, values in tuned.named_parameters():
            if not only(name):
                continue
            if rank is None:
                values.add_(0.05 * torch.randn(values.shape, generator=generator))
            elif values.ndim > 1:
                left = torch.randn(*values.shape[:-1], rank, generator=generator)
                right = torch.randn(*values.shape[:-2], rank, values.shape[-1], generator=generator)
                values.add_(0.02 * left @ right)
    for one, name in ((model, "base"), (tuned, "tuned")):
        one.save_pretrained(folder / name, save_original_format=not fused)
    return model, tuned


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        found: Tensor = model.eval()(torch.arange(12)[None]).logits
    return found


def stacks(model: nn.Module) -> dict[str, Tensor]:
    return {name: values.detach() for name, values in model.named_parameters()
            if values.ndim == 3}  # fmt: skip


def check_losses(
    found: spectra.Result, model: nn.Module, tuned: nn.Module, place: Path
) -> dict[str, Tensor]:
    """Check each expert's stated loss against what PEFT merges; return what each misses."""
    made, after, missed = merged(model, place), stacks(tuned), {}
    rows = {row.matrix: row for row in found.rows}
    for name, before in stacks(model).items():
        for expert, (one, two, three) in enumerate(
            zip(before.double(), after[name].double(), made[name].double(), strict=True)
        ):
            row = rows[f"{name}[expert={expert}]"]
            norm = float((two - one).norm())
            off = missed[row.matrix] = two - three
            assert row.number("loss") == pytest.approx(float(off.norm()) / (norm or 1), abs=1e-5)
    return missed


@pytest.mark.parametrize("fused", [False, True], ids=["one by one", "fused"])
@pytest.mark.parametrize("make", [mixtral, qwen, gpt_oss, deepseek], ids=lambda make: make.__name__)
def test_peft_computes_what_the_tuned_model_does(
    tmp_path: Path, make: Callable[[], PreTrainedModel], *, fused: bool
) -> None:
    model, tuned = tuned_pair(make, tmp_path, fused=fused)
    if make is deepseek:  # a buffer, which no adapter holds
        assert not torch.equal(logits(model), logits(tuned))
    found = spectra.lowrank.extract(
        tmp_path / "base", tmp_path / "tuned", tmp_path / "a", rank=64, dtype="float32"
    )
    assert [item for item in found.skipped if "written whole" not in item.reason] == []
    expected = logits(tuned)
    torch.testing.assert_close(logits(loaded(model, tmp_path / "a")), expected, atol=1e-4, rtol=0)
    copied = copy.deepcopy(model)
    copied.load_state_dict(merged(model, tmp_path / "a"))
    torch.testing.assert_close(logits(copied), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("cut", [{"rank": 3}, {"energy": 0.8}, {"budget": "40KB"}], ids=str)
def test_the_loss_of_each_expert_is_stated(tmp_path: Path, cut: dict[str, Any]) -> None:
    model, tuned = tuned_pair(qwen, tmp_path)
    found = spectra.lowrank.extract(tmp_path / "base", tmp_path / "tuned", tmp_path / "a", **cut)
    missed = check_losses(found, model, tuned, tmp_path / "a")
    rows = {row.matrix: row for row in found.rows}
    whole = {
        name: (values - stacks(model)[name]).double() for name, values in stacks(tuned).items()
    }
    ranks: dict[str, int] = {}
    for name, change in whole.items():
        for expert, one in enumerate(change):
            row = rows[f"{name}[expert={expert}]"]
            kept, sigma = int(row.number("rank_kept") or 0), torch.linalg.svdvals(one)
            best = float(sigma[kept:].norm() / sigma.norm())
            assert float(missed[row.matrix].norm() / one.norm()) == pytest.approx(best, abs=1e-5)
            if "energy" in cut:
                held = sigma.square().cumsum(0) / sigma.square().sum()
                assert held[kept - 1] >= 0.8 > held[kept - 2] * (kept > 1)
            ranks[name] = max(ranks.get(name, 0), kept)
    config, tensors = config_of(tmp_path / "a"), tensors_of(tmp_path / "a")
    nested = "base_model.model.model.layers.0.mlp.experts.base_layer.lora_A.weight"
    assert tensors[nested].shape == (4 * ranks["model.layers.0.mlp.experts.gate_up_proj"], 16)
    assert set(whole) < set(config["target_parameters"])
    if "budget" in cut:
        written = sum(one.stat().st_size for one in (tmp_path / "a").iterdir())
        assert 30_000 < written <= 40_000 == int(found.settings["budget"])
        assert sum(int(row.number("nbytes") or 0) for row in found.rows) == sum(
            values.numel() * 4 for key, values in tensors.items() if ".lora_" in key
        )


def test_an_expert_that_did_not_change_has_no_directions(tmp_path: Path) -> None:
    model, tuned = tuned_pair(mixtral, tmp_path, only=lambda _: False)
    with torch.no_grad():
        tuned.get_parameter("model.layers.1.mlp.experts.down_proj")[1].add_(
            torch.randn(16, 2) @ torch.randn(2, 24)
        )
    tuned.save_pretrained(tmp_path / "tuned")
    found = spectra.lowrank.extract(
        tmp_path / "base", tmp_path / "tuned", tmp_path / "a", energy=1.0
    )
    held = {row.matrix for row in found.rows if row.number("rank_kept")}
    assert held == {"model.layers.1.mlp.experts.down_proj[expert=1]"}
    assert config_of(tmp_path / "a")["target_parameters"] == [
        "model.layers.1.mlp.experts.down_proj"
    ]
    check_losses(found, model, tuned, tmp_path / "a")
    assert "1 module of rank 2" in found.summary["reading"]


def test_one_expert_alone_may_be_selected(tmp_path: Path) -> None:
    model, tuned = tuned_pair(mixtral, tmp_path)
    some = spectra.lowrank.extract(
        tmp_path / "base", tmp_path / "tuned", tmp_path / "a", rank=9,
        include=["*.0.*experts.2.*"],
    )  # fmt: skip
    assert {row.matrix for row in some.rows} == {
        f"model.layers.0.mlp.experts.{leaf}[expert=2]" for leaf in ("gate_up_proj", "down_proj")
    }
    made = merged(model, tmp_path / "a")
    for name, before in stacks(model).items():
        same = [torch.equal(one, two) for one, two in zip(before, made[name], strict=True)]
        assert same == [True, True, "layers.1" in name]
    told = spectra.lowrank.extract(
        tmp_path / "base", tmp_path / "tuned", tmp_path / "b", rank=9, role="mlp.up,attn"
    )
    assert any("only some of its matrices" in item.reason for item in told.skipped)
    del tuned


def test_names_without_transformers_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned_pair(gpt_oss, tmp_path)
    tuned_pair(qwen, tmp_path / "other")
    places = [(tmp_path / "base", tmp_path / "tuned"),
              (tmp_path / "other/base", tmp_path / "other/tuned")]  # fmt: skip
    for number, pair in enumerate(places):
        spectra.lowrank.extract(*pair, tmp_path / f"with{number}", rank=2)
    monkeypatch.setattr(spectra.exports.memory, "installed", lambda *_: None)
    for number, pair in enumerate(places):
        spectra.lowrank.extract(*pair, tmp_path / f"without{number}", rank=2)
        one, two = (tensors_of(tmp_path / f"{word}{number}") for word in ("with", "without"))
        assert one.keys() == two.keys()
        assert all(torch.equal(values, two[key]) for key, values in one.items())


def test_diff_reads_what_was_written(tmp_path: Path) -> None:
    tuned_pair(mixtral, tmp_path, rank=2)
    spectra.lowrank.extract(tmp_path / "base", tmp_path / "tuned", tmp_path / "a", energy=1 - 1e-9)
    found, whole = (spectra.diff(tmp_path / "base", tmp_path / one) for one in ("a", "tuned"))
    norms = {row.matrix: row.number("delta_norm") for row in whole.rows}
    for row in found.rows:
        assert row.number("delta_norm") == pytest.approx(norms[row.matrix], rel=1e-4), row.matrix


def test_other_forms_have_no_place_for_experts(tmp_path: Path) -> None:
    tuned_pair(mixtral, tmp_path)
    found = spectra.lowrank.extract(
        tmp_path / "base", tmp_path / "tuned", tmp_path / "a.safetensors", rank=2, to="kohya",
        part="transformer", exclude=["*embed*"],
    )  # fmt: skip
    told = {item.reason for item in found.skipped if "experts" in item.tensor}
    text = "not held: --to kohya has no place for bare parameters, such as experts"
    assert told == {text}
    with pytest.raises(UsageError, match="leaves nothing"):
        spectra.lowrank.extract(tmp_path / "base", tmp_path / "tuned", tmp_path / "b", budget="4KB")


@pytest.mark.parametrize("make", [mixtral, gpt_oss], ids=lambda make: make.__name__)
def test_a_stack_belongs_to_experts_that_are_stored_one_by_one(
    tmp_path: Path, make: Callable[[], PreTrainedModel]
) -> None:
    tuned_pair(make, tmp_path)
    tuned_pair(make, tmp_path / "fused", fused=True)
    same = spectra.lowrank.extract(tmp_path / "base", tmp_path / "tuned", tmp_path / "a", rank=3)
    for number, (one, other) in enumerate((("", "fused"), ("fused", ""))):
        base, tuned = tmp_path / one / "base", tmp_path / other / "tuned"
        found = spectra.lowrank.extract(base, tuned, tmp_path / f"b{number}", rank=3)
        assert [row.matrix for row in found.rows] == [row.matrix for row in same.rows]
        assert not any("counterpart" in item.reason for item in found.skipped)
        made, expected = tensors_of(tmp_path / f"b{number}"), tensors_of(tmp_path / "a")
        assert made.keys() == expected.keys()
        assert all(torch.equal(values, expected[name]) for name, values in made.items())
