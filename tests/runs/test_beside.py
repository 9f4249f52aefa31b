"""Pairs of which no matrix changed: what is said of norms and biases."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import spectra

BASE = {
    "layers.0.mlp.up_proj.weight": torch.randn(16, 8, generator=torch.Generator().manual_seed(1)),
    "layers.0.mlp.up_proj.bias": torch.linspace(-1.0, 1.0, 16),
    "layers.0.norm.weight": torch.linspace(0.9, 1.1, 8),
}
SAME = "Nothing changed in 1 matrix."


def reading(folder: Path, tensors: dict[str, Tensor], include: tuple[str, ...] = ()) -> str:
    save_file(BASE, folder / "base.safetensors")
    save_file(tensors, folder / "tuned.safetensors")
    found = spectra.diff(folder / "base.safetensors", folder / "tuned.safetensors", include=include)
    return str(found.summary["reading"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["f32", "bf16"])
def test_vectors_that_are_the_same_or_only_rounded_are_not_told(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    whole = {name: value if value.ndim > 1 else value.to(dtype) for name, value in BASE.items()}
    assert reading(tmp_path, whole) == SAME


def test_vectors_that_changed_are_told_where_no_matrix_did(tmp_path: Path) -> None:
    bias, norm = "layers.0.mlp.up_proj.bias", "layers.0.norm.weight"
    told = "only matrices are measured."
    one = BASE | {bias: BASE[bias] + 0.5}
    assert reading(tmp_path, one) == f"{SAME} 1 norm or bias changed: {bias}; {told}"
    both = one | {norm: 2.0 * BASE[norm]}
    text = reading(tmp_path, both)
    assert text == f"{SAME} 2 norms and biases changed, such as {bias}; {told}"
    assert reading(tmp_path, both, include=("*.up_proj.*",)) == SAME  # the rest was not asked for
    matrix = "layers.0.mlp.up_proj.weight"
    assert "norm" not in reading(tmp_path, both | {matrix: 2.0 * BASE[matrix]})


def test_vectors_that_hold_nan_or_inf_are_told_where_the_answer_stands(tmp_path: Path) -> None:
    matrix, bias, norm = BASE
    whole, nan, inf = (BASE | {matrix: 2.0 * BASE[matrix]} for _ in range(3))
    nan[bias] = BASE[bias].clone()
    nan[bias][[3, 5]] = float("nan")
    inf[bias], inf[norm] = nan[bias], BASE[norm].clone()
    inf[norm][0] = -float("inf")
    inf["layers.0.mlp.act_max"] = torch.tensor(float("inf"))  # what a module clips at
    for name, tensors in (("base", BASE), ("whole", whole), ("nan", nan), ("inf", inf)):
        save_file(tensors, tmp_path / f"{name}.safetensors")

    def told(*names: str, include: str = "") -> tuple[str, list[str]]:
        base, *tuned = (tmp_path / f"{name}.safetensors" for name in names)
        found = spectra.diff(base, tuned, include=include or ())
        return str(found.summary["reading"]), list(found.summary.get("notes", ()))

    reading, notes = told("base", "whole")
    assert "NaN" not in reading + "".join(notes)
    reading, notes = told("base", "nan")
    assert reading.endswith(f" 1 norm or bias of the tuned model holds NaN or Inf: {bias}.")
    assert notes == [f"{tmp_path}/nan.safetensors: {bias!r} holds 2 NaN, the first at [3]"]
    assert "NaN" not in told("base", "nan", include="*.weight")[0]
    reading, notes = told("nan", "inf")
    assert f"1 norm or bias of the base holds NaN or Inf: {bias}. " in reading
    assert f" 2 norms and biases of the tuned model hold NaN or Inf, such as {bias}." in reading
    assert f"1 norm or bias changed: {norm}" in reading
    assert notes[-1].endswith(f"{norm!r} holds 1 Inf, the first at [0]")
    reading, notes = told("base", "whole", "nan")
    assert "1 norm or bias of nan.safetensors holds NaN or Inf" in reading
    assert len(notes) == 1
    assert told("nan", "nan")[0].startswith("Nothing changed in 1 matrix. 1 norm or bias of")
    judged = spectra.check(tmp_path / "inf.safetensors", select="SPC001").summary["findings"]
    assert {one["matrix"]: one["message"] for one in judged} == {
        bias: "2 NaN, the first at [3]", norm: "1 Inf, the first at [0]",
    }  # fmt: skip


def test_biases_that_an_adapter_moves_are_told_where_no_matrix_changed(tmp_path: Path) -> None:
    module = "layers.0.mlp.up_proj"
    bias = torch.linspace(0.0, 1.0, 16)
    told = f"{SAME} 1 norm or bias changed: {module}.bias; only matrices are measured."
    for number, (moved, alpha, asked, expected) in enumerate((
        (bias, 4, True, told), (0 * bias, 4, True, SAME), (bias, 0, True, SAME),
        (bias, 4, False, SAME),  # PEFT drops it
    )):  # fmt: skip
        folder = tmp_path / str(number)
        (folder / "base").mkdir(parents=True)
        save_file(BASE, folder / "base" / "model.safetensors")
        stem = f"base_model.model.{module}.lora"
        tensors = {f"{stem}_A.weight": torch.ones(2, 8), f"{stem}_B.weight": torch.zeros(16, 2)}
        save_file(tensors | {f"{stem}_B.bias": moved}, folder / "adapter_model.safetensors")
        config = {"peft_type": "LORA", "r": 2, "lora_alpha": alpha, "lora_bias": asked}
        (folder / "adapter_config.json").write_text(json.dumps(config))
        found = spectra.diff(folder / "base", folder)
        assert found.summary["reading"] == expected
        dropped = any("PEFT drops" in note for note in found.summary.get("notes", ()))
        assert dropped != asked
