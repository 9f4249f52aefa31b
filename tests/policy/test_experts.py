"""Experts that were never trained are one warning a layer, and disturb nothing else."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import families
import spectra
from examples import write_model

Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def mixtral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Mixtral of four experts, random."""
    folder = tmp_path_factory.mktemp("moe")
    families.build("mixtral").save_pretrained(folder)
    return folder


def expert(layer: int, number: int) -> str:
    return f"model.layers.{layer}.block_sparse_moe.experts.{number}."


def changed(source: Path, target: Path, new: Tensors) -> Path:
    tensors = load_file(source / "model.safetensors") | new
    return write_model(target, tensors, (source / "config.json").read_text())


def told(found: spectra.Result) -> list[tuple[str, str, str]]:
    return [(one["rule"], one["severity"], one["message"]) for one in found.summary["findings"]]


def test_healthy_experts_raise_nothing(mixtral: Path) -> None:
    assert told(spectra.check(mixtral)) == []


def of(source: Path, layer: int, *numbers: int) -> Tensors:
    """The matrices of some experts."""
    starts = tuple(expert(layer, number) for number in numbers)
    return {name: value for name, value in load_file(source / "model.safetensors").items()
            if name.startswith(starts)}  # fmt: skip


@pytest.mark.parametrize("value", [0.0, 0.02])
@pytest.mark.parametrize("numbers", [(2,), (0, 1, 3), (0, 1, 2, 3)])
def test_experts_of_one_value_are_a_warning(
    mixtral: Path, tmp_path: Path, value: float, numbers: tuple[int, ...]
) -> None:
    new = {name: torch.full_like(one, value) for name, one in of(mixtral, 0, *numbers).items()}
    found = spectra.check(changed(mixtral, tmp_path / "moe", new))
    many = "all 4" if len(numbers) == 4 else f"{len(numbers)} of 4"
    what = "hold nothing but zeros" if not value else "hold one value throughout"
    named = ", ".join(map(str, numbers))
    text = f"{many} experts of model.layers.0 {what}: {named}"
    assert told(found) == [("SPC015", "warning", text)]
    assert found.summary["exit_code"] == 0
    assert found.summary["findings"][0]["matrix"] == f"{expert(0, numbers[0])}w1.weight"


def test_experts_that_equal_one_another_are_a_warning(mixtral: Path, tmp_path: Path) -> None:
    tensors = load_file(mixtral / "model.safetensors")
    new = {
        f"{expert(layer, number)}{part}.weight": tensors[f"{expert(layer, 0)}{part}.weight"].clone()
        for layer in (0, 1) for number in (1, 2, 3) for part in ("w1", "w2", "w3")
    }  # fmt: skip
    found = spectra.check(changed(mixtral, tmp_path / "upcycled", new))
    assert told(found) == [
        (
            "SPC015",
            "warning",
            f"all 4 experts of model.layers.{layer} equal one another bit for bit: 0, 1, 2, 3",
        )
        for layer in (0, 1)
    ]


def test_one_matrix_of_an_expert_is_damage_as_before(mixtral: Path, tmp_path: Path) -> None:
    up = f"{expert(1, 2)}w3.weight"
    zero = {up: torch.zeros_like(load_file(mixtral / "model.safetensors")[up])}
    found = told(spectra.check(changed(mixtral, tmp_path / "zero", zero)))
    assert ("SPC008", "error") in [one[:2] for one in found]
    assert "SPC015" not in [one[0] for one in found]
    copied = {up: load_file(mixtral / "model.safetensors")[f"{expert(1, 0)}w3.weight"]}
    found = told(spectra.check(changed(mixtral, tmp_path / "copy", copied)))
    assert [one[:2] for one in found] == [("SPC009", "error")]


def test_a_policy_may_leave_experts_out(mixtral: Path, tmp_path: Path) -> None:
    new = {name: torch.zeros_like(one) for name, one in of(mixtral, 0, 1).items()}
    folder = changed(mixtral, tmp_path / "moe", new)
    assert told(spectra.check(folder, ignore="SPC015")) == []


def test_stacked_experts_are_told_apart(tmp_path: Path) -> None:
    """Of one tensor that holds all of them."""
    source = tmp_path / "source"
    families.build("gpt_oss").save_pretrained(source)
    tensors = load_file(source / "model.safetensors")
    name = "model.layers.0.mlp.experts.gate_up_proj"
    down = "model.layers.0.mlp.experts.down_proj"
    healthy = told(spectra.check(source))
    new = {}
    for one in (name, down):
        new[one] = tensors[one].clone()
        new[one][1] = 0.0
    found = told(spectra.check(changed(source, tmp_path / "moe", new)))
    assert [one for one in found if one not in healthy] == [
        ("SPC015", "warning", "1 of 4 experts of model.layers.0 hold nothing but zeros: 1")
    ]
