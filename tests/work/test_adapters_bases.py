"""Adapters on bases that are stored otherwise: quantised, GGUF, of a family not known."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import spectra
from adapters import agrees_with_merged, pairs, planned, save, trained
from spectra.checkpoint import Checkpoint, TensorEntry
from spectra.checkpoint.entry import ReadStored, Slab
from spectra.matrices import LowRank, Selection
from spectra.work import plan_pair
from spectra.work.task import bytes_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to:UserWarning"),
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to:UserWarning"),
]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(21)


def llama() -> nn.Module:
    config = transformers.LlamaConfig(
        hidden_size=64, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=128, vocab_size=20, pad_token_id=0,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


def gpt2() -> nn.Module:
    config = transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=24, n_positions=8)
    return transformers.GPT2LMHeadModel(config)


@dataclass(frozen=True, slots=True)
class Halved:
    """Values stored as their halves, a codec that no format has."""

    stored: TensorEntry
    name: str = "halved"

    @property
    def parts(self) -> Sequence[TensorEntry]:
        return (self.stored,)

    def decode(self, read: ReadStored, slab: Slab) -> Tensor:
        return 2 * read(self.stored, slab)

    def nudge(self, _main: Tensor) -> None:
        return None


@pytest.mark.parametrize("use_dora", [False, True], ids=["lora", "dora"])
def test_what_is_updated_is_the_decoded_base(use_dora: bool, tmp_path: Path) -> None:
    trained(llama(), tmp_path, r=2, target_modules=["q_proj", "embed_tokens"], use_dora=use_dora)
    plain = pairs(planned(tmp_path))
    halves = {name: value / 2 for name, value in
              load_file(tmp_path / "base" / "model.safetensors").items()}  # fmt: skip
    save_file(halves, tmp_path / "base" / "model.safetensors")
    base = spectra.open(tmp_path / "base")
    assert isinstance(base, Checkpoint)
    coded = {name: replace(entry, codec=Halved(entry)) for name, entry in base.entries.items()}
    plan = plan_pair(replace(base, entries=coded), spectra.open(tmp_path / "adapter"), Selection())
    found = pairs(plan)
    assert set(found) == set(plain)
    for name, pair in found.items():
        torch.testing.assert_close(pair.tuned_exact(), plain[name].tuned_exact())
        assert isinstance(pair.tuned, LowRank) == isinstance(plain[name].tuned, LowRank)
    assert all(task.memory > bytes_of([task]) for task in plan.tasks)


def test_an_adapter_on_four_bits_of_bitsandbytes(tmp_path: Path) -> None:
    functional: Any = importlib.import_module("bitsandbytes.functional")
    model = llama()
    trained(model, tmp_path, r=2, target_modules=["q_proj", "down_proj"], merge=False)
    tensors = load_file(tmp_path / "base" / "model.safetensors")
    stored: dict[str, Tensor] = {}
    exact: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if "_proj" not in name:
            stored[name] = value
            continue
        packed, state = functional.quantize_4bit(
            value.to(torch.bfloat16), quant_type="nf4", compress_statistics=True
        )
        stored[name] = packed
        stored |= {f"{name}.{key}": part for key, part in state.as_dict(packed=True).items()}
        exact[name] = functional.dequantize_4bit(packed, state).float()
    save_file(stored, tmp_path / "base" / "model.safetensors")
    found = pairs(planned(tmp_path))
    wrapped = peft.PeftModel.from_pretrained(llama(), str(tmp_path / "adapter"))
    layers: Any = dict(wrapped.get_base_model().named_modules())
    assert exact
    for name, values in exact.items():
        expected = values
        if "q_proj" in name or "down_proj" in name:
            delta = layers[name.removesuffix(".weight")].get_delta_weight("default").detach()
            expected = values + delta
        pair = found[name]
        torch.testing.assert_close(pair.base.float(), values, rtol=1e-2, atol=1e-3)
        torch.testing.assert_close(pair.tuned_exact().float(), expected, rtol=1e-2, atol=2e-3)


def write_gguf(model: nn.Module, path: Path) -> None:
    """Write GPT-2 as llama.cpp's converter does: every Conv1D turned to [out, in]."""
    names = {"attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up",
             "mlp.c_proj": "ffn_down"}  # fmt: skip
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_block_count(1)
    writer.add_embedding_length(16)
    writer.add_head_count(2)
    for key, value in model.state_dict().items():
        for name, word in names.items():
            if key == f"transformer.h.0.{name}.weight":
                writer.add_tensor(f"blk.0.{word}.weight", np.ascontiguousarray(value.mT.numpy()))
        if key == "transformer.wte.weight":
            writer.add_tensor("token_embd.weight", value.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("modules", [["attn.c_proj"], ["c_attn", "c_fc"]], ids=["square", "oblong"])
def test_a_gguf_base_of_weights_stored_in_out(modules: list[str], tmp_path: Path) -> None:
    model = gpt2()
    (tmp_path / "gguf").mkdir()
    write_gguf(model, tmp_path / "gguf" / "model.gguf")
    trained(model, tmp_path, r=2, target_modules=modules, fan_in_fan_out=True)
    expected = agrees_with_merged(tmp_path)
    found = {name: pair for name, pair in pairs(planned(tmp_path, "gguf")).items()
             if pair.tuned is not None}  # fmt: skip
    assert set(found) == set(expected)
    for name, pair in found.items():
        torch.testing.assert_close(pair.tuned_exact(), expected[name].tuned_exact())
    whole = pairs(planned(tmp_path, "gguf", "base"))  # full checkpoints, one stored otherwise
    assert all(torch.equal(pair.base, pair.tuned_exact()) for pair in whole.values())


def test_a_square_weight_of_an_unknown_family_is_turned_as_the_flag_says(tmp_path: Path) -> None:
    trained(gpt2(), tmp_path, r=2, target_modules=["attn.c_proj"], fan_in_fan_out=True)
    for folder in ("base", "merged"):
        (tmp_path / folder / "config.json").unlink()
    assert set(agrees_with_merged(tmp_path)) == {"transformer.h.0.attn.c_proj.weight"}


def test_a_linear_layer_beside_conv1d_is_not_turned(tmp_path: Path) -> None:
    """PEFT's flag is about all modules; a layout that is known goes before it."""
    config: Any = transformers.GPT2Config(
        n_embd=16, n_layer=1, n_head=2, vocab_size=24, n_positions=8, pad_token_id=0
    )
    config.num_labels = 16
    model = transformers.GPT2ForSequenceClassification(config)  # its `score` is a square Linear
    base = save(model, tmp_path / "base")
    assert base.exists()
    wrapped: Any = peft.get_peft_model(
        model, peft.LoraConfig(r=2, target_modules=["score", "c_fc"], fan_in_fan_out=True)
    )
    with torch.no_grad():
        for key, value in wrapped.named_parameters():
            if "lora_" in key:
                value.normal_()
    wrapped.save_pretrained(str(tmp_path / "adapter"))
    text = (tmp_path / "adapter" / "adapter_config.json").read_text()
    (tmp_path / "adapter" / "adapter_config.json").write_text(
        text.replace('"fan_in_fan_out": false', '"fan_in_fan_out": true')
    )
    save(wrapped.merge_and_unload(), tmp_path / "merged")
    assert "score.weight" in agrees_with_merged(tmp_path)
