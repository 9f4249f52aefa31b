import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import spectra
from examples import write_model
from spectra.errors import PairingError, UsageError
from spectra.kernels.merged import products


def merged(
    minilm: Path, updates: dict[str, tuple[Tensor, Tensor]], folder: Path, times: float,
    dtype: torch.dtype = torch.float32,
) -> Path:  # fmt: skip
    stored = load_file(minilm / "model.safetensors")
    for name, (up, down) in updates.items():
        stored[name] = stored[name] + times * (up @ down)
    found = {n: w.to(dtype) if w.is_floating_point() else w for n, w in stored.items()}
    return write_model(folder, found, (minilm / "config.json").read_text())


def told(found: spectra.Result) -> dict[str, float]:
    scales = {row.matrix: row.values.get("merge_scale") for row in found.rows}
    return {name: scale for name, scale in scales.items() if isinstance(scale, float)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("times", [1.0, 2.0, 0.5], ids=["once", "twice", "half"])
def test_a_real_adapter_is_in_the_model_as_often_as_it_was_added(
    minilm: Path,
    minilm_lora: Path,
    updates: dict[str, tuple[Tensor, Tensor]],
    tmp_path: Path,
    times: float,
    dtype: torch.dtype,
) -> None:
    folder = merged(minilm, updates, tmp_path / "merged", times, dtype)
    found = spectra.check(folder, base=minilm, adapter=minilm_lora, select="SPC107")
    scales = told(found)
    assert scales.keys() == updates.keys()
    assert all(scale == pytest.approx(times, rel=0.02) for scale in scales.values())
    findings = {one["matrix"] for one in found.summary["findings"]}
    assert findings == (set() if times == 1.0 else set(updates))
    if times == 2.0:
        message = found.summary["findings"][0]["message"]
        why = "alpha / r applied twice or the update added twice"  # as alpha / r is 2
        assert message == (
            f"the adapter's update is in it 2 times, expected once: {why}, bit for bit"
        )


def test_another_change_beside_the_adapters_is_found(
    minilm: Path, minilm_lora: Path, updates: dict[str, tuple[Tensor, Tensor]], tmp_path: Path
) -> None:
    folder = merged(minilm, updates, tmp_path / "merged", 1.0)
    stored = load_file(folder / "model.safetensors")
    name = next(iter(updates))
    generator = torch.Generator().manual_seed(0)
    stored[name] += 0.02 * torch.randn(stored[name].shape, generator=generator)
    save_file(stored, folder / "model.safetensors")
    found = spectra.check(folder, base=minilm, adapter=minilm_lora, select="SPC107")
    assert [one["matrix"] for one in found.summary["findings"]] == [name]
    assert "of its change is not the adapter's" in found.summary["findings"][0]["message"]


@pytest.mark.parametrize("share", [0.03, 0.003], ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_light_merges_of_a_rounded_base_are_right(
    minilm: Path,
    minilm_lora: Path,
    updates: dict[str, tuple[Tensor, Tensor]],
    tmp_path: Path,
    dtype: torch.dtype,
    share: float,
) -> None:
    """Updates of 0.03 % of the base and more, most of which rounding takes away."""
    adapter = tmp_path / "adapter"
    shutil.copytree(minilm_lora, adapter)
    settings = json.loads((adapter / "adapter_config.json").read_text())
    settings["lora_alpha"] *= share
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    base, light = tmp_path / "base", dict(list(updates.items())[:4])
    merged(minilm, {}, base, 0.0, dtype)
    for times, count in ((share, 0), (2 * share, 4), (0.0, 4)):
        folder = merged(base, light, tmp_path / str(times), times, dtype)
        found = spectra.check(folder, base=base, adapter=adapter, select="SPC107")
        findings = {one["matrix"] for one in found.summary["findings"]} & light.keys()
        assert len(findings) == count, times


def test_an_update_below_rounding_is_not_known(
    minilm: Path, minilm_lora: Path, updates: dict[str, tuple[Tensor, Tensor]], tmp_path: Path
) -> None:
    stored = load_file(minilm / "model.safetensors")
    large = {n: (w + 1e6).bfloat16() if n in updates else w for n, w in stored.items()}
    base = write_model(tmp_path / "base", large, (minilm / "config.json").read_text())
    found = spectra.check(base, base=base, adapter=minilm_lora, select="SPC107")
    (note,) = found.summary["findings"]
    assert note["severity"] == "note"
    assert note["message"] == (
        "not known of encoder.layer.0.attention.output.dense.weight and 35 more: the adapter's "
        "update lies below the rounding of its values"
    )


def test_what_is_missing_or_no_adapter_is_refused(minilm: Path, minilm_lora: Path) -> None:
    with pytest.raises(UsageError, match=r"Give all three: .*base=BASE, adapter=ADAPTER"):
        spectra.check(minilm, adapter=minilm_lora)
    with pytest.raises(UsageError, match="is a model, expected a LoRA adapter"):
        spectra.check(minilm, base=minilm, adapter=minilm)


def test_what_of_an_adapter_is_not_looked_for_is_said(tmp_path: Path) -> None:
    names = [f"layers.{i}.q_proj" for i in range(3)]
    tensors = {f"{name}.weight": torch.randn(8, 8) for name in names}
    base = write_model(tmp_path / "base", tensors)
    factors = {
        f"base_model.model.{name}.lora_{part}.weight": torch.randn(2, 8).mT if part == "B" else
        torch.randn(2, 8)
        for name in (*names, "layers.3.q_proj") for part in "AB"
    }  # fmt: skip
    merged = {
        f"{name}.weight": tensors[f"{name}.weight"]
        + factors[f"base_model.model.{name}.lora_B.weight"]
        @ factors[f"base_model.model.{name}.lora_A.weight"]
        for name in names[:2]
    }
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    save_file(
        {n: w.contiguous() for n, w in factors.items()}, adapter / "adapter_model.safetensors"
    )
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q_proj"]}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    model = write_model(tmp_path / "model", merged)
    found = spectra.check(model, base=base, adapter=adapter, select="SPC107")
    assert not found.summary["findings"]
    assert (
        " 1 of the adapter's 4 modules match no tensor of the base, and what they change is not "
        "seen here. 1 of 3 matrices that the adapter changes found no partner in the merged model, "
        "such as 'layers.2.q_proj.weight'."
    ) in found.summary["reading"]


def test_an_adapter_of_another_model_is_refused(minilm_lora: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path / "other", {"layers.0.w": torch.eye(8)})
    with pytest.raises(PairingError):
        spectra.check(other, base=other, adapter=minilm_lora)


def test_products_are_those_of_float64_whatever_the_blocks(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = torch.randn(2, 37, 5, generator=generator).unbind()
    wide = one.double(), two.double()
    exact = [(a * b).sum().item() for a, b in ((wide[0], wide[1]), (wide[1],) * 2, (wide[0],) * 2)]
    monkeypatch.setattr("spectra.kernels.merged.BLOCK", 20)
    assert products(one, two) == pytest.approx(exact, rel=1e-14)
