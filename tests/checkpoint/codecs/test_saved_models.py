"""Whole models, quantised and saved by the libraries that own the formats, end to end."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from compressed_tensors.compressors import ModelCompressor
from compressed_tensors.quantization import (
    QuantizationArgs,
    QuantizationConfig,
    QuantizationScheme,
    apply_quantization_config,
)
from safetensors.torch import load_file, save_file
from spectra_cli.main import run
from torch import Tensor
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

import spectra
from spectra.checkpoint import Checkpoint, open_spec

SIZES: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 48, "tie_word_embeddings": False,
}  # fmt: skip
BNB: dict[str, dict[str, Any]] = {
    "bitsandbytes-nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4",
                         "bnb_4bit_use_double_quant": True},
    "bitsandbytes-fp4": {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"},
    "bitsandbytes-int8": {"load_in_8bit": True},
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    hf.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    before = hf.utils.logging.get_verbosity()
    hf.utils.logging.set_verbosity(logging.ERROR)
    yield
    hf.utils.logging.set_verbosity(before)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny model that is not quantised."""
    torch.manual_seed(0)
    model = hf.LlamaForCausalLM(hf.LlamaConfig(**SIZES)).bfloat16()
    folder = tmp_path_factory.mktemp("models") / "llama"
    model.save_pretrained(folder)
    return folder


