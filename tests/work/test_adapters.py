"""An adapter's diff is the diff of what PEFT itself merges."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn

import spectra
from adapters import save
from spectra.analyzers import Diff

pytestmark = [
    # PEFT corrects the flag and says so; it also asks transformers for a deprecated name.
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to:UserWarning"),
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
]


def gpt2() -> nn.Module:
    config = transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=24, n_positions=8)
    return transformers.GPT2LMHeadModel(config)


def bert() -> nn.Module:
    config = transformers.BertConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        vocab_size=20, max_position_embeddings=8,
    )  # fmt: skip
    return transformers.BertForSequenceClassification(config)


def phi3() -> nn.Module:
    config = transformers.Phi3Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=24, vocab_size=20, pad_token_id=0,
    )  # fmt: skip
    return transformers.Phi3ForCausalLM(config)


def vit() -> nn.Module:
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24,
        image_size=8, patch_size=4,
    )  # fmt: skip
    return transformers.ViTForImageClassification(config)


CASES: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "BERT attention": (bert, {"target_modules": ["query", "value"], "r": 3, "lora_alpha": 7}),
    "rank-stabilised": (bert, {"target_modules": ["query"], "r": 4, "use_rslora": True}),
    "rank and alpha patterns": (
        bert,
        {
            "target_modules": ["query", "dense"],
            "rank_pattern": {"layer.0.attention.self.query": 5, "^.*intermediate.dense": 2},
            "alpha_pattern": {"layer.1.attention.self.query": 11},
        },
    ),
    "whole head saved": (bert, {"target_modules": ["query"], "modules_to_save": ["classifier"]}),
    "embedding": (bert, {"target_modules": ["word_embeddings"], "r": 3}),
    "Conv1D, fused c_attn": (
        gpt2,
        {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True, "r": 3},
    ),
    "Conv1D, the flag left out": (gpt2, {"target_modules": ["c_fc"], "r": 3}),
    "fused qkv and gate_up": (phi3, {"target_modules": ["qkv_proj", "gate_up_proj"], "r": 3}),
    "convolution": (vit, {"target_modules": ["projection"], "r": 3}),
}


@pytest.mark.parametrize("name", CASES)
def test_adapter_equals_merged(name: str, tmp_path: Path) -> None:
    make, settings = CASES[name]
    torch.manual_seed(3)
    model = make()
    save(model, tmp_path / "base")
    wrapped = peft.get_peft_model(model, peft.LoraConfig(**settings))
    with torch.no_grad():
        for key, value in wrapped.named_parameters():
            if "lora_" in key or "modules_to_save" in key:
                value.copy_(torch.randn_like(value) * 0.3)
    wrapped.save_pretrained(str(tmp_path / "adapter"))
    save(copy.deepcopy(wrapped).merge_and_unload(), tmp_path / "merged")

    by_adapter = spectra.diff(tmp_path / "base", tmp_path / "adapter", intruders=True)
    by_merged = spectra.diff(tmp_path / "base", tmp_path / "merged", intruders=True)
    assert [row.matrix for row in by_adapter.rows] == [row.matrix for row in by_merged.rows]
    assert by_merged.summary["changed"] > 0
    for ours, merged in zip(by_adapter.rows, by_merged.rows, strict=True):
        for key in Diff.DELTA_KEYS:
            expected = merged.number(key)
            if expected is None:  # a status, or what is not known of either
                assert ours.values[key] == merged.values[key], key
            else:
                assert ours.number(key) == pytest.approx(expected, rel=2e-4, abs=1e-5), key
        assert ours.values["intruders"] == merged.values["intruders"]


def test_modules_that_match_nothing_are_said_on_top(tmp_path: Path) -> None:
    torch.manual_seed(4)
    model = bert()
    save(model, tmp_path / "base")
    settings = peft.LoraConfig(target_modules=["query", "key"], r=2)
    peft.get_peft_model(model, settings).save_pretrained(str(tmp_path / "adapter"))
    base = load_file(tmp_path / "base" / "model.safetensors")
    renamed = {key.replace("self.key", "self.key_renamed"): value for key, value in base.items()}
    save_file(renamed, tmp_path / "base" / "model.safetensors")
    result = spectra.diff(tmp_path / "base", tmp_path / "adapter")
    assert result.summary["reading"].startswith("2 of the adapter's 4 modules match no tensor")
