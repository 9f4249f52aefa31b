"""Merges done again: by PEFT and by the formulas of other tools, and what is said of each."""

import json
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
from adapters import save, trained

pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning"),
]
Merge = Callable[[Tensor, Tensor, Tensor], Tensor]
BF16, F16 = torch.bfloat16, torch.float16
SIZES: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 40,
    "num_key_value_heads": 1, "head_dim": 8, "pad_token_id": 0, "num_experts_per_tok": 1,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(5)


def llama(**more: Any) -> nn.Module:  # noqa: ANN401 - of LlamaConfig
    config = transformers.LlamaConfig(**SIZES | {"intermediate_size": 24} | more)
    return transformers.LlamaForCausalLM(config)


def gpt2() -> nn.Module:
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=40, n_positions=8)
    )


def mixtral() -> nn.Module:
    config = transformers.MixtralConfig(**SIZES, intermediate_size=16, num_local_experts=3)
    return transformers.MixtralForCausalLM(config)


def checked(folder: Path, merged: str = "merged") -> spectra.Result:
    return spectra.check(
        folder / merged, base=folder / "base", adapter=folder / "adapter", select="SPC107"
    )


def told(found: spectra.Result, key: str) -> dict[str, Any]:
    return {row.matrix: row.values[key] for row in found.rows if key in row.values}


def messages(found: spectra.Result) -> set[str]:
    return {one["message"] for one in found.summary["findings"]}


LINEAR = ["q_proj", "o_proj", "down_proj"]


@pytest.mark.parametrize("safe", [False, True], ids=["plain", "safe"])
@pytest.mark.parametrize("cast", [True, False], ids=["float32-factors", "base-factors"])
@pytest.mark.parametrize("dtype", [torch.float32, BF16, F16], ids=["f32", "bf16", "f16"])
def test_what_peft_merges_is_found_bit_for_bit(
    dtype: torch.dtype, cast: bool, safe: bool, tmp_path: Path
) -> None:
    trained(llama().to(dtype), tmp_path, r=4, lora_alpha=12, target_modules=LINEAR, merge=False)
    model = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "base", dtype=dtype)
    loaded: Any = peft.PeftModel.from_pretrained(
        model, str(tmp_path / "adapter"), autocast_adapter_dtype=cast
    )
    save(loaded.merge_and_unload(safe_merge=safe), tmp_path / "merged")
    found = checked(tmp_path)
    assert not found.summary["findings"]
    assert found.summary["merge"]["exact"] == found.summary["merge"]["matrices"] == 6
    assert set(told(found, "merge_scale").values()) == {1.0}
    assert "All 6 matrices that the adapter changes are base + update" in found.summary["reading"]
    narrow = dtype is not torch.float32 and (safe or not cast)
    word = {BF16: "bfloat16", F16: "float16"}.get(dtype, "")
    expected = f"update rounded to {word}, then summed" if narrow else "summed in float32"
    assert any(way.startswith(expected) for way in found.summary["merge"]["ways"])


@pytest.mark.parametrize("safe", [False, True], ids=["plain", "safe"])
@pytest.mark.parametrize("cast", [True, False], ids=["float32-factors", "base-factors"])
@pytest.mark.parametrize("dtype", [BF16, F16], ids=["bf16", "f16"])
@pytest.mark.parametrize("make", [llama, gpt2], ids=["linear", "conv1d"])
def test_dora_is_found_bit_for_bit_as_types_are_promoted(
    make: Callable[[], nn.Module], dtype: torch.dtype, cast: bool, safe: bool, tmp_path: Path
) -> None:
    model = make()
    names = ["c_attn", "c_fc"] if make is gpt2 else [*LINEAR, "embed_tokens"]
    trained(model.to(dtype), tmp_path, r=4, lora_alpha=6, target_modules=names, merge=False,
            use_dora=True, fan_in_fan_out=make is gpt2)  # fmt: skip
    loading: Any = type(model)
    loaded: Any = peft.PeftModel.from_pretrained(
        loading.from_pretrained(tmp_path / "base", dtype=dtype), str(tmp_path / "adapter"),
        autocast_adapter_dtype=cast,
    )  # fmt: skip
    save(loaded.merge_and_unload(safe_merge=safe), tmp_path / "merged")
    found = checked(tmp_path)
    assert not found.summary["findings"]
    assert found.summary["merge"]["exact"] == found.summary["merge"]["matrices"] > 0
    word = {BF16: "bfloat16", F16: "float16"}[dtype]
    way = "DoRA in float32" if cast else f"DoRA rounded to {word} at each step"
    assert any(way in told for told in found.summary["merge"]["ways"])


