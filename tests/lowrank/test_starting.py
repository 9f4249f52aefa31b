"""A residual base and its adapter: together the original, apart as PEFT makes them."""

import hashlib
import json
import math
import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

import spectra
import spectra.lowrank
from spectra.errors import NonFiniteError, OutputError
from spectra.words import InitMethod

from .nets import config_of, tensors_of
from .test_extracting import llama
from .test_initial import begun, close, products, saved


def together(place: Path) -> nn.Module:
    """Return what transformers and PEFT load."""
    base = AutoModelForCausalLM.from_pretrained(place, dtype="auto")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        found: nn.Module = peft.PeftModel.from_pretrained(base, str(place / "adapter"))
    return found


def answers(model: nn.Module) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(torch.arange(12)[None]).logits
    return found


def checked(found: spectra.Result, original: dict[str, Tensor], place: Path) -> None:
    """Check every stated error against what lies on disk, in float64."""
    stored = load_file(place / "model.safetensors")
    made = products(tensors_of(place / "adapter"))
    turned = config_of(place / "adapter")["fan_in_fan_out"]
    off = whole = 0.0
    for row in found.rows:
        module = row.matrix.removesuffix(".weight")
        update = next(values for name, values in made.items() if name.endswith(module))
        weight, rest = original[row.matrix].double(), stored[row.matrix].double()
        assert stored[row.matrix].dtype == original[row.matrix].dtype
        update = (update.mT if turned else update) * float(row.number("lora_scale") or 0.0)
        missed = weight - rest - update
        assert row.number("missed") == pytest.approx(
            float(missed.norm() / weight.norm()), rel=1e-6, abs=1e-15
        )
        assert row.number("missed_max") == pytest.approx(float(missed.abs().max()), abs=1e-15)
        off, whole = off + float(missed.square().sum()), whole + float(weight.square().sum())
    assert found.summary["missed"] == pytest.approx(math.sqrt(off / whole), rel=1e-6)
    rows = {row.matrix for row in found.rows}
    for name, values in original.items():
        if name not in rows:
            assert torch.equal(stored[name], values)


@pytest.mark.parametrize(
    ("method", "given"),
    [
        ("pissa", {}), ("pissa", {"alpha": 6.0, "dtype": "bfloat16"}), ("milora", {}),
        ("milora", {"chosen": "mid"}), ("soma", {"ramp": [1], "start_block": 1}), ("olora", {}),
        ("olora", {"alpha": 2.0}),
    ],
    ids=str,
)  # fmt: skip
def test_residual_and_adapter_are_the_original(
    tmp_path: Path, method: InitMethod, given: dict[str, Any]
) -> None:
    model = llama()
    base, place = saved(model, tmp_path), tmp_path / "made"
    found = spectra.lowrank.init(method, base, place, rank=4, **given)
    checked(found, load_file(base / "model.safetensors"), place)
    assert float(str(found.summary["missed"])) <= 1e-7
    torch.testing.assert_close(answers(together(place)), answers(model), rtol=0, atol=2e-6)
    assert config_of(place / "adapter")["base_model_name_or_path"] is None
    assert (place / "config.json").read_bytes() == (base / "config.json").read_bytes()


@pytest.mark.parametrize("method", ["pissa", "olora"])
def test_the_residual_is_that_of_peft(tmp_path: Path, method: InitMethod) -> None:
    model = llama()
    base, place = saved(model, tmp_path), tmp_path / "made"
    spectra.lowrank.init(method, base, place, rank=4, alpha=8)
    wrapped = begun(model, r=4, lora_alpha=8, init_lora_weights=method)
    stored = load_file(place / "model.safetensors")
    compared = 0
    for name, values in wrapped.named_parameters():
        if name.endswith("base_layer.weight"):
            own = stored[name.removeprefix("base_model.model.").replace("base_layer.", "")]
            close(own.double(), values.detach().double(), 1e-5)
            compared += 1
    assert compared == 14


