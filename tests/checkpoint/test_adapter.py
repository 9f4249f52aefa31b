"""Adapters as PEFT itself writes them, against PEFT's own layers; and what is refused by name."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel

from spectra.checkpoint import Adapter, open_spec
from spectra.errors import AdapterError

pytestmark = [
    # peft asks transformers' models for a property that transformers renamed.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    # peft takes the bias of a lora_B for a shard of a weight.
    pytest.mark.filterwarnings(
        "ignore:Adapter 'default'. . LoRA tensor.*invalid shape:UserWarning"
    ),
]


class Tiny(nn.Module):
    """One layer of each kind that LoRA adapts."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 6)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"up": nn.Linear(6, 9), "down": nn.Linear(9, 6, bias=False)})
            for _ in range(3)
        )
        self.conv1 = nn.Conv1d(6, 4, 3)
        self.conv2 = nn.Conv2d(4, 5, (3, 2))
        self.point = nn.Conv2d(4, 5, 1)
        self.grouped = nn.Conv2d(4, 8, 3, groups=4)
        self.head = nn.Linear(6, 2)
        self.experts = Experts()
        self.attention = nn.MultiheadAttention(8, 2)


class Experts(nn.Module):
    """Several matrices in one parameter, as mixtures of experts hold them."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Parameter(torch.ones(2, 6, 5))


def tuned(model: nn.Module, **settings: Any) -> peft.PeftModel:  # noqa: ANN401 - LoraConfig's own
    """Wrap a model in LoRA layers, as if trained: no factor is zero."""
    torch.manual_seed(7)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(**settings))
    with torch.no_grad():
        for name, value in wrapped.named_parameters():
            if "lora_" in name:
                value.normal_()
    return wrapped


def reopened(model: peft.PeftModel, folder: Path) -> Adapter:
    model.save_pretrained(str(folder))
    found = open_spec(folder)
    assert isinstance(found, Adapter)
    return found


def update(adapter: Adapter, module: str) -> Tensor:
    """Return scale B A in canonical orientation, from the files."""
    factors = adapter.factors[module]
    a, b = (adapter.weights.read(entry).flatten(1) for entry in (factors.a, factors.b))
    delta = factors.scale * (b @ a)
    return delta.T if factors.kind == "embedding" else delta


def agrees_with_peft(adapter: Adapter, model: peft.PeftModel) -> None:
    """Check rank, scale, shape and update of every module against PEFT's layers."""
    layers: dict[str, Any] = {
        name: layer
        for name, layer in model.get_base_model().named_modules()
        if isinstance(layer, peft.tuners.lora.LoraLayer)
    }
    assert set(adapter.factors) == set(layers)
    for name, layer in layers.items():
        factors = adapter.factors[name]
        assert factors.module == name
        assert factors.rank == layer.r["default"]
        assert factors.scale == layer.scaling["default"]
        delta = layer.get_delta_weight("default").detach()
        if getattr(layer, "fan_in_fan_out", False) and factors.kind == "linear":
            delta = delta.T
        assert factors.shape == tuple(delta.flatten(1).shape)
        torch.testing.assert_close(update(adapter, name), delta.flatten(1))


@pytest.mark.parametrize(
    "settings",
    [
        {"r": 4, "lora_alpha": 8, "target_modules": ["up", "down"]},
        {"r": 1, "lora_alpha": 1, "target_modules": ["up"]},
        {"r": 3, "lora_alpha": 16, "use_rslora": True, "target_modules": ["up", "down"]},
        {"r": 4, "lora_alpha": 0.5, "target_modules": "all-linear"},
        {"r": 2, "target_modules": ["table"]},
        {"r": 2, "target_modules": ["table", "up"], "use_rslora": True},
        {"r": 2, "target_modules": ["conv1"]},
        {"r": 3, "target_modules": ["conv2", "point", "down"], "lora_alpha": 5},
        {"r": 2, "target_modules": ["up"], "lora_bias": True, "bias": "lora_only"},
        {"r": 2, "target_modules": ["up"], "init_lora_weights": "gaussian"},
        {"r": 2, "target_modules": ["up"], "init_lora_weights": "orthogonal"},
        {"r": 2, "target_modules": ["up"], "init_lora_weights": "mica"},
        {"r": 2, "target_modules": ["up"], "velora_config": peft.VeloraConfig(num_groups=2)},
        {
            "r": 4,
            "lora_alpha": 8,
            "target_modules": ["up", "down"],
            "rank_pattern": {"^blocks.2.down": 5, r"blocks\.1\.up": 3, "up": 2},
            "alpha_pattern": {r"blocks\.[01]\.up": 32, "down": 7},
        },
        {
            "r": 4,
            "target_modules": ["up", "down"],
            "use_rslora": True,
            "rank_pattern": {r"1\.up": 2, "blocks.2.up": 1, ".*own": 3},
        },
    ],
    ids=lambda settings: "-".join(f"{key}={value}" for key, value in settings.items())[:70],
)
def test_every_module_agrees_with_peft(settings: Mapping[str, Any], tmp_path: Path) -> None:
    model = tuned(Tiny(), **settings)
    agrees_with_peft(reopened(model, tmp_path), model)


