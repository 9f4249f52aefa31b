"""`spectra width` and `spectra spectrum --trend` through the door a user takes."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.image import imread
from spectra_cli.commands.width import joined

from scaled import write_scaled, write_state

from .conftest import Command


def flat(top: float) -> Callable[[str, int], float]:
    return lambda _module, _layer: top


@pytest.fixture
def family(tmp_path: Path) -> list[Path]:
    """sigma_1 ~ d^0.25: weight decay was held fixed."""
    return [
        write_scaled(tmp_path / f"proxy-{width}", width, flat(width**0.25))
        for width in (16, 32, 64)
    ]


@pytest.fixture
def run(tmp_path: Path) -> list[Path]:
    return [
        write_scaled(tmp_path / f"checkpoint-{step}", 16, flat(float(step))) for step in (1, 2, 10)
    ]


def test_a_family_is_answered_in_a_sentence_and_a_line_a_role(
    command: Command, family: list[Path]
) -> None:
    done = command("width", *family, "--eta", "4e-3,2e-3,1e-3", "--lambda", "0.1")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[1].strip().startswith("sigma_max grows with width: slope +0.25 [+0.25, +0.25]")
    assert "(embed)" in done.out
    head = next(line for line in lines if line.strip().startswith("role"))
    assert head.split() == ["role", "slope", "95", "%", "16", "32", "64", "ratio", "normalised"]
    query = next(line for line in lines if line.strip().startswith("attn.q"))
    assert query.split() == [
        "attn.q", "+0.25", "[+0.25,", "+0.25]", "2", "2.378", "2.828", "1.414", "x", "+0.75",
    ]  # fmt: skip
    assert "Matching proxy-64 to proxy-16 needs weight decay 0.2 (now 0.1) on matrices." in done.out


def test_lists_may_be_written_with_spaces(command: Command, family: list[Path]) -> None:
    words = ("--eta", "4e-3", "2e-3", "1e-3", "--lambda", "0.1", "--format", "json")
    done = command("width", *family, *words)
    assert done.code == 0
    members = json.loads(done.out)["settings"]["members"]
    assert [(m["eta"], m["weight_decay"]) for m in members] == [
        (4e-3, 0.1), (2e-3, 0.1), (1e-3, 0.1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("a b --eta 1 2 c", "a b --eta 1,2 c"),
        ("--eta 1 2 --lambda 3 4", "--eta 1,2 --lambda 3,4"),
        ("--eta 1,2 --lambda .1 a 5", "--eta 1,2 --lambda .1 a 5"),
        ("--eta=1 2", "--eta=1 2"),
        ("--eta x 2", "--eta x,2"),
        ("--tolerance 1 2", "--tolerance 1 2"),
        ("--eta", "--eta"),
    ],
)
def test_joining_numbers(words: str, expected: str) -> None:
    assert joined(words.split()) == expected.split()


def test_width_against_a_proxy(command: Command, family: list[Path]) -> None:
    done = command("width", family[2], "--against", family[0], "--tolerance", "50%")
    assert done.code == 0
    assert " ok" in done.out
    done = command("width", family[2], "--against", family[0], "--format", "json")
    matching = json.loads(done.out)["summary"]["matching"]
    assert all(item["ok"] is False for item in matching)
    assert {item["role"] for item in matching} >= {"attn.q", "mlp.up"}


def test_width_reads_a_settings_file(command: Command, family: list[Path], tmp_path: Path) -> None:
    settings = tmp_path / "family.toml"
    settings.write_text("lambda = 0.1\n[proxy-16]\neta = 4e-3\n[proxy-32]\neta = 2e-3\n"
                        "[proxy-64]\neta = 1e-3\n")  # fmt: skip
    done = command("width", *family, "--training", settings, "--format", "json")
    assert json.loads(done.out)["summary"]["overall"]["expected"] == pytest.approx(0.25)


def test_width_writes_every_format_and_a_picture(
    command: Command, family: list[Path], tmp_path: Path
) -> None:
    names = ("w.json", "w.jsonl", "w.csv", "w.md", "w.parquet", "w.txt")
    outputs = [word for name in names for word in ("-o", str(tmp_path / name))]
    done = command("width", *family, *outputs, "--plot", tmp_path / "w.png")
    assert done.code == 0
    assert imread(tmp_path / "w.png").shape[1] == 1200
    rows = list(csv.DictReader(io.StringIO((tmp_path / "w.csv").read_text())))
    assert {(row["model"], row["width"]) for row in rows} == {
        ("proxy-16", "16"), ("proxy-32", "32"), ("proxy-64", "64"),
    }  # fmt: skip
    assert "| attn.q |" in (tmp_path / "w.md").read_text()
    assert all((tmp_path / name).stat().st_size for name in names)


@pytest.mark.usefixtures("weights_are_closed")
def test_a_dry_run_reads_no_weights(command: Command, family: list[Path]) -> None:
    done = command("width", *family, "--dry-run", "--format", "json")
    assert done.code == 0
    found = json.loads(done.out)
    assert found["command"] == "width"
    assert found["dry_run"]["matrices"] == 39


def test_a_family_of_nothing_but_nan_is_nothing_to_analyse(
    command: Command, family: list[Path]
) -> None:
    for folder in family:
        path = folder / "model.safetensors"
        raw = path.read_bytes()
        size = 8 + int.from_bytes(raw[:8], "little")
        path.write_bytes(raw[:size] + b"\xff" * (len(raw) - size))  # NaN everywhere
    done = command("width", *family)
    assert (done.code, done.out) == (3, "")
    assert "every one of the 39 matrices holds NaN or Inf" in done.err


BAD = {
    "one model": (["A"], "alone has no slope"),
    "no number": (["A", "B", "--eta", "high"], "'high' of 'high' is no number above 0"),
    "negative": (["A", "B", "--lambda", "-1"], "'-1' of '-1' is no number above 0"),
    "halves": (["A", "B", "--widths", "1.5,2"], "'1.5,2' are no whole numbers"),
    "share": (["A", "B", "--tolerance", "ten"], "'ten' is no share"),
    "count": (["A", "B", "--eta", "1,2,3"], "--eta has 3 values for 2 models"),
    "stray number": (["A", "B", "--tolerance", "5%", "7"], "7 does not exist"),
}


@pytest.mark.parametrize(("words", "told"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line(
    command: Command, family: list[Path], words: list[str], told: str
) -> None:
    names = {"A": str(family[0]), "B": str(family[1])}
    done = command("width", *(names.get(word, word) for word in words))
    assert (done.code, done.out) == (2, "")
    assert told in done.err
    assert len(done.err.splitlines()) == 1


def test_a_run_is_followed(command: Command, run: list[Path], tmp_path: Path) -> None:
    done = command("spectrum", *run, "--trend", "--plot", tmp_path / "t.png")
    assert done.code == 0
    assert "3 checkpoints of one run, step 1 to 10." in done.out
    query = next(line for line in done.out.splitlines() if line.strip().startswith("attn.q"))
    assert query.split()[:6] == ["attn.q", "3", "1", "10", "x", "10"]
    assert imread(tmp_path / "t.png").shape[1] == 1200


def test_a_run_as_json(command: Command, run: list[Path]) -> None:
    write_state(run[0], 5)
    done = command("spectrum", *run, "--trend", "--role", "mlp", "--format", "json")
    document = json.loads(done.out)
    assert document["summary"]["steps"] == [2, 5, 10]
    assert [role["role"] for role in document["summary"]["roles"]] == ["mlp.down", "mlp.up"]
    assert {(row["model"], row["step"]) for row in document["rows"]} == {
        ("checkpoint-1", 5), ("checkpoint-2", 2), ("checkpoint-10", 10),
    }  # fmt: skip


def test_several_models_need_the_trend(command: Command, run: list[Path]) -> None:
    done = command("spectrum", *run)
    assert (done.code, done.out) == (2, "")
    assert "expected one model, got 3. Several checkpoints of one run are followed with" in done.err


def test_a_trend_has_no_values(command: Command, run: list[Path], tmp_path: Path) -> None:
    done = command("spectrum", *run, "--trend", "--values", tmp_path / "v.csv")
    assert (done.code, done.out) == (2, "")
    assert "--trend measures both ends of a spectrum" in done.err


def test_one_checkpoint_has_no_trend(command: Command, run: list[Path]) -> None:
    done = command("spectrum", run[0], "--trend")
    assert done.code == 2
    assert "alone has no trend" in done.err
