"""Every key and heading is explained, in the words of the documentation."""

import runpy
from pathlib import Path

import pytest

from spectra.errors import UsageError
from spectra.report.explain import ABOUT, HEADINGS, explained, explanation, legend
from spectra.report.keys import KEYS
from spectra.report.kinds import check, diff, kappa, spectrum, trend
from spectra.report.table import Column

ROOT = Path(__file__).parents[2]
HEADED = (
    *check.COLUMNS, check.STATE, *check.CARD, *diff.CHANGES, *diff.INTRUDERS, *diff.CARD,
    *kappa.COLUMNS, *kappa.CARD, *spectrum.COLUMNS, *spectrum.CARD, *trend.COLUMNS, *trend.CARD,
)  # fmt: skip


def test_the_texts_are_those_of_the_pages() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "explained.py"))["text"]()
    written = (ROOT / "spectra" / "report" / "explained.json").read_text(encoding="utf-8")
    assert written == made, "python docs/explained.py writes it again"


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_explained(key: str) -> None:
    found = explained(key)
    assert found["key"] == key
    assert found.get("meaning") or found.get("definition")
    text = explanation(key, 80)
    assert all(len(line) <= 80 or line.startswith("    ") for line in text.splitlines())
    assert "](" not in text
    assert "`" not in text.replace("`spectra", "").replace("CODE`", "")


@pytest.mark.parametrize("title", sorted({one.title for one in HEADED if one.title}))
def test_every_heading_is_explained(title: str) -> None:
    assert explained(title)


def test_what_is_shortened_or_shared_names_what_is_there() -> None:
    assert set(HEADINGS.values()) <= KEYS.keys()
    assert ABOUT.keys() <= KEYS.keys()
    assert all("formula" in explained(key) for key in ABOUT)


def test_one_quantity_is_told_whole() -> None:
    text = explanation("stable_rank", 80)
    for part in ("Formula", "How to read it", "Where it misleads", "Where it comes from"):
        assert f"\n  {part}\n" in text
    assert "stable_rank = frobenius² / sigma_max²" in text
    assert explanation("Stable Rank", 80) == text == explanation("stable", 80)


def test_a_word_that_is_unknown_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'stable_rank'"):
        explained("stabel_rank")


def test_a_legend_tells_of_the_columns_that_mean_something() -> None:
    (line,) = legend([Column("stable"), Column("excess"), Column("last", key=""), Column("")])
    assert line == (
        "stable: Σσ² / σ max²; excess: κ over what noise of this shape has. "
        "More: spectra explain KEY."
    )
    assert legend([Column("2048")]) == []
