"""Markdown: rendered by a parser that is not ours, every cell is the text that was meant."""

import html
import re
from collections.abc import Callable

import pytest
from markdown_it import MarkdownIt

from report.findings.subjects import (
    DOWN,
    HOSTILE,
    Document,
    accepted,
    document,
    finding,
    hostile,
    varied,
)
from spectra.report.findings import render
from spectra.report.findings.markdown import CELL, _short
from spectra.text import printable

READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
OURS = {"details", "summary", "code", "span", "strong", "table", "thead", "tbody", "tr", "th",
        "td", "ul", "li", "p", "h3"}  # fmt: skip


def rendered(found: Document, form: str) -> str:
    return str(READER.render(render(found, form)))


def cells(page: str) -> list[list[str]]:
    """The text of each row's cells."""
    rows = re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)
    return [
        [html.unescape(re.sub(r"<[^>]*>", "", cell)) for cell in re.findall(r"<td.*?</td>", row)]
        for row in rows
    ]


@pytest.mark.parametrize("form", ["markdown", "summary"])
def test_a_finding_is_one_row(form: str) -> None:
    rows = cells(rendered(varied(), form))
    first = ["error", "SPC101 intruder-dimensions", DOWN, "6 > 4 allowed (baseline 1)", "new"]
    assert first in rows
    states = [row[-1] for row in rows if len(row) == 5]
    assert states == ["new"] * 5 + ["unchanged"]


@pytest.mark.parametrize("form", ["markdown", "summary"])
def test_without_a_baseline_there_is_no_state(form: str) -> None:
    rows = cells(rendered(document([finding()]), form))
    assert ["error", "SPC101 intruder-dimensions", DOWN, "6 > 4 allowed (baseline 1)"] in rows


@pytest.mark.parametrize("form", ["markdown", "summary"])
def test_the_answer_stands_on_top(form: str) -> None:
    page = rendered(varied(), form)
    assert "<h3>spectra check: <code>release</code></h3>" in page
    assert "<strong>FAIL</strong>" in page
    assert page.index("<strong>FAIL") < page.index("policy: ") < page.index("<table>")
    assert page.count("policy: ") == 1


def test_what_was_accepted_fixed_and_not_judged_is_folded_away() -> None:
    page = rendered(varied(), "markdown")
    for title in ("1 accepted by the policy", "1 fixed since the baseline", "1 rule not judged"):
        assert f"<summary>{title}</summary>" in page
    assert "known, issue 42 (until 2027-03-01)" in page
    assert "SPC401 width-matching: no proxy is set" in page


def test_a_page_has_the_totals_of_every_rule() -> None:
    rows = cells(rendered(varied(), "summary"))
    assert ["SPC101 intruder-dimensions", "error", "1"] in rows
    assert ["SPC303 spikes", "warning", "0"] in rows
    assert ["SPC401 width-matching", "warning", "not judged"] in rows
    assert ["SPC999 of-another-version", "note", "1"] in rows


@pytest.mark.parametrize("form", ["markdown", "summary"])
def test_no_name_is_markup(form: str) -> None:
    page = rendered(hostile(), form)
    tags = set(re.findall(r"</?([a-zA-Z0-9]+)", re.sub(r"<!--.*?-->", "", page, count=1)))
    assert tags <= OURS
    assert not re.findall(r"<(?:span|code|td|tr|p|li|strong|details)\s(?!style=\"text-align)", page)
    rows = [row for row in cells(page) if row and row[0] == "error" and len(row) == 4]
    assert len(rows) == min(len(HOSTILE), 20 if form == "summary" else 10_000)
    for row, text in zip(rows, HOSTILE, strict=False):
        where = printable(text) or "the model as a whole"
        assert row[2].strip() == _short(where, CELL).strip()
        assert row[3].strip() == _short(f"holds {printable(text)}", CELL).strip()


@pytest.mark.parametrize("form", ["markdown", "summary"])
def test_nobody_is_mentioned_and_nothing_linked(form: str) -> None:
    """Services look for `@name`, `#12` and bare links in text, not in code."""
    page = rendered(hostile(), form)
    text = re.sub(r"<code>.*?</code>", "", page, flags=re.DOTALL)
    for piece in re.split(r"<[^>]*>", text):
        assert not re.search(r"[@#]\w", html.unescape(piece))
    written = [line for line in render(hostile(), form).split("\n") if "<!--" not in line]
    assert not re.search(r"https?://|www\.", "\n".join(written), re.IGNORECASE)


def test_a_comment_has_room_for_what_matters() -> None:
    many = [finding(matrix=f"layers.{i}.w", message="m" * 250, state="new") for i in range(2000)]
    many += [finding(matrix=f"layers.{i}.v", message="*" * 250, state="gone") for i in range(500)]
    extra = [accepted(matrix=f"layers.{i}.u", reason="|" * 250) for i in range(500)]
    text = render(document(many, extra), "markdown")
    assert 50_000 < len(text) < 65_536
    rows = [row for row in cells(str(READER.render(text))) if row]
    assert [row[2] for row in rows] == [f"layers.{i}.w" for i in range(len(rows))]
    assert f"{2000 - len(rows):,} more, none worse" in text
    assert re.search(r"- 4\d\d more", text)
    assert text.count("<details>") == text.count("</details>") == 3


def test_a_page_shows_the_worst_twenty() -> None:
    many = [finding(matrix=f"layers.{i}.w", severity="warning") for i in range(50_000)]
    text = render(document([*many, finding()]), "summary")
    rows = [row for row in cells(str(READER.render(text))) if len(row) == 4]
    assert len(rows) == 20
    assert rows[0][2] == DOWN
    assert "49,981 more, none worse" in text


def test_the_widest_texts_stay_under_the_limits() -> None:
    wide = "\U0001f600*" * 5000
    rules = [
        {"code": f"SPC{i}", "name": wide, "severity": wide, "judged": bool(i % 2), "why_not": wide}
        for i in range(3000)
    ]
    many = [finding(matrix=wide, message=wide, name=wide, state="new") for _ in range(30)]
    found = document(many, [accepted(matrix=wide)] * 30, rules=rules, reading=wide, alias=wide)
    assert len(render(found, "summary").encode()) < 1 << 20
    comment = render(found, "markdown")
    assert len(comment) < 65_536
    assert any(row[0] == "error" for row in cells(str(READER.render(comment))) if row)


def test_a_script_finds_its_comment_again() -> None:
    first = render(document(alias="a-->b"), "markdown").splitlines()[0]
    assert first == "<!-- spectra check: a-b -->"


@pytest.mark.parametrize("made", [document, varied, hostile], ids=["empty", "varied", "hostile"])
@pytest.mark.parametrize("form", ["markdown", "summary"])
def test_it_is_the_same_each_time(form: str, made: Callable[[], Document]) -> None:
    text = render(made(), form)
    assert text == render(made(), form)
    assert text.endswith("\n")
    assert text.encode()
