"""`spectra lowrank`: its folder, its table, what it refuses, and what comes next."""

import json
import shlex
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from examples import write_model
from spectra.report.command_line import command_line

from .conftest import Command


def test_an_adapter_and_its_table_are_written(
    command: Command, minilm_lora: Path, tmp_path: Path
) -> None:
    place, table = tmp_path / "small", tmp_path / "small.json"
    done = command("lowrank", "resize", minilm_lora, "--rank", "2", "-o", place, "-o", table)
    assert done.code == 0
    assert "36 modules: rank 8 to 2, 1.3 MiB of factors to 324.0 KiB." in done.out
    assert f"wrote {place}" in done.err
    document = json.loads(table.read_text())
    assert document["command"] == "lowrank_resize"
    assert document["summary"]["rank_kept"] == 72
    assert document["models"][0]["part"] == "adapter"
    assert {one.name for one in place.iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors",
    }  # fmt: skip
    assert command("diff", "--help").code == 0
    again = command("lowrank", "resize", minilm_lora, "--rank", "2", "-o", place)
    assert (again.code, again.out) == (2, "")
    assert "nothing is overwritten without --force" in again.err
    assert command("lowrank", "resize", minilm_lora, "-o", place, "--force", "-q").code == 0
    assert command("report", table, "-o", tmp_path / "page.html").code == 0
    assert "loses" in (tmp_path / "page.html").read_text()


