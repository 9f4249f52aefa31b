"""`spectra diff` of several fine-tunes, and of a run, through the door a user takes."""

import csv
import io
import json
from pathlib import Path

import pytest
import torch
from matplotlib.image import imread

from examples import write_lora, write_model

from .conftest import Command

QUERY, UP = "model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.up_proj.weight"


@pytest.fixture
def models(tmp_path: Path) -> dict[str, Path]:
    generator = torch.Generator().manual_seed(5)
    base = {QUERY: torch.randn(24, 24, generator=generator),
            UP: torch.randn(48, 24, generator=generator)}  # fmt: skip
    found = {"base": write_model(tmp_path / "base", base, "{}")}
    for step in (1, 2, 10):
        moved = {name: value + 0.01 * step * torch.randn(value.shape, generator=generator)
                 for name, value in base.items()}  # fmt: skip
        found[f"step-{step}"] = write_model(tmp_path / f"step-{step}", moved, "{}")
    found["lora"] = write_lora(tmp_path / "lora", {QUERY.removesuffix(".weight"): (24, 24)}, 2)
    return found


def test_several_are_one_table_with_all_matrices_first(
    command: Command, models: dict[str, Path], tmp_path: Path
) -> None:
    files = [str(tmp_path / name) for name in ("a.json", "a.csv", "a.md", "a.png")]
    some = models["step-1"], models["lora"], models["step-10"]
    done = command(
        "diff", models["base"], *some, "--merged-rank", "2", "-o", files[0], "-o", files[1],
        "-o", files[2], "--plot", files[3],
    )  # fmt: skip
    assert done.code == 0
    lines = [line.split() for line in done.out.splitlines()]
    head = next(line for line in lines if line[:1] == ["matrix"])
    assert head[2:8] == ["cos", "1·2", "cos", "1·3", "cos", "2·3"]
    assert lines[lines.index(head) + 1][:2] == ["all", "matrices"]
    assert "  1 = step-1: The change looks like full fine-tuning" in done.out
    assert "are no more alike than unrelated changes" in done.out
    assert "Matrices that one alone changes" not in done.out
    document = json.loads(Path(files[0]).read_text())
    assert [model["part"] for model in document["models"]] == ["base", "tuned", "tuned", "tuned"]
    rows = list(csv.DictReader(io.StringIO(Path(files[1]).read_text())))
    assert [(row["a"], row["b"]) for row in rows if row["matrix"] == UP] == [("step-1", "step-10")]
    assert len(rows) == 3 + 1
    assert "| all matrices |" in Path(files[2]).read_text()
    assert imread(files[3]).shape[1] == 1200


def test_a_dry_run_reads_the_base_once(command: Command, models: dict[str, Path]) -> None:
    words = "diff", models["base"], models["step-1"], models["step-2"], "--dry-run"
    told = json.loads(command(*words, "--format", "json").out)["dry_run"]
    assert told["nbytes"] == 3 * 4 * (24 * 24 + 48 * 24)
    assert told["matrices"] == 2


def test_a_run_is_a_line_a_checkpoint(
    command: Command, models: dict[str, Path], tmp_path: Path
) -> None:
    steps = [models[f"step-{step}"] for step in (10, 1, 2)]
    picture, saved = tmp_path / "t.png", tmp_path / "t.csv"
    done = command("diff", models["base"], *steps, "--trend", "--plot", picture, "-o", saved)
    assert done.code == 0
    lines = [line.split() for line in done.out.splitlines()]
    first = next(place for place, line in enumerate(lines) if line[:1] == ["checkpoint"])
    assert [line[:2] for line in lines[first + 1 : first + 4]] == [
        ["step-1", "1"], ["step-2", "2"], ["step-10", "10"],
    ]  # fmt: skip
    assert "All triplets: sigma moves by" in " ".join(done.out.split())
    rows = list(csv.DictReader(io.StringIO(saved.read_text())))
    assert [(row["step"], row["matrix"]) for row in rows[:3]] == [
        ("1", UP), ("1", QUERY), ("2", UP),
    ]  # fmt: skip
    assert imread(str(picture)).shape[1] == 1200
    short = command("diff", models["base"], *steps, "--trend", "--no-sorsa")
    assert short.code == 0
    assert "triplets" not in short.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--merged-rank", "0"], "--merged-rank 0 is too small. Expected at least 1."),
        (["--trend", "--merged-rank", "2"], "Leave out one of --merged-rank and --trend."),
        (["--no-sorsa"], "--no-sorsa leaves out a part of --trend, which is not asked for."),
        (["--per-head"], "--per-head is of one TUNED, got 2."),
    ],
)
def test_what_does_not_go_together_is_refused(
    command: Command, models: dict[str, Path], words: list[str], told: str
) -> None:
    done = command("diff", models["base"], models["step-1"], models["step-2"], *words)
    assert (done.code, done.out) == (2, "")
    assert told in done.err