@pytest.mark.parametrize("fault", ["twice", "rows"])
def test_a_narrow_dora_merge_that_went_wrong_is_named(fault: str, tmp_path: Path) -> None:
    trained(llama().to(BF16), tmp_path, r=4, lora_alpha=12, target_modules=["q_proj", "down_proj"],
            merge=False, use_dora=True)  # fmt: skip
    settings = tmp_path / "adapter" / "adapter_config.json"
    told = settings.read_text()
    if fault == "twice":
        settings.write_text(told.replace('"lora_alpha": 12', '"lora_alpha": 36'))
    model = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "base", dtype=BF16)
    loaded: Any = peft.PeftModel.from_pretrained(
        model, str(tmp_path / "adapter"), autocast_adapter_dtype=False
    )
    save(loaded.merge_and_unload(), tmp_path / "merged")
    settings.write_text(told)
    base, tuned = (load_file(tmp_path / one / "model.safetensors") for one in ("base", "merged"))
    if fault == "rows":
        for name in [one for one in tuned if "down_proj" in one]:
            tuned[name][:8] = base[name][:8]
        save_file(tuned, tmp_path / "merged" / "model.safetensors")
        expected = "rows 0 to 7 of 16 are still the base's; the others hold the adapter's update"
    else:
        expected = "holds another update than the adapter's: DoRA with alpha / r applied twice"
    assert messages(checked(tmp_path)) == {f"{expected}, bit for bit"}


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (llama, {"target_modules": LINEAR, "use_dora": True}),
        (gpt2, {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}),
        (gpt2, {"target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True, "use_dora": True}),
        (llama, {"target_modules": ["embed_tokens", "q_proj"]}),
        (llama, {"target_modules": ["v_proj"], "trainable_token_indices": [1, 5]}),
        (llama, {"target_modules": ["v_proj"], "modules_to_save": ["lm_head"]}),
        (mixtral, {"target_modules": ["q_proj"],
                   "target_parameters": ["experts.gate_up_proj", "experts.down_proj"]}),
        (llama, {"target_modules": LINEAR, "use_rslora": True,
                 "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"o_proj": 5}}),
    ],
    ids=["dora", "conv1d", "conv1d-dora", "embedding", "new-rows", "whole", "experts", "patterns"],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, BF16], ids=["f32", "bf16"])
def test_every_kind_of_update_is_found_bit_for_bit(
    make: Callable[[], nn.Module], settings: dict[str, Any], dtype: torch.dtype, tmp_path: Path
) -> None:
    trained(make().to(dtype), tmp_path, r=4, lora_alpha=6, **settings)
    found = checked(tmp_path)
    merge = found.summary["merge"]
    assert not found.summary["findings"]
    assert merge["exact"] == merge["matrices"] > 0


def planted(tmp_path: Path, merge: Merge, dtype: torch.dtype = torch.float32, r: int = 4) -> Path:
    """Base, adapter of scale 3, and what a formula makes of them; q, k, o and up, down."""
    side, names = 32, ("self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj")
    shapes = {names[0]: (side, side), names[1]: (side, side), names[2]: (48, side),
              names[3]: (side, 48)}  # fmt: skip
    base, tuned, factors = {}, {}, {}
    for layer in range(2):
        for name, (rows, cols) in shapes.items():
            full = f"model.layers.{layer}.{name}"
            weight = (0.05 * torch.randn(rows, cols)).to(dtype)
            up, down = 0.05 * torch.randn(rows, r), 0.05 * torch.randn(r, cols)
            base[f"{full}.weight"] = weight
            tuned[f"{full}.weight"] = merge(weight, up, down).contiguous()
            factors[f"base_model.model.{full}.lora_A.weight"] = down
            factors[f"base_model.model.{full}.lora_B.weight"] = up
    settings = {"peft_type": "LORA", "r": r, "lora_alpha": 3 * r,
                "target_modules": [name.split(".")[1] for name in names]}  # fmt: skip
    for folder, tensors in (("base", base), ("merged", tuned), ("adapter", factors)):
        (tmp_path / folder).mkdir()
        name = "adapter_model" if folder == "adapter" else "model"
        save_file(tensors, tmp_path / folder / f"{name}.safetensors")
        config = settings if folder == "adapter" else {"model_type": "llama"}
        where = "adapter_config.json" if folder == "adapter" else "config.json"
        (tmp_path / folder / where).write_text(json.dumps(config))
    return tmp_path


HEALTHY: dict[str, tuple[torch.dtype, Merge, str]] = {
    "export-lora into float16": (
        torch.float32, lambda w, b, a: (w + 3 * (b @ a)).to(F16), "summed in float32"),
    "unsloth": (
        BF16, lambda w, b, a: torch.addmm(w.float(), 3 * b, a).to(BF16), "summed in float32"),
    "kohya in bfloat16": (
        BF16, lambda w, b, a: w + (b.to(BF16) @ a.to(BF16)) * 3,
        "rounded to bfloat16 at each step, factors in bfloat16 before"),
    "float32 base loaded as bfloat16": (
        torch.float32, lambda w, b, a: w.to(BF16) + (3 * (b @ a)).to(BF16),
        "update rounded to bfloat16, then summed, base in bfloat16 before"),
    "bfloat16 merge saved as float32": (
        BF16, lambda w, b, a: (w.float() + 3 * (b @ a)).to(BF16).float(), "summed in float32"),
    "summed the other way round": (
        torch.float32, lambda w, b, a: (w.double() + 3 * b.double() @ a.double()).float(),
        "summed in float32"),
}  # fmt: skip


@pytest.mark.parametrize("name", HEALTHY)
def test_other_tools_merges_are_named_and_pass(name: str, tmp_path: Path) -> None:
    dtype, merge, way = HEALTHY[name]
    found = checked(planted(tmp_path, merge, dtype))
    assert not found.summary["findings"]
    assert found.summary["merge"]["exact"] == 8
    assert way in found.summary["merge"]["ways"]


BOTH = "the update added twice or alpha / sqrt(r) for alpha / r"  # where r is 4
SICK: dict[str, tuple[Merge, str]] = {
    "twice": (lambda w, b, a: w + 9 * (b @ a),
              "the adapter's update is in it 3 times, expected once: alpha / r applied twice"),
    "never": (lambda w, b, a: w + b @ a,
              "the adapter's update is in it 0.3333 times, expected once: alpha / r left out"),
    "double": (lambda w, b, a: w + 6 * (b @ a),
               f"the adapter's update is in it 2 times, expected once: {BOTH}"),
    "alpha": (lambda w, b, a: w + 12 * (b @ a),
              "the adapter's update is in it 4 times, expected once: alpha for alpha / r"),
    "minus": (lambda w, b, a: w - 3 * (b @ a),
              "the adapter's update is in it -1 times, expected once: the update subtracted"),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, BF16], ids=["f32", "bf16"])
