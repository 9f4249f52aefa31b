"""What adapters begin from: PEFT's own inits, published scripts in float64, and the original."""

import copy
import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

import spectra.lowrank
from spectra.errors import NothingToAnalyseError, UsageError

from .nets import config_of, tensors_of, updates
from .test_extracting import llama

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def saved(model: PreTrainedModel, folder: Path) -> Path:
    model.save_pretrained(folder / "model")
    return folder / "model"


def begun(model: nn.Module, **settings: Any) -> Any:  # noqa: ANN401 - a PeftModel
    """Return what PEFT makes of a model by an init of its own."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        config = peft.LoraConfig(**{"target_modules": LINEAR, **settings})
        return peft.get_peft_model(copy.deepcopy(model), config)


def products(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return B A of each module, float64."""
    return {
        name.partition(".lora_A")[0].removeprefix("base_model.model."): (
            tensors[name.replace("lora_A", "lora_B")].double() @ values.double()
        )
        for name, values in tensors.items()
        if ".lora_A" in name
    }


def theirs(wrapped: Any) -> dict[str, Tensor]:  # noqa: ANN401 - a PeftModel
    return products({
        name.replace(".default", ""): values.detach()
        for name, values in wrapped.named_parameters()
        if "lora_" in name
    })  # fmt: skip


def close(one: Tensor, other: Tensor, error: float = 1e-4) -> None:
    assert float((one - other).norm()) <= error * float(other.norm())


@pytest.mark.parametrize("method", ["pissa", "olora"])
@pytest.mark.parametrize("alpha", [None, 6])
def test_bare_factors_are_those_of_peft(tmp_path: Path, method: Any, alpha: Any) -> None:  # noqa: ANN401 - words
    model = llama()
    base, place = saved(model, tmp_path), tmp_path / "made"
    found = spectra.lowrank.init(method, base, place, rank=4, alpha=alpha, form="bare")
    own = products(tensors_of(place))
    twin = theirs(begun(model, r=4, lora_alpha=alpha or 4, init_lora_weights=method))
    assert own.keys() == twin.keys()
    for name, values in twin.items():
        close(own[name], values)
    assert "base is not changed" in str(found.summary["reading"])
    assert config_of(place)["base_model_name_or_path"] is None


def test_mica_is_that_of_peft_and_changes_nothing(tmp_path: Path) -> None:
    model = llama()
    base, place = saved(model, tmp_path), tmp_path / "made"
    found = spectra.lowrank.init("mica", base, place, rank=4)
    wrapped = begun(model, r=4, lora_alpha=4, init_lora_weights="mica")
    twin = {name.replace(".default", ""): values.detach().double()
            for name, values in wrapped.named_parameters() if "lora_" in name}  # fmt: skip
    for name, values in tensors_of(place).items():
        if "lora_A" in name:
            assert not bool(values.any())
        else:  # the space is determined, its basis but for signs
            wide = values.double()
            close(wide @ wide.mT, twin[name] @ twin[name].mT)
    assert config_of(place)["init_lora_weights"] == "mica"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        loaded: Any = peft.PeftModel.from_pretrained(
            copy.deepcopy(model), str(place), is_trainable=True
        )
    trained = [name for name, values in loaded.named_parameters() if values.requires_grad]
    assert trained
    assert all("lora_A" in name for name in trained)  # B stays frozen
    kept = dict(loaded.named_parameters())
    for name, values in tensors_of(place).items():
        torch.testing.assert_close(kept[name.replace(".weight", ".default.weight")], values)
    assert all(row.number("missed") == 0.0 for row in found.rows)
    assert not any(bool(change.any()) for change in updates(model, place).values())


