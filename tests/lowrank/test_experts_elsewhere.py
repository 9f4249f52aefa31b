"""Stacks of experts as mlx-lm and GGUF have them: gate, up and down each by itself."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    GptOssForCausalLM,
    GraniteMoeConfig,
    GraniteMoeForCausalLM,
    PreTrainedModel,
)

import spectra
from spectra.errors import AdapterError, UsageError
from spectra.lowrank import convert, extract, merge, resize
from spectra.words import To

from .nets import adapter, config_of, merged, tensors_of
from .test_experts import SIZES, deepseek, gpt_oss, mixtral, qwen, stacks, tuned_pair

FORMS: tuple[To, To] = "mlx", "gguf"
PLACES = {"mlx": "m", "gguf": "g.gguf"}
NAMES = {
    "mlx": {
        "mixtral": r"model\.layers\.{}\.block_sparse_moe\.switch_mlp\.{}_proj",
        "granite": r"model\.layers\.{}\.block_sparse_moe\.switch_mlp\.{}_proj",
        "gpt_oss": r"model\.layers\.{}\.mlp\.experts\.{}_proj",
        "usual": r"model\.layers\.{}\.mlp\.switch_mlp\.{}_proj",
    },
    "gguf": {"usual": r"blk\.{}\.ffn_{}_exps\.weight"},
}
"""As the modules of mlx-lm and the tensors of llama.cpp's models are called."""

TARGETS: dict[str, Any] = {
    "target_modules": ["q_proj", "q_a_proj"],
    "target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
}


def granite() -> PreTrainedModel:  # whose files have stacks under names of their own
    return GraniteMoeForCausalLM(GraniteMoeConfig(**SIZES, num_local_experts=3))


def each(model: nn.Module, tensors: dict[str, Tensor]) -> dict[tuple[str, str], Tensor]:
    """Return gate, up and down of all experts as [experts, out, in], by layer and word."""
    found = {}
    for name in stacks(model):
        values, layer = tensors[name].double(), name.split(".")[2]
        turned = isinstance(model, GptOssForCausalLM)  # [in, out], rows of gate and up by turns
        values = values.mT if turned else values
        if name.endswith("down_proj"):
            found[layer, "down"] = values
            continue
        halves = (values[:, ::2], values[:, 1::2]) if turned else values.chunk(2, dim=1)
        found |= {(layer, "gate"): halves[0], (layer, "up"): halves[1]}
    return found


def products(place: Path, make: str, to: str, scale: float = 1.0) -> dict[tuple[str, str], Tensor]:
    """Return s B A of every stack, as the libraries of both formats read the file."""
    if to == "mlx":
        held = load_file(place / "adapters.safetensors")
    else:
        held = {one.name: torch.from_numpy(one.data.copy())
                for one in gguf.GGUFReader(place).tensors}  # fmt: skip
    pattern = NAMES[to].get(make, NAMES[to]["usual"]).format(r"(\d+)", "(gate|up|down)")
    found = {}
    for name, a in held.items():
        told = re.fullmatch(rf"{pattern}\.lora_a", name)
        if told:
            b = held[name.replace(".lora_a", ".lora_b")]
            found[told[1], told[2]] = scale * b.double() @ a.double()
    return found


def close(one: dict[Any, Tensor], other: dict[Any, Tensor], tolerance: float = 1e-5) -> None:
    assert one.keys() == other.keys()
    for key, value in one.items():
        torch.testing.assert_close(value.double(), other[key].double(), rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("make", "fused"),
    [(mixtral, True), (mixtral, False), (qwen, False), (gpt_oss, False), (deepseek, True)],
)
def test_there_and_back_is_bit_for_bit(
    tmp_path: Path, make: Callable[[], PreTrainedModel], *, fused: bool
) -> None:
    model, _ = tuned_pair(make, tmp_path, fused=fused)
    base = tmp_path / "base"
    first = adapter(model, tmp_path / "first", r=4, lora_alpha=6, **TARGETS)
    after, before = merged(model, first), dict(model.state_dict())
    leaves, start = each(model, after), each(model, before)
    changes = {row.matrix: row.number("delta_norm") for row in spectra.diff(base, first).rows}
    for to in FORMS:
        place, back = tmp_path / PLACES[to], tmp_path / f"back-{to}"
        found = convert(first, place, to=to, base=base)
        assert "Nothing is lost. " in str(found.summary["reading"])
        close(
            products(place, make.__name__, to, scale=6 / 4),
            {key: value - start[key] for key, value in leaves.items()},
        )
        for row in spectra.diff(base, place).rows:
            assert row.number("delta_norm") == pytest.approx(changes[row.matrix], rel=1e-6)
        convert(place, back, base=base)
        one, other = tensors_of(first), tensors_of(back)
        assert one.keys() == other.keys()
        assert all(torch.equal(value, other[name]) for name, value in one.items())
        again = merged(model, back)
        assert all(torch.equal(value, again[name]) for name, value in after.items())