@pytest.mark.parametrize("name", SICK)
def test_mistakes_are_named(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    merge, message = SICK[name]
    found = checked(planted(tmp_path, lambda w, b, a: merge(w.float(), b, a).to(dtype), dtype))
    assert messages(found) == {f"{message}, bit for bit"}
    assert len(found.summary["findings"]) == 8


def test_a_transposed_update_is_named_where_it_fits(tmp_path: Path) -> None:
    def merge(w: Tensor, b: Tensor, a: Tensor) -> Tensor:
        update = 3 * (b @ a)
        return w + (update.T if w.shape[0] == w.shape[1] else update)

    found = checked(planted(tmp_path, merge))
    assert len(found.summary["findings"]) == 4
    assert messages(found) == {
        "holds another update than the adapter's: the update transposed, bit for bit"
    }
    assert "4 of 8 matrices that the adapter changes are base + update" in found.summary["reading"]


@pytest.mark.parametrize("dtype", [torch.float32, BF16], ids=["f32", "bf16"])
def test_rows_and_matrices_that_are_still_the_bases_are_told(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    def merge(w: Tensor, b: Tensor, a: Tensor) -> Tensor:
        if w.shape == (48, 32):  # say q of a fused q, k, v
            return torch.cat([w[:16], (w + 3 * (b @ a)).to(dtype)[16:]])
        return w if w.shape == (32, 48) else (w + 3 * (b @ a)).to(dtype)

    found = checked(planted(tmp_path, merge, dtype))
    partly = "rows 0 to 15 of 48 are still the base's; the others hold the adapter's update"
    findings = found.summary["findings"]
    assert {(one["matrix"].split(".")[-2], one["message"]) for one in findings} == {
        ("up_proj", f"{partly}, bit for bit"),
        ("down_proj", "equals the base: the adapter's update is not in it"),
    }
    assert {one["what"]: one["matrices"] for one in found.summary["merge"]["faults"]} == {
        "rows of the base's": 2, "the base's values": 2,
    }  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, BF16], ids=["f32", "bf16"])