@pytest.mark.usefixtures("weights_are_closed")
def test_a_dry_run_writes_and_reads_nothing(
    command: Command, minilm_lora: Path, tmp_path: Path
) -> None:
    done = command("lowrank", "resize", minilm_lora, "-o", tmp_path / "small", "--dry-run")
    assert done.code == 0
    assert "36 matrices in 72 tensors" in done.out
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["resize", "ADAPTER"], "one folder takes a PEFT adapter, got none. Expected -o FOLDER."),
        (["resize", "ADAPTER", "-o", "a", "-o", "b"], "got a, b. Expected"),
        (["resize", "ADAPTER", "-o", "a.safetensors"], "is a folder of several. Expected -o a."),
        (["resize", "ADAPTER", "-o", "no/a"], "the folder"),
        (["convert", "ADAPTER", "--to", "kohya"], "one file takes"),
        (
            ["convert", "ADAPTER", "--to", "kohya", "--part", "te", "-o", "a"],
            "writes a .safetensors file",
        ),
        (["convert", "ADAPTER", "--to", "kohia", "-o", "a"], "Did you mean 'kohya'?"),
        (["convert", "ADAPTER", "--to", "gguf", "-o", "a.gguf"], "GGUF needs the base's config"),
        (["convert", "ADAPTER", "--to", "diffusers", "-o", "a.safetensors"], "Expected --part and"),
        (["resize", "ADAPTER", "-o", "a", "--budget", "lots"], "--budget 'lots' is no size"),
        (["resize", "ADAPTER", "-o", "a", "--rank", "0"], "--rank '0' should be greater"),
        (["resize", "ADAPTER", "-o", "a", "--dtype", "bf16"], "Did you mean 'bfloat16'?"),
        (["merge", "ADAPTER", "ADAPTER", "-o", "a", "--weights", "x"], "'x' are no weights"),
        (
            ["rezise", "ADAPTER"],
            "No such command 'rezise'. Did you mean 'resize'? See `spectra low",
        ),
        (["resize", "ADAPTER", "--weights", "1"], "It is an option of `spectra lowrank merge`."),
        (["resize"], "Expected spectra lowrank resize ADAPTER [OPTIONS]. See `spectra lowrank res"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_meant_is_refused_in_a_line(
    command: Command,
    minilm_lora: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    text: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = command("lowrank", *(str(minilm_lora) if w == "ADAPTER" else w for w in words))
    assert (done.code, done.out) == (2, "")
    assert text in done.err
    assert done.err.count("\n") == 1
    assert [*tmp_path.iterdir()] == []


def test_the_group_tells_its_commands(command: Command) -> None:
    for words in (("lowrank",), ("lowrank", "--help")):
        done = command(*words)
        assert (done.code, done.err) == (0, "")
        assert "resize" in done.out
        assert "merge" in done.out


def test_the_table_says_how_to_go_on(
    command: Command, minilm_lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spectra_cli.run.is_terminal", lambda _stream: True)
    place = tmp_path / "small"
    done = command("lowrank", "resize", minilm_lora, "-o", place)
    told = " ".join(done.out.replace("\\\n", " ").partition("Next: ")[2].split())
    assert shlex.split(told) == [
        "spectra", "diff", "sentence-transformers/all-MiniLM-L6-v2", str(place),
    ]  # fmt: skip


def test_a_fine_tune_becomes_an_adapter(command: Command, model: Path, tmp_path: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    tensors[name] = tensors[name] + 0.1 * torch.ones(16, 1) @ torch.arange(8.0)[None]
    tuned = write_model(tmp_path / "tuned", tensors, '{"model_type": "llama"}')
    place = tmp_path / "made"
    done = command("lowrank", "extract", model, tuned, "--energy", "0.99", "-o", place)
    assert done.code == 0
    assert "1 module of rank 1" in done.out
    assert "8 matrices are unchanged. Nothing is lost but rounding." in done.out
    compared = command("diff", model, place, "--format", "json")
    rows = {row["matrix"]: row for row in json.loads(compared.out)["rows"]}
    assert rows[name]["delta_rank"] == 1
    assert [row for row in rows if rows[row]["delta_norm"]] == [name]
    table = tmp_path / "made.json"
    words = ["lowrank", "extract", model, tuned, "--delta-rank", "--rank", "3"]
    proven = command(*words, "-o", place, "-o", table, "--force")
    assert proven.code == 0
    assert "1 module of rank 1" in proven.out
    again = shlex.split(command_line(json.loads(table.read_text())))
    assert again[1:] == [*map(str, words[:4]), "--rank", "3", "--delta-rank", "--output",
                         str(place), "--force"]  # fmt: skip
    both = command(*words, "--energy", "0.9", "-o", tmp_path / "other")
    assert both.code == 2
    assert both.err.count("\n") == 1
    assert "--energy and --delta-rank each choose ranks, and only one can." in both.err
    refused = command("lowrank", "extract", model, tuned, "-o", tmp_path / "other")
    assert refused.code == 2
    assert "Expected --rank, --energy, --budget or --delta-rank." in refused.err


def test_a_model_begins_without_what_its_adapter_begins_with(
    command: Command, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, table = tmp_path / "start", tmp_path / "start.json"
    words = ["lowrank", "init", "milora", model, "--rank", "2", "--ramp", "1", "--chosen", "mid"]
    done = command(*words, "-o", place, "-o", table)
    assert done.code == 0
    assert "Residual and adapter are the original to" in done.out
    assert (place / "adapter" / "adapter_model.safetensors").is_file()
    document = json.loads(table.read_text())
    assert document["command"] == "lowrank_init"
    again = shlex.split(command_line(document))
    assert again[:5] == ["spectra", "lowrank", "init", "milora", str(model)]
    assert again[again.index("--ramp") + 1] == "1"
    assert again[again.index("--chosen") + 1] == "mid"
    compared = command("diff", place, place / "adapter", "--format", "json")
    assert compared.code == 0
    assert json.loads(compared.out)["summary"]["changed"] == len(document["rows"])
    monkeypatch.setattr("spectra_cli.run.is_terminal", lambda _stream: True)
    shown = command(*words, "-o", place, "--force")
    told = " ".join(shown.out.replace("\\\n", " ").partition("Next: ")[2].split())
    assert shlex.split(told) == ["spectra", "diff", str(place), str(place / "adapter")]


def test_masks_and_what_they_held_of_an_update(
    command: Command, minilm: Path, minilm_lora: Path, tmp_path: Path
) -> None:
    place, table = tmp_path / "masks", tmp_path / "masks.json"
    words = ["lowrank", "mask", minilm, "--rank", "4", "--filter-rank", "8", "--layers", "0"]
    done = command(*words, "--tuned", minilm_lora, "-o", place, "-o", table)
    assert done.code == 0
    assert "of the update's Σδ²" in done.out
    assert "of update" in done.out
    assert (place / "masks.safetensors").is_file()
    again = shlex.split(command_line(json.loads(table.read_text())))
    assert again[:4] == ["spectra", "lowrank", "mask", str(minilm)]
    assert again[again.index("--tuned") + 1] == str(minilm_lora)
    alone = command(*words, "-o", place, "--force")
    assert alone.code == 0
    assert "of update" not in alone.out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["init", "pisa", "MODEL", "-o", "a"], "'pisa' is not known. Did you mean 'pissa'?"),
        (["init", "soma", "MODEL", "-o", "a", "--ramp", "x"], "'x' are no layers"),
        (["init", "pissa", "MODEL", "-o", "a", "--chosen", "min"], "--chosen min is not known of"),
        (["init", "pissa", "MODEL"], "one folder takes what is written, got none."),
        (["mask", "MODEL", "-o", "a", "--density", "2"], "--density 2.0 is no share."),
        (["mask", "MODEL", "-o", "a", "--form", "shira", "--density", "0.1"], "no SHiRA adapter"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_beginnings_that_cannot_be_meant_are_refused_in_a_line(
    command: Command,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    text: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    there = sorted(tmp_path.iterdir())
    done = command("lowrank", *(str(model) if word == "MODEL" else word for word in words))
    assert (done.code, done.out) == (2, "")
    assert text in done.err
    assert done.err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == there
