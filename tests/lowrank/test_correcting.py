"""What quantising lost, as an adapter (LoRC): dequantised base + B A, against other dequantisers.

GPTQ and AWQ are packed and unpacked here by their published definitions; bitsandbytes and gguf
dequantise what is theirs.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bitsandbytes.functional as bnb
import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

import spectra
import spectra.lowrank

from .nets import merged
from .test_experts import mixtral

GROUP = 32
AWQ = (0, 2, 4, 6, 1, 3, 5, 7)  # the output that each four bits of a word are of
Quantised = tuple[dict[str, Tensor], Tensor]  # what is stored, by its ending; the values it means


def codes_of(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return four-bit codes [in, out], and scales and zeros [groups, out], rounded to nearest."""
    grouped = weight.mT.unflatten(0, (-1, GROUP))
    low, high = grouped.amin(1), grouped.amax(1)
    scales = ((high - low) / 15).half().float()
    zeros = (-low / scales).round().clamp(0, 15)
    codes = (grouped / scales[:, None] + zeros[:, None]).round().clamp(0, 15).flatten(0, 1)
    return codes.long(), scales, zeros.long()


def meant(codes: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
    each = [values.double().repeat_interleave(GROUP, 0) for values in (scales, zeros)]
    return ((codes.double() - each[1]) * each[0]).mT.contiguous()


def packed(codes: Tensor, places: tuple[int, ...] = tuple(range(8))) -> Tensor:
    """Return words of eight codes each, along the last axis."""
    eights = codes.unflatten(-1, (-1, 8))[..., list(places)]
    words = (eights << (4 * torch.arange(8))).sum(-1)
    found: Tensor = words.where(words < 2**31, words - 2**32).int()
    return found


def gptq(weight: Tensor) -> Quantised:
    codes, scales, zeros = codes_of(weight)
    stored = {
        "qweight": packed(codes.mT).mT, "qzeros": packed((zeros - 1) % 16),
        "scales": scales.half(), "g_idx": (torch.arange(len(codes)) // GROUP).int(),
    }  # fmt: skip
    # The first version stores zeros less one, over all words; a zero of 0 would borrow.
    assert int(zeros.min()) > 0
    return stored, meant(codes, scales, zeros)


def awq(weight: Tensor) -> Quantised:
    codes, scales, zeros = codes_of(weight)
    stored = {"qweight": packed(codes, AWQ), "qzeros": packed(zeros, AWQ), "scales": scales.half()}
    return stored, meant(codes, scales, zeros)


def nf4(weight: Tensor) -> Quantised:
    values, state = bnb.quantize_4bit(weight, blocksize=64, quant_type="nf4")
    told = state.as_dict(packed=True)
    stored = {"weight": values, **{f"weight.{key}": one for key, one in told.items()}}
    return stored, bnb.dequantize_4bit(values, state).double()


def int8(weight: Tensor) -> Quantised:
    values, scales, _ = bnb.int8_vectorwise_quant(weight.half())
    return {"weight": values, "SCB": scales}, bnb.int8_vectorwise_dequant(values, scales).double()


CONFIGS: dict[str, dict[str, Any]] = {
    "gptq": {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": False,
             "checkpoint_format": "gptq"},
    "awq": {"quant_method": "awq", "bits": 4, "group_size": GROUP, "version": "gemm",
            "zero_point": True},
    "nf4": {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "int8": {"quant_method": "bitsandbytes", "load_in_8bit": True},
}  # fmt: skip
SCHEMES: dict[str, Callable[[Tensor], Quantised]] = {
    "gptq": gptq, "awq": awq, "nf4": nf4, "int8": int8,
}  # fmt: skip


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is not quantised."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(
        hidden_size=64, intermediate_size=128, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=40, num_hidden_layers=1, tie_word_embeddings=False,
    ))  # fmt: skip
    folder = tmp_path_factory.mktemp("models") / "full"
    model.save_pretrained(folder)
    return folder


def quantised(full: Path, folder: Path, scheme: str, word: str = "proj") -> dict[str, Tensor]:
    """Write a model with its linear layers quantised; return the values that all of it means."""
    tensors: dict[str, Tensor] = {}
    values: dict[str, Tensor] = {}
    for name, weight in load_file(full / "model.safetensors").items():
        tensors[name], values[name] = weight, weight.double()
        if word in name:
            stored, values[name] = SCHEMES[scheme](weight)
            del tensors[name]
            stem = name.removesuffix("weight")
            tensors |= {f"{stem}{key}": one.contiguous() for key, one in stored.items()}
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((full / "config.json").read_text())
    config["quantization_config"] = CONFIGS[scheme]
    (folder / "config.json").write_text(json.dumps(config))
    return values


def written_gguf(model: LlamaForCausalLM, path: Path, kind: str) -> dict[str, Tensor]:
    """Write a llama as llama.cpp's converter does, q and k in its order; return what it means."""
    config, writer = model.config, gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(128)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_vocab_size(40)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 1)
    scheme = getattr(gguf.GGMLQuantizationType, kind)
    values = {}
    for name, weight in model.state_dict().items():
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        count = next((own for word, own in heads.items() if word in name), 0)
        moved = weight.numpy()
        if count:
            shaped = moved.reshape(count, 2, -1, moved.shape[1])
            moved = np.ascontiguousarray(shaped.swapaxes(1, 2)).reshape(moved.shape)
        key = f"{names.get_name(name.removesuffix('.weight'))}.weight"
        if "proj" not in name:
            writer.add_tensor(key, moved)
            values[name] = weight.double()
            continue
        data = gguf.quants.quantize(moved, scheme)
        writer.add_tensor(key, data, raw_dtype=scheme)
        back = gguf.quants.dequantize(data, scheme).astype(np.float64)
        if count:
            shaped = back.reshape(count, -1, 2, back.shape[1])
            back = np.ascontiguousarray(shaped.swapaxes(1, 2)).reshape(back.shape)
        values[name] = torch.from_numpy(back)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return values


