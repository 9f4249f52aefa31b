"""Adapters that others than PEFT wrote, in the commands: what is said of them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import spectra
from spectra.errors import SpectraError
from spectra.report.command_line import command_line
from spectra.report.sentences import models_named

from .conftest import Command

DATA = Path(__file__).parents[1] / "data" / "lycoris"
MODULE = "down_blocks.0.attentions.0.to_q"
NO_SETTINGS = "there is no adapter_config.json, so alpha is not known: scale 1 (alpha = rank)"


@pytest.fixture(autouse=True)
def _no_policy_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


def written(path: Path, *modules: str) -> Path:
    """Small factors under PEFT's names."""
    torch.manual_seed(0)
    tensors = {}
    for module in modules:
        tensors[f"{module}.lora_A.weight"] = torch.randn(2, 8) * 0.01
        tensors[f"{module}.lora_B.weight"] = torch.randn(8, 2) * 0.01
    save_file(tensors, path)
    return path


def test_ls_says_whose_it_is(command: Command) -> None:
    done = command("ls", DATA / "plain.safetensors")
    assert done.code == 0
    assert "A LoRA adapter of kohya (lycoris.kohya) on 8 modules, rank 2 3." in done.out


def test_diff_and_check_say_that_a_scale_is_assumed(command: Command, tmp_path: Path) -> None:
    adapter = written(tmp_path / "a.safetensors", MODULE)
    for words in (("diff", DATA / "base.safetensors", adapter),
                  ("check", adapter, "--base", DATA / "base.safetensors")):  # fmt: skip
        assert NO_SETTINGS in " ".join(command(*words).out.split())


def test_check_says_what_of_an_adapter_the_base_lacks(command: Command, tmp_path: Path) -> None:
    adapter = written(tmp_path / "a.safetensors", f"unet.{MODULE}", "text_encoder.layers.0.q_proj")
    done = command("check", adapter, "--base", DATA / "base.safetensors")
    assert "1 of the adapter's 2 modules match no tensor of the base" in " ".join(done.out.split())


def test_a_merge_is_checked_against_kohyas_adapter(command: Command, tmp_path: Path) -> None:
    base, adapter = DATA / "base.safetensors", DATA / "plain.safetensors"
    only = ("--select", "SPC107", "--base", base, "--adapter", adapter)
    assert command("check", DATA / "plain_merged.safetensors", *only).code == 0
    before, after = load_file(base), load_file(DATA / "plain_merged.safetensors")
    save_file({k: 2 * after[k] - before[k] for k in before}, tmp_path / "twice.safetensors")
    done = command("check", tmp_path / "twice.safetensors", *only)
    assert done.code == 1
    assert "SPC107" in done.out


def test_an_adapter_of_unknown_scale_is_looked_for_in_no_merge(
    command: Command, tmp_path: Path
) -> None:
    base, adapter = DATA / "base.safetensors", written(tmp_path / "a.safetensors", MODULE)
    done = command("check", base, "--base", base, "--adapter", adapter)
    assert done.code == 2
    assert f"cannot be looked for in the model: {NO_SETTINGS} is assumed" in done.err
    assert "Give the folder with its settings." in done.err


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("text_encoder.layers.0.q_proj", "Give that part of the pipeline as the base."),
        ("layers.0.q_proj", "Give the base it was trained on"),
    ],
)
def test_an_adapter_of_something_else(
    command: Command, tmp_path: Path, module: str, words: str
) -> None:
    adapter = written(tmp_path / "a.safetensors", module)
    done = command("diff", DATA / "base.safetensors", adapter)
    assert done.code == 2
    assert words in done.err


def test_the_spectra_of_an_adapter_are_those_with_its_base(
    command: Command, minilm: Path, minilm_lora: Path, tmp_path: Path
) -> None:
    """They can be repeated as the page and the result say, and lie over the base's on a page."""
    saved = tmp_path / "spectrum.json"
    done = command("spectrum", minilm_lora, "--base", minilm, "--layers", "0", "-o", saved)
    assert done.code == 0
    document = json.loads(saved.read_text())
    assert [model["part"] for model in document["models"]] == ["base", "tuned"]
    assert command_line(document) == f"spectra spectrum {minilm_lora} --base {minilm} --layers 0"
    assert models_named(document) == minilm_lora.name
    refused = command("spectrum", minilm, "--base", minilm)
    assert refused.code == 2
    assert "not an adapter: its spectra need none" in refused.err
    alone = command("spectrum", minilm_lora)
    assert alone.code == 0  # of its own factors, and of what they make
    assert "query.weight[update]" in alone.out
    both = command("spectrum", minilm_lora, "--base", minilm, "--experts", "pooled")
    assert both.code == 2
    assert "--experts is about a model or an adapter alone" in both.err
    alone = command("kappa", minilm_lora)
    assert f"spectra spectrum {minilm_lora} --base BASE" in alone.err
    with pytest.raises(SpectraError, match=r"spectra\.spectrum\(.*base=BASE\)"):
        spectra.kappa(minilm_lora)
