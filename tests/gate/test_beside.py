"""Merges beside their matrices: norms and biases, and what the adapter leaves alone."""

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import spectra
from adapters import method

EXPECTED = (
    ".is_gradient_checkpointing. is deprecated",
    "Unsupported layer type",
    "Model (has|with) `tie_word",
    "Adapter 'default'. 4 LoRA",
    "Setting `save_embedding",
)
pytestmark = [pytest.mark.filterwarnings(f"ignore:{text}") for text in EXPECTED]
Tensors = dict[str, Tensor]
SIZES: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 40,
}  # fmt: skip


def opt() -> nn.Module:
    torch.manual_seed(5)
    model = transformers.OPTForCausalLM(transformers.OPTConfig(
        **SIZES, ffn_dim=48, max_position_embeddings=20, word_embed_proj_dim=32, pad_token_id=0
    ))  # fmt: skip
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.randn_like(value) * 0.02)
    return model


def read(folder: Path) -> tuple[Tensors, Tensors]:
    return (load_file(folder / "base/model.safetensors"),
            load_file(folder / "merged/model.safetensors"))  # fmt: skip


def checked(folder: Path, tensors: Tensors | None = None) -> spectra.Result:
    if tensors is not None:
        save_file(tensors, folder / "merged/model.safetensors")
    return spectra.check(
        folder / "merged", base=folder / "base", adapter=folder / "adapter", select="SPC107"
    )


def messages(found: spectra.Result) -> dict[str, str]:
    return {one["matrix"]: one["message"] for one in found.summary["findings"]}


LORA: dict[str, Any] = {"r": 4, "target_modules": ["q_proj", "v_proj"]}
KINDS = {
    "all-biases": peft.LoraConfig(**LORA, bias="all"),
    "own-biases": peft.LoraConfig(**LORA, bias="lora_only"),
    "norms": peft.LoraConfig(**LORA, modules_to_save=["self_attn_layer_norm"]),
    "norms-alone": peft.LNTuningConfig(target_modules=["self_attn_layer_norm"]),
}


@pytest.mark.parametrize("name", KINDS)
def test_vectors_that_an_adapter_stores_are_looked_for(name: str, tmp_path: Path) -> None:
    method(opt(), KINDS[name], tmp_path)
    base, merged = read(tmp_path)
    moved = {key for key, value in base.items()
             if value.ndim == 1 and not torch.equal(value, merged[key])}  # fmt: skip
    whole = checked(tmp_path)
    account = whole.summary["merge"]
    assert account["matrices"] == account["exact"] == len(moved) + (0 if "alone" in name else 4)
    assert not messages(whole)
    assert len(moved) >= 4

    old = checked(tmp_path, merged | {key: base[key] for key in moved})
    assert set(messages(old)) == moved
    assert set(messages(old).values()) == {"equals the base: the adapter's update is not in it"}

    twice = checked(tmp_path, merged | {key: 2 * merged[key] - base[key] for key in moved})
    assert set(messages(twice)) == moved
    assert all("is in it 2 times" in text for text in messages(twice).values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["f32", "bf16"])
def test_what_the_adapter_leaves_alone_and_changed_is_told(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    """Storing it in another dtype changes nothing; training on does."""
    method(opt(), peft.LoraConfig(**LORA), tmp_path)
    _, merged = read(tmp_path)
    stored = {key: value.to(dtype) for key, value in merged.items()}
    assert not messages(checked(tmp_path, stored))
    wrong = "model.decoder.layers.1.fc1.weight", "model.decoder.layers.0.fc2.bias"
    for key in wrong:
        stored[key] = stored[key] * 1.25
    found = checked(tmp_path, stored)
    assert messages(found) == dict.fromkeys(wrong, "changed, though the adapter leaves it alone")
    assert "2 other matrices and vectors changed" in found.summary["reading"]
    assert found.summary["merge"]["exact"] == 4


def test_a_head_that_went_into_the_embeddings_it_is_tied_to_is_told(tmp_path: Path) -> None:
    method(opt(), peft.LoraConfig(r=4, target_modules=["q_proj", "lm_head"]), tmp_path)
    base, merged = read(tmp_path)
    name = "model.decoder.embed_tokens.weight"
    assert not torch.equal(base[name], merged[name])
    found = checked(tmp_path)
    assert set(messages(found)) == {name}
    assert "1 of the adapter's 3 modules match no tensor of the base" in found.summary["reading"]


@pytest.mark.parametrize(
    "config",
    [peft.LoraConfig(**LORA, lora_bias=True),
     peft.IA3Config(target_modules=LORA["target_modules"], feedforward_modules=[])],
    ids=["lora_B", "IA3"],
)  # fmt: skip
def test_biases_that_are_not_done_again_are_no_strangers(
    config: peft.PeftConfig, tmp_path: Path
) -> None:
    method(opt(), config, tmp_path)
    base, merged = read(tmp_path)
    moved = [key for key in base if base[key].ndim == 1 and not torch.equal(base[key], merged[key])]
    assert len(moved) == 4
    found = checked(tmp_path)
    assert not messages(found)
    assert "what the adapter makes of 4 biases" in found.summary["reading"]