def check(found: spectra.Result, base: dict[str, Tensor], full: Path, place: Path) -> None:
    """Check losses against float64 decompositions, and what PEFT makes of the dequantised base."""
    model = LlamaForCausalLM.from_pretrained(full)
    after = {name: values.double() for name, values in model.state_dict().items()}
    with torch.no_grad():
        for name, values in model.named_parameters():
            values.copy_(base[name])
    made, held = merged(model, place), 0
    for row in found.rows:
        name = row.matrix
        error = after[name] - base[name]
        assert row.number("delta_norm") == pytest.approx(float(error.norm()), rel=1e-5, abs=1e-9)
        if "proj" not in name:
            assert row.number("rank_kept") == 0
            continue
        held += 1
        sigma, kept = torch.linalg.svdvals(error), int(row.number("rank_kept") or 0)
        best = float(sigma[kept:].norm() / sigma.norm())
        assert kept == 8
        assert row.number("loss") == pytest.approx(best, abs=1e-6)
        missed = float((after[name] - made[name]).norm() / error.norm())
        assert row.number("loss") == pytest.approx(missed, abs=1e-5)
        assert best < 0.95
    assert held == 7


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_error_of_a_quantised_base_is_corrected(
    tmp_path: Path, full: Path, scheme: str
) -> None:
    base = quantised(full, tmp_path / "base", scheme)
    found = spectra.lowrank.extract(tmp_path / "base", full, tmp_path / "a", rank=8)
    assert {row.place.codec for row in found.rows if "proj" in row.matrix} != {None}
    check(found, base, full, tmp_path / "a")


@pytest.mark.parametrize("kind", ["Q4_0", "Q5_1", "Q8_0"])
def test_the_error_of_a_gguf_is_corrected(tmp_path: Path, full: Path, kind: str) -> None:
    (tmp_path / "base").mkdir()
    place = tmp_path / "base/model.gguf"
    base = written_gguf(LlamaForCausalLM.from_pretrained(full), place, kind)
    found = spectra.lowrank.extract(place, full, tmp_path / "a", rank=8)
    check(found, base, full, tmp_path / "a")


