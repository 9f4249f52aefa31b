"""What a fine-tune changed, as an adapter: PEFT merges the base plus what is stated."""

import copy
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFReader
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AutoModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    ResNetConfig,
    ResNetForImageClassification,
)

import spectra
import spectra.lowrank
from spectra.errors import (
    AdapterError,
    NonFiniteError,
    NothingToAnalyseError,
    PairingError,
    UsageError,
)

from .nets import config_of, loaded, merged, tensors_of


def moved(model: nn.Module, folder: Path, only: Callable[[str], bool] = lambda _: True) -> Path:
    """Write a model before and after every parameter of some names moved; return the folder."""
    model.save_pretrained(folder / "base")  # type: ignore[operator]
    generator = torch.Generator().manual_seed(1)
    tuned = copy.deepcopy(model)
    with torch.no_grad():
        for name, values in tuned.named_parameters():
            if only(name):
                values.add_(0.05 * torch.randn(values.shape, generator=generator))
    tuned.save_pretrained(folder / "tuned")  # type: ignore[operator]
    return folder


def compared(found: spectra.Result, model: nn.Module, tuned: nn.Module, place: Path) -> set[str]:
    """Check what PEFT merges against what is stated; return what is not as in the tuned model."""
    rows = {row.matrix: row for row in found.rows}
    before, after, made = dict(model.state_dict()), tuned.state_dict(), merged(model, place)
    other = set()
    for name, values in after.items():
        if not values.is_floating_point():
            continue
        change, missed = values.double() - before[name].double(), (values - made[name]).double()
        stored = next((key for key in rows if name.endswith(key)), None)
        if stored is None:
            if not torch.equal(values, made[name]):
                other.add(name)
            continue
        norm = float(change.norm())
        assert rows[stored].number("loss") == pytest.approx(
            float(missed.norm()) / norm if norm else 0.0, abs=1e-5
        )
    return other


def llama(**settings: Any) -> LlamaForCausalLM:  # noqa: ANN401 - the config's own
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(
        num_attention_heads=4, num_key_value_heads=2, vocab_size=40,
        **{"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
           "tie_word_embeddings": False, "attention_bias": True, **settings},
    ))  # fmt: skip


@pytest.mark.parametrize(
    "cut", [{"rank": 3}, {"energy": 0.7}, {"budget": "40KB"}, {"rank": 4, "dtype": "bfloat16"}],
    ids=str,
)  # fmt: skip
def test_peft_merges_base_and_stated_update(tmp_path: Path, cut: dict[str, Any]) -> None:
    model = llama()
    moved(model, tmp_path)
    found = spectra.lowrank.extract(tmp_path / "base", tmp_path / "tuned", tmp_path / "a", **cut)
    tuned = LlamaForCausalLM.from_pretrained(tmp_path / "tuned")
    assert compared(found, model, tuned, tmp_path / "a") == set()  # norms and biases whole
    base, after = load_file(tmp_path / "base/model.safetensors"), tuned.state_dict()
    for row in found.rows:
        exact = torch.linalg.svdvals(after[row.matrix].double() - base[row.matrix].double())
        kept, norm = int(row.number("rank_kept") or 0), float(torch.linalg.vector_norm(exact))
        best = float(torch.linalg.vector_norm(exact[kept:])) / norm
        tolerance = 4e-3 if "dtype" in cut else 1e-6
        assert row.number("loss") == pytest.approx(best, abs=tolerance)
        assert (row.number("loss_least") or 0.0) <= best + 1e-7
        low, high = row.number("loss_spectral_low"), row.number("loss_spectral")
        spectral = float(exact[kept] / exact[0]) if kept < len(exact) else 0.0
        assert (low or 0.0) - 1e-6 <= spectral <= (high or 0.0) + 1e-6
        if "energy" in cut:
            held = exact.square().cumsum(0) / norm**2
            assert held[kept - 1] >= 0.7 - 1e-9 > held[kept - 2] * (kept > 1) - 1e-9
    written = sum(one.stat().st_size for one in (tmp_path / "a").iterdir())
    assert found.summary["nbytes_written"] == written
    if "budget" in cut:
        assert 30_000 < written <= 40_000


