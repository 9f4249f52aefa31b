"""Each command, its formats, streams and files, through the door a user takes."""

import csv
import hashlib
import io
import json
import shlex
from pathlib import Path

import pandas as pd
import pytest
import torch
from spectra_cli import terminal

from examples import write_model

from .conftest import Command

ONE_MODEL = ("ls", "spectrum", "kappa")


def test_ls_shows_every_matrix_and_every_skip(command: Command, model: Path) -> None:
    done = command("ls", model)
    assert done.code == 0
    assert done.err == ""
    assert "10 matrices, 1,216 parameters, 3 tensors that are none" in done.out
    assert "model.layers.2.mlp.down_proj.weight" in done.out
    assert "skipped: model.layers.0.input_layernorm.weight: one-dimensional" in done.out


def test_ls_shows_what_an_adapter_holds(command: Command, minilm_lora: Path) -> None:
    done = command("ls", minilm_lora)
    assert done.code == 0
    assert "A LoRA adapter on 36 modules, rank 8." in done.out


@pytest.mark.parametrize("name", ONE_MODEL)
def test_json_is_one_document_of_the_schema(command: Command, model: Path, name: str) -> None:
    done = command(name, model, "--format", "json")
    document = json.loads(done.out)
    assert done.code == 0
    assert document["schema"] == "spectra/1"
    assert document["command"] == name
    digest = hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest()
    assert document["models"] == [
        {
            "spec": str(model),
            "resolved": document["models"][0]["resolved"],
            "part": "model",
            "codecs": {},
            "digest": None if name == "ls" else f"sha256:{digest}",
        }
    ]
    assert [row["matrix"] for row in document["rows"]][
        -1
    ] == "model.layers.2.self_attn.q_proj.weight"
    assert {
        "tensor",
        "matrix",
        "role",
        "layer",
        "expert",
        "rows",
        "cols",
        "dtype",
        "status",
    } <= set(document["rows"][0])
    assert document["summary"]["reading"]
    assert document["summary"]["skipped"] == len(document["skipped"])


def test_diff_json_has_the_summary_of_the_design(
    command: Command, minilm: Path, minilm_lora: Path
) -> None:
    done = command("diff", minilm, minilm_lora, "--intruders", "--format", "json", "--layers", "5")
    document = json.loads(done.out)
    summary = document["summary"]
    assert summary["matrices"] == summary["changed"] == 6
    assert summary["intruders"] == summary["matrices_with_intruders"] == 2
    assert summary["certified"] is True
    assert [model["part"] for model in document["models"]] == ["base", "tuned"]
    assert document["settings"]["k"] == 10
    assert len(document["rows"][0]["intruder_detail"]) == 10


@pytest.mark.parametrize(
    ("options", "how"),
    [((), "357 match, 3 bound"), (("--exact",), "360 exact")],
    ids=["bounds", "exact"],
)
def test_the_demo_says_three_intruders_and_proves_every_verdict(
    command: Command, minilm: Path, minilm_lora: Path, options: tuple[str, ...], how: str
) -> None:
    done = command("diff", minilm, minilm_lora, "--intruders", *options)
    assert done.code == 0
    assert "looks like a rank-8 LoRA on attention and MLP of 6 layers (36 of 40" in done.out
    assert "3 intruder dimensions in 3 of 36 changed matrices" in done.out
    assert f"All 360 verdicts proven ({how})." in done.out


