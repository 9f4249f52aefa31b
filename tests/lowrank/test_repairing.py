"""Fine-tunes repaired: float64 decompositions agree, and all else stays byte for byte."""

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft.tuners.lora import intruders
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)

import spectra
import spectra.lowrank
from spectra.errors import NonFiniteError, UsageError

from .nets import adapter, config_of, merged, tensors_of, updates

WEIGHTS = "model.safetensors"


def planted(weight: Tensor, seed: int, strengths: tuple[float, ...] = (1.5, 1.1)) -> Tensor:
    """Add directions that outdo the matrix's own: intruders, as the sides are large enough."""
    generator = torch.Generator().manual_seed(seed)
    wide = weight.double()
    largest = torch.linalg.matrix_norm(wide, 2)
    sides = (torch.randn(size, len(strengths), generator=generator, dtype=torch.float64)
             for size in wide.shape)  # fmt: skip
    left, right = (torch.linalg.qr(side).Q for side in sides)
    found: Tensor = wide + (left * (largest * torch.tensor(strengths))) @ right.mT
    return found.to(weight.dtype)


def llama(**settings: Any) -> nn.Module:  # noqa: ANN401 - the config's own
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(
        hidden_size=96, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=160, **{"tie_word_embeddings": False, **settings},
    ))  # fmt: skip


def sick(model: nn.Module, folder: Path, words: tuple[str, ...], **saving: Any) -> None:  # noqa: ANN401 - transformers' own
    """Write a model, and one with intruders in the matrices whose names have one of some words."""
    model.save_pretrained(folder / "base", **saving)  # type: ignore[operator]
    tuned = copy.deepcopy(model)
    with torch.no_grad():
        for index, (name, values) in enumerate(tuned.named_parameters()):
            if any(word in name for word in words) and values.ndim > 1:
                flat = values if values.ndim == 2 else values[1]  # the second of a stack's experts
                flat.copy_(planted(flat, index))
    tuned.save_pretrained(folder / "tuned", **saving)  # type: ignore[operator]
    (folder / "tuned" / "tokenizer.json").write_text('{"a": 1}')