def test_columns_that_are_still_the_bases_are_told(dtype: torch.dtype, tmp_path: Path) -> None:
    def merge(w: Tensor, b: Tensor, a: Tensor) -> Tensor:
        made = (w + 3 * (b @ a)).to(dtype)
        return torch.cat([made[:, :20], w[:, 20:]], dim=1) if w.shape == (48, 32) else made

    found = checked(planted(tmp_path, merge, dtype))
    partly = "columns 20 to 31 of 32 are still the base's; the others hold the adapter's update"
    assert messages(found) == {f"{partly}, bit for bit"}
    (one,) = found.summary["merge"]["faults"]
    assert one == {"what": "columns of the base's", "matrices": 2}


def test_a_factor_that_no_mistake_makes_is_measured_with_its_error(tmp_path: Path) -> None:
    found = checked(planted(tmp_path, lambda w, b, a: (w + 3.9 * (b @ a)).to(BF16), BF16))
    assert len(found.summary["findings"]) == 8
    errors = told(found, "merge_scale_error")
    for name, scale in told(found, "merge_scale").items():
        assert abs(scale - 1.3) < 4 * errors[name] < 0.1
    assert all(told(found, "merge_as").get(name) is None for name in errors)


def test_a_fine_tune_is_no_merge_of_the_adapter(tmp_path: Path) -> None:
    found = checked(planted(tmp_path, lambda w, b, a: w + 0.01 * torch.randn_like(w)))
    assert "The model is no merge of this adapter: in 8 of 8 matrices" in found.summary["reading"]
    assert all("of its change is not the adapter's" in text for text in messages(found))
    assert not told(found, "merge_as")


def test_a_merge_that_was_trained_on_is_not_bit_for_bit_and_not_broken(tmp_path: Path) -> None:
    found = checked(planted(tmp_path, lambda w, b, a: w + 3 * (b @ a) + 2e-4 * torch.randn_like(w)))
    assert not found.summary["findings"]
    assert found.summary["merge"]["near"] == 8
    told_of = found.summary["reading"]
    most = 100 * max(told(found, "merge_rest").values())
    assert "8 hold it once, though bit for bit in no arithmetic that is replayed" in told_of
    assert f"and up to {most:.3g} % of their change is something else." in told_of


