"""What `spectra ls` says of tensors that are no matrices, wherever it is written; what is next."""

import csv
import io
import json
from pathlib import Path

import pandas as pd
import pytest

import spectra

from .conftest import Command

NORM = "model.layers.0.input_layernorm.weight"


def test_flat_files_hold_skips_where_all_is_asked_for(
    command: Command, model: Path, tmp_path: Path
) -> None:
    for words, count in (((), 10), (("-v",), 13)):
        done = command("ls", model, "--format", "csv", "-o", tmp_path / "a.parquet", *words)
        lines = list(csv.DictReader(io.StringIO(done.out)))
        assert len(lines) == len(pd.read_parquet(tmp_path / "a.parquet")) == count
        told = command("ls", model, "--format", "jsonl", *words).out.splitlines()
        assert len(told) == count
    assert {"tensor": NORM, "status": "skipped", "error": "one-dimensional"}.items() <= next(
        one for one in map(json.loads, told) if one["tensor"] == NORM
    ).items()
    assert len(spectra.ls(model).frame) == 10


def test_filters_choose_among_skips_too(command: Command, model: Path) -> None:
    done = command("ls", model, "--layers", "1")
    assert "1 tensor that is none" in done.out
    assert NORM not in done.out
    assert "model.layers.1.input_layernorm.weight: one-dimensional" in done.out
    assert "skipped" not in command("ls", model, "--include", "*q_proj*").out
    assert "skipped" not in command("ls", model, "--exclude", "*norm*").out
    assert NORM in command("ls", model, "--role", "attn").out  # what has no role


@pytest.mark.parametrize("words", ["--layers 1", "--include *q_proj*", "--exclude *norm*"])
def test_every_question_skips_what_ls_does(command: Command, model: Path, words: str) -> None:
    listed = json.loads(command("ls", model, *words.split(), "--format", "json").out)
    for name in ("spectrum", "kappa", "diff"):
        models = (model, model) if name == "diff" else (model,)
        found = json.loads(command(name, *models, *words.split(), "--format", "json").out)
        own = [one for one in found["skipped"] if "candidate" not in one["reason"]]
        assert own == listed["skipped"]
        assert found["summary"]["skipped"] == len(found["skipped"])


def test_the_next_step_measures_what_was_listed(
    command: Command, model: Path, minilm_lora: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spectra_cli.run.is_terminal", lambda _stream: True)
    out = " ".join(command("ls", model, "--layers", "1").out.replace(" \\\n", " ").split())
    assert f"Next: spectra spectrum {model} --layers 1 spectra check {model}" in out
    adapter = command("ls", minilm_lora).out
    assert "spectra spectrum" not in adapter
    assert "Next: spectra check " in adapter
