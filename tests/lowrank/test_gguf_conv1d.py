"""Adapters of GPT-2, whose Conv1D lies [in, out], as GGUF, which has it [out, in]."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel

import spectra
from adapters import save
from lowrank.nets import adapter, loaded, updates
from spectra.errors import SpectraError
from spectra.lowrank import convert, extract, merge, resize

pytestmark = [
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to:UserWarning"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to True:UserWarning"),
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning"),
]
CONV1D = ["c_attn", "c_proj", "c_fc"]
WORDS = {"attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up",
         "mlp.c_proj": "ffn_down"}  # fmt: skip


def gpt2(*, width: int = 16, tied: bool = True) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(
        n_embd=width, n_layer=2, n_head=2, vocab_size=30, n_positions=12, bos_token_id=0,
        eos_token_id=0, tie_word_embeddings=tied,
    ))  # fmt: skip


def in_file(place: Path) -> dict[str, Tensor]:
    """Return alpha / r B A of every tensor of a file, as llama.cpp multiplies it."""
    reader = gguf.GGUFReader(place)
    alpha = float(reader.fields["adapter.lora.alpha"].contents())
    held = {one.name: torch.from_numpy(one.data.copy()).double() for one in reader.tensors}
    found = {}
    for name in {name.removesuffix(".lora_a") for name in held if name.endswith(".lora_a")}:
        a, b = held[f"{name}.lora_a"], held[f"{name}.lora_b"]
        found[name] = (alpha / len(a) if alpha else 1.0) * b @ a
    return found


def called(name: str) -> str:
    """Return what GGUF calls a weight of GPT-2."""
    layer, _, rest = name.removeprefix("transformer.h.").partition(".")
    return f"blk.{layer}.{WORDS[rest.removesuffix('.weight')]}.weight"


def logits(model: torch.nn.Module, folder: Path) -> Tensor:
    with torch.no_grad():  # PEFT's model is in evaluation mode
        found: Tensor = loaded(model, folder)(torch.arange(10)[None]).logits
    return found


def test_the_file_holds_what_peft_adds(tmp_path: Path) -> None:
    model = gpt2()
    base = save(model, tmp_path / "base")
    first = adapter(model, tmp_path / "first", target_modules=CONV1D, fan_in_fan_out=True)
    convert(first, tmp_path / "g.gguf", to="gguf", base=base)
    expected = {called(name): change.mT for name, change in updates(model, first).items()
                if change.any()}  # fmt: skip
    found = in_file(tmp_path / "g.gguf")
    assert set(found) == set(expected)
    for name, change in expected.items():
        torch.testing.assert_close(found[name], change, rtol=1e-4, atol=1e-6)
    convert(tmp_path / "g.gguf", tmp_path / "back", base=base)
    assert torch.equal(logits(model, tmp_path / "back"), logits(model, first))
    told = {row.matrix: row.number("delta_norm") for row in spectra.diff(base, first).rows}
    for row in spectra.diff(base, tmp_path / "g.gguf").rows:
        assert row.number("delta_norm") == told[row.matrix]


def test_every_writer_writes_it(tmp_path: Path) -> None:
    model = gpt2()
    base = save(model, tmp_path / "base")
    first = adapter(model, tmp_path / "first", target_modules=CONV1D, fan_in_fan_out=True)
    plain = {called(name): change.mT for name, change in updates(model, first).items()
             if change.any()}  # fmt: skip
    trained: Any = loaded(model, first)
    tuned: torch.nn.Module = trained.merge_and_unload()
    resize(first, tmp_path / "r.gguf", to="gguf", base=base)
    merge([first, first], tmp_path / "m.gguf", weights=0.5, to="gguf", base=base)
    extract(base, save(tuned, tmp_path / "tuned"), tmp_path / "e.gguf", rank=6, to="gguf")
    for way in "rme":
        found = in_file(tmp_path / f"{way}.gguf")
        assert set(found) == set(plain)
        for name, change in plain.items():
            torch.testing.assert_close(found[name], change, rtol=1e-3, atol=1e-5)


def test_factors_that_lie_in_out_are_not_read(tmp_path: Path) -> None:
    """Llama.cpp's converter of adapters turns them, and llama.cpp takes them for another base's."""
    model = gpt2()
    base = save(model, tmp_path / "base")
    first = adapter(model, tmp_path / "first", target_modules=CONV1D, fan_in_fan_out=True)
    convert(first, tmp_path / "g.gguf", to="gguf", base=base)
    held = {one.name: one.data.copy() for one in gguf.GGUFReader(tmp_path / "g.gguf").tensors}
    writer = gguf.GGUFWriter(tmp_path / "turned.gguf", "gpt2")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 9.0)
    for name in held:
        other = name[:-1] + "ba"[name.endswith("b")]
        writer.add_tensor(name, np.ascontiguousarray(held[other].T))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    words = r"the factors lie \[in, out\], as llama\.cpp's convert_lora_to_gguf\.py leaves those"
    with pytest.raises(SpectraError, match=words):
        convert(tmp_path / "turned.gguf", tmp_path / "back", base=base)
    with pytest.raises(SpectraError, match=words):
        spectra.diff(base, tmp_path / "turned.gguf")
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize(
    ("module", "tied", "words"),
    [("wte", True, "llama.cpp stops where its embedding has a LoRA"),
     ("lm_head", True, "llama.cpp takes the embedding for it"),
     ("wpe", False, "llama.cpp looks its rows up without any LoRA"),
     ("wte", False, ""), ("lm_head", False, "")],
)  # fmt: skip
def test_what_llama_cpp_does_not_apply_is_refused(
    module: str, tied: bool, words: str, tmp_path: Path
) -> None:
    model = gpt2(tied=tied)
    base = save(model, tmp_path / "base")
    first = adapter(model, tmp_path / "first", target_modules=["c_attn", module],
                    fan_in_fan_out=True)  # fmt: skip
    place = tmp_path / "g.gguf"
    if words:
        with pytest.raises(SpectraError, match=words) as told:
            convert(first, place, to="gguf", base=base)
        assert str(told.value).startswith("1 of 3 modules cannot be written as GGUF, e.g. ")
        assert "the merged model, which `spectra.lowrank.repair(BASE, ADAPTER)`" in str(told.value)
        assert not place.exists()
        return
    convert(first, place, to="gguf", base=base)
    names = {one.name for one in gguf.GGUFReader(place).tensors}
    assert {"token_embd.weight.lora_a", "output.weight.lora_a"} & names


def test_an_encoder_has_no_head_that_its_embedding_could_be(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = BertModel(BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24,
        vocab_size=30,
    ))  # fmt: skip
    first = adapter(model, tmp_path / "first", target_modules=["word_embeddings", "query"])
    convert(first, tmp_path / "g.gguf", to="gguf", base=save(model, tmp_path / "base"))
    names = {one.name for one in gguf.GGUFReader(tmp_path / "g.gguf").tensors}
    assert "token_embd.weight.lora_a" in names


def test_factors_of_another_base_are_not_written(tmp_path: Path) -> None:
    first = adapter(gpt2(), tmp_path / "first", target_modules=CONV1D, fan_in_fan_out=True)
    base = save(gpt2(width=24), tmp_path / "base")
    module = r"'transformer\.h\.0\.attn\.c_attn"
    words = rf"the update of {module}' is 16 x 48, and {module}\.weight' of \S+ is 24 x 72\. Give"
    with pytest.raises(SpectraError, match=words):
        convert(first, tmp_path / "g.gguf", to="gguf", base=base)