def test_a_planted_rank_comes_back(tmp_path: Path) -> None:
    model = llama()
    model.save_pretrained(tmp_path / "base")
    with torch.no_grad():
        for name, values in model.named_parameters():
            if "q_proj.weight" in name:
                values.add_(torch.randn(32, 3) @ torch.randn(3, 32))
    model.save_pretrained(tmp_path / "tuned")
    found = spectra.lowrank.extract(
        tmp_path / "base", tmp_path / "tuned", tmp_path / "a", energy=0.999999
    )
    ranks = {row.matrix: row.number("rank_kept") for row in found.rows}
    assert {rank for name, rank in ranks.items() if "q_proj" in name} == {3.0}
    assert {rank for name, rank in ranks.items() if "q_proj" not in name} == {0.0}
    assert "2 modules of rank 3" in found.summary["reading"]
    assert "14 matrices are unchanged" in found.summary["reading"]
    assert config_of(tmp_path / "a")["target_modules"] == [
        f"model.layers.{layer}.self_attn.q_proj" for layer in range(2)
    ]
    assert config_of(tmp_path / "a")["modules_to_save"] is None


@pytest.mark.parametrize("cut", [{"rank": 3}, {"budget": "40KB"}], ids=str)
def test_the_same_models_give_the_same_file_again(tmp_path: Path, cut: dict[str, Any]) -> None:
    moved(llama(), tmp_path)
    models = tmp_path / "base", tmp_path / "tuned"
    for place, workers in (("b", 1), ("c", 4)):
        spectra.lowrank.extract(*models, tmp_path / place, workers=workers, **cut)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "b" / name).read_bytes() == (tmp_path / "c" / name).read_bytes()


def test_conv1d_and_fused_tensors_are_held(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(
        n_embd=24, n_layer=1, n_head=2, vocab_size=30, n_positions=8, bos_token_id=0, eos_token_id=0
    ))  # fmt: skip
    moved(model, tmp_path)
    found = spectra.lowrank.extract(tmp_path / "base", tmp_path / "tuned", tmp_path / "a", rank=5)
    tuned = GPT2LMHeadModel.from_pretrained(tmp_path / "tuned")
    assert compared(found, model, tuned, tmp_path / "a") == set()
    assert config_of(tmp_path / "a")["fan_in_fan_out"] is True
    roles = {row.matrix.removeprefix("transformer.h.0."): row.place.role for row in found.rows}
    assert (roles["attn.c_attn.weight"], roles["attn.c_proj.weight"]) == ("attn", "attn.o")


def test_a_real_encoder(tmp_path: Path, minilm: Path) -> None:
    model = AutoModel.from_pretrained(minilm)
    moved(model, tmp_path, lambda name: "layer.1." in name or "LayerNorm" in name)
    found = spectra.lowrank.extract(minilm, tmp_path / "tuned", tmp_path / "a", rank=16)
    tuned = AutoModel.from_pretrained(tmp_path / "tuned")
    assert compared(found, model, tuned, tmp_path / "a") == set()
    held = [row for row in found.rows if row.number("rank_kept")]
    assert len(held) == 6
    assert all(0.6 < (row.number("loss") or 0.0) < 1.0 for row in held)
    assert not any("pooler" in name for name in tensors_of(tmp_path / "a"))


def test_new_tokens_are_written_whole(tmp_path: Path) -> None:
    model = llama()
    moved(model, tmp_path)
    tuned = LlamaForCausalLM.from_pretrained(tmp_path / "tuned")
    tuned.resize_token_embeddings(44)
    tuned.save_pretrained(tmp_path / "tuned")
    found = spectra.lowrank.extract(tmp_path / "base", tmp_path / "tuned", tmp_path / "a", rank=2)
    told = {item.tensor: item.reason for item in found.skipped}
    assert told["model.embed_tokens.weight"] == (
        "written whole: [40, 32] in the base, [44, 32] here"
    )
    model.resize_token_embeddings(44)
    made = merged(model, tmp_path / "a")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        assert torch.equal(made[name], tuned.state_dict()[name])


