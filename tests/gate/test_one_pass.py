"""A check reads every file once, whatever rules are on, and its estimate says how much."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import spectra
from examples import write_model
from spectra.checkpoint.local import LocalFile
from spectra.gate import plan_check
from spectra.policy import Policy
from spectra.work.executor import Progress

LAYERS = ("self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj")
CONFIG = '{"model_type": "llama", "num_hidden_layers": 4, "vocab_size": 40}'


def model(folder: Path, seed: int, side: int = 16, vocabulary: int = 40) -> Path:
    generator = torch.Generator().manual_seed(seed)
    found = {"model.embed_tokens.weight": torch.randn(vocabulary, side, generator=generator)}
    for layer in range(4):
        start = f"model.layers.{layer}."
        for name in LAYERS:
            found[f"{start}{name}.weight"] = torch.randn(side, side, generator=generator)
        found[f"{start}input_layernorm.weight"] = torch.ones(side)
    return write_model(folder, found, CONFIG)


def lora(folder: Path, generator: torch.Generator) -> Path:
    folder.mkdir()
    factors = {
        f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_{half}.weight": torch.randn(
            *shape, generator=generator
        )
        for layer in range(4)
        for half, shape in (("A", (2, 16)), ("B", (16, 2)))
    }
    save_file(factors, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Bytes of weights read from each file, by its folder."""
    found: dict[str, int] = {}
    fill = LocalFile.fill

    def counted(self: LocalFile, start: int, buffer: memoryview) -> int:
        name = self.path.parent.name
        found[name] = found.get(name, 0) + len(buffer)
        return fill(self, start, buffer)

    monkeypatch.setattr(LocalFile, "fill", counted)
    return found


def weights(folder: Path) -> int:
    (file,) = folder.glob("*.safetensors")
    tensors: Mapping[str, Tensor] = load_file(file)
    return sum(value.nbytes for value in tensors.values())


@pytest.mark.parametrize("rules", ["SPC", "SPC1", "SPC107", "SPC001", "SPC4"])
@pytest.mark.parametrize("vocabulary", [40, 48], ids=["alike", "resized"])
def test_model_base_adapter_baseline_and_proxy_are_each_read_once(
    tmp_path: Path, read: dict[str, int], rules: str, vocabulary: int, generator: torch.Generator
) -> None:
    folders = {
        "release": model(tmp_path / "release", 1, vocabulary=vocabulary),
        "base": model(tmp_path / "base", 1),
        "before": model(tmp_path / "before", 2),
        "proxy": model(tmp_path / "proxy", 3, side=8),
        "adapter": lora(tmp_path / "adapter", generator),
    }
    policy = Policy(
        select=(rules,), base=str(folders["base"]), adapter=str(folders["adapter"]),
        baseline=str(folders["before"]), rules={"SPC401": {"proxy": str(folders["proxy"])}},
    )  # fmt: skip
    check = plan_check(str(folders["release"]), policy)
    estimate = check.estimate()
    assert not read
    seen: list[Progress] = []
    check.run(report=seen.append)
    assert read.keys() <= folders.keys()
    assert all(read[name] <= weights(folders[name]) for name in read), read
    assert {"release", "base", "before"} <= read.keys()
    assert sum(read.values()) == estimate.nbytes
    assert seen[-1].done == pytest.approx(seen[-1].total)
    assert len(seen) == len(check.plan.tasks)


def test_a_check_with_base_and_adapter_reads_no_more_than_the_three(
    tmp_path: Path, read: dict[str, int], generator: torch.Generator
) -> None:
    folders = [model(tmp_path / "release", 1), model(tmp_path / "base", 1),
               lora(tmp_path / "adapter", generator)]  # fmt: skip
    found = spectra.check(folders[0], base=folders[1], adapter=folders[2])
    assert 0 < sum(read.values()) <= sum(map(weights, folders))
    assert sum("merge_scale" in row.values for row in found.rows) == 4


def test_what_an_adapter_tells_stands_in_the_models_rows_whatever_it_stores(
    tmp_path: Path, generator: torch.Generator
) -> None:
    adapter = lora(tmp_path / "adapter", generator)
    settings = json.loads((adapter / "adapter_config.json").read_text())
    whole = json.dumps(settings | {"modules_to_save": ["lm_head"]})
    (adapter / "adapter_config.json").write_text(whole)
    factors = load_file(adapter / "adapter_model.safetensors")
    held = load_file(model(tmp_path / "held", 1) / "model.safetensors")
    head, change = (torch.randn(40, 16, generator=generator) for _ in range(2))
    saved = {"base_model.model.lm_head.weight": head + change}
    save_file(factors | saved, adapter / "adapter_model.safetensors")
    short = {name.removeprefix("model."): value for name, value in held.items()}
    base = write_model(tmp_path / "base", short | {"lm_head.weight": head}, CONFIG)
    release = write_model(
        tmp_path / "release", held | {"lm_head.weight": head + 2 * change}, CONFIG
    )
    found = spectra.check(release, base=base, adapter=adapter, select="SPC107")
    scales = {row.matrix: row.number("merge_scale") for row in found.rows if row.values.get(
        "merge_scale") is not None}  # fmt: skip
    assert scales.pop("lm_head.weight") == pytest.approx(2.0, rel=1e-3)
    assert scales == pytest.approx(
        {f"model.layers.{i}.self_attn.q_proj.weight": 0.0 for i in range(4)}, abs=1e-3
    )
    assert [row.matrix for row in found.rows] == sorted(row.matrix for row in found.rows)