def tensors(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= load_file(path)
    return found


def repaired(base: Tensor, tuned: Tensor, scale: float, *, every: bool = False) -> Tensor:
    """Return what the paper's formula gives, by float64 decompositions."""
    left = torch.linalg.svd(base.double(), full_matrices=False).U
    outer, sigma, inner = torch.linalg.svd(tuned.double(), full_matrices=False)
    cosine = (outer.mT @ left).abs().amax(dim=1)[:10]
    some = (cosine < 0.5).nonzero().flatten()
    some = some if every else some[:1]
    assert len(some)
    found: Tensor = tuned.double() + (scale - 1) * (outer[:, some] * sigma[some]) @ inner[some]
    return found


def agreed(found: spectra.Result, folder: Path, place: Path) -> None:
    """Check that what is told of afterwards is what a comparison finds in what was written."""
    again = {row.matrix: row for row in
             spectra.diff(folder / "base", place, intruders=True, cache=False).rows}  # fmt: skip
    for row in found.rows:
        other = again[row.matrix]
        details: Any = row.values["intruder_detail_after"], other.values["intruder_detail"]
        for one, same in zip(*details, strict=True):
            assert one["intruder"] is same["intruder"]
            for key in ("sigma", "max_cos", "energy"):
                assert one[key] == pytest.approx(same[key], rel=1e-6, abs=1e-7)
        norm = other.number("delta_norm")
        assert row.number("delta_norm_after") == pytest.approx(norm, rel=1e-5)
    before = spectra.diff(folder / "base", folder / "tuned", intruders=True, cache=False)
    assert found.summary["intruders"] == before.summary["intruders"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("every", [False, True])
def test_the_formula_in_float64_agrees(tmp_path: Path, dtype: torch.dtype, every: bool) -> None:
    sick(llama().to(dtype), tmp_path, ("q_proj", "down_proj"))
    place = tmp_path / "out"
    found = spectra.lowrank.repair(
        tmp_path / "base", tmp_path / "tuned", place, scale=0.3, all=every
    )
    base, tuned, made = (tensors(tmp_path / name) for name in ("base", "tuned", "out"))
    moved = {name for name, values in tuned.items() if not torch.equal(values, made[name])}
    assert moved == {name for name in tuned if "q_proj" in name or "down_proj" in name}
    for name in moved:
        exact = repaired(base[name], tuned[name], 0.3, every=every)
        assert made[name].dtype is dtype
        torch.testing.assert_close(made[name], exact.to(dtype), rtol=1e-6, atol=1e-9)
    agreed(found, tmp_path, place)
    told = found.summary["reading"]
    assert "8 intruder dimensions in 4 of 4 changed matrices" in told
    assert f"{8 if every else 4} were scaled to 30 %" in told
    assert found.summary["intruders_after"] < 8


def test_all_else_stays_byte_for_byte(tmp_path: Path) -> None:
    sick(llama(), tmp_path, ("layers.1.mlp.up_proj",), max_shard_size="150KB")
    tuned, place = tmp_path / "tuned", tmp_path / "out"
    (tuned / "pytorch_model.bin").write_bytes(b"other weights")
    (tuned / "optimizer.pt").write_bytes(b"what training goes on with")
    found = spectra.lowrank.repair(tmp_path / "base", tuned, place, scale=0.0)
    (holder,) = {
        shard for name, shard in
        json.loads((tuned / "model.safetensors.index.json").read_text())["weight_map"].items()
        if "layers.1.mlp.up_proj" in name
    }  # fmt: skip
    left = {"pytorch_model.bin", "optimizer.pt"}
    assert {one.name for one in place.iterdir()} == (
        {one.name for one in tuned.iterdir()} - left | {"spectra_provenance.json"}
    )
    assert left <= {item.tensor for item in found.skipped}
    for path in place.iterdir():
        if path.name not in (holder, "spectra_provenance.json"):
            assert path.read_bytes() == (tuned / path.name).read_bytes()
    old, new = (folder.joinpath(holder).read_bytes() for folder in (tuned, place))
    start = 8 + int.from_bytes(old[:8], "little")
    assert old[:start] == new[:start]  # with its metadata
    with safe_open(place / holder, "pt") as file:
        for name in file.keys():  # noqa: SIM118 - no mapping
            same = torch.equal(file.get_tensor(name), tensors(tuned)[name])
            assert same is ("layers.1.mlp.up_proj" not in name)
    told = json.loads((place / "spectra_provenance.json").read_text())
    assert told["rewritten"] == ["model.layers.1.mlp.up_proj.weight"]
    assert told["settings"]["scale"] == 0.0
    assert [one["digest"] for one in told["sources"]] == [one.digest for one in found.models]
    assert str(tmp_path / "out") not in json.dumps(told)


@pytest.mark.parametrize("how", [{"scale": 1.0}, {"truncate": 1.0}, {"role": "attn.k"}], ids=str)
def test_the_identity_is_the_same_bytes(tmp_path: Path, how: dict[str, Any]) -> None:
    sick(llama(), tmp_path, ("q_proj",))
    found = spectra.lowrank.repair(tmp_path / "base", tmp_path / "tuned", tmp_path / "out", **how)
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (tmp_path / "tuned" / WEIGHTS).read_bytes()
    assert found.summary["repaired"] == 0
    assert found.summary["intruders"] == found.summary["intruders_after"]


def test_a_healthy_fine_tune_is_written_as_it_is_and_said_to_be(tmp_path: Path) -> None:
    model = llama()
    model.save_pretrained(tmp_path / "base")  # type: ignore[operator]
    with torch.no_grad():
        for values in model.parameters():
            values.mul_(1.01)
    model.save_pretrained(tmp_path / "tuned")  # type: ignore[operator]
    found = spectra.lowrank.repair(
        tmp_path / "base", tmp_path / "tuned", tmp_path / "out", scale=0.0
    )
    assert found.summary["intruders"] == 0
    assert "Nothing is to be repaired: all is written as it is." in found.summary["reading"]
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (tmp_path / "tuned" / WEIGHTS).read_bytes()


def test_parts_of_fused_and_transposed_tensors_are_repaired_each(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(n_embd=64, n_layer=1, n_head=2, vocab_size=100, n_positions=8)
    )
    sick(model, tmp_path, ("c_fc",))
    path = tmp_path / "tuned" / WEIGHTS
    held = load_file(path)
    fused = held["transformer.h.0.attn.c_attn.weight"]  # [in, q and k and v]
    for part in (0, 2):
        here = fused[:, 64 * part : 64 * (part + 1)]
        here.copy_(planted(here.mT, part).mT)
    save_file(held, path, {"format": "pt"})
    found = spectra.lowrank.repair(
        tmp_path / "base", tmp_path / "tuned", tmp_path / "out", scale=0.2, workers=2
    )
    base, made = (tensors(tmp_path / name) for name in ("base", "out"))
    name = "transformer.h.0.attn.c_attn.weight"
    for part in range(3):
        one, other, now = (
            each[name][:, 64 * part : 64 * (part + 1)].mT for each in (base, held, made)
        )
        exact = other if part == 1 else repaired(one, other, 0.2).float()
        torch.testing.assert_close(now, exact, rtol=1e-6, atol=1e-9)
    name = "transformer.h.0.mlp.c_fc.weight"
    exact = repaired(base[name].mT, held[name].mT, 0.2).mT.float()
    torch.testing.assert_close(made[name], exact, rtol=1e-6, atol=1e-9)
    agreed(found, tmp_path, tmp_path / "out")
    # The head is tied to the embedding, and neither of them is in the file twice.
    model = GPT2LMHeadModel.from_pretrained(tmp_path / "out")
    assert torch.equal(model.lm_head.weight, made["transformer.wte.weight"])


def test_one_expert_of_a_stack_is_repaired(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = MixtralForCausalLM(MixtralConfig(
        hidden_size=64, intermediate_size=80, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, num_local_experts=3, vocab_size=96, tie_word_embeddings=False,
    ))  # fmt: skip
    sick(model, tmp_path, ("experts.down_proj",), save_original_format=False)
    found = spectra.lowrank.repair(
        tmp_path / "base", tmp_path / "tuned", tmp_path / "out", scale=0.0, all=True
    )
    base, tuned, made = (tensors(tmp_path / name) for name in ("base", "tuned", "out"))
    (name,) = (name for name in tuned if not torch.equal(tuned[name], made[name]))
    exact = repaired(base[name][1], tuned[name][1], 0.0, every=True).float()
    torch.testing.assert_close(made[name][1], exact, rtol=1e-6, atol=1e-9)
    assert torch.equal(made[name][[0, 2]], tuned[name][[0, 2]])
    agreed(found, tmp_path, tmp_path / "out")


@pytest.mark.parametrize("truncate", [1, 3, "80%"])
def test_an_update_is_cut_to_its_leading_directions(tmp_path: Path, truncate: int | str) -> None:
    sick(llama(), tmp_path, ("q_proj",))
    found = spectra.lowrank.repair(
        tmp_path / "base", tmp_path / "tuned", tmp_path / "out", truncate=truncate
    )
    base, tuned, made = (tensors(tmp_path / name) for name in ("base", "tuned", "out"))
    rows = {row.matrix: row for row in found.rows if "q_proj" in row.matrix}
    for name, row in rows.items():
        outer, sigma, inner = torch.linalg.svd(tuned[name].double() - base[name].double())
        energy = sigma.square().cumsum(0) / sigma.square().sum()
        kept = int((energy < 0.8).sum()) + 1 if truncate == "80%" else int(truncate)
        exact = base[name].double() + (outer[:, :kept] * sigma[:kept]) @ inner[:kept]
        torch.testing.assert_close(made[name], exact.float(), rtol=1e-5, atol=1e-7)
        assert row.number("rank_kept") == kept
        lost = float((1.0 - energy[kept - 1]).clamp(min=0.0).sqrt())
        assert row.number("loss") == pytest.approx(lost, abs=1e-4)
    agreed(found, tmp_path, tmp_path / "out")
    assert "Each update is cut to" in found.summary["reading"]


def test_nothing_is_written_where_something_is_wrong(tmp_path: Path) -> None:
    sick(llama(), tmp_path, ("q_proj",))
    base, tuned, place = tmp_path / "base", tmp_path / "tuned", tmp_path / "out"
    with pytest.raises(UsageError, match="the one or the other"):
        spectra.lowrank.repair.plan(base, tuned, place, truncate=3, scale=0.5)
    with pytest.raises(UsageError, match="'lots' is neither a rank nor a share"):
        spectra.lowrank.repair.plan(base, tuned, place, truncate="lots")
    with pytest.raises(UsageError, match=r"scale=-0\.5 cannot be meant"):
        spectra.lowrank.repair.plan(base, tuned, place, scale=-0.5)
    with pytest.raises(UsageError, match="'both' is not repaired in one run"):
        spectra.lowrank.repair.plan(base, tuned, place, side="both")  # type: ignore[arg-type]
    (tmp_path / "pickled").mkdir()
    torch.save(load_file(tuned / WEIGHTS), tmp_path / "pickled" / "pytorch_model.bin")
    with pytest.raises(UsageError, match="expected safetensors: other formats are read, not"):
        spectra.lowrank.repair(base, tmp_path / "pickled", place, allow_pickle=True)
    held = load_file(tuned / WEIGHTS)
    held["model.layers.0.self_attn.q_proj.weight"][1, 2] = torch.nan
    save_file(held, tuned / WEIGHTS)
    with pytest.raises(NonFiniteError, match="cannot be written: tuned: 1 NaN"):
        spectra.lowrank.repair(base, tuned, place)
    assert {one.name for one in tmp_path.iterdir()} == {"base", "tuned", "pickled"}


SETTINGS: list[dict[str, Any]] = [
    {}, {"use_rslora": True, "rank_pattern": {"down_proj": 3}}, {"use_dora": True},
    {"target_modules": ["embed_tokens", "v_proj"]},
]  # fmt: skip
LLAMA: dict[str, Any] = {"target_modules": ["q_proj", "down_proj"], "r": 4, "lora_alpha": 6}


def lora(model: nn.Module, folder: Path, **settings: Any) -> tuple[Path, Path]:  # noqa: ANN401 - LoraConfig's own
    """Write a model and an adapter of it, whose few strong directions resemble nothing."""
    model.save_pretrained(folder / "base")  # type: ignore[operator]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*save_embedding_layers", UserWarning)
        return folder / "base", adapter(model, folder / "a", seed=3, **{**LLAMA, **settings})


def test_an_adapter_given_for_the_base_is_told_the_right_way_round(tmp_path: Path) -> None:
    base, made = lora(llama(), tmp_path, target_modules=["q_proj"])
    with pytest.raises(UsageError, match=rf"`spectra\.lowrank\.repair\('{base}', '{made}'\)`"):
        spectra.lowrank.repair.plan(made, base, tmp_path / "out")


def expected(base: Tensor, tuned: Tensor, scale: float, *, every: bool) -> Tensor:
    """Return a matrix repaired, one without an intruder as it is."""
    try:
        return repaired(base, tuned, scale, every=every)
    except AssertionError:
        return tuned.double()


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("every", [False, True])
def test_an_adapter_of_exact_rank_is_what_peft_merges(
    tmp_path: Path, settings: dict[str, Any], every: bool
) -> None:
    model = llama()
    base, source = lora(model, tmp_path, **settings)
    found = spectra.lowrank.repair(base, source, tmp_path / "b", scale=0.2, all=every)
    before, tuned = dict(model.state_dict()), merged(model, source)
    made = merged(model, tmp_path / "b")
    ranks = {row.matrix: row for row in found.rows}
    for name, values in tuned.items():
        if torch.equal(values, before[name]):
            assert torch.equal(made[name], values)
            continue
        exact = expected(before[name], values, 0.2, every=every)
        torch.testing.assert_close(made[name].double(), exact, rtol=1e-4, atol=1e-5)
        row = ranks[name]
        repaired_here = int(row.number("repaired") or 0)
        assert repaired_here
        assert row.number("rank_kept") == (row.number("rank_before") or 0) + repaired_here
    again = spectra.diff(base, tmp_path / "b", intruders=True, cache=False)
    assert found.summary["intruders_after"] == again.summary["intruders"]
    config = config_of(tmp_path / "b")
    assert config["use_dora"] is settings.get("use_dora", False)
    old, new = tensors_of(source), tensors_of(tmp_path / "b")
    for name, values in old.items():  # what was there keeps its bits
        if "lora_A" in name or "embedding_A" in name:
            assert torch.equal(new[name][: len(values)], values)


@pytest.mark.parametrize("how", [{"scale": 1.0}, {"truncate": 1.0}, {"layers": "7"}], ids=str)
def test_an_adapter_that_is_not_repaired_is_the_same_bytes(
    tmp_path: Path, how: dict[str, Any]
) -> None:
    base, source = lora(llama(), tmp_path)
    if "layers" in how:
        how = {"min_energy": 1.0}
    found = spectra.lowrank.repair(base, source, tmp_path / "b", **how)
    assert found.summary["repaired"] == 0
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "b" / name).read_bytes() == (source / name).read_bytes()


def test_pefts_own_repair_agrees(tmp_path: Path) -> None:
    """It scales every intruder and cuts the result back to the rank that it had."""
    model = llama()
    base, source = lora(model, tmp_path)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        twin: Any = peft.PeftModel.from_pretrained(copy.deepcopy(model), str(source))
    theirs_repairs: Any = intruders.reduce_intruder_dimension
    theirs_repairs(twin, mitigation_lambda=0.4, logging_sink=None)
    with torch.no_grad():
        theirs = twin.merge_and_unload(adapter_names=["intruder_reduced"]).state_dict()
    found = spectra.lowrank.repair(
        base, source, tmp_path / "b", scale=0.4, all=True, rank=LLAMA["r"]
    )
    for name, values in merged(model, tmp_path / "b").items():
        torch.testing.assert_close(values, theirs[name], rtol=1e-4, atol=1e-4)
    # What that cut loses is what is stated.
    spectra.lowrank.repair(base, source, tmp_path / "exact", scale=0.4, all=True)
    whole, cut = updates(model, tmp_path / "exact"), updates(model, tmp_path / "b")
    for row in found.rows:
        if row.number("repaired"):
            name = str(row.matrix)
            lost = float((whole[name] - cut[name]).norm() / whole[name].norm())
            assert row.number("loss") == pytest.approx(lost, abs=1e-4)
            assert row.number("rank_kept") == LLAMA["r"]
    assert "Ranks of 4 became 4, trimmed with a loss of" in found.summary["reading"]


@pytest.mark.parametrize("settings", [{}, {"use_dora": True}], ids=str)
def test_an_adapter_of_a_fused_conv1d(tmp_path: Path, settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(n_embd=64, n_layer=1, n_head=2, vocab_size=100, n_positions=8)
    )
    base, source = lora(
        model, tmp_path, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True, **settings
    )
    spectra.lowrank.repair(base, source, tmp_path / "b", scale=0.1)
    before, tuned = dict(model.state_dict()), merged(model, source)
    made = merged(model, tmp_path / "b")
    name = "transformer.h.0.attn.c_attn.weight"
    for part in range(3):
        one, other, now = (
            each[name][:, 64 * part : 64 * (part + 1)].mT for each in (before, tuned, made)
        )
        exact = expected(one, other, 0.1, every=False)
        torch.testing.assert_close(now.double(), exact, rtol=1e-4, atol=1e-5)
    name = "transformer.h.0.mlp.c_fc.weight"
    exact = expected(before[name].mT, tuned[name].mT, 0.1, every=False)
    torch.testing.assert_close(made[name].mT.double(), exact, rtol=1e-4, atol=1e-5)


def test_an_adapter_of_a_stack_of_experts(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = MixtralForCausalLM(MixtralConfig(
        hidden_size=64, intermediate_size=80, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, num_local_experts=3, vocab_size=96, tie_word_embeddings=False,
    ))  # fmt: skip
    base, source = lora(
        model, tmp_path, target_modules=["q_proj"],
        target_parameters=["mlp.experts.down_proj", "mlp.experts.gate_up_proj"],
    )  # fmt: skip
    found = spectra.lowrank.repair(base, source, tmp_path / "b", scale=0.0, all=True)
    before, tuned = dict(model.state_dict()), merged(model, source)
    made = merged(model, tmp_path / "b")
    for name, values in tuned.items():
        if "experts.down_proj" in name:
            for expert in range(3):
                exact = expected(before[name][expert], values[expert], 0.0, every=True)
                torch.testing.assert_close(made[name][expert].double(), exact, rtol=1e-4, atol=1e-5)
        elif "gate_up_proj" in name:
            for expert in range(3):
                for half in (slice(0, 80), slice(80, 160)):
                    pair = before[name][expert, half], values[expert, half]
                    exact = expected(*pair, 0.0, every=True)
                    torch.testing.assert_close(
                        made[name][expert, half].double(), exact, rtol=1e-4, atol=1e-5
                    )
    assert found.summary["intruders_after"] < found.summary["intruders"]


@pytest.mark.parametrize("truncate", [2, 0.9])
def test_an_adapters_update_is_cut_through_its_cores(tmp_path: Path, truncate: float) -> None:
    model = llama()
    base, source = lora(model, tmp_path, use_rslora=True)
    found = spectra.lowrank.repair(base, source, tmp_path / "b", truncate=truncate)
    before, after = updates(model, source), updates(model, tmp_path / "b")
    for row in found.rows:
        if row.number("rank_kept") is None:
            continue
        outer, sigma, inner = torch.linalg.svd(before[row.matrix], full_matrices=False)
        kept = int(row.number("rank_kept") or 0)
        exact = (outer[:, :kept] * sigma[:kept]) @ inner[:kept]
        torch.testing.assert_close(after[row.matrix], exact, rtol=1e-4, atol=1e-4)
        energy = sigma.square().cumsum(0) / sigma.square().sum()
        assert kept == (2 if truncate == 2 else int((energy < 0.9).sum()) + 1)
        assert row.number("loss") == pytest.approx(float((1 - energy[kept - 1]) ** 0.5), abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_an_adapter_is_merged_into_its_base(tmp_path: Path, dtype: torch.dtype) -> None:
    model = llama().to(dtype)
    base, source = lora(model, tmp_path, use_dora=dtype is torch.float32, modules_to_save=["norm"])
    (base / "tokenizer.json").write_text('{"a": 1}')
    found = spectra.lowrank.repair(base, source, tmp_path / "b", scale=0.2, merged=True)
    before, made = tensors(base), tensors(tmp_path / "b")
    tuned = merged(llama().float(), source) if dtype is torch.float32 else None
    assert (tmp_path / "b" / "tokenizer.json").read_text() == '{"a": 1}'
    assert all(made[name].dtype is dtype for name in made)
    for name, values in made.items():
        if not any(word in name for word in ("q_proj", "down_proj", "norm")):
            assert torch.equal(values, before[name])
        elif tuned is not None:
            exact = tuned[name].double()
            if "norm" not in name:
                exact = expected(before[name], tuned[name], 0.2, every=False)
            torch.testing.assert_close(values.double(), exact, rtol=1e-4, atol=1e-5)
    again = spectra.diff(base, tmp_path / "b", intruders=True, cache=False)
    assert found.summary["intruders_after"] == again.summary["intruders"]
    assert LlamaForCausalLM.from_pretrained(tmp_path / "b").dtype is dtype


def test_what_is_not_chosen_gets_its_update_as_it_is(tmp_path: Path) -> None:
    model = llama()
    base, source = lora(model, tmp_path, modules_to_save=["norm"])
    low = spectra.lowrank
    found = low.repair(base, source, tmp_path / "b", scale=0.2, merged=True, role="attn.q")
    brought, others = found.summary["notes"]
    assert "also brings 5 norms and biases" in brought
    assert others == "2 matrices that are not chosen get the adapter's update as it is"
    assert {row.place.role for row in found.rows} == {"attn.q"}
    low.repair(base, source, tmp_path / "all", scale=0.2, merged=True)
    low.repair(base, source, tmp_path / "none", scale=1.0, merged=True)
    made, every, plain = (tensors(tmp_path / one) for one in ("b", "all", "none"))
    assert not torch.equal(every["model.layers.0.mlp.down_proj.weight"],
                           plain["model.layers.0.mlp.down_proj.weight"])  # fmt: skip
    for name, values in made.items():
        assert torch.equal(values, (every if "q_proj" in name else plain)[name]), name