def test_a_convolution_is_held(tmp_path: Path) -> None:
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 8, (3, 2))
            self.grouped = nn.Conv2d(8, 8, 3, groups=8)
            self.proj = nn.Linear(24, 20)

    model = Net()
    (tmp_path / "base").mkdir()
    (tmp_path / "tuned").mkdir()
    tensors: dict[str, Tensor] = dict(model.state_dict())
    save_file(tensors, tmp_path / "base/model.safetensors")
    tuned = copy.deepcopy(model)
    with torch.no_grad():
        for values in tuned.parameters():
            values.add_(0.1 * torch.randn_like(values))
    save_file(dict(tuned.state_dict()), tmp_path / "tuned/model.safetensors")
    found = spectra.lowrank.extract(tmp_path / "base", tmp_path / "tuned", tmp_path / "a", rank=3)
    assert compared(found, model, tuned, tmp_path / "a") == set()
    assert config_of(tmp_path / "a")["modules_to_save"] == [
        "grouped"
    ]  # PEFT merges no such factors
    assert {row.matrix for row in found.rows} == {"conv1.weight", "proj.weight"}
    assert "names are the file's own" in found.summary["notes"][0]


def test_batch_norms_are_written_with_their_statistics(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = ResNetForImageClassification(ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic",
    ))  # fmt: skip
    moved(model, tmp_path)
    tuned = load_file(tmp_path / "tuned" / "model.safetensors")
    norms = [name for name in tuned if name.endswith(".running_mean")]
    tuned[norms[0]] += 0.1  # of the others the affine part alone has moved
    tuned[norms[0].replace("running_mean", "num_batches_tracked")] += 7
    save_file(tuned, tmp_path / "tuned" / "model.safetensors", metadata={"format": "pt"})
    spectra.lowrank.extract(tmp_path / "base", tmp_path / "tuned", tmp_path / "made", rank=64)
    made = merged(model, tmp_path / "made")
    assert len(norms) == 6
    for name, values in tuned.items():
        torch.testing.assert_close(made[name], values, rtol=1e-5, atol=1e-6)


class Attending(nn.Module):
    """Torch's own attention, whose output layer is never called, and buffers at the top."""

    inv_freq: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2)
        self.head = nn.Linear(16, 12)
        self.register_buffer("inv_freq", torch.rand(8))
        self.register_buffer("position_ids", torch.arange(8))

    def forward(self, x: Tensor) -> Tensor:
        seen: Tensor = self.head(self.attention(x, x, x)[0] * self.inv_freq.mean())
        return seen


