"""Words and numbers in sentences."""

import math

import pytest

from spectra.text import duration, endings, guess, nearest, share_of, size, some


def test_a_guess_is_the_nearest_word_or_nothing() -> None:
    assert guess("kapa", ["kappa", "diff"]) == " Did you mean 'kappa'?"
    assert guess("kapa", ["kappa", "diff"], write=str) == " Did you mean kappa?"
    assert guess("zzz", ["kappa", "diff"]) == ""
    assert nearest("kpa", ["kappa"], 0.9) == ""


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
