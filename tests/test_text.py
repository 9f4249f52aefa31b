"""Words and numbers in sentences."""

import math
from pathlib import Path

import pytest

from spectra.text import duration, endings, guess, guess_path, nearest, share_of, size, some


def test_a_guess_is_the_nearest_word_or_nothing() -> None:
    assert guess("kapa", ["kappa", "diff"]) == " Did you mean 'kappa'?"
    assert guess("zzz", ["kappa", "diff"]) == ""
    assert nearest("kpa", ["kappa"], 0.9) == ""


def test_a_path_is_guessed_part_by_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models" / "minilm").mkdir(parents=True)
    (tmp_path / "models" / "minilm" / "model.safetensors").touch()
    (tmp_path / ".spectra.toml").touch()
    monkeypatch.chdir(tmp_path)
    assert guess_path("modles/") == " Did you mean 'models'?"
    told = " Did you mean 'models/minilm/model.safetensors'?"
    assert guess_path("models/minilm/model.safetensor") == told
    assert guess_path("modles/mini-lm/modl.safetensors") == told
    assert guess_path(tmp_path / "modles") == f" Did you mean {str(tmp_path / 'models')!r}?"
    assert guess_path(".spectr.toml") == " Did you mean '.spectra.toml'?"
    for wrong in ("spectr.toml", "other", "models/other", "", "a\0b", "x" * 5000):
        assert guess_path(wrong) == ""


def test_a_path_is_guessed_among_files_that_may_be_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kappa.csv").touch()
    monkeypatch.chdir(tmp_path)
    assert guess_path("kapa.json", [".json"]) == ""
    assert guess_path("kapa.csv", [".json", ".csv"]) == " Did you mean 'kappa.csv'?"


@pytest.mark.parametrize(
    ("text", "share"), [("10%", 0.1), ("0.7 %", 0.007), ("0.25", 0.25), (" 1e1% ", 0.1)]
)
def test_a_share_is_a_percentage_or_a_number(text: str, share: float) -> None:
    assert share_of(text) == share


@pytest.mark.parametrize("text", ["", "%", "ten", "10%%", "nan%"])
def test_what_is_no_share_is_no_number(text: str) -> None:
    assert math.isnan(share_of(text))


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (5 << 30, "5.0 GiB"),
        (1 << 52, "4096.0 TiB"),
    ],
)
def test_bytes(nbytes: int, text: str) -> None:
    assert size(nbytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.1 s"), (9.94, "9.9 s"), (89, "89 s"), (90, "2 min"), (5400, "1.5 h")],
)
def test_time_spans(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_endings_are_proper_and_none_of_a_name_without_measure() -> None:
    assert list(endings("a.b.c")) == ["a.b.c", "b.c", "c"]
    assert list(endings("a" + ".b" * 1_000)) == []


def test_some_names() -> None:
    assert some(["a", "b"], 2) == "'a', 'b'"
    assert some(["a", "b", "c"], 2) == "'a', 'b', ..."
