"""Names and numbers as pictures write them."""

from hypothesis import given
from hypothesis import strategies as st

from spectra.report.plots.lettering import (
    matrix_label,
    plain_text,
    shortened,
    width_of,
    wrapped,
)


@given(st.text(max_size=600))
def test_plain_text_is_one_printable_line(text: str) -> None:
    plain = plain_text(text)
    assert plain.isprintable()
    assert "\n" not in plain


def test_what_has_no_glyph_is_escaped() -> None:
    assert plain_text("a\nb\x1b\u202e名\udc80σ$") == "a\\nb\\x1b\\u202e\\u540d\\udc80σ$"


@given(st.text(st.characters(codec="ascii"), max_size=80), st.floats(0.3, 3.0))
def test_shortened_names_fit(name: str, inches: float) -> None:
    short = shortened(name, 8.0, inches)
    assert width_of(short, 8.0) <= inches
    if width_of(plain_text(name), 8.0) <= inches:
        assert short == plain_text(name)


def test_the_middle_is_cut_so_both_ends_stay() -> None:
    short = shortened("encoder.layer.11.attention.output.dense", 8.0, 1.2)
    assert short.startswith("encoder")
    assert short.endswith("dense")
    assert "…" in short
    assert matrix_label("h.0.mlp.weight", 8.0, 3.0) == "h.0.mlp"
    assert matrix_label("h.0.c_attn.weight[q]", 8.0, 3.0) == "h.0.c_attn[q]"


@given(st.text(st.characters(codec="ascii"), max_size=300))
def test_wrapped_lines_fit_and_lose_nothing_silently(text: str) -> None:
    lines = wrapped(text, 9.0, 2.0, lines=3)
    assert len(lines) <= 3
    assert all(width_of(line, 9.0) <= 2.0 for line in lines)
    whole = "".join(plain_text(text).split())
    if not (lines and lines[-1].endswith(" …")):
        assert "".join("".join(lines).split()) == whole