def test_a_better_base_leaves_less(tmp_path: Path, full: Path) -> None:
    norms = {}
    for scheme in ("nf4", "int8"):
        quantised(full, tmp_path / scheme, scheme)
        found = spectra.lowrank.extract(
            tmp_path / scheme, full, tmp_path / f"{scheme}-a", energy=0.5
        )
        norms[scheme] = sum((row.number("delta_norm") or 0.0) ** 2 for row in found.rows)
        assert 0.5 <= 1 - found.summary["loss"] ** 2 < 0.6
    assert norms["int8"] < norms["nf4"] / 50


def test_experts_of_a_quantised_base_are_corrected(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = mixtral(hidden_size=64, intermediate_size=128, num_hidden_layers=1)
    model.save_pretrained(tmp_path / "full")
    base = quantised(tmp_path / "full", tmp_path / "base", "gptq", ".experts.")
    found = spectra.lowrank.extract(tmp_path / "base", tmp_path / "full", tmp_path / "a", rank=8)
    rows = {row.matrix: row for row in found.rows}
    tensors = load_file(tmp_path / "full/model.safetensors")
    stem = "model.layers.0.block_sparse_moe.experts"
    for expert in range(3):
        for leaf, words in (("gate_up_proj", ("w1", "w3")), ("down_proj", ("w2",))):
            names = [f"{stem}.{expert}.{word}.weight" for word in words]
            error = torch.cat([tensors[name].double() - base[name] for name in names])
            row = rows[f"model.layers.0.mlp.experts.{leaf}[expert={expert}]"]
            sigma = torch.linalg.svdvals(error)
            assert row.number("delta_norm") == pytest.approx(float(error.norm()), rel=1e-5)
            best = float(sigma[8:].norm() / sigma.norm())
            assert row.number("loss") == pytest.approx(best, abs=1e-5)
            assert row.place.codec is not None


def test_a_base_stored_the_other_way_round_is_corrected(tmp_path: Path) -> None:
    """GPT-2 in GGUF lies [out, in], and the tuned model [in, out]."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(
        n_embd=32, n_layer=1, n_head=2, vocab_size=40, bos_token_id=0, eos_token_id=0
    ))  # fmt: skip
    model.save_pretrained(tmp_path / "full")
    place = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(place, "gpt2")
    writer.add_block_count(1)
    writer.add_embedding_length(32)
    writer.add_head_count(2)
    scheme = gguf.GGMLQuantizationType.Q4_0
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GPT2, 1)
    base = {}
    for name, values in model.state_dict().items():
        stem, _, leaf = name.rpartition(".")
        key = names.get_name(stem)
        if name == "lm_head.weight" or key is None:
            continue
        if values.ndim < 2 or "w" not in leaf or "wte" in name or "wpe" in name:
            writer.add_tensor(f"{key}.{leaf}", values.numpy())
            continue
        data = gguf.quants.quantize(np.ascontiguousarray(values.mT.numpy()), scheme)
        writer.add_tensor(f"{key}.{leaf}", data, raw_dtype=scheme)
        base[name] = torch.from_numpy(gguf.quants.dequantize(data, scheme)).double().mT
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = spectra.lowrank.extract(place, tmp_path / "full", tmp_path / "a", rank=6)
    rows = {row.matrix: row for row in found.rows}
    after = {name: values.double() for name, values in model.state_dict().items()}
    with torch.no_grad():
        for name, values in base.items():
            model.get_parameter(name).copy_(values)
    made = merged(model, tmp_path / "a")
    for name, values in base.items():
        error = after[name] - values
        missed = float((after[name] - made[name]).norm() / error.norm())
        assert rows[name].number("loss") == pytest.approx(missed, abs=1e-5)
        assert missed < 0.9
    shutil.rmtree(tmp_path / "full")