@pytest.mark.parametrize("make", [mixtral, gpt_oss, granite], ids=lambda make: make.__name__)
def test_what_is_extracted_comes_back_to_peft(
    tmp_path: Path, make: Callable[[], PreTrainedModel]
) -> None:
    model, tuned = tuned_pair(make, tmp_path, rank=2)
    before = dict(model.state_dict())
    want, start = each(model, dict(tuned.state_dict())), each(model, before)
    want = {key: value - start[key] for key, value in want.items()}
    for to in FORMS:
        place = tmp_path / PLACES[to]
        found = extract(tmp_path / "base", tmp_path / "tuned", place, energy=1 - 1e-9, to=to,
                        dtype="float32")  # fmt: skip
        assert not [one for one in found.skipped if "experts" in one.tensor and
                    "bias" not in one.tensor]  # fmt: skip
        gates = [row for row in found.rows if row.matrix.endswith("[expert=0,gate]")]
        assert [row.place.role for row in gates] == ["mlp.gate"] * 2
        close(products(place, make.__name__, to), want)
        if to == "mlx":  # whose loader asks for one rank of all
            ranks = {value.shape[-2] if value.ndim > 2 else value.shape[-1]
                     for name, value in load_file(place / "adapters.safetensors").items()
                     if name.endswith("lora_a")}  # fmt: skip
            assert len(ranks) == 1
        convert(place, tmp_path / f"back-{to}", base=tmp_path / "base")
        made = each(model, merged(model, tmp_path / f"back-{to}"))
        close({key: value - start[key] for key, value in made.items()}, want)
    with pytest.raises(UsageError, match=r"one rank for all. Expected rank=: .* rank=\d+ fits"):
        extract.plan(tmp_path / "base", tmp_path / "tuned", tmp_path / "n", budget="40KB", to="mlx")


def test_stacks_are_summed_and_cut_with_the_base(tmp_path: Path) -> None:
    model, _ = tuned_pair(gpt_oss, tmp_path)
    base = tmp_path / "base"
    one = adapter(model, tmp_path / "one", r=4, lora_alpha=6, **TARGETS)
    fewer = {**TARGETS, "target_parameters": ["mlp.experts.gate_up_proj"]}
    two = adapter(model, tmp_path / "two", seed=1, r=3, lora_alpha=3, **fewer)
    start = {name: value.double() for name, value in model.state_dict().items()}
    moved = [{name: value.double() - start[name] for name, value in merged(model, spec).items()}
             for spec in (one, two)]  # fmt: skip
    want = {name: 0.5 * value + 2 * moved[1][name] for name, value in moved[0].items()}
    convert(two, tmp_path / "m", to="mlx", base=base)
    for number, pair in enumerate(([one, two], [one, tmp_path / "m"])):
        place = tmp_path / f"sum{number}"
        merge(pair, place, weights=[0.5, 2], base=base)
        made = {name: value - start[name] for name, value in merged(model, place).items()}
        close(made, want)
    with pytest.raises(AdapterError, match="which matrices they are of is known with the base"):
        merge.plan([one, two], tmp_path / "none")
    found = resize(one, tmp_path / "small", rank=2, base=base)
    after = merged(model, tmp_path / "small")
    losses = {row.matrix: row.number("loss") for row in found.rows}
    for name in stacks(model):
        for expert, whole in enumerate(moved[0][name]):
            sigma = torch.linalg.svdvals(whole)
            off = after[name][expert] - start[name][expert] - whole
            least = float(sigma[2:].norm() / sigma.norm())
            assert float(off.norm() / whole.norm()) == pytest.approx(least, abs=1e-5)
            assert losses[f"{name}[expert={expert}]"] == pytest.approx(least, abs=1e-5)


def test_a_base_of_mlx_tells_changes_and_no_names(tmp_path: Path) -> None:
    model, _ = tuned_pair(qwen, tmp_path, fused=True)
    first = adapter(model, tmp_path / "first", r=4, **TARGETS)
    convert(first, tmp_path / "m", to="mlx", base=tmp_path / "base")
    convert(first, tmp_path / "g.gguf", to="gguf", base=tmp_path / "base")
    held = load_file(tmp_path / "base" / "model.safetensors")
    for name in [name for name in held if ".experts." in name]:
        values, block = held.pop(name), f"{name.partition('.experts.')[0]}.switch_mlp"
        words = ("gate", "up") if "gate_up" in name else ("down",)
        for word, part in zip(words, values.chunk(len(words), dim=1), strict=True):
            held[f"{block}.{word}_proj.weight"] = part.contiguous()
    shutil.copytree(tmp_path / "base", tmp_path / "mlx")
    save_file(held, tmp_path / "mlx" / "model.safetensors")
    want = sorted(row.number("delta_norm") or 0.0
                  for row in spectra.diff(tmp_path / "base", first).rows)  # fmt: skip
    for spec in ("first", "m", "g.gguf"):
        found = spectra.diff(tmp_path / "mlx", tmp_path / spec)
        made = sorted(row.number("delta_norm") or 0.0 for row in found.rows)
        assert made == pytest.approx(want)
        with pytest.raises(
            AdapterError, match=r"changes .*switch_mlp.* as transformers saves that"
        ):
            convert.plan(tmp_path / spec, tmp_path / "no", base=tmp_path / "mlx")