def test_where_two_patterns_fit_the_order_of_the_file_counts(tmp_path: Path) -> None:
    patterns = {"up": 3, r"blocks\.1\.up": 5}  # peft sorts them when it writes
    adapter = reopened(tuned(Tiny(), target_modules=["up"], alpha_pattern=patterns), tmp_path)
    agrees_with_peft(adapter, peft.PeftModel.from_pretrained(Tiny(), tmp_path))
    assert adapter.factors["blocks.1.up"].scale == 5 / 8


@pytest.mark.parametrize("use_rslora", [False, True])
def test_gpt2_stores_its_weights_the_other_way_round(tmp_path: Path, use_rslora: bool) -> None:
    base = GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=13, n_positions=4))
    model = tuned(
        base, r=2, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True, use_rslora=use_rslora
    )
    adapter = reopened(model, tmp_path)
    agrees_with_peft(adapter, model)
    assert adapter.factors["transformer.h.1.attn.c_attn"].shape == (24, 8)


def test_bert_with_a_trained_head(tmp_path: Path) -> None:
    config = BertConfig(
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=12,
        vocab_size=9,
    )
    model = tuned(
        BertForSequenceClassification(config),
        r=2,
        target_modules=["query", "value"],
        task_type="SEQ_CLS",
    )
    adapter = reopened(model, tmp_path)
    agrees_with_peft(adapter, model)
    assert set(adapter.saved) == {"classifier.weight", "classifier.bias"}
    assert adapter.saved["classifier.weight"].shape == (2, 8)
    assert adapter.skipped == ()


def test_whole_tensors_stand_under_the_names_of_the_base(tmp_path: Path) -> None:
    model = tuned(Tiny(), r=2, target_modules=["up"], modules_to_save=["head"], bias="lora_only")
    adapter = reopened(model, tmp_path)
    names = {name for name, _ in Tiny().named_parameters()}
    assert set(adapter.saved) == {
        *("head.weight", "head.bias"),
        *(f"blocks.{layer}.up.bias" for layer in range(3)),
    }
    assert set(adapter.saved) <= names


def test_what_is_no_factor_of_a_weight_is_listed(tmp_path: Path) -> None:
    model = tuned(
        Tiny(),
        r=2,
        target_modules=["blocks.0.up"],
        lora_bias=True,
    )
    adapter = reopened(model, tmp_path)
    assert {skip.tensor for skip in adapter.skipped} == {"base_model.model.blocks.0.up.lora_B.bias"}
    assert {skip.reason for skip in adapter.skipped} == {
        "a bias that is scaled with its factors (lora_bias)"
    }


def test_changed_rows_of_an_embedding(tmp_path: Path) -> None:
    model = tuned(
        Tiny(), r=2, target_modules=["blocks.0.up"], trainable_token_indices={"table": [7, 2]}
    )
    rows = reopened(model, tmp_path).rows["table"]
    assert rows.indices == (7, 2)
    assert rows.entry.shape == (2, 6)


def test_dora_keeps_its_magnitudes_whatever_their_shape(tmp_path: Path) -> None:
    model = tuned(Tiny(), r=2, target_modules=["table", "down", "conv2"], use_dora=True)
    adapter = reopened(model, tmp_path)
    shapes = {name: own.magnitude.shape for name, own in adapter.factors.items() if own.magnitude}
    assert set(shapes) == set(adapter.factors)
    assert shapes["table"] == shapes["blocks.0.down"] == (6,)
    assert shapes["conv2"] == (1, 5, 1, 1)


@pytest.mark.filterwarnings("ignore:The following rank_pattern keys did not match:RuntimeWarning")
def test_a_parameters_factors_and_what_they_may_be_for(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "target_parameters": ["experts.gates"],
        "rank_pattern": {"gates": 3},
    }
    model = tuned(Tiny(), r=2, target_modules=[], lora_alpha=6, **settings)
    factors = reopened(model, tmp_path).factors["experts"]
    assert (factors.kind, factors.module, factors.count) == ("parameter", "experts", 2)
    assert factors.choices == {"gates": (3, 2.0)}


def test_attention_counts_its_output_twice_as_peft_does(tmp_path: Path) -> None:
    model = tuned(Tiny(), r=2, target_modules=["attention"], lora_alpha=6)
    adapter = reopened(model, tmp_path)
    scales = {name: own.scale for name, own in adapter.factors.items()}
    assert scales == {"attention": 3.0, "attention.out_proj": 6.0}
    config = tmp_path / "adapter_config.json"
    config.write_text(config.read_text().replace(peft.__version__, "0.22.0"))
    text = refusal(tmp_path)
    assert "'attention.out_proj' is the output of a MultiheadAttention, whose update PEFT" in text
    assert "whether '0.22.0' does is not known. Merge it into its base" in text