def test_torchs_attention_is_left_as_it_is_and_buffers_come_along(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Attending()
    tuned = copy.deepcopy(model)
    for values in tuned.state_dict().values():
        values.add_(1 if values.dtype == torch.int64 else values.sin())
    for name, one in (("base", model), ("tuned", tuned)):
        (tmp_path / name).mkdir()
        save_file(one.state_dict(), tmp_path / name / "model.safetensors")
    found = spectra.lowrank.extract(tmp_path / "base", tmp_path / "tuned", tmp_path / "a", rank=16)
    assert [row.matrix for row in found.rows] == ["head.weight"]
    lost = {"attention.in_proj_weight", "attention.out_proj.weight", "position_ids"}
    assert {item.tensor for item in found.skipped if item.reason.startswith("not held")} == lost
    assert "3 tensors that changed are not held: see skipped." in found.summary["reading"]
    made = tuned.state_dict()
    made |= {name: values for name, values in model.state_dict().items() if name in lost}
    expected = Attending()
    expected.load_state_dict(made)
    x = torch.randn(3, 2, 16)
    torch.testing.assert_close(loaded(model, tmp_path / "a")(x), expected(x))


def test_no_part_of_torchs_attention_is_taken_out_of_a_base(tmp_path: Path) -> None:
    model = Attending()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    place = tmp_path / "made"
    found = spectra.lowrank.init(
        "pissa", tmp_path / "model.safetensors", place, rank=2, include=["*"]
    )
    assert [row.matrix for row in found.rows] == ["head.weight"]
    residual = copy.deepcopy(model)
    residual.load_state_dict(load_file(place / "model.safetensors"))
    x = torch.randn(3, 2, 16)
    made = loaded(residual, place / "adapter")(x)
    torch.testing.assert_close(made, model(x), rtol=1e-5, atol=1e-6)


def test_a_filter_leaves_the_rest_as_it_was(tmp_path: Path) -> None:
    model = llama()
    moved(model, tmp_path)
    found = spectra.lowrank.extract(
        tmp_path / "base", tmp_path / "tuned", tmp_path / "a", rank=2, role="attn", layers=1
    )
    assert len(found.rows) == 4
    before, made = model.state_dict(), merged(model, tmp_path / "a")
    same = {name for name, values in before.items() if torch.equal(values, made[name])}
    assert set(before) - same == {row.matrix for row in found.rows}


def test_what_cannot_be_extracted_is_refused(
    tmp_path: Path, minilm: Path, minilm_lora: Path
) -> None:
    model = llama()
    moved(model, tmp_path)
    base, tuned, out = tmp_path / "base", tmp_path / "tuned", tmp_path / "a"
    with pytest.raises(UsageError, match="no end of directions"):
        spectra.lowrank.extract.plan(base, tuned, out)
    with pytest.raises(UsageError, match=r"is an adapter, of which all modules.*repair.*scale=1"):
        spectra.lowrank.extract.plan(minilm, minilm_lora, out, rank=2, role="attn")
    with pytest.raises(PairingError, match="no module of"):
        spectra.lowrank.extract.plan(base, minilm_lora, out, rank=2)
    with pytest.raises(PairingError, match="no tensor of"):
        spectra.lowrank.extract.plan(minilm, tuned, out, rank=2)
    with pytest.raises(UsageError, match="every update is 0: nothing is left to write"):
        spectra.lowrank.extract(base, base, out, rank=2)
    with pytest.raises(NothingToAnalyseError, match=r"none of the|no matrix"):
        spectra.lowrank.extract.plan(base, tuned, out, rank=2, role="conv")
    sound = load_file(tuned / "model.safetensors")
    for name in ("model.layers.0.self_attn.q_proj.weight", "model.norm.weight"):
        tensors = {**sound, name: sound[name].clone()}
        tensors[name].view(-1)[0] = math.inf
        save_file(tensors, tuned / "model.safetensors", {"format": "pt"})
        with pytest.raises(NonFiniteError, match=rf"{name} cannot be written: .*1 Inf"):
            spectra.lowrank.extract(base, tuned, out, rank=2)
        assert not out.exists()


@pytest.mark.parametrize("rank", [3, None])
def test_of_an_adapter_its_own_factors_are_cut(
    rank: int | None, tmp_path: Path, minilm: Path, minilm_lora: Path
) -> None:
    spectra.lowrank.extract(minilm, minilm_lora, tmp_path / "a", rank=rank)
    spectra.lowrank.resize(minilm_lora, tmp_path / "b", rank=rank)
    one, other = tensors_of(tmp_path / "a"), tensors_of(tmp_path / "b")
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_gguf_refuses_only_what_changed_and_has_no_name_there(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = LlamaForSequenceClassification(llama().config)  # type: ignore[no-untyped-call]  # GGUF has no name for its `score`
    moved(model, tmp_path, lambda name: "q_proj" in name)
    models = tmp_path / "base", tmp_path / "tuned"
    found = spectra.lowrank.extract(*models, tmp_path / "a.gguf", rank=2, to="gguf")
    assert {row.matrix for row in found.rows if row.number("rank_kept")} == {
        f"model.layers.{layer}.self_attn.q_proj.weight" for layer in range(2)
    }
    names = {tensor.name for tensor in GGUFReader(tmp_path / "a.gguf").tensors}
    stems = {f"blk.{layer}.attn_q.weight.lora_" for layer in range(2)}
    assert names == {f"{stem}{side}" for stem in stems for side in "ab"}
    moved(model, tmp_path, lambda name: "q_proj" in name or "score" in name)
    told = (
        "1 matrix changed and cannot be written as gguf, e.g. 'score.weight': GGUF's llama has no "
        "name for it alone. Expected to='peft', or, to leave out what changed there, "
        "exclude='score.weight'."
    )
    with pytest.raises(AdapterError, match=re.escape(told)):
        spectra.lowrank.extract(*models, tmp_path / "b.gguf", rank=2, to="gguf")
    assert not (tmp_path / "b.gguf").exists()
    spectra.lowrank.extract(*models, tmp_path / "b.gguf", rank=2, to="gguf", exclude="score.weight")
    moved(model, tmp_path, lambda name: "embed" in name)
    place = tmp_path / "c.safetensors"
    with pytest.raises(AdapterError, match=r"kohya has no LoRA of embeddings\. Expected to='peft'"):
        spectra.lowrank.extract(*models, place, rank=2, to="kohya", part="text_encoder")