def test_a_bfloat16_base_stays_one_and_its_rounding_is_told(tmp_path: Path) -> None:
    model = llama().bfloat16()
    base, place = saved(model, tmp_path), tmp_path / "made"
    found = spectra.lowrank.init("pissa", base, place, rank=4)
    checked(found, load_file(base / "model.safetensors"), place)
    error = float(str(found.summary["missed"]))
    assert 1e-4 < error < 2**-8  # half a step of what is left, which is less than the whole
    assert "are the original to" in str(found.summary["reading"])
    twin = begun(model, r=4, lora_alpha=4, init_lora_weights="pissa")
    own = products(tensors_of(place / "adapter"))
    name = "model.layers.0.self_attn.q_proj"
    lora = dict(twin.named_parameters())
    a, b = (lora[f"base_model.model.{name}.lora_{side}.default.weight"].detach() for side in "AB")
    close(own[name], b.double() @ a.double(), 2**-8)  # PEFT rounds its factors as the base is


def test_conv1d_is_turned_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_embd=24, n_layer=2, n_head=2, vocab_size=30))
    model.train(mode=False)
    base, place = saved(model, tmp_path), tmp_path / "made"
    found = spectra.lowrank.init("milora", base, place, rank=4)
    checked(found, load_file(base / "model.safetensors"), place)
    torch.testing.assert_close(answers(together(place)), answers(model), rtol=0, atol=2e-5)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_is_not_touched_is_copied_byte_for_byte(tmp_path: Path) -> None:
    model = llama()
    base, place = tmp_path / "model", tmp_path / "made"
    model.save_pretrained(base, max_shard_size="20KB")
    (base / "tokenizer.json").write_text("{}")
    shards = sorted(path.name for path in base.glob("*.safetensors"))
    assert len(shards) > 2
    found = spectra.lowrank.init("pissa", base, place, rank=2, include="*layers.1.mlp.up_proj*")
    (name,) = [row.matrix for row in found.rows]
    index = json.loads((base / "model.safetensors.index.json").read_text())["weight_map"]
    changed = {path for path in shards if digest(base / path) != digest(place / path)}
    assert changed == {index[name]}
    for beside in ("config.json", "tokenizer.json", "model.safetensors.index.json"):
        assert digest(base / beside) == digest(place / beside)
    torch.testing.assert_close(answers(together(place)), answers(model), rtol=0, atol=2e-6)


def test_a_run_that_fails_leaves_nothing(tmp_path: Path) -> None:
    model = llama()
    base, place = saved(model, tmp_path), tmp_path / "made"
    tensors = load_file(base / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][0, 0] = math.nan
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(NonFiniteError, match=r"layers.1.mlp.up_proj.weight cannot be written"):
        spectra.lowrank.init("pissa", base, place, rank=2)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    spectra.lowrank.init("pissa", base, place, rank=2, exclude="*layers.1.mlp.up_proj*")
    with pytest.raises(OutputError, match="nothing is overwritten"):
        spectra.lowrank.init.plan("pissa", base, place, rank=2)
    before = digest(place / "adapter" / "adapter_model.safetensors")
    spectra.lowrank.init("pissa", base, place, rank=3, exclude="*layers.1.mlp.up_proj*", force=True)
    assert digest(place / "adapter" / "adapter_model.safetensors") != before


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    base = saved(llama(), tmp_path)
    made = []
    for workers in (1, 3):
        place, masks = (tmp_path / f"{word}{workers}" for word in ("made", "masks"))
        spectra.lowrank.init("milora", base, place, rank=4, workers=workers)
        spectra.lowrank.mask(base, masks, rank=4, filter_rank=4, workers=workers)
        files = place / "model.safetensors", place / "adapter" / "adapter_model.safetensors"
        made.append([digest(path) for path in (*files, masks / "masks.safetensors")])
    assert made[0] == made[1]


def test_a_model_is_not_written_over_itself(tmp_path: Path) -> None:
    base = saved(llama(), tmp_path)
    for force in (False, True):
        for given in (base, base / "model.safetensors"):
            with pytest.raises(OutputError, match="not written over itself"):
                spectra.lowrank.init.plan("pissa", given, base, force=force)


def test_diff_of_both_is_the_part_that_was_taken(tmp_path: Path) -> None:
    model = llama()
    base, place = saved(model, tmp_path), tmp_path / "made"
    spectra.lowrank.init("pissa", base, place, rank=3)
    found = spectra.diff(place, place / "adapter", role="attn.q")
    assert {row.number("delta_rank") for row in found.rows} == {3}
