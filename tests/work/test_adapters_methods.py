"""DoRA, attention, convolutions, new rows and resized vocabularies, against what PEFT merges."""

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
from adapters import agrees_with_merged, low_rank, matrices, pairs, planned, save, trained
from spectra.matrices import Selection
from spectra.work import plan_pair

pytestmark = [
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to:UserWarning"),
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The following (alpha|rank)_pattern keys:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to:UserWarning"),
    pytest.mark.filterwarnings("ignore:Model has .tie_word_embeddings=True.:UserWarning"),
]


def gpt2() -> nn.Module:
    config = transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=24, n_positions=8)
    return transformers.GPT2LMHeadModel(config)


def llama(vocabulary: int = 20, tied: bool = False) -> Any:  # noqa: ANN401 - untyped methods follow
    config = transformers.LlamaConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=24, vocab_size=vocabulary, tie_word_embeddings=tied, pad_token_id=0,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


class Layers(nn.Module):
    """A layer of each kind that DoRA knows, and attention."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 6)
        self.linear = nn.Linear(6, 9)
        self.conv1 = nn.Conv1d(6, 4, 3)
        self.conv2 = nn.Conv2d(4, 5, (3, 2))
        self.point = nn.Conv2d(4, 5, 1)
        self.conv3 = nn.Conv3d(2, 5, 2)
        self.self_attn = nn.MultiheadAttention(8, 2)


EVERY = ["table", "linear", "conv1", "conv2", "point", "conv3"]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(11)


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (Layers, {"target_modules": EVERY}),
        (Layers, {"target_modules": EVERY, "use_rslora": True, "r": 3, "lora_alpha": 5}),
        (gpt2, {"target_modules": ["c_attn", "c_proj", "wte"], "fan_in_fan_out": True}),
        (gpt2, {"target_modules": ["c_fc"]}),
        (llama, {"target_modules": ["q_proj", "up_proj"], "rank_pattern": {"up_proj": 5}}),
        (llama, {"target_modules": ["q_proj", "embed_tokens", "lm_head"]}),
    ],
    ids=["layers", "rank-stabilised", "Conv1D", "Conv1D-no-flag", "llama", "llama-embeddings"],
)
def test_dora_is_what_peft_merges(
    make: Callable[[], nn.Module], settings: dict[str, Any], tmp_path: Path
) -> None:
    trained(make(), tmp_path, **{"r": 2, "use_dora": True, **settings})
    changed = agrees_with_merged(tmp_path)
    assert changed
    assert not low_rank(changed)  # the update is dense, so the tuned values are formed
    assert all(pair.tuned_dtype == "F32" for pair in changed.values())


def test_dora_in_half_precision_is_not_rounded_on_the_way(tmp_path: Path) -> None:
    trained(llama().to(torch.bfloat16), tmp_path, r=2, use_dora=True, target_modules=["q_proj"])
    changed = agrees_with_merged(tmp_path, tolerance=0.02)
    (pair,) = changed.values()
    assert isinstance(pair.tuned, torch.Tensor)
    assert pair.tuned.dtype == torch.float32
    assert pair.base.dtype == torch.bfloat16


def test_dora_on_doubles_stays_double(tmp_path: Path) -> None:
    trained(llama().double(), tmp_path, r=2, use_dora=True, target_modules=["q_proj"])
    changed = agrees_with_merged(tmp_path, tolerance=1e-6)
    assert {pair.tuned_dtype for pair in changed.values()} == {"F64"}


def test_attention_with_a_fused_input_is_updated_whole(tmp_path: Path) -> None:
    trained(Layers(), tmp_path, r=2, target_modules=["self_attn"])
    changed = agrees_with_merged(tmp_path)
    assert low_rank(changed) == {
        *(f"self_attn.in_proj_weight[{part}]" for part in "qkv"),
        "self_attn.out_proj.weight",
    }


def test_attentions_output_has_the_settings_of_the_attention(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"alpha_pattern": {"self_attn": 3, "out_proj": 100}}
    trained(Layers(), tmp_path, r=2, target_modules=["self_attn"], **settings)
    agrees_with_merged(tmp_path)


def test_convolutions_of_every_dimension(tmp_path: Path) -> None:
    trained(Layers(), tmp_path, r=2, target_modules=["conv1", "conv2", "point", "conv3"])
    assert len(low_rank(agrees_with_merged(tmp_path))) == 4


@pytest.mark.parametrize("indices", [[1, 3, 19], {"embed_tokens": [0, 7]}], ids=["list", "named"])
def test_new_rows_of_an_embedding(indices: object, tmp_path: Path) -> None:
    trained(llama(), tmp_path, r=2, target_modules=["q_proj"], trainable_token_indices=indices)
    changed = agrees_with_merged(tmp_path)
    table = changed["model.embed_tokens.weight"]
    assert isinstance(table.tuned, torch.Tensor)
    different = (table.tuned != table.base).any(1).nonzero().flatten().tolist()
    assert different == (indices if isinstance(indices, list) else [0, 7])


def test_new_rows_of_two_tables(tmp_path: Path) -> None:
    rows = {"embed_tokens": [0, 7], "lm_head": [2]}
    trained(llama(), tmp_path, r=2, target_modules=["q_proj"], trainable_token_indices=rows)
    assert {"model.embed_tokens.weight", "lm_head.weight"} <= set(agrees_with_merged(tmp_path))


def test_a_head_that_is_stored_though_it_is_tied_is_not_called_unchanged(tmp_path: Path) -> None:
    trained(llama(tied=True), tmp_path, r=2, target_modules=["q_proj"], merge=False,
            trainable_token_indices=[1, 3])  # fmt: skip
    tensors = load_file(tmp_path / "base" / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, tmp_path / "base" / "model.safetensors")
    plan = planned(tmp_path)
    assert "lm_head.weight" not in pairs(plan)
    reasons = {item.tensor: item.reason for item in plan.skipped}
    assert reasons["lm_head.weight"] == "tied to the embedding, whose rows change"


def resized(folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:  # noqa: ANN401
    """Write a base, and an adapter on it after its vocabulary grew from 20 to 26."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = llama()
    save(model, folder / "small")
    grown = llama()
    grown.load_state_dict(model.state_dict())
    grown.name_or_path = str(folder / "small")  # where PEFT sees that the vocabulary grew
    grown.resize_token_embeddings(26, mean_resizing=False)
    trained(grown, folder, r=2, **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["q_proj"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]},
        {"target_modules": ["q_proj", "embed_tokens", "lm_head"]},
        {"target_modules": ["q_proj", "embed_tokens", "lm_head"], "use_dora": True},
        {"target_modules": ["q_proj"], "trainable_token_indices": [3, 21, 25]},
    ],
    ids=["saved", "modules-to-save", "factors", "dora", "new-rows"],
)
def test_after_a_resize_the_shared_rows_are_compared(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resized(tmp_path, monkeypatch, **settings)
    plan = planned(tmp_path, base="small")
    merged = matrices(tmp_path / "merged")
    found = pairs(plan)
    reasons = {item.tensor: item.reason for item in plan.skipped}
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        pair = found[name]
        assert (pair.view.rows, pair.view.cols) == (20, 16)
        torch.testing.assert_close(pair.tuned_exact().float(), merged[name][:20])
        assert reasons[f"{name}[20:26]"].startswith("rows that the base lacks")


def test_two_models_of_different_vocabularies(tmp_path: Path) -> None:
    small, large = llama(20), llama(26)
    save(small, tmp_path / "small")
    save(large, tmp_path / "large")
    name = "model.embed_tokens.weight"
    for base, tuned, lacking in (("small", "large", "base"), ("large", "small", "tuned model")):
        plan = planned(tmp_path, base, tuned)
        pair = pairs(plan)[name]
        torch.testing.assert_close(pair.base, matrices(tmp_path / base)[name][:20])
        assert isinstance(pair.tuned, torch.Tensor)
        torch.testing.assert_close(pair.tuned, matrices(tmp_path / tuned)[name][:20])
        reasons = {item.tensor: item.reason for item in plan.skipped}
        assert (
            reasons[f"{name}[20:26]"] == f"rows that the {lacking} lacks; the others are compared"
        )
        assert spectra.diff(tmp_path / base, tmp_path / tuned, intruders=True).rows


def test_vit_takes_its_adapter_however_it_was_saved(tmp_path: Path) -> None:
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24,
        image_size=8, patch_size=4,
    )  # fmt: skip
    model: Any = transformers.ViTForImageClassification(config)
    model.save_pretrained(tmp_path / "old")
    model.save_pretrained(tmp_path / "as-in-memory", save_original_format=False)
    peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj"], r=2)).save_pretrained(
        str(tmp_path / "adapter")
    )
    names = {
        "old": "vit.encoder.layer.0.attention.attention.query.weight",
        "as-in-memory": "vit.layers.0.attention.q_proj.weight",
    }
    for saved, name in names.items():
        found = pairs(planned(tmp_path, saved))
        assert [at for at, pair in found.items() if pair.tuned is not None] == [name]


@pytest.mark.filterwarnings("ignore:Adapter 'default'. 2 LoRA")
def test_norms_and_biases_beside_the_factors_are_told(tmp_path: Path) -> None:
    """Of lora_B's own biases, of stored ones, and of both on one layer."""
    told = {}
    ways: dict[str, dict[str, Any]] = {
        "none": {}, "moved": {"lora_bias": True}, "stored": {"bias": "lora_only"},
        "both": {"lora_bias": True, "bias": "lora_only"},
    }  # fmt: skip
    for name, settings in ways.items():
        (tmp_path / name).mkdir()
        base = trained(
            nn.Sequential(nn.Linear(6, 9), nn.Linear(9, 4)), tmp_path / name, merge=False, r=2,
            target_modules=["0", "1"], **settings,
        )  # fmt: skip
        told[name] = plan_pair(
            spectra.open(base), spectra.open(tmp_path / name / "adapter"), Selection()
        ).notes
    assert told["none"] == ()
    for name in ("moved", "stored", "both"):
        (note,) = told[name]
        assert note.endswith(
            "also brings 2 norms and biases, such as '0.bias': matrices alone are measured"
        )
