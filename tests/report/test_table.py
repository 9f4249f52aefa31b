"""Tables as text: aligned, fitted, and safe to print."""

from dataclasses import replace
from typing import Literal
from unicodedata import east_asian_width

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectra.report.table import (
    Column,
    Line,
    Screen,
    lay_out,
    render_markdown,
    render_text,
)
from spectra.text import printable

COLUMNS = (Column("matrix", "left", flexible=True), Column("n"))


def screen(names: list[str]) -> Screen:
    lines = [Line([name, str(i)]) for i, name in enumerate(names)]
    return Screen(
        "Answer.", COLUMNS, lines, rule_after=1, rule="cut", more="... 3 more", facts=["fact"],
        hints=["hint"],
    )  # fmt: skip


def test_the_title_of_a_text_is_never_cut() -> None:
    title = "intruder in tokens, and its best match"
    columns = (Column("matrix", "left", flexible=True), Column(title, "left", wrapping=True))
    lines = [Line(["layers.0.attention", "reads one ↔ two; match: three ↔ four, and much more"])]
    for limit in (60, 80, 100, None):
        shown = render_text(Screen("Answer.", columns, lines), limit)
        head = shown.partition("layers.0")[0]
        assert " ".join(head.replace("matrix", "").split()) == f"Answer. {title}"
        assert limit is None or max(map(len, shown.splitlines())) <= limit


def test_a_pipe_gets_full_names() -> None:
    long = "layer." * 40
    text = render_text(screen([long, "b"]))
    assert long in text
    assert text.splitlines()[1] == "  Answer."
    assert [line.strip() for line in text.splitlines()[-5:]] == [
        "... 3 more",
        "",
        "fact",
        "",
        "hint",
    ]


@given(
    st.lists(st.text("abc.", min_size=1, max_size=200), min_size=1, max_size=5),
    st.integers(12, 200),
)
def test_nothing_is_wider_than_the_terminal(names: list[str], limit: int) -> None:
    assert all(len(line) <= limit for line in render_text(screen(names), limit).splitlines())


def test_a_number_keeps_its_unit() -> None:
    text = "They lose 12.5 % and 7 % of it, and 100 % of one."
    for limit in range(24, 50):
        told = replace(screen(["a"]), reading=text)
        lines = render_text(told, limit).splitlines()
        assert not [line for line in lines if line.strip().startswith("%")]


def test_optional_columns_give_way_to_names_on_a_narrow_terminal() -> None:
    columns = (
        Column("matrix", "left", flexible=True), Column("first", optional=True), Column("n"),
        Column("last", optional=True),
    )  # fmt: skip
    wide = Screen("Answer.", columns, [Line(["layers.3.mlp.down_proj", "11111", "2", "33333"])])
    assert [word for word in ("first", "last") if word in render_text(wide, 44)] == [
        "first", "last"
    ]  # fmt: skip
    assert [
        word for word in ("first", "last") if word in render_text(wide, 36).split("no room")[0]
    ] == ["first"]
    assert [
        word for word in ("first", "last") if word in render_text(wide, 30).split("no room")[0]
    ] == []
    assert "layers.3.mlp.down_proj  2" in render_text(wide, 30)


FINDING = "1 NaN, the first at [3, 12]: a value that is long enough to need a second line"


def findings(verdict: Literal["bad", ""] = "bad") -> Screen:
    columns = (
        Column("rule", "left"), Column("finds", "left", optional=True),
        Column("matrix", "left", flexible=True), Column("finding", "left", wrapping=True),
        Column("state", "left"),
    )  # fmt: skip
    cells = [
        "SPC101",
        "intruder-dimensions",
        "model.layers.30.mlp.down_proj.weight",
        FINDING,
        "new",
    ]
    return Screen(
        "FAIL  1 error in 2 tensors. More of it.", columns, [Line(cells, "bad")],
        under="policy: defaults", verdict=verdict,
    )  # fmt: skip


@given(st.integers(8, 200))
def test_a_text_is_never_cut(limit: int) -> None:
    lines = [line for line, _ in lay_out(findings(), limit)]
    assert all(len(line) <= limit for line in lines)
    words = " ".join(lines).split()
    assert all(word in words or limit < 20 for word in FINDING.split())


def test_names_give_way_to_a_text_before_it_wraps_and_what_is_left_out_is_named() -> None:
    assert "no room for" not in render_text(findings(), 160)
    text = render_text(findings(), 80)
    assert ".30.mlp.down_proj  1 NaN" in text
    assert "1 NaN, the first at [3, 12]:" in text
    assert "  no room for: finds\n" in text
    assert text.splitlines()[1:4] == [
        "  FAIL  1 error in 2 tensors.", "  policy: defaults", "  More of it."
    ]  # fmt: skip