def test_a_matrix_without_numbers_leaves_no_verdict_open(command: Command, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(5)
    base = {f"layers.{i}.q.weight": torch.randn(24, 20, generator=generator) for i in range(2)}
    tuned = {name: value + torch.randn(24, 20, generator=generator) for name, value in base.items()}
    tuned["layers.1.q.weight"][2, 3] = torch.nan
    folders = write_model(tmp_path / "base", base), write_model(tmp_path / "tuned", tuned)
    done = command("diff", *folders, "--intruders")
    assert done.code == 0
    assert "1 holds NaN or Inf and has no numbers." in done.out
    assert "All 10 verdicts proven" in done.out


def test_kappa_says_how_each_was_decided(command: Command, minilm: Path) -> None:
    words = ("kappa", minilm, "--layers", "0", "--format", "json", "--exact")
    found = json.loads(command(*words).out)
    assert found["settings"]["exact"] is True
    for row in found["rows"]:
        assert row["decided_by"] == "exact"
        assert row["kappa_low"] <= row["kappa"] <= row["kappa_high"] <= 1.001 * row["kappa_low"]


def test_kappa_selects_and_draws_its_cut(command: Command, minilm: Path) -> None:
    done = command("kappa", minilm, "--select", "10%")
    lines = done.out.splitlines()
    cut = next(i for i, line in enumerate(lines) if "cut at" in line)
    assert done.code == 0
    assert "3 of 37 matrices selected" in done.out
    assert lines[cut - 1].split()[2] == "encoder.layer.1.intermediate.dense.weight"


def test_embeddings_are_candidates_when_named(command: Command, model: Path) -> None:
    left_out = json.loads(command("kappa", model, "--format", "json").out)
    named = json.loads(command("kappa", model, "--role", "embed", "--format", "json").out)
    assert {
        "tensor": "model.embed_tokens.weight",
        "reason": "embed is no candidate for training",
    } in (left_out["skipped"])
    assert [row["role"] for row in named["rows"]] == ["embed"]


def test_a_single_row_is_no_candidate(command: Command, tmp_path: Path) -> None:
    folder = write_model(tmp_path, {"mask_token": torch.ones(1, 8), "b.weight": torch.eye(4)})
    found = json.loads(command("kappa", folder, "--select", "1", "--format", "json").out)
    assert found["summary"]["selected"] == ["b.weight"]
    assert found["skipped"][0]["reason"] == "a single row or column, whose kappa is always 1"


def test_no_candidate_at_all_says_why(command: Command, tmp_path: Path) -> None:
    folder = write_model(tmp_path, {"mask_token": torch.ones(1, 8)})
    done = command("kappa", folder)
    assert done.code == 3
    assert "mask_token is left out as a single row or column" in done.err


def test_filters_combine(command: Command, model: Path) -> None:
    done = command(
        "spectrum", model, "--role", "mlp", "--layers", "0,2", "--exclude", "*down*",
        "--include", "*proj*", "--format", "jsonl",
    )  # fmt: skip
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [(row["role"], row["layer"]) for row in rows] == [("mlp.up", 0), ("mlp.up", 2)]


def test_every_format_tells_the_same(command: Command, model: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"r{suffix}" for suffix in (".json", ".jsonl", ".csv", ".md", ".txt")]
    table = tmp_path / "r.parquet"
    words = [word for path in [*files, table] for word in ("-o", path)]
    done = command("spectrum", model, *words, "--format", "json")
    assert done.code == 0
    assert [line.split()[0] for line in done.err.splitlines()] == ["wrote"] * 6
    rows = json.loads(done.out)["rows"]
    assert json.loads(files[0].read_text())["rows"] == rows
    assert [json.loads(line) for line in files[1].read_text().splitlines()] == rows
    read = list(csv.DictReader(io.StringIO(files[2].read_text())))
    assert [float(row["sigma_max"]) for row in read] == [row["sigma_max"] for row in rows]
    frame = pd.read_parquet(table)
    assert list(frame["kappa"]) == [row["kappa"] for row in rows]
    assert files[3].read_text().count("\n| model.") == len(rows)
    assert "sigma max" in files[4].read_text()
    for form, path in zip(("json", "jsonl", "csv", "markdown"), files, strict=False):
        assert command("spectrum", model, "--format", form, "-q").out == path.read_text()


def test_intruder_detail_survives_csv_and_parquet(
    command: Command, minilm: Path, minilm_lora: Path, tmp_path: Path
) -> None:
    where = ("--layers", "5", "--role", "mlp")
    paths = tmp_path / "i.csv", tmp_path / "i.parquet"
    done = command(
        "diff", minilm, minilm_lora, "--intruders", *where, "-o", paths[0], "-o", paths[1]
    )
    assert done.code == 0
    detail = json.loads(pd.read_csv(paths[0])["intruder_detail"][0])
    assert detail == json.loads(pd.read_parquet(paths[1])["intruder_detail"][0])
    assert detail[2]["intruder"] is True


def test_values_hold_every_sigma(command: Command, model: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "v.csv", tmp_path / "v.parquet"):
        assert command("spectrum", model, "--values", path, "--role", "mlp.up").code == 0
        frame = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
        assert list(frame.columns) == ["matrix", "index", "sigma"]
        assert len(frame) == 3 * 8
        assert frame["sigma"].is_monotonic_decreasing is False
        assert (frame.groupby("matrix")["sigma"].diff().dropna() <= 0).all()


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_plots_are_written_and_said(
    command: Command, model: Path, tmp_path: Path, suffix: str
) -> None:
    for name in ("spectrum", "kappa"):
        path = tmp_path / f"{name}{suffix}"
        done = command(name, model, "--plot", path)
        assert done.code == 0
        assert f"wrote {path}" in done.err
        assert path.read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")


@pytest.mark.usefixtures("weights_are_closed")
def test_a_dry_run_reads_no_weights(command: Command, model: Path, tmp_path: Path) -> None:
    tuned = write_model(tmp_path / "t", {"model.layers.0.mlp.up_proj.weight": torch.ones(16, 8)})
    for words in (("spectrum", model), ("kappa", model), ("diff", model, tuned, "--intruders")):
        done = command(*words, "--dry-run")
        assert done.code == 0
        assert "nothing was read but headers" in done.out
        found = json.loads(command(*words, "--dry-run", "--format", "json").out)
        assert set(found["dry_run"]) >= {"matrices", "nbytes", "memory", "seconds"}


def test_quiet_says_nothing_beside_the_result(
    command: Command, model: Path, tmp_path: Path
) -> None:
    done = command("spectrum", model, "-q", "-o", tmp_path / "x.json")
    assert done.err == ""
    assert "Next:" not in done.out


def test_runs_are_identical(command: Command, minilm: Path, minilm_lora: Path) -> None:
    words = ("diff", minilm, minilm_lora, "--intruders", "--layers", "0-1", "--format", "json")
    assert command(*words).out == command(*words).out


def test_models_of_which_nothing_can_be_matched_end_with_3(
    command: Command, tmp_path: Path
) -> None:
    models = {
        name: write_model(tmp_path / name, {"a.weight": one, "b.weight": 2 * one})
        for name, one in (("sound", torch.eye(4)), ("zeros", torch.zeros(4, 4)),
                          ("nan", torch.full((4, 4), torch.nan)))
    }  # fmt: skip
    zeros = "2 are of zeros alone in one model or both, and have no cosine. Nothing was written."
    nan = "2 hold NaN or Inf and have no numbers. Nothing was written. a.weight: 16 NaN, the first"
    for pair, why in ((("sound", "zeros"), zeros), (("zeros", "zeros"), zeros),
                      (("nan", "sound"), nan)):  # fmt: skip
        written = tmp_path / "order.json"
        done = command("match", *(models[one] for one in pair), "-o", written)
        assert done.code == 3
        assert f"error: No matrix could be compared. {why}" in done.err
        assert not written.exists()
    assert command("match", models["sound"], models["sound"]).code == 0


def test_a_bad_tensor_is_reported_and_the_rest_goes_on(command: Command, tmp_path: Path) -> None:
    bad = torch.ones(4, 4)
    bad[2, 1] = float("inf")
    folder = write_model(tmp_path, {"a.weight": torch.eye(4), "b.weight": bad})
    for name in ("spectrum", "kappa"):
        done = command(name, folder)
        assert done.code == 0
        assert "1 holds NaN or Inf and has no numbers." in done.out
        assert "no numbers: b.weight: 1 Inf, the first at [2, 1]" in done.out
        (line,) = (line for line in done.out.splitlines() if "b.weight  other" in line)
        assert "4 x 4" in line
    for form in ("table", "markdown", "csv"):  # one spelling, in a finding and in a warning
        done = command("check", folder, "--format", form)
        assert "1 Inf, the first at [2, 1]" in done.out + done.err
        assert "NaN and" not in done.out + done.err
        assert ", first at" not in done.out + done.err
    row = json.loads(command("kappa", folder, "--format", "json").out)["rows"][1]
    assert row["status"] == "non-finite"
    assert row["kappa"] is None
    assert "warning: 'b.weight' has no numbers" in command("kappa", folder, "--format", "csv").err
    diff = json.loads(command("diff", folder, folder, "--format", "json").out)
    assert [row["status"] for row in diff["rows"]] == ["ok", "non-finite"]
    assert diff["rows"][1]["error"].startswith("base: 1 Inf")


def test_nothing_but_bad_tensors_is_exit_code_3(command: Command, tmp_path: Path) -> None:
    folder = write_model(tmp_path, {"b.weight": torch.full((4, 4), float("nan"))})
    done = command("spectrum", folder)
    assert done.code == 3
    assert "the only matrix holds NaN or Inf" in done.err


def test_a_singular_matrix_says_so(command: Command, tmp_path: Path) -> None:
    folder = write_model(tmp_path, {"a.weight": torch.ones(4, 4), "b.weight": torch.eye(4)})
    rows = json.loads(command("kappa", folder, "--select", "1", "--format", "json").out)["rows"]
    assert (rows[0]["status"], rows[0]["kappa"], rows[0]["selected"]) == ("singular", None, False)
    assert rows[1]["selected"] is True
    assert "1 matrix is singular" in command("kappa", folder).out
    assert "singular" in command("spectrum", folder).out


def test_names_with_control_characters_cannot_move_the_cursor(
    command: Command, tmp_path: Path
) -> None:
    folder = write_model(tmp_path, {"\x1b[31mred\x07.weight": torch.eye(4)})
    for form in ("table", "csv", "markdown", "json", "jsonl"):
        done = command("spectrum", folder, "--format", form)
        assert done.code == 0
        assert "\x1b" not in done.out
        assert "\x07" not in done.out


def test_a_terminal_gets_short_names_and_colour_and_few_rows(
    command: Command, minilm: Path, minilm_lora: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "is_terminal", lambda _stream: True)
    monkeypatch.setattr("spectra_cli.run.is_terminal", lambda _stream: True)
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    done = command("diff", minilm, minilm_lora, "--intruders")
    assert "\x1b[" in done.out
    assert "33 more, none with intruders (-v shows all)" in done.out
    assert "5.attention.output.dense " in done.out
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("FORCE_COLOR")
    plain = command("diff", minilm, minilm_lora, "--intruders")
    assert "\x1b[3" not in plain.out
    assert all(len(line) <= 90 for line in plain.out.splitlines())
    assert "Next: spectra diff" in plain.out
    assert "Next:" not in command("diff", minilm, minilm_lora, "--intruders", "-q").out
    assert len(command("diff", minilm, minilm_lora, "--intruders", "-v").out) > len(plain.out)


def test_the_next_command_repeats_what_no_document_holds_and_runs(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("spectra_cli.run.is_terminal", lambda _stream: True)
    folder = write_model(
        tmp_path / "a model", {"a.weight": torch.eye(4)}, name="m.fp16.safetensors"
    )
    write_model(folder, {"a.weight": torch.ones(4, 4)}, name="m.fp32.safetensors")
    pickled = tmp_path / "-pickled"
    pickled.mkdir()
    torch.save({"a.weight": torch.eye(4)}, pickled / "pytorch_model.bin")
    for words, told in (
        (["a model", "--variant", "fp16"], "--variant fp16 --plot spectrum.png"),
        (
            ["--allow-pickle", "--device", "cpu", "--workers", "1", "--download", "--", "-pickled"],
            "--allow-pickle --download --device cpu --workers 1 --plot spectrum.png -- -pickled",
        ),
    ):
        shown = command("spectrum", *words).out.replace(" \\\n", " ")
        line, saving = shown[shown.index("Next:") :].strip().splitlines()
        assert " ".join(line.split()).endswith(told)
        assert command(*shlex.split(line.removeprefix("Next: spectra "))).code == 0
        assert saving.endswith(" && spectra report spectrum.json")
    assert Path("spectrum.png").exists()


def test_progress_goes_to_a_terminals_standard_error(
    command: Command, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)  # where lines are written whatever stands there
    assert command("spectrum", model).err == ""
    monkeypatch.setattr(terminal, "is_terminal", lambda _stream: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    done = command("spectrum", model, "--format", "json")
    assert done.err.endswith("\r\x1b[K")  # drawn over its line, and taken away
    json.loads(done.out)
    assert command("spectrum", model, "--format", "json", "-q").err == ""