def test_the_real_adapter(minilm_lora: Path) -> None:
    adapter = open_spec(str(minilm_lora))
    assert isinstance(adapter, Adapter)
    assert len(adapter.factors) == 36
    assert {(f.rank, f.scale, f.kind) for f in adapter.factors.values()} == {(8, 2.0, "linear")}
    assert set(adapter.saved) == {"classifier.weight", "classifier.bias"}
    assert adapter.skipped == ()
    assert adapter.config["base_model_name_or_path"] == "sentence-transformers/all-MiniLM-L6-v2"
    module = "bert.encoder.layer.5.intermediate.dense"
    assert adapter.factors[module].shape == (1536, 384)
    stored = load_file(minilm_lora / "adapter_model.safetensors")
    a, b = (stored[f"base_model.model.{module}.lora_{side}.weight"] for side in "AB")
    torch.testing.assert_close(update(adapter, module), 2 * b @ a)


def refusal(folder: Path) -> str:
    """Return the error's text, after checking that it is one plain line."""
    with pytest.raises(AdapterError) as caught:
        open_spec(folder)
    assert str(caught.value).isprintable()
    return str(caught.value)


class TestRefusedAsWrittenByPeft:
    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            (
                {"kasa_config": peft.KasaConfig()},
                "uses KaSA, which is not supported. Merge it into its base",
            ),
            (
                {"use_bdlora": peft.tuners.lora.BdLoraConfig(target_modules_bd_a=["up"])},
                "block-diagonal LoRA",
            ),
            ({"init_lora_weights": "pissa"}, "initialised with 'pissa', which changes the base"),
            ({"init_lora_weights": "pissa_niter_2"}, "initialised with 'pissa_niter_2'"),
            ({"init_lora_weights": "olora"}, "initialised with 'olora', which changes the base"),
        ],
        ids=["kasa", "bdlora", "pissa", "pissa-fast", "olora"],
    )
    def test_written_by_peft(self, tmp_path: Path, settings: dict[str, Any], words: str) -> None:
        tuned(Tiny(), **{"r": 2, "target_modules": ["up"], **settings}).save_pretrained(
            str(tmp_path)
        )
        assert words in refusal(tmp_path)

    def test_another_method_written_by_peft(self, tmp_path: Path) -> None:
        config = peft.LilyConfig(target_modules=["up"])
        peft.get_peft_model(Tiny(), config).save_pretrained(str(tmp_path))
        text = refusal(tmp_path)
        assert "is a PEFT adapter of type 'LILY', which adds what hangs on the input" in text

    @pytest.mark.filterwarnings("ignore:LoRA adapter added to ConvNd layer with groups:UserWarning")
    def test_a_grouped_convolution_written_by_peft(self, tmp_path: Path) -> None:
        tuned(Tiny(), r=4, target_modules=["grouped"]).save_pretrained(str(tmp_path))
        assert "Save the adapter again, without grouped convolutions." in refusal(tmp_path)


WRAPPED: dict[str, Callable[[str], str]] = {
    "compiled": lambda name: f"_orig_mod.{name}",
    "compiled under DDP": lambda name: f"module._orig_mod.{name}",
    "checkpointed": lambda name: re.sub(r"(blocks\.\d+\.)", r"\1_checkpoint_wrapped_module.", name),
    "FSDP": lambda name: re.sub(r"(blocks\.\d+\.)", r"\1_fsdp_wrapped_module.", name),
    "default": lambda name: re.sub(r"(lora_[AB]|to_save)\.", r"\1.default.", name),
    "another name": lambda name: re.sub(r"(lora_[AB]|to_save)\.", r"\1.policy.", name),
    "prefix twice": lambda name: f"base_model.model.{name}",
    "no prefix": lambda name: name.removeprefix("base_model.model."),
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_names_as_wrappers_leave_them(kind: str, tmp_path: Path) -> None:
    model = tuned(
        Tiny(), target_modules=["up", "down"], rank_pattern={r"^blocks\.1\.up": 3}, r=2,
        modules_to_save=["head"],
    )  # fmt: skip
    plain = reopened(model, tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    tensors = load_file(path)
    tensors["base_model.model.head.modules_to_save.weight"] = tensors.pop(
        "base_model.model.head.weight"
    )
    save_file({WRAPPED[kind](name): value for name, value in tensors.items()}, path)
    found = open_spec(tmp_path)
    assert isinstance(found, Adapter)
    agrees_with_peft(found, model)
    assert set(found.saved) == set(plain.saved) == {"head.weight", "head.bias"}
    assert not found.skipped
