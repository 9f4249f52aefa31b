"""Merges beside their matrices: norms and biases, and what the adapter leaves alone."""

from collections.abc import Callable
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
    "Adapter 'default'. [24] LoRA",
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


def gpt2() -> nn.Module:
    """Layers that are stored [in, out]."""
    torch.manual_seed(5)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(
        n_embd=32, n_layer=2, n_head=2, vocab_size=40, n_positions=20, bos_token_id=1,
        eos_token_id=2,
    ))  # fmt: skip
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.randn_like(value) * 0.02)
    return model


ON: dict[str, Any] = {"target_modules": LORA["target_modules"]}
MOVED: dict[str, tuple[Any, Any, torch.dtype]] = {
    "lora_B": (opt, peft.LoraConfig(**LORA, lora_alpha=12, lora_bias=True), torch.bfloat16),
    "Conv1D": (
        gpt2,
        peft.LoraConfig(r=9, lora_alpha=6, use_rslora=True, lora_bias=True, fan_in_fan_out=True,
                        target_modules=["c_fc"]),
        torch.float16,
    ),
    "lora_B-and-stored": (opt, peft.LoraConfig(**LORA, lora_bias=True, bias="all"), torch.float32),
    "IA3": (opt, peft.IA3Config(**ON, feedforward_modules=[]), torch.bfloat16),
    "RoAd": (opt, peft.RoadConfig(**ON, group_size=8), torch.float32),
    "RoAd-narrow": (opt, peft.RoadConfig(**ON, group_size=8, variant="road_4"), torch.bfloat16),
    "RoAd-half": (opt, peft.RoadConfig(**ON, group_size=8, variant="road_2"), torch.float16),
    "OFT": (opt, peft.OFTConfig(**ON, oft_block_size=8, bias="all"), torch.bfloat16),
    "OFT-half": (opt, peft.OFTConfig(**ON, oft_block_size=8, use_cayley_neumann=False, bias="all"),
                 torch.float16),
    "GLoRA-products": (opt, peft.GloraConfig(**ON, config_A_B="lora", config_C="lora",
                                        config_D_E="vector"),
                       torch.float16),
    "GLoRA-wide": (opt, peft.GloraConfig(**ON, config_D_E="vector"), torch.float32),
    "GLoRA": (opt, peft.GloraConfig(**ON, config_C="vector", config_D_E="vector"), torch.bfloat16),
}  # fmt: skip


def test_an_entry_that_no_order_of_sums_explains_is_none_of_them(tmp_path: Path) -> None:
    """Of single numbers nothing is summed: a last bit that is off is no merge bit for bit."""
    config = peft.GloraConfig(**ON, config_A_B="constant", config_C="none",
                              config_D_E="constant")  # fmt: skip
    method(opt(), config, tmp_path)
    base, merged = read(tmp_path)
    whole = checked(tmp_path).summary["merge"]
    assert whole["exact"] == whole["matrices"]
    name = next(key for key, own in merged.items() if not torch.equal(own, base[key]))
    off = merged[name].flatten().clone()
    off[3] = torch.nextafter(off[3], torch.tensor(9.0))
    found = checked(tmp_path, merged | {name: off.view_as(merged[name])})
    assert found.summary["merge"]["exact"] == whole["exact"] - 1
    assert "order of sums" not in found.summary["reading"]


@pytest.mark.parametrize("name", MOVED)
def test_biases_that_an_adapter_moves_are_done_again(name: str, tmp_path: Path) -> None:
    model, config, dtype = MOVED[name]
    method(model().to(dtype), config, tmp_path)
    base, merged = read(tmp_path)
    moved = {key: value.float() - base[key].float() for key, value in merged.items()
             if value.ndim == 1 and not torch.equal(base[key], value)}  # fmt: skip
    assert len(moved) >= 2

    whole = checked(tmp_path)
    account = whole.summary["merge"]
    assert not messages(whole)
    changed = sum(not torch.equal(base[key], merged[key]) for key in base)
    assert account["matrices"] == changed
    assert account["exact"] == changed

    def made(change: Callable[[Tensor], Tensor]) -> dict[str, str]:
        wrong = {key: (base[key].float() + change(own)).to(dtype) for key, own in moved.items()}
        found = messages(checked(tmp_path, merged | wrong))
        assert set(found) == set(moved)
        return found

    old = "equals the base: the adapter's update is not in it"
    assert set(made(torch.zeros_like).values()) == {old}
    assert all("times, expected once" in text for text in made(lambda own: 2 * own).values())
    other = made(lambda own: own.roll(1))  # as if of another adapter
    assert all("% of its change is not the adapter's" in text for text in other.values())