def published(weight: Tensor, rank: int, mode: str) -> Tensor:
    """Return B A of MiLoRA's script, in float64."""
    left, sigma, right = torch.linalg.svd(weight.double(), full_matrices=False)
    start = {"min": len(sigma) - rank, "mid": (len(sigma) - rank) // 2, "max": 0}[mode]
    here = slice(start, start + rank)
    made: Tensor = left[:, here] * sigma[here] @ right[here]
    return made


@pytest.mark.parametrize("mode", ["min", "mid", "max"])
def test_milora_takes_what_its_script_takes(tmp_path: Path, mode: Any) -> None:  # noqa: ANN401 - a word
    model = llama()
    base, place = saved(model, tmp_path), tmp_path / "made"
    spectra.lowrank.init("milora", base, place, rank=3, chosen=mode, form="bare")
    for name, values in products(tensors_of(place)).items():
        close(values, published(model.state_dict()[f"{name}.weight"], 3, mode))


def test_random_triplets_are_those_of_a_seed(tmp_path: Path) -> None:
    base = saved(llama(), tmp_path)
    made = []
    for number, seed in enumerate((1, 1, 2)):
        place = tmp_path / str(number)
        spectra.lowrank.init("milora", base, place, rank=3, chosen="random", seed=seed, form="bare")
        made.append((place / "adapter_model.safetensors").read_bytes())
    assert made[0] == made[1] != made[2]


def test_soma_starts_at_a_block_and_ramps(tmp_path: Path) -> None:
    model = llama(num_hidden_layers=4)
    base, place = saved(model, tmp_path), tmp_path / "made"
    found = spectra.lowrank.init(
        "soma", base, place, rank=2, start_block=1, ramp=[2, 3], form="bare"
    )
    with pytest.raises(UsageError, match=r"ramp=4 is no layer that is prepared: the last one is 3"):
        spectra.lowrank.init.plan("soma", base, tmp_path / "late", ramp=[2, 4])
    ranks = {row.place.layer: row.number("rank_kept") for row in found.rows}
    assert ranks == {1: 2, 2: 4, 3: 8}
    # Its alpha is one of all blocks: s falls as the rank grows.
    scales = {row.place.layer: row.number("lora_scale") for row in found.rows}
    assert scales == {1: 1.0, 2: 0.5, 3: 0.25}
    weights = model.state_dict()
    for name, change in updates(model, place).items():
        if name.endswith("proj.weight") and int(name.split(".")[2]) >= 1:
            rank = ranks[int(name.split(".")[2])]
            close(change, published(weights[name], int(rank or 0), "min"), 1e-3)
        else:
            assert not bool(change.any())


def test_a_difference_adapter_leaves_the_base_as_it_is(tmp_path: Path) -> None:
    model = llama()
    base, place = saved(model, tmp_path), tmp_path / "made"
    spectra.lowrank.init("pissa", base, place, rank=4, alpha=6, form="difference")
    config = config_of(place)
    assert (config["r"], config["lora_alpha"]) == (8, 12)
    assert config["base_model_name_or_path"] == str(base)
    for name, change in updates(model, place).items():
        assert float(change.norm()) <= 1e-6 * float(model.state_dict()[name].norm())
    found = spectra.diff(base, place)  # what cancels is no rank-8 update
    assert {row.values["delta_kind"] for row in found.rows} == {"unchanged"}
    twin = theirs(begun(model, r=4, lora_alpha=6, init_lora_weights="pissa"))
    tensors = tensors_of(place)
    for name, values in twin.items():
        a, b = (tensors[f"base_model.model.{name}.lora_{side}.weight"].double() for side in "AB")
        torch.testing.assert_close(a[:4], a[4:], rtol=0, atol=0)
        torch.testing.assert_close(b[:, :4], -b[:, 4:], rtol=0, atol=0)
        close(b[:, :4] @ a[:4], values)


def test_conv1d_is_turned(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_embd=24, n_layer=2, n_head=2, vocab_size=30))
    base, place = saved(model, tmp_path), tmp_path / "made"
    found = spectra.lowrank.init("pissa", base, place, rank=4, form="bare")
    assert {row.place.role for row in found.rows if "c_attn" in row.matrix} == {"attn"}
    assert config_of(place)["fan_in_fan_out"] is True
    twin = begun(
        model, r=4, lora_alpha=4, init_lora_weights="pissa", fan_in_fan_out=True,
        target_modules=["c_attn", "c_proj", "c_fc"],
    )  # fmt: skip
    own = products(tensors_of(place))
    for name, values in theirs(twin).items():
        close(own[name], values)


