"""Questions about models whose weights are stored as factors."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import spectra
from spectra.checkpoint import Checkpoint
from spectra.checkpoint.codecs import composed
from spectra.errors import NothingToAnalyseError, PairingError, UsageError
from spectra.kernels.power_law import fit_power_law
from spectra.matrices import pair

RANK = 12
CONFIG = {"model_type": "llama", "num_attention_heads": 4, "hidden_size": 64}
SIZES = {"self_attn.q": (64, 64), "self_attn.k": (64, 64), "self_attn.v": (64, 64),
         "self_attn.o": (64, 64), "mlp.gate": (96, 64), "mlp.up": (96, 64),
         "mlp.down": (64, 96)}  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Tensor]]:
    """A dense model, its weights cut to a rank as SVD-LLM stores them, and what these are."""
    generator = torch.Generator().manual_seed(7)
    dense, stored, cut = {}, {}, {}
    for layer in range(3):
        for name, (rows, cols) in SIZES.items():
            values = torch.randn(rows, cols, generator=generator) / 8
            u, s, v = torch.linalg.svd(values, full_matrices=False)
            stem = f"model.layers.{layer}.{name}"
            dense[f"{stem}_proj.weight"] = values
            up, down = u[:, :RANK] * s[:RANK].sqrt(), s[:RANK].sqrt()[:, None] * v[:RANK]
            stored[f"{stem}_u_proj.weight"], stored[f"{stem}_v_proj.weight"] = up, down
            cut[f"{stem}_proj.weight"] = up.double() @ down.double()
    folders = []
    for name, tensors in (("dense", dense), ("factored", stored)):
        folders.append(tmp_path_factory.mktemp(name))
        save_file({name: one.contiguous() for name, one in tensors.items()},
                  folders[-1] / "model.safetensors")  # fmt: skip
        (folders[-1] / "config.json").write_text(json.dumps(CONFIG))
    return folders[0], folders[1], cut


def test_spectra_are_those_of_the_product_which_nothing_forms(
    models: tuple[Path, Path, dict[str, Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, factored, cut = models

    def refuse(*_: object) -> Tensor:
        raise AssertionError("a product was formed")

    monkeypatch.setattr(pair, "formed", refuse)
    monkeypatch.setattr(composed, "formed", refuse)
    for asked in (None, "all"):
        found = spectra.spectrum(factored, metrics=asked)
        assert len(found.rows) == len(cut) == 21
        for row in found.rows:
            exact = torch.linalg.svdvals(cut[row.matrix])[:RANK]
            torch.testing.assert_close(
                found.arrays[row.matrix]["sigma"], exact, rtol=1e-12, atol=0.0
            )
            assert row.status == "ok"
            assert row.values["rank_bound"] == row.values["resolved_rank"] == RANK
            assert row.number("kappa") == pytest.approx(float(exact[0] / exact[-1]), rel=1e-10)
            assert row.values["spikes"] is None
    told = str(found.summary["reading"])
    assert "21 matrices are products of two stored factors, of rank 12 by construction" in told
    assert "No spikes are counted in 21 matrices: " in told
    assert "(a product, of which no entries are formed)" in told
    kappas = spectra.kappa(factored)
    for row in kappas.rows:
        exact = torch.linalg.svdvals(cut[row.matrix])
        assert row.number("kappa") == pytest.approx(float(exact[0] / exact[RANK - 1]), rel=1e-10)
        assert row.values["kappa_resolved"] is True
        assert row.values["kappa_excess"] is None


def test_what_is_told_of_all_singular_values_counts_those_that_are_zero(
    models: tuple[Path, Path, dict[str, Tensor]],
) -> None:
    _, factored, cut = models
    found = spectra.spectrum(factored, metrics="snr,detx,log_abs_det,rmse", layers=0)
    name = "model.layers.0.mlp.down_proj.weight"
    (row,) = [row for row in found.rows if row.matrix == name]
    assert row.number("rmse") == pytest.approx(float(cut[name].square().mean().sqrt()), rel=1e-10)
    assert row.values["log_abs_det"] is None
    assert row.values["detx"] == RANK + 1  # the first of the zeros takes any product below 1


def test_losing_directions_to_compression_is_told_exactly(
    models: tuple[Path, Path, dict[str, Tensor]],
) -> None:
    dense, factored, cut = models
    before = spectra.open(dense)
    assert isinstance(before, Checkpoint)
    found = spectra.diff(dense, factored)
    assert len(found.rows) == 21
    for row in found.rows:
        values = before.read(before.entries[row.matrix]).double()
        lost = float((cut[row.matrix] - values).norm() / values.norm())
        assert row.number("delta_relative") == pytest.approx(lost, rel=1e-5)
    assert "21 matrices of the tuned model are stored as factors" in str(found.summary["reading"])
    again = spectra.diff(factored, factored)
    assert again.summary["changed"] == 0


def test_a_release_of_factors_is_no_collapse(
    models: tuple[Path, Path, dict[str, Tensor]],
) -> None:
    _, factored, _ = models
    assert spectra.check(factored).summary["findings"] == []
    # What a check measured answers a question on spectra: both by the core.
    assert all(row.values["rank_bound"] == RANK for row in spectra.spectrum(factored).rows)


def test_a_factor_that_lost_a_direction_is_singular(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(3)
    up, down = torch.randn(40, 8, generator=generator), torch.randn(8, 30, generator=generator)
    up[:, 3] = up[:, 5]
    up[:, 4] = up[:, 5]
    save_file({"h.0.q_u_proj.weight": up, "h.0.q_v_proj.weight": down},
              tmp_path / "model.safetensors")  # fmt: skip
    (row,) = spectra.spectrum(tmp_path).rows
    assert row.status == "singular"
    assert row.values["kappa"] is None
    assert row.values["resolved_rank"] == 6
    (row,) = spectra.kappa(tmp_path).rows
    assert row.status == "singular"


def test_a_factor_that_is_not_finite_has_no_numbers(tmp_path: Path) -> None:
    up, down = torch.ones(40, 8), torch.ones(8, 30)
    up[2, 3] = torch.nan
    save_file({"h.0.q_u_proj.weight": up, "h.0.q_v_proj.weight": down},
              tmp_path / "model.safetensors")  # fmt: skip
    for ask in (spectra.spectrum, spectra.kappa):
        (row,) = ask(tmp_path).rows
        assert row.status == "non-finite"


def test_settings_of_what_trains_are_not_written_for_modules_that_are_not_there(
    models: tuple[Path, Path, dict[str, Tensor]],
) -> None:
    found = spectra.kappa(models[1], select="2")
    with pytest.raises(UsageError, match=r"stored as factors \('model.*_u_proj.weight' and"):
        found.export("peft")
    assert len(found.export("names").text.split()) >= 2


def test_a_plan_counts_what_a_core_takes(models: tuple[Path, Path, dict[str, Tensor]]) -> None:
    dense, factored, _ = models
    whole, core = (spectra.spectrum.plan(one).estimate() for one in (dense, factored))
    assert core.nbytes < whole.nbytes / 2
    assert core.memory < whole.memory


def test_each_part_of_a_sum_has_a_spectrum(tmp_path: Path, generator: torch.Generator) -> None:
    up, down = (torch.randn(sizes, generator=generator) for sizes in ((48, 5), (5, 40)))
    places = torch.randperm(48 * 40, generator=generator)[:300]
    values = torch.randn(300, generator=generator).bfloat16()
    stem = "model.layers.0.self_attn.q_proj"
    stored = {"lora_A": down, "lora_B": up, "sparse_index": places, "sparse_value": values}
    save_file({f"{stem}.{name}": one for name, one in stored.items()},
              tmp_path / "model.safetensors")  # fmt: skip
    (tmp_path / "splora_config.json").write_text(json.dumps({"r": 5, "lora_alpha": 2}))
    low = 0.4 * up.double() @ down.double()
    sparse = torch.zeros(48 * 40, dtype=torch.float64)
    sparse[places] = values.double()
    sparse = sparse.view(48, 40)
    found = spectra.spectrum(tmp_path)
    name = f"{stem}.weight"
    assert [row.matrix for row in found.rows] == [name, f"{name}[low-rank]", f"{name}[sparse]"]
    for row, exact in zip(found.rows, (low + sparse, low, sparse), strict=True):
        sigma = torch.linalg.svdvals(exact)[: row.values.get("rank_bound")]
        torch.testing.assert_close(
            found.arrays[row.matrix]["sigma"], sigma, rtol=1e-4, atol=1e-5 * float(sigma[0])
        )
        assert row.place.role == "attn.q"
        assert row.place.tensor == name
    assert found.summary["parameters"] == 48 * 40  # once
    share = float(low.square().sum() / (low + sparse).square().sum())
    assert f"the low-rank part has {share:.1%}".replace("%", " %") in found.summary["reading"]
    again = spectra.spectrum(tmp_path)  # each from the store, told apart
    assert [row.values for row in again.rows] == [row.values for row in found.rows]
    alone = spectra.spectrum(tmp_path, include=["*sparse?"])
    assert [row.matrix for row in alone.rows] == [f"{name}[sparse]"]
    assert len(spectra.kappa(tmp_path).rows) == 1
    every = spectra.spectrum(tmp_path, factors=True)
    assert [row.matrix for row in every.rows][:2] == [f"{stem}.lora_A", f"{stem}.lora_B"]


def test_places_that_cannot_be_meant_cost_one_matrix(
    tmp_path: Path, generator: torch.Generator
) -> None:
    tensors: dict[str, torch.Tensor] = {}
    for layer in range(3):
        stem = f"model.layers.{layer}.self_attn.q_proj."
        tensors |= {f"{stem}lora_A": torch.randn(4, 30, generator=generator),
                    f"{stem}lora_B": torch.randn(30, 4, generator=generator),
                    f"{stem}sparse_index": torch.randperm(900, generator=generator)[:100],
                    f"{stem}sparse_value": torch.randn(100, generator=generator)}  # fmt: skip
    tensors["model.layers.1.self_attn.q_proj.sparse_index"][3] = 999_999
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "splora_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 4}))
    for command in (spectra.spectrum, spectra.kappa):
        rows = [row for row in command(tmp_path).rows if not row.matrix.endswith("]")]
        assert [row.status for row in rows] == ["ok", "failed", "ok"]
        assert "places from" in str(rows[1].error)
        assert "to 999999, expected 0 to 899" in str(rows[1].error)


def test_stored_factors_are_shown_where_asked_for(
    models: tuple[Path, Path, dict[str, Tensor]],
) -> None:
    found = spectra.spectrum(models[1], factors=True, include="*layers.0.mlp.up_*")
    names = [row.matrix.rpartition(".mlp.")[2] for row in found.rows]
    assert names == ["up_proj.weight", "up_u_proj.weight", "up_v_proj.weight"]
    assert [row.values.get("rank_bound") for row in found.rows] == [RANK, None, None]
    assert found.summary["parameters"] == 96 * 64


def test_an_adapter_has_spectra_of_its_own(
    minilm_lora: Path, updates: dict[str, tuple[Tensor, Tensor]]
) -> None:
    found = spectra.spectrum(minilm_lora)
    products = [row for row in found.rows if row.matrix.endswith("[update]")]
    assert len(products) == len(updates) == 36
    assert len(found.rows) == 2 * 36 + 36 + 1  # and the classifier
    for name, (left, right) in updates.items():
        (row,) = [row for row in products if name in row.matrix]
        exact = torch.linalg.svdvals(left.double() @ right.double())[:8]
        told = found.arrays[row.matrix]["sigma"]
        torch.testing.assert_close(told, exact, rtol=1e-9, atol=0.0)
        assert row.place.role != "other"
    with pytest.raises(UsageError, match="is a LoRA adapter, not a model"):
        spectra.kappa(minilm_lora)


@pytest.mark.parametrize("fused", [False, True], ids=["single", "fused"])
def test_experts_are_pooled_as_along_one_diagonal(
    tmp_path: Path, generator: torch.Generator, fused: bool
) -> None:
    stack = torch.randn(4, 24, 20, generator=generator) / 5
    stem = "model.layers.1.mlp.experts"
    tensors = {f"{stem}.{at}.down_proj.weight": one.clone() for at, one in enumerate(stack)}
    tensors = {f"{stem}.down_proj": stack} if fused else tensors
    tensors["model.layers.1.mlp.gate.weight"] = torch.randn(4, 24, generator=generator)
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3_moe"}))
    assert len(spectra.spectrum(tmp_path).rows) == 5
    found = spectra.spectrum(tmp_path, experts="pooled", metrics="basic,powerlaw")
    row = found.rows[0]
    name = f"{stem}.down_proj[expert=*]" if fused else f"{stem}.*.down_proj.weight"
    assert [one.matrix for one in found.rows] == [name, "model.layers.1.mlp.gate.weight"]
    exact = torch.linalg.svdvals(torch.block_diag(*stack).double())
    torch.testing.assert_close(found.arrays[name]["sigma"], exact, rtol=1e-4, atol=0.0)
    assert (row.values["experts"], row.place.expert) == (4, None)
    assert row.number("kappa") == pytest.approx(float(exact[0] / exact[-1]), rel=1e-4)
    assert row.number("frobenius") == pytest.approx(float(stack.norm()), rel=1e-6)
    assert row.number("rmse") == pytest.approx(float(stack.square().mean().sqrt()), rel=1e-6)
    assert row.number("log_abs_det") == pytest.approx(float(exact.log().sum()), rel=1e-4)
    law = fit_power_law((exact / exact[0]).square())
    assert law is not None
    assert row.number("alpha") == pytest.approx(law.alpha, rel=1e-3)
    assert "4 matrices of experts are pooled in 1 row" in str(found.summary["reading"])
    assert "No spikes" not in str(found.summary["reading"])  # which were not asked for
    asked = spectra.spectrum(tmp_path, experts="pooled", metrics="mp")
    assert "(experts pooled, which are no one matrix)" in str(asked.summary["reading"])


def test_factors_that_make_nothing_are_told_as_zeros(tmp_path: Path) -> None:
    tensors = {"h.0.q_u_proj.weight": torch.zeros(30, 4), "h.0.q_v_proj.weight": torch.ones(4, 20)}
    save_file(tensors, tmp_path / "model.safetensors")
    (row,) = spectra.spectrum(tmp_path, metrics="all").rows
    assert row.status == "singular"
    assert (row.values["sigma_max"], row.values["kappa"], row.values["snr"]) == (0.0, None, None)


def test_an_adapter_on_factors_adds_to_them(
    models: tuple[Path, Path, dict[str, Tensor]], tmp_path: Path, generator: torch.Generator
) -> None:
    _, factored, cut = models
    name = "model.layers.1.self_attn.v_proj"
    up, down = (torch.randn(sizes, generator=generator) / 20 for sizes in ((64, 4), (4, 64)))
    stored = {f"base_model.model.{name}.lora_{side}.weight": one
              for side, one in (("A", down), ("B", up))}  # fmt: skip
    save_file(stored, tmp_path / "adapter_model.safetensors")
    told = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["v_proj"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(told))
    rows = {row.matrix: row for row in spectra.spectrum(tmp_path, base=factored).rows}
    exact = torch.linalg.svdvals(cut[f"{name}.weight"] + 2.0 * up.double() @ down.double())
    row = rows[f"{name}.weight"]
    assert row.values["rank_bound"] == RANK + 4
    assert row.number("sigma_min") == pytest.approx(float(exact[RANK + 3]), rel=1e-8)
    assert rows["model.layers.0.self_attn.v_proj.weight"].values["rank_bound"] == RANK
    findings = spectra.check(tmp_path, base=factored).summary["findings"]
    assert not [one for one in findings if one["rule"].startswith(("SPC2", "SPC3"))]


def test_what_writes_for_layers_says_that_there_are_none(
    models: tuple[Path, Path, dict[str, Tensor]], tmp_path: Path
) -> None:
    with pytest.raises(NothingToAnalyseError, match="stored as factors, and the model has no"):
        spectra.lowrank.mask(models[1], output=tmp_path / "mask", rank=4)
    listed = spectra.ls(models[1])
    assert "21 tensors are put together of stored factors, of rank 12." in listed.summary["reading"]


def test_what_is_over_other_singular_values_is_not_compared(
    models: tuple[Path, Path, dict[str, Tensor]],
) -> None:
    dense, factored, _ = models
    found = spectra.compare(spectra.spectrum(dense), spectra.spectrum(factored))
    keys = {move["key"] for row in found.rows for move in row.values["moves"]}  # type: ignore[union-attr,index]
    assert "rank_bound" in keys
    assert not keys & {"sigma_min", "kappa"}
    same = spectra.compare(spectra.spectrum(factored), spectra.spectrum(factored))
    assert same.summary["moved"] == 0


def test_a_sparse_part_alone_stands_for_no_weight(tmp_path: Path) -> None:
    """Neither heads nor layers nor rules take it for the matrix that it is a part of."""
    generator = torch.Generator().manual_seed(3)
    tensors: dict[str, Tensor] = {}
    for layer in range(2):
        for role in "qkvo":
            stem = f"model.layers.{layer}.self_attn.{role}_proj."
            tensors[stem + "lora_A"] = torch.randn(4, 64, generator=generator)
            tensors[stem + "lora_B"] = torch.randn(64, 4, generator=generator)
            tensors[stem + "sparse_index"] = torch.randperm(64**2, generator=generator)[:100]
            tensors[stem + "sparse_value"] = torch.randn(100, generator=generator)
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    found = spectra.spectrum(tmp_path, include=["*sparse?"])
    assert {row.place.role for row in found.rows} == {"other"}
    for asked in (spectra.heads, spectra.shared, spectra.kappa):
        with pytest.raises(NothingToAnalyseError, match=r"8 weights are not read.*Write it there"):
            asked(tmp_path)
    dense = tmp_path / "dense"
    dense.mkdir()
    weights = {f"model.layers.{layer}.self_attn.{role}_proj.weight": torch.eye(64)
               for layer in range(2) for role in "qkvo"}  # fmt: skip
    save_file(weights, dense / "model.safetensors")
    with pytest.raises(PairingError, match=r"8 weights are not read.*lora_alpha / r is not known"):
        spectra.diff(dense, tmp_path)
    told: Any = spectra.check(tmp_path).summary["findings"]
    codes = {one["rule"] for one in told}
    assert not codes & {"SPC010", "SPC201"}
    (tmp_path / "splora_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 4}))
    assert len(spectra.heads(tmp_path).rows) == 2 * 4