def test_columns_that_are_not_optional_are_named_too_where_there_is_no_room() -> None:
    columns = [Column("role", "left", flexible=True), *(Column(f"n{i}") for i in range(9))]
    wide = Screen("Answer.", columns, [Line(["attn.q", *["123456789"] * 9])])
    text = render_text(wide, 60)
    assert "123456789\n" in text
    assert "no room for: n4, n5, n6, n7, n8" in text


def test_colour_is_of_the_first_word() -> None:
    assert lay_out(findings())[1] == ("  FAIL  1 error in 2 tensors.", "bold bad")
    assert lay_out(findings(""))[1] == ("  FAIL  1 error in 2 tensors.", "bold")


def test_all_names_of_a_table_lose_weight_where_one_does_not_fit() -> None:
    names = ["layers.3.mlp.down_proj.weight", "layers.3.q.weight", "layers.3.table"]
    columns = [Column("kappa"), Column("matrix", "left", flexible=True)]
    screen = Screen("1 matrix.", columns, [Line(["1.5", name]) for name in names])

    def shown(limit: int) -> list[str]:
        found = [line.split()[-1] for line, _ in lay_out(screen, limit)[4:]]
        assert len(found) == len(names)
        return found

    assert shown(38) == names
    assert shown(37) == [name.removesuffix(".weight") for name in names]
    short = shown(28)
    assert short[1:] == ["layers.3.q", "layers.3.table"]
    assert short[0].startswith("…")
    assert short[0].endswith("mlp.down_proj")


@given(st.text())
def test_printable_text_holds_no_control_characters(text: str) -> None:
    assert printable(text).isprintable()


def test_markdown_escapes_bars() -> None:
    text = render_markdown(screen(["a|b"]))
    assert "| a\\|b | 0 |" in text
    assert "| --- | ---: |" in text


@pytest.mark.parametrize(("token", "told"), [
    ("<script>", "\\<script>"), ("[x](y)", "\\[x](y)"), ("`x`", "\\`x\\`"), ("&amp;", "\\&amp;"),
    ("_a_", "\\_a\\_"), ("~~x~~", "\\~\\~x\\~\\~"), ("\\*", "\\\\\\*"), ("\\n", "\\n"),
    ("a & b", "a & b"),
    ("model.up_proj.weight[head=2]", "model.up_proj.weight[head=2]"),
])  # fmt: skip
def test_a_token_has_no_meaning_in_markdown(token: str, told: str) -> None:
    assert f"| {told} | 0 |" in render_markdown(screen([token]))


def test_a_mark_below_a_table_begins_no_list_in_markdown() -> None:
    marked = replace(screen(["* 7"]), facts=["* measures rounding.", "7 unchanged"], hints=[])
    assert render_markdown(marked).endswith("\n\\* measures rounding.  \n7 unchanged\n")
    assert render_text(marked).endswith("\n  * measures rounding.\n  7 unchanged\n")


def test_characters_of_two_columns_stay_within_the_terminal() -> None:
    columns = (Column("matrix", "left", flexible=True), Column("reads", "left", wrapping=True))
    cells = ["layer 0 head 1", " ".join(["漢字かな交じり文", "and", "한국어"] * 6)]
    for limit in (60, 80, 100):
        text = render_text(Screen("Read 日本語の文.", columns, [Line(cells)]), limit)
        wide = [sum(2 if east_asian_width(c) in "WF" else 1 for c in line)
                for line in text.splitlines()]  # fmt: skip
        assert max(wide) <= limit
        assert text.count("漢字かな交じり文") == text.count("한국어") == 6
        assert text.replace("\n", "").isprintable()


def test_a_screen_without_lines_is_its_sentence() -> None:
    assert render_text(Screen("Nothing.")) == "\n  Nothing.\n"
    assert render_markdown(Screen("Nothing.")) == "Nothing.\n"


def test_each_line_says_how_it_is_painted() -> None:
    columns = (Column("matrix", "left", flexible=True), Column("n"))
    lines = [Line(["a", "1"], "bad"), Line(["b", "2"]), Line(["c", "3"], "good")]
    found = lay_out(Screen("Answer.", columns, lines, 2, "cut", facts=["fact"], under="by"))
    assert [(line.strip(" ─"), style) for line, style in found if line] == [
        ("Answer.", "bold"), ("by", "dim"), ("matrix  n", "dim"), ("a       1", "bad"),
        ("b       2", ""), ("cut", "dim"), ("c       3", "good"), ("fact", "dim"),
    ]  # fmt: skip
