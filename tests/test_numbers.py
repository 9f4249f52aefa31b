"""One number has one spelling, wherever it is told."""

import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectra.numbers import (
    apart,
    estimate,
    grown,
    hundredths,
    kept,
    number,
    percent,
    ranged,
    signed,
    whole,
)

HERE = Path(__file__).parents[1]
FORMAT = re.compile(r"\{[^{}]*:[+#]?,?(\.\d+)?[efg%]\}|\{[^{}]*:[+#]?,?\.\d+[efg%]?\}")
"""A number formatted in a text."""
ELSEWHERE = {
    "spectra/text.py",  # sizes and times
    "spectra/report/screens.py", "spectra/runs/progress.py",  # times
    # As it is typed, in a file or behind an option:
    "spectra/policy/tables.py", "spectra/policy/kinds.py", "spectra/policy/rule.py",
    "spectra/report/kinds/lowrank_merge.py",
    "spectra/report/changes.py",  # two numbers in as many digits as tell them apart
    "spectra/checkpoint",  # likewise
    "spectra/policy/initial.py", "spectra/numbers.py", "spectra/analyzers/spectrum.py",  # rounding
}  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (-0.0, "0"), (0.0412, "0.0412"), (4.6, "4.6"), (4.60649, "4.606"),
        (1253.4, "1,253"), (10890.3, "10,890"), (9999.6, "10,000"), (999_949.0, "999,900"),
        (999_960.0, "1e6"), (41_170_000.0, "4.117e7"), (0.001, "0.001"), (0.00099999, "0.001"),
        (2.5e-5, "2.5e-5"), (-2.5, "-2.5"), (10.625, "10.63"), (1e300, "1e300"),
        (5e-324, "4.941e-324"),
        (12, "12"), (1_234_567, "1,234,567"), (math.inf, "∞"), (-math.inf, "-∞"), (math.nan, "—"),
    ],
)  # fmt: skip
def test_a_number_has_four_digits_and_a_count_all(value: float, text: str) -> None:
    assert number(value) == text


@given(st.floats(1e-300, 1e300))
def test_what_a_page_keeps_is_spelled_as_the_whole_number(value: float) -> None:
    assert number(kept(value)) == number(value)
    assert number(-value) == f"-{number(value)}"
    read = float(number(value).replace(",", ""))
    assert read == pytest.approx(value, rel=6e-4)


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"), (0.061, "6.1 %"), (0.12345, "12.3 %"), (0.9996, "99.9 %"), (1.0, "100 %"),
        (4e-5, "0.004 %"), (3.2, "320 %"), (-0.05, "-5 %"),
    ],
)  # fmt: skip
def test_a_share_never_reads_as_all_or_nothing_where_it_is_neither(share: float, text: str) -> None:
    assert percent(share) == text


def test_slopes_growth_estimates_and_spans() -> None:
    assert [signed(value) for value in (0.247, -0.001, -0.25)] == ["+0.25", "+0.00", "-0.25"]
    assert signed(-1e40).startswith("-1")
    assert [signed(value) for value in (math.inf, -math.inf)] == ["+inf", "-inf"]
    told = ["0 %", "+12 %", "-60 %", "x 12.35"]
    assert [grown(ratio) for ratio in (1.0, 1.12, 0.4, 12.345)] == told
    assert estimate(0.1543) == "0.15"
    assert ranged(0.0912, 0.1643, hundredths) == "0.09 to 0.16"
    assert ranged(0.154, 0.1541, hundredths) == "0.15"
    near = (0.9949, 0.9951, 0.999999, 0.9999999, 1.0, -0.998, -1.0)
    assert [hundredths(value) for value in near] == ["0.99"] * 3 + ["1", "1", "-0.99", "-1"]


def test_a_value_beyond_its_limit_reads_as_such() -> None:
    assert apart(0.20001, 0.2, percent) == "20.001 %"
    assert apart(1.000001, 1.0) == "1.000001"
    assert apart(10890.3, 10000.0) == "10,890"
    assert apart(12345.0, 1.0, whole) == "12,345"


def test_no_other_place_formats_a_number() -> None:
    found = [
        f"{path.relative_to(HERE)}:{at}: {line.strip()}"
        for folder in ("spectra", "cli")
        for path in sorted((HERE / folder).rglob("*.py"))
        if not str(path.relative_to(HERE)).startswith(tuple(ELSEWHERE))
        for at, line in enumerate(path.read_text().splitlines(), 1)
        if FORMAT.search(line)
    ]
    assert found == []