@pytest.mark.parametrize("name", ["RoAd-narrow", "OFT", "GLoRA-products"])
def test_what_sums_leave_open_hides_no_wrong_merge(name: str, tmp_path: Path) -> None:
    """A merge that is a tenth too large is none, nor is one with two values swapped."""
    model, config, dtype = MOVED[name]
    method(model().to(dtype), config, tmp_path)
    base, merged = read(tmp_path)
    weights = [key for key, value in merged.items()
               if value.ndim > 1 and not torch.equal(base[key], value)]  # fmt: skip
    assert len(weights) == 4
    large = {key: (base[key].double() + 1.1 * (merged[key].double() - base[key].double())).to(dtype)
             for key in weights}  # fmt: skip
    found = messages(checked(tmp_path, merged | large))
    assert set(found) == set(weights)
    swapped = {key: merged[key].clone() for key in weights}
    for values in swapped.values():
        values[0, :2] = values[0, [1, 0]]
    account = checked(tmp_path, merged | swapped).summary["merge"]
    assert account["exact"] == account["matrices"] - len(weights)


def test_a_bias_that_was_added_without_its_scale_is_told_from_the_weights(tmp_path: Path) -> None:
    method(opt(), MOVED["lora_B"][1], tmp_path)
    base, merged = read(tmp_path)
    held = load_file(tmp_path / "adapter/adapter_model.safetensors")
    start, end = "base_model.model.", "lora_B.bias"
    plain = {f"{key.removeprefix(start).removesuffix(end)}bias": value
             for key, value in held.items() if key.endswith(end)}  # fmt: skip
    assert len(plain) == 4
    found = checked(tmp_path, merged | {key: base[key] + own for key, own in plain.items()})
    text = "the adapter's update is in it 0.3333 times, expected once: alpha / r left out"
    assert messages(found) == dict.fromkeys(plain, f"{text}, bit for bit")
    assert found.summary["merge"]["faults"] == [{"what": "alpha / r left out", "matrices": 4}]
    assert found.summary["merge"]["exact"] == 4


def test_an_adapter_that_moved_biases_alone_is_told_by_their_names(tmp_path: Path) -> None:
    method(opt(), MOVED["lora_B"][1], tmp_path)
    base, merged = read(tmp_path)
    file = tmp_path / "adapter/adapter_model.safetensors"
    held = load_file(file)
    save_file({key: 0 * value if key.endswith("lora_B.weight") else value
               for key, value in held.items()}, file)  # fmt: skip
    moved = sorted(key for key, value in base.items()
                   if value.ndim == 1 and not torch.equal(value, merged[key]))  # fmt: skip
    assert len(moved) == 4
    save_file(base | {key: merged[key] for key in moved}, tmp_path / "merged/model.safetensors")
    (told,) = spectra.check(
        tmp_path / "merged", base=tmp_path / "base", adapter=tmp_path / "adapter", select="SPC109"
    ).summary["findings"]
    assert told["message"] == (
        f"the adapter does nothing but move 4 norms and biases ({', '.join(moved[:3])} and 1 more)"
        ": the update of all 4 matrices is zero"
    )


def test_a_bias_that_has_no_place_in_the_base_is_told(tmp_path: Path) -> None:
    method(opt(), MOVED["lora_B"][1], tmp_path)
    base, merged = read(tmp_path)
    gone = "model.decoder.layers.1.self_attn.q_proj.bias"
    save_file({key: value for key, value in base.items() if key != gone},
              tmp_path / "base/model.safetensors")  # fmt: skip
    found = checked(tmp_path, {key: value for key, value in merged.items() if key != gone})
    text = "Of 1 bias that the adapter moves base and model have no two of its size, such as "
    assert f"{text}'{gone}'." in found.summary["reading"]


@pytest.mark.parametrize(
    "settings",
    [{"target_modules": ["query", "classifier"], "lora_bias": True},
     {"target_modules": ["query"], "modules_to_save": ["classifier"]}],
    ids=["lora_bias", "saved"],
)  # fmt: skip
def test_a_bias_of_three_labels_is_judged_as_others_are(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    torch.manual_seed(5)
    config = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48,
        vocab_size=40, max_position_embeddings=20, id2label={0: "a", 1: "b", 2: "c"},
    )  # fmt: skip
    model = transformers.BertForSequenceClassification(config)
    method(model, peft.LoraConfig(r=4, lora_alpha=12, **settings), tmp_path)
    base, merged = read(tmp_path)
    name = "classifier.bias"
    assert merged[name].numel() == 3
    right = checked(tmp_path)
    assert not right.summary["findings"]
    assert right.summary["merge"]["exact"] == right.summary["merge"]["matrices"]
    old = checked(tmp_path, merged | {name: base[name]})
    assert messages(old) == {name: "equals the base: the adapter's update is not in it"}
    twice = checked(tmp_path, merged | {name: 2 * merged[name] - base[name]})
    assert messages(twice)[name].startswith("the adapter's update is in it 2 times, expected once")