@pytest.mark.parametrize("fused", [True, False])
def test_stacks_the_wrong_way_round_are_refused(tmp_path: Path, *, fused: bool) -> None:
    model, _ = tuned_pair(mixtral, tmp_path, fused=fused)
    first = adapter(model, tmp_path / "first", r=4, **TARGETS)
    convert(first, tmp_path / "m", to="mlx", base=tmp_path / "base")
    held = load_file(tmp_path / "m" / "adapters.safetensors")
    module = "model.layers.0.block_sparse_moe.switch_mlp.gate_proj"
    a, b = (held[f"{module}.lora_{side}"].mT.contiguous() for side in "ab")
    held |= {f"{module}.lora_a": b, f"{module}.lora_b": a}
    save_file(held, tmp_path / "m" / "adapters.safetensors")
    told = "updates of 16 x 24 for experts of 24 x 16"
    lost = {
        item.tensor: item.reason for item in spectra.diff(tmp_path / "base", tmp_path / "m").skipped
    }
    assert lost[module] == told
    with pytest.raises(AdapterError, match=f"'{module}' cannot be found in .*: {told}"):
        convert.plan(tmp_path / "m", tmp_path / "no", base=tmp_path / "base")


def test_experts_that_are_layers_are_stacked(tmp_path: Path) -> None:
    """Adapters of before transformers 5 have factors of each expert's layers."""
    tuned_pair(mixtral, tmp_path)
    torch.manual_seed(0)
    (tmp_path / "old").mkdir()
    block = "base_model.model.model.layers.1.block_sparse_moe.experts"
    held = {f"{block}.{expert}.{leaf}.lora_{side}.weight": torch.randn(shape)
            for expert in (0, 2) for leaf in ("w1", "w3")
            for side, shape in (("A", (2, 16)), ("B", (24, 2)))}  # fmt: skip
    save_file(held, tmp_path / "old" / "adapter_model.safetensors")
    (tmp_path / "old" / "adapter_config.json").write_text(
        '{"peft_type": "LORA", "r": 2, "lora_alpha": 6, "target_modules": ["w1", "w3"]}'
    )
    convert(tmp_path / "old", tmp_path / "g.gguf", to="gguf", base=tmp_path / "base")
    found = products(tmp_path / "g.gguf", "mixtral", "gguf", scale=3.0)
    assert found.keys() == {("1", "gate"), ("1", "up")}
    for (_, word), made in found.items():
        for expert in range(3):
            stem = f"{block}.{expert}.{'w1' if word == 'gate' else 'w3'}"
            want = torch.zeros(24, 16, dtype=torch.float64)
            if expert != 1:
                a, b = (held[f"{stem}.lora_{side}.weight"].double() for side in "AB")
                want = 3.0 * b @ a
            torch.testing.assert_close(made[expert], want)


def test_stacks_of_older_versions_lie_the_other_way_round(tmp_path: Path) -> None:
    model, _ = tuned_pair(mixtral, tmp_path)
    targets = {**TARGETS, "target_parameters": ["mlp.experts.down_proj"]}
    new = adapter(model, tmp_path / "new", r=4, lora_alpha=6, **targets)
    held = tensors_of(new)
    for name in [name for name in held if "experts.lora_A" in name]:
        a, b = held[name], held[name.replace("lora_A", "lora_B")]
        held[name] = b.view(16, 4, 3).permute(2, 1, 0).reshape(12, 16).contiguous()
        turned = a.view(3, 4, 24).permute(2, 1, 0).reshape(24, 12).contiguous()
        held[name.replace("lora_A", "lora_B")] = turned
    shutil.copytree(new, tmp_path / "old")
    save_file(held, tmp_path / "old" / "adapter_model.safetensors")
    config = config_of(new) | {"peft_version": "0.18.0"}
    (tmp_path / "old" / "adapter_config.json").write_text(json.dumps(config))
    for spec in ("new", "old"):
        convert(tmp_path / spec, tmp_path / f"{spec}.gguf", to="gguf", base=tmp_path / "base")
    found, want = (
        products(tmp_path / f"{spec}.gguf", "mixtral", "gguf") for spec in ("old", "new")
    )
    close(found, want)