def in_bytes(folder: Path) -> Path:
    """Write a model again with matrices of eight bits, as bitsandbytes has them."""
    found = load_file(folder / "model.safetensors")
    for name in [name for name, value in found.items() if value.ndim > 1 and "layers" in name]:
        most = found[name].abs().amax(dim=1, keepdim=True)
        found[name] = (found[name] * 127 / most).round().to(torch.int8)
        found[name.removesuffix("weight") + "SCB"] = most.flatten()
    settings = json.loads(CONFIG) | {
        "quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}
    }
    return write_model(folder.parent / f"{folder.name}-8", found, json.dumps(settings))


@pytest.mark.parametrize("order", [1, -1])
def test_quantised_tensors_are_read_once_though_their_steps_count(
    tmp_path: Path, read: dict[str, int], order: int
) -> None:
    plain = model(tmp_path / "plain", 1)
    base, tuned = (plain, in_bytes(plain))[::order]
    for one in (spectra.diff.plan(base, tuned), plan_check(str(tuned), Policy(base=str(base)))):
        read.clear()
        nbytes = one.estimate().nbytes
        assert len(one.run().rows) > len(LAYERS)
        assert sum(read.values()) == nbytes
        assert all(read[folder.name] <= weights(folder) for folder in (base, tuned))


def test_the_proxys_match_is_that_of_width(tmp_path: Path) -> None:
    release, proxy = model(tmp_path / "release", 1), model(tmp_path / "proxy", 3, side=8)
    alone = spectra.width([release], against=proxy, tolerance=0.1).summary
    for rules in ("SPC4", "SPC"):
        policy = Policy(select=(rules,), rules={"SPC401": {"proxy": str(proxy)}})
        facts = plan_check(str(release), policy).measure()
        assert facts.proxy is not None
        for one, other in zip(facts.proxy["matching"], alone["matching"], strict=True):
            assert one["ratio"] == pytest.approx(other["ratio"], rel=1e-6)
            assert (one["role"], one["ok"]) == (other["role"], other["ok"])


def test_matrices_of_an_adapter_are_its_own(tmp_path: Path, generator: torch.Generator) -> None:
    """What it makes of those of its base are rows beside them."""
    adapter = lora(tmp_path / "adapter", generator)
    found = spectra.check(adapter, base=model(tmp_path / "base", 1), select="SPC1")
    assert found.summary["matrices"] == len(spectra.ls(adapter).rows) == 8
    assert len(found.rows) > 8


def grown(adapter: Path, target: Path, factor: float, layer: int = 2) -> Path:
    """Write an adapter again whose update of one layer is so many times as large."""
    target.mkdir()
    factors = load_file(adapter / "adapter_model.safetensors")
    name = f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_B.weight"
    factors[name] = factor * factors[name]
    save_file(factors, target / "adapter_model.safetensors")
    settings = (adapter / "adapter_config.json").read_text()
    (target / "adapter_config.json").write_text(settings)
    return target


@pytest.mark.parametrize("select", ["SPC", "SPC2"], ids=["beside the base", "alone"])
def test_an_adapter_is_judged_by_the_spectra_of_what_it_makes(
    tmp_path: Path, generator: torch.Generator, select: str
) -> None:
    base, adapter = model(tmp_path / "base", 1), lora(tmp_path / "adapter", generator)
    found = spectra.check(adapter, base=base, select=select)
    rows = {row.matrix: row for row in found.rows if "sigma_max" in row.values}
    whole = {row.matrix: row for row in spectra.spectrum(adapter, base=base).rows}
    assert len(rows) == 4  # of what it leaves as it was, the spectrum is none of its doing
    for name, row in rows.items():
        for key in ("sigma_max", "kappa", "effective_rank", "sigma_profile"):
            assert row.values[key] == pytest.approx(whole[name].values[key])
    large = grown(adapter, tmp_path / "large", 40.0)
    told = spectra.check(large, base=base, select=select).summary["findings"]
    name = "model.layers.2.self_attn.q_proj.weight"
    assert name in {one["matrix"] for one in told if one["rule"] == "SPC204"}
    told = spectra.check(large, base=base, baseline=adapter, select=select).summary["findings"]
    jumps = [one for one in told if one["rule"] == "SPC204"]
    assert [(one["matrix"], one["state"]) for one in jumps] == [(name, "new")]
    assert jumps[0]["baseline"] == pytest.approx(rows[name].values["sigma_max"])


def test_an_adapter_without_its_base_has_no_spectrum_and_the_check_says_what_to_give(
    tmp_path: Path, generator: torch.Generator
) -> None:
    found = spectra.check(lora(tmp_path / "adapter", generator))
    why = {one["code"]: one["why_not"] for one in found.summary["rules"]}
    assert why["SPC203"] == "an adapter has no spectrum without its base (--base)"
