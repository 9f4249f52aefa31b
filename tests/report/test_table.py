"""Tables as text: aligned, fitted, and safe to print."""

from hypothesis import given
from hypothesis import strategies as st

from spectra.report.table import (
    Column,
    Line,
    Screen,
    lay_out,
    render_markdown,
    render_text,
    shorten,
)
from spectra.text import printable

COLUMNS = (Column("matrix", "left", flexible=True), Column("n"))


def screen(names: list[str]) -> Screen:
    lines = [Line([name, str(i)]) for i, name in enumerate(names)]
    return Screen(
        "Answer.", COLUMNS, lines, rule_after=1, rule="cut", more="... 3 more", facts=["fact"],
        hints=["hint"],
    )  # fmt: skip


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


def test_optional_columns_give_way_to_names_on_a_narrow_terminal() -> None:
    columns = (
        Column("matrix", "left", flexible=True), Column("first", optional=True), Column("n"),
        Column("last", optional=True),
    )  # fmt: skip
    wide = Screen("Answer.", columns, [Line(["layers.3.mlp.down_proj", "11111", "2", "33333"])])
    assert [word for word in ("first", "last") if word in render_text(wide, 44)] == [
        "first", "last"
    ]  # fmt: skip
    assert [word for word in ("first", "last") if word in render_text(wide, 36)] == ["first"]
    assert [word for word in ("first", "last") if word in render_text(wide, 30)] == []
    assert "layers.3.mlp.down_proj  2" in render_text(wide, 30)


def test_a_text_yields_before_names_do_and_keeps_its_beginning() -> None:
    columns = (
        Column("matrix", "left", flexible=True), Column("role", "left", optional=True),
        Column("what", "left", yielding=True),
    )  # fmt: skip
    cells = ["layers.3.mlp.down_proj", "mlp.down", "a value of 5 where at most 4 is allowed"]
    wide = Screen("Answer.", columns, [Line(cells)])
    assert cells[2] in render_text(wide)
    assert "  layers.3.mlp.down_proj  mlp.down  a value of 5 where …\n" in render_text(wide, 56)
    assert "  layers.3.mlp.down_proj  a value of 5 where …\n" in render_text(wide, 46)
    assert "  …ers.3.mlp.down_proj  a value of 5 where …\n" in render_text(wide, 44)


@given(st.text(max_size=60), st.integers(16, 80))
def test_shortened_names_keep_their_end(name: str, width: int) -> None:
    short = shorten(name, width)
    assert len(short) <= width
    end = short.removeprefix("…")
    assert name.endswith(end) or name.removesuffix(".weight").endswith(end)


def test_a_name_first_loses_weight() -> None:
    assert shorten("layers.3.mlp.down_proj.weight", 29) == "layers.3.mlp.down_proj.weight"
    assert shorten("layers.3.mlp.down_proj.weight", 28) == "layers.3.mlp.down_proj"
    assert shorten("layers.3.mlp.down_proj.weight", 15) == "….mlp.down_proj"


@given(st.text())
def test_printable_text_holds_no_control_characters(text: str) -> None:
    assert printable(text).isprintable()


def test_markdown_escapes_bars() -> None:
    text = render_markdown(screen(["a|b"]))
    assert "| a\\|b | 0 |" in text
    assert "| --- | ---: |" in text


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
