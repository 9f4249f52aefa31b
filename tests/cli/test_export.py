"""`spectra kappa --export` through the door a user takes; what it selects is in exports."""

import json
from pathlib import Path
from typing import get_args

import pytest
import torch
import yaml  # type: ignore[import-untyped]
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import BertModel

import spectra
from examples import write_model
from spectra.errors import UsageError
from spectra.exports import FORMS, SUFFIXES
from spectra.words import ExportForm

from .conftest import Command


def selected(command: Command, folder: Path, *words: str) -> list[str]:
    done = command("kappa", folder, *words, "--format", "json")
    names = json.loads(done.out)["summary"]["selected"]
    assert isinstance(names, list)
    return names


def test_every_form_is_offered() -> None:
    assert tuple(FORMS) == tuple(SUFFIXES) == get_args(ExportForm)


@pytest.mark.parametrize("form", get_args(ExportForm))
def test_a_form_has_the_files_it_says(form: str, minilm: Path) -> None:
    result = spectra.kappa(minilm, select=2, selection=spectra.Selection(layers="0"))
    assert tuple(result.export(form).files) == SUFFIXES[form]


def test_without_a_file_the_export_alone_is_on_standard_output(
    command: Command, minilm: Path
) -> None:
    done = command("kappa", minilm, "--select", "10%", "--export", "names")
    assert done.code == 0
    assert done.out.splitlines() == selected(command, minilm, "--select", "10%")
    assert done.err.startswith("3 of 37 matrices selected")


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_files_go_by_their_suffix(command: Command, minilm: Path, tmp_path: Path) -> None:
    config, snippet, table = (tmp_path / name for name in ("lora.json", "lora.py", "kappa.csv"))
    words = [word for path in (config, snippet, table) for word in ("-o", str(path))]
    done = command("kappa", minilm, "--select", "4", "--rank-by", "kappa_excess",
                   "--export", "peft", *words)  # fmt: skip
    assert done.code == 0
    assert "4 of 37 matrices selected" in done.out
    assert done.err.splitlines() == [f"wrote {path}" for path in (config, snippet, table)]
    names = selected(command, minilm, "--select", "4", "--rank-by", "kappa_excess")
    model = get_peft_model(
        BertModel.from_pretrained(minilm), LoraConfig(**json.loads(config.read_text()))
    )
    wrapped = {name for name, module in model.named_modules() if isinstance(module, LoraLayer)}
    assert {name.removeprefix("base_model.model.") for name in wrapped} == {
        name.removesuffix(".weight") for name in names
    }
    assert table.read_text().startswith("tensor,")
    assert "def wrap(" in snippet.read_text()


@pytest.mark.parametrize("suffix", [".yaml", ".yml"])
def test_yaml_by_either_suffix(command: Command, minilm: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"axolotl{suffix}"
    done = command("kappa", minilm, "--select", "2", "--export", "axolotl", "-o", path)
    assert done.code == 0
    names = selected(command, minilm, "--select", "2")
    assert yaml.safe_load(path.read_text()) == {"unfrozen_parameters": [f"^{n}$" for n in names]}


def test_a_text_file_of_names_is_the_export_and_not_the_table(
    command: Command, minilm: Path, tmp_path: Path
) -> None:
    path = tmp_path / "names.txt"
    command("kappa", minilm, "--select", "2", "--export", "names", "-o", path)
    assert path.read_text().splitlines() == selected(command, minilm, "--select", "2")


def test_what_is_trained_along_is_told_even_when_quiet(command: Command, tmp_path: Path) -> None:
    torch.manual_seed(0)
    experts = {
        f"model.layers.0.mlp.experts.{i}.{half}_proj.weight": torch.randn(*shape)
        for i in range(4)
        for half, shape in (("gate", (6, 8)), ("up", (6, 8)), ("down", (8, 6)))
    }
    config = {"model_type": "qwen3_moe", "num_experts": 4, "hidden_size": 8}
    folder = write_model(tmp_path / "moe", experts, json.dumps(config))
    done = command("kappa", folder, "--select", "1", "--export", "peft", "-q")
    assert done.code == 0
    assert len(json.loads(done.out)["target_parameters"]) == 1
    assert "note: transformers 5 holds the 4 experts of a layer in one tensor" in done.err


REFUSED = {
    "nothing selected": (["--export", "peft"], "nothing is selected. Add --select 10%."),
    "no form": (["--select", "1", "--export", "pefd"], "Did you mean 'peft'?"),
    "two on one stream": (
        ["--select", "1", "--export", "peft", "--format", "csv"],
        "--export peft and --format csv both go to standard output. Write one to a file: -o FILE.",
    ),
    **{
        f"{form} to {name}": (["--select", "1", "--export", form, "-o", name], told)
        for form, name, told in (
            ("axolotl", "x.py", "x.py ends with '.py'. The export for axolotl is written as .yaml"),
            ("axolotl", "l.json", "l.json ends with '.json'. The export for axolotl is written as"),
            ("llamafactory", "l.csv", "is written as .yaml: -o l.yaml; without -o it goes to"),
            ("peft", "x.yaml", "The export for peft is written as .json or .py: -o x.json"),
            ("python", "x.txt", "is written as .py: -o x.py"),
            ("names", "x", "x has no suffix. The export for names is written as .txt: -o x.txt"),
        )
    },
    "one of two files": (
        ["--select", "1", "--export", "peft", "-o", "x.json", "-o", "x.yaml"],
        "x.yaml ends with '.yaml'. The export for peft",
    ),
    "no export": (
        ["--select", "1", "-o", "x.yaml"],
        "Settings of what trains a selection are written by kappa with --export.",
    ),
}


@pytest.mark.parametrize(("words", "told"), REFUSED.values(), ids=REFUSED)
def test_refusals_are_one_line(
    command: Command,
    minilm: Path,
    words: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = command("kappa", minilm, *words)
    assert (done.code, done.out) == (2, "")
    assert not [*tmp_path.iterdir()]
    assert told in done.err
    assert len(done.err.splitlines()) == 1


def test_an_export_that_would_select_otherwise_writes_nothing(
    command: Command, tmp_path: Path
) -> None:
    """LLaMA-Factory has no way to name a stack of experts."""
    torch.manual_seed(0)
    stack = {"model.layers.0.mlp.experts.down_proj": torch.randn(2, 8, 6)}
    folder = write_model(tmp_path / "moe", stack, '{"model_type": "qwen3_moe", "hidden_size": 8}')
    path, table = tmp_path / "factory.yaml", tmp_path / "kappa.csv"
    done = command("kappa", folder, "--select", "1", "--export", "llamafactory",
                   "-o", path, "-o", table)  # fmt: skip
    assert (done.code, done.out) == (2, "")
    assert "LLaMA-Factory can name modules alone" in done.err
    assert not path.exists()
    assert not table.exists()


def test_from_python(minilm: Path) -> None:
    result = spectra.kappa(minilm, select="10%")
    assert json.loads(result.export("peft").text)["target_modules"] == [
        name.removesuffix(".weight") for name in result.summary["selected"]
    ]
    with pytest.raises(UsageError, match="nothing is selected to export"):
        spectra.kappa(minilm, selection=spectra.Selection(layers="0")).export("peft")
    with pytest.raises(UsageError, match="Did you mean 'python'"):
        result.export("pithon")
