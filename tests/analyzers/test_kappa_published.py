"""The selection against KappaTune's rule taken literally, and against PEFT's own helper."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest
import torch
import transformers as hf
from peft import helpers
from torch import nn

import spectra
from matrices import tiny
from spectra.work import Result


@cache
def bert(folder: Path) -> nn.Module:
    """The real model as transformers builds it."""
    model: nn.Module = hf.AutoModel.from_pretrained(folder)
    return model


@cache
def built(family: str) -> nn.Module:
    """A tiny random model."""
    return tiny.build(family)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Two of them, saved as safetensors; the second keeps its experts in one tensor."""
    folders = {}
    for family in ("llama", "qwen3-moe"):
        folders[family] = tmp_path_factory.mktemp(family)
        built(family).save_pretrained(folders[family])  # type: ignore[operator]
    return folders


@cache
def naive(model: nn.Module, leave_out: str = "") -> dict[str, float]:
    """sigma_1 / sigma_r of every nn.Linear, in float64."""
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and (not leave_out or leave_out not in name):
            sigma = torch.linalg.svdvals(module.weight.detach().double())
            found[f"{name}.weight"] = float(sigma[0] / sigma[-1])
    return found


def published(kappas: Mapping[str, float], share: float) -> list[str]:
    """The lowest `max(1, int(share * N))`."""
    ranked = sorted(kappas, key=lambda name: (kappas[name], name))
    return ranked[: max(1, int(len(ranked) * share))]


SHARES = pytest.mark.parametrize("share", [0.01, 0.1, 0.2, 0.5, 1.0])


@SHARES
def test_the_real_models_selection_is_the_published_one(share: float, minilm: Path) -> None:
    kappas = naive(bert(minilm))
    assert len(kappas) == 37
    ours = spectra.kappa(minilm, select=f"{100 * share:g}%").summary
    assert ours["selected"] == published(kappas, share)
    assert ours["cut"] == pytest.approx(kappas[ours["selected"][-1]], rel=1e-3)


@SHARES
def test_a_llamas_selection_is_the_published_one(share: float, saved: Mapping[str, Path]) -> None:
    kappas = naive(built("llama"), leave_out="lm_head")
    assert len(kappas) == 14
    ours = spectra.kappa(saved["llama"], select=f"{100 * share:g}%").summary
    assert ours["selected"] == published(kappas, share)


def test_peft_selects_the_same_of_the_real_model(minilm: Path) -> None:
    theirs = helpers.find_kappa_target_modules(bert(minilm), top_p=0.1, show_progress=False)
    ours = spectra.kappa(minilm, select="10%").summary["selected"]
    assert theirs["target_parameters"] is None
    assert [f"{name}.weight" for name in theirs["target_modules"] or ()] == ours


def numbers(result: Result) -> dict[str, tuple[float, float]]:
    """kappa and sigma_min by name."""
    return {
        row.matrix: (row.number("kappa") or 0.0, row.number("sigma_min") or 0.0)
        for row in result.rows
    }


def test_pefts_numbers_are_ours_but_for_what_it_adds_to_sigma_min(minilm: Path) -> None:
    """It takes sigma_1 / (sigma_r + 1e-8), from a float32 SVD."""
    selector = helpers.KappaTuneSelector(bert(minilm), show_progress=False)
    selector.get_best_targets()
    theirs = selector._condition_numbers or {}
    ours = numbers(spectra.kappa(minilm))
    assert {f"{name}.weight" for name in theirs} == set(ours)
    for name, kappa in theirs.items():
        own, smallest = ours[f"{name}.weight"]
        # Float32 leaves sigma_r uncertain by about eps32 sigma_1.
        assert kappa == pytest.approx(own * smallest / (smallest + 1e-8), rel=1e-3 + 3e-7 * own)


def test_peft_counts_the_head_where_we_do_when_asked(saved: Mapping[str, Path]) -> None:
    model = built("llama")
    theirs = helpers.KappaTuneSelector(model, show_progress=False)
    linear = [f"{name}.weight" for name in theirs.get_best_targets()]
    no_tables = spectra.Selection(exclude=["*embed*"])  # an nn.Embedding is no nn.Linear
    with_head = spectra.kappa(
        saved["llama"], select="100%", include_embeddings=True, selection=no_tables
    )
    assert "lm_head.weight" in linear
    assert with_head.summary["selected"] == linear
    without = spectra.kappa(saved["llama"], select="100%").summary["selected"]
    assert [name for name in linear if name != "lm_head.weight"] == without


def test_peft_averages_over_experts_that_are_candidates_here(saved: Mapping[str, Path]) -> None:
    """Fused experts: one mean for all of them there, one kappa for each here."""
    theirs = helpers.KappaTuneSelector(built("qwen3-moe"), show_progress=False)
    theirs.get_best_target_parameters()
    averages = theirs._parameter_condition_numbers or {}
    result = spectra.kappa(saved["qwen3-moe"])
    down: dict[str, list[float]] = {}
    for row in result.rows:
        if row.place.expert is not None and row.place.role == "mlp.down":
            down.setdefault(f"model.layers.{row.place.layer}.mlp.experts.down_proj", []).append(
                row.number("kappa") or 0.0
            )
    assert len(down) == 2
    for name, kappas in down.items():
        assert len(kappas) == len(set(kappas)) == 3
        assert averages[name] == pytest.approx(sum(kappas) / 3, rel=1e-3)
    chosen = spectra.kappa(
        saved["qwen3-moe"], select="1", selection=spectra.Selection(include=["*experts*"])
    )
    assert len(chosen.summary["selected"]) == 1
