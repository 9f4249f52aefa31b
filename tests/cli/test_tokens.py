"""`--tokens` on the command line."""

import csv
import io
import json
from pathlib import Path

import pytest
from spectra_cli.main import run


def test_words_stand_in_tables_and_files(
    minilm: Path, minilm_lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "diff.json"
    words = ["diff", str(minilm), str(minilm_lora), "--intruders", "--tokens"]
    assert run([*words, "--layers", "5", "-o", str(saved), "-q"]) == 0
    shown = capsys.readouterr().out
    document = json.loads(saved.read_text())
    intruder = next(one for row in document["rows"] for one in row["tokens"])
    assert intruder["highest"][0]["token"] in shown
    assert "the model has no output head" in " ".join(shown.split())
    assert document["settings"]["tokens"] is True
    assert run(["report", str(saved), "-o", str(tmp_path / "diff.csv"), "-q"]) == 0
    lines = list(csv.DictReader(io.StringIO((tmp_path / "diff.csv").read_text())))
    held = {row["matrix"]: row["tokens"] for row in document["rows"]}
    assert {line["matrix"]: json.loads(line["tokens"]) for line in lines} == held
    assert run(["report", str(saved), "-o", str(tmp_path / "page.html"), "-q"]) == 0
    assert "--intruders --tokens" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["diff", "MODEL", "MODEL", "--tokens"], "Add --intruders."),
        (["spectrum", "MODEL", "MODEL", "--trend", "--tokens"], "Leave out one of the two."),
        (["spectrum", "ADAPTER", "--tokens"], "it is an adapter. Give its base: `spectra spectrum"),
        (["report", "SAVED", "--tokens"], "Leave --tokens out."),
    ],
    ids=["without_intruders", "with_trend", "of_an_adapter_alone", "of_a_saved_result"],
)
def test_words_of_nothing_are_refused(
    words: list[str],
    told: str,
    minilm: Path,
    minilm_lora: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    saved = tmp_path / "ls.json"
    assert run(["ls", str(minilm), "-o", str(saved), "-q"]) == 0
    capsys.readouterr()
    given = {"MODEL": str(minilm), "SAVED": str(saved), "ADAPTER": str(minilm_lora)}
    assert run([given.get(word, word) for word in words]) == 2
    errors = capsys.readouterr().err
    assert told in errors
    assert "Traceback" not in errors