def weights_of(folder: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return every matrix that spectra reads, and the codecs of those that have one."""
    checkpoint = open_spec(folder)
    assert isinstance(checkpoint, Checkpoint)
    assert not checkpoint.skipped
    entries = {name: e for name, e in checkpoint.entries.items() if len(e.shape) > 1}
    codecs = {name: entry.codec.name for name, entry in entries.items() if entry.codec}
    return {name: checkpoint.read(entry) for name, entry in entries.items()}, codecs


def same(read: dict[str, Tensor], model: Any) -> None:  # noqa: ANN401 - a model of any class
    """Check every matrix against a model that its library has dequantised."""
    expected = {name: value for name, value in model.state_dict().items() if value.ndim > 1}
    assert read.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(read[name].to(value.dtype), value), name


@pytest.mark.parametrize("name", BNB)
def test_a_model_saved_with_bitsandbytes_is_read_to_its_rounding(
    name: str, llama: Path, tmp_path: Path
) -> None:
    config = hf.BitsAndBytesConfig(**BNB[name])  # type: ignore[no-untyped-call]
    model: Any = hf.AutoModelForCausalLM.from_pretrained(
        llama, quantization_config=config, device_map="cpu"
    )
    model.save_pretrained(tmp_path)
    read, codecs = weights_of(tmp_path)
    assert set(codecs.values()) == {name}
    assert len(codecs) == 7
    same(read, model.dequantize(dtype=torch.bfloat16))
    paired = spectra.diff(llama, tmp_path)
    assert {row.matrix for row in paired.rows} == read.keys()
    changes = {row.matrix: row.number("delta_relative") for row in paired.rows}
    for weight in codecs:
        assert 0 < (changes[weight] or 0) < 0.25


@pytest.mark.parametrize("name", ["bitsandbytes-nf4", "bitsandbytes-int8"])
def test_layers_that_are_turned_to_be_quantised_are_turned_back(name: str, tmp_path: Path) -> None:
    """GPT-2 holds [in, out]; square weights would pair either way, and differ."""
    torch.manual_seed(0)
    sizes = hf.GPT2Config(n_embd=64, n_layer=1, n_head=4, vocab_size=48)
    hf.GPT2LMHeadModel(sizes).save_pretrained(tmp_path / "plain")
    config = hf.BitsAndBytesConfig(**BNB[name])  # type: ignore[no-untyped-call]
    hf.AutoModelForCausalLM.from_pretrained(
        tmp_path / "plain", quantization_config=config, device_map="cpu"
    ).save_pretrained(tmp_path / "packed")
    _read, codecs = weights_of(tmp_path / "packed")
    assert len(codecs) == 4
    rows = spectra.diff(tmp_path / "plain", tmp_path / "packed").rows
    changes = [row.number("delta_relative") or 0 for row in rows if row.place.tensor in codecs]
    assert len(changes) == 6  # q, k and v by themselves
    assert all(0 < change < 0.25 for change in changes)


def test_a_model_of_two_schemes_saved_by_compressed_tensors_is_read_to_its_rounding(
    llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model: Any = hf.LlamaForCausalLM.from_pretrained(llama, dtype=torch.bfloat16)
    four = QuantizationArgs(num_bits=4, strategy="group", group_size=32, symmetric=False)
    eight = QuantizationArgs(num_bits=8, type="float", strategy="channel")
    groups = {
        "attention": QuantizationScheme(targets=["re:.*self_attn.*"], weights=four),
        "mlp": QuantizationScheme(targets=["re:.*mlp.*proj"], weights=eight),
    }
    apply_quantization_config(model, QuantizationConfig(config_groups=groups, ignore=["lm_head"]))
    for module in model.modules():
        if hasattr(module, "weight_scale"):
            module.weight_scale.data.uniform_(0.005, 0.02)
        if hasattr(module, "weight_zero_point") and module.weight_zero_point.dtype == torch.int8:
            module.weight_zero_point.data.random_(-8, 8)
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    model.save_pretrained(tmp_path)
    compressor.update_config(tmp_path)
    read, codecs = weights_of(tmp_path)
    kinds = [codecs[name].removeprefix("compressed-tensors-") for name in sorted(codecs)]
    assert kinds == ["fp8"] * 3 + ["int4"] * 4  # mlp, then self_attn
    compressor.decompress_model(model)
    expected = {name: value for name, value in model.state_dict().items()
                if name.endswith("weight") and value.ndim > 1}  # fmt: skip
    assert read.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(read[name].bfloat16(), value), name
    rows = [row.flat() for row in spectra.spectrum(tmp_path).rows]
    told = {row["matrix"]: (row["codec"], row["dtype"]) for row in rows}
    assert told["model.layers.0.self_attn.k_proj.weight"] == ("compressed-tensors-int4", "I32")
    assert told["model.layers.0.mlp.up_proj.weight"] == ("compressed-tensors-fp8", "F8_E4M3")
    assert told["lm_head.weight"] == (None, "BF16")
    capsys.readouterr()
    assert run(["ls", str(tmp_path), "--format", "json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert "compressed-tensors-int4" in json.dumps(listed)


def test_gpt_oss_in_mxfp4_is_the_model_that_transformers_makes_of_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = hf.GptOssConfig(**SIZES, num_local_experts=3, head_dim=16)
    model: Any = hf.GptOssForCausalLM(config)
    model.save_pretrained(tmp_path / "plain")
    tensors = load_file(tmp_path / "plain" / "model.safetensors")
    packed = dict(tensors)
    for name in [name for name in tensors if name.endswith(("gate_up_proj", "down_proj"))]:
        experts, inputs, outputs = tensors[name].shape
        blocks = torch.randint(0, 256, (experts, outputs, inputs // 32, 16), dtype=torch.uint8)
        scales = torch.randint(115, 125, blocks.shape[:-1], dtype=torch.uint8)
        tensors[name] = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)
        del packed[name]
        packed |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
    save_file(tensors, tmp_path / "plain" / "model.safetensors")
    folder = tmp_path / "packed"
    folder.mkdir()
    save_file(packed, folder / "model.safetensors")
    told = json.loads((tmp_path / "plain" / "config.json").read_text())
    told["quantization_config"] = {"quant_method": "mxfp4"}
    (folder / "config.json").write_text(json.dumps(told))
    paired = spectra.diff(tmp_path / "plain", folder)
    assert {row.number("delta_relative") for row in paired.rows} == {0.0}
    rows = [row.flat() for row in spectra.spectrum(folder).rows]
    coded = [row for row in rows if row["codec"] == "mxfp4"]
    assert {row["dtype"] for row in coded} == {"U8"}
    assert [row["role"] for row in coded].count("mlp.gate") == 3
    assert len(coded) == 9