def test_an_update_that_is_not_finite_is_no_hidden_one(tmp_path: Path) -> None:
    planted(tmp_path, lambda w, b, a: w + 3 * (b @ a))
    stored = tmp_path / "adapter" / "adapter_model.safetensors"
    tensors = load_file(stored)
    key = next(iter(tensors))
    save_file(tensors | {key: tensors[key] * torch.nan}, stored)
    found = checked(tmp_path)
    assert list(messages(found)) == ["not to be judged: the adapter's update holds NaN or Inf"]
    assert found.summary["merge"]["damaged"] == 1
    assert found.summary["merge"]["hidden"] == 0
    assert "7 of 8 matrices" in found.summary["reading"]
    assert "of 1 the update, the base or the model holds NaN or Inf." in found.summary["reading"]


def test_a_model_that_is_not_finite_is_no_hidden_one(tmp_path: Path) -> None:
    planted(tmp_path, lambda w, b, a: w + 3 * (b @ a))
    stored = tmp_path / "merged" / "model.safetensors"
    tensors = load_file(stored)
    key = next(name for name in tensors if "q_proj" in name)
    tensors[key][3, 5] = torch.nan
    save_file(tensors, stored)
    found = checked(tmp_path)
    assert "not to be judged: the base or the model holds NaN or Inf" in messages(found)
    assert (found.summary["merge"]["damaged"], found.summary["merge"]["hidden"]) == (1, 0)


def test_experts_by_the_other_layout_are_named(tmp_path: Path) -> None:
    """lora_B read expert by expert, as some trainers write it: right norm, wrong experts."""
    trained(mixtral(), tmp_path, r=4, lora_alpha=6, target_modules=["q_proj"],
            target_parameters=["experts.down_proj"])  # fmt: skip
    stored = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    base = load_file(tmp_path / "base" / "model.safetensors")
    tuned = load_file(tmp_path / "merged" / "model.safetensors")
    for layer in (0, 1):
        stem = f"base_model.model.model.layers.{layer}.mlp.experts"
        (a,) = (v for k, v in stored.items() if k.startswith(stem) and "lora_A" in k)
        (b,) = (v for k, v in stored.items() if k.startswith(stem) and "lora_B" in k)
        name = f"model.layers.{layer}.mlp.experts.down_proj"
        wrong = [1.5 * (b[:, 4 * e : 4 * e + 4] @ a[4 * e : 4 * e + 4]) for e in range(3)]
        tuned[name] = base[name] + torch.stack(wrong)
        tuned[name][2] = base[name][2]
    save_file(tuned, tmp_path / "merged" / "model.safetensors")
    found = checked(tmp_path)
    other = "lora_B read expert by expert, not rank by rank, bit for bit"
    assert {(one["matrix"][-10:], one["message"]) for one in found.summary["findings"]} == {
        ("[expert=0]", f"holds another update than the adapter's: {other}"),
        ("[expert=1]", f"holds another update than the adapter's: {other}"),
        ("[expert=2]", "equals the base: the adapter's update is not in it"),
    }


def test_dora_without_its_magnitudes_is_named(tmp_path: Path) -> None:
    trained(llama(), tmp_path, r=4, lora_alpha=6, target_modules=["q_proj"], use_dora=True)
    stored = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    tuned = load_file(tmp_path / "base" / "model.safetensors")
    for key, down in stored.items():
        if "lora_A" in key:
            name = key.removeprefix("base_model.model.").replace(".lora_A", "")
            tuned[name] = tuned[name] + 1.5 * (stored[key.replace("lora_A", "lora_B")] @ down)
    save_file(tuned, tmp_path / "merged" / "model.safetensors")
    assert messages(checked(tmp_path)) == {
        "holds another update than the adapter's: DoRA's magnitudes left out, bit for bit"
    }