def test_a_small_module_gets_all_that_it_has(tmp_path: Path) -> None:
    model = llama()
    base, place = saved(model, tmp_path), tmp_path / "made"
    found = spectra.lowrank.init("milora", base, place, rank=20, form="bare")
    ranks = {row.place.role: row.number("rank_kept") for row in found.rows}
    assert (ranks["attn.k"], ranks["attn.q"]) == (16, 20)
    assert any("fewer directions" in note for note in found.summary["notes"])
    key = next(name for name in updates(model, place) if name.endswith("0.self_attn.k_proj.weight"))
    close(updates(model, place)[key], model.state_dict()[key].double())


def test_what_is_taken_and_what_is_not(tmp_path: Path) -> None:
    base = saved(llama(), tmp_path)
    found = spectra.lowrank.init("mica", base, tmp_path / "all", rank=2)
    assert {row.place.role for row in found.rows} == {
        "attn.q", "attn.k", "attn.v", "attn.o", "mlp.gate", "mlp.up", "mlp.down",
    }  # fmt: skip
    told = {item.tensor: item.reason for item in found.skipped}
    assert "taken only where --role" in told["lm_head.weight"]
    assert "taken only where --role" in told["model.embed_tokens.weight"]
    head = spectra.lowrank.init("mica", base, tmp_path / "head", rank=2, role="lm_head")
    assert [row.place.role for row in head.rows] == ["lm_head"]
    with pytest.raises(NothingToAnalyseError, match="no linear layer"):
        spectra.lowrank.init("mica", base, tmp_path / "no", rank=2, role="embed")


def test_what_is_not_determined_is_told(tmp_path: Path) -> None:
    model = llama()
    with torch.no_grad():
        layer = model.model.layers[0].self_attn
        layer.q_proj.weight.copy_(torch.eye(32))  # every direction as good as any
        layer.v_proj.weight[:, :20] = layer.v_proj.weight[:, 20:21]  # of low rank
    base = saved(model, tmp_path)
    found = spectra.lowrank.init("milora", base, tmp_path / "made", rank=2, form="bare")
    told = {row.matrix: row for row in found.rows if not row.values["determined"]}
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in told} == {"q_proj", "v_proj"}
    drowned = [row.matrix for row in found.rows if row.number("chosen_drowned")]
    assert [name.split(".")[-2] for name in drowned] == ["v_proj"]
    assert "2 choices are not determined" in str(found.summary["reading"])
    assert "2 chosen σ in 1 module lie below" in str(found.summary["reading"])
    columns = spectra.lowrank.init("olora", base, tmp_path / "other", rank=2, form="bare")
    assert "depend on each other" in str(columns.summary["reading"])


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"method": "pissa", "rank": 0}, "rank=0 is too small"),
        ({"method": "pisa"}, "method='pisa' is not known. Did you mean 'pissa'?"),
        ({"method": "pissa", "alpha": "6"}, "alpha='6' is of type str. Expected a number."),
        ({"method": "pissa", "dtype": "bf16"}, "dtype='bf16' is not known."),
        ({"method": "pissa", "chosen": "min"}, "chosen='min' is not known of pissa. Expected max."),
        ({"method": "olora", "chosen": "max"}, "It takes none"),
        ({"method": "mica", "form": "difference"}, "the base stays as it is"),
        ({"method": "soma", "ramp": [3, 2]}, "ramp=[3, 2] is no ascending list"),
        ({"method": "soma", "alpha": 0.0}, "alpha=0.0 is no scale"),
        ({"method": "soma", "alpha": float("nan")}, "is no scale"),
        ({"method": "soma", "start_block": -1}, "start_block=-1 is no layer"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, given: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError) as refused:
        spectra.lowrank.init.plan(model=tmp_path, output=tmp_path / "made", **given)
    assert text in str(refused.value)
