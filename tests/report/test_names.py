"""Names in less room: short, and no two alike."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectra.report.names import fitted, shorten
from spectra.report.table import Column, Line, Screen, render_text

NORMS = [
    f"encoder.layer.{layer}.{part}output.LayerNorm.weight"
    for layer in (0, 1, 10, 11)
    for part in ("attention.", "")
]
STACKS = [f"{side}coder.block.3.layer.0.SelfAttention.q.weight" for side in ("en", "de")]
EXPERTS = [
    f"model.layers.{layer}.block_sparse_moe.experts.{expert}.gate_projection.weight"
    for layer in (2, 12)
    for expert in (1, 11)
]
BARE = ["very.long.name.of.a.module.table", "very.long.name.of.a.module.table.weight"]


@given(st.text(max_size=60), st.integers(16, 80))
def test_a_shortened_name_keeps_its_end(name: str, width: int) -> None:
    short = shorten(name, width)
    assert len(short) <= width
    assert name.endswith(short.rpartition("…")[2] if short != name else name)


@pytest.mark.parametrize(
    ("width", "short"),
    [
        (42, "encoder.layer.0.attention.output.LayerNorm"),
        (32, "…er.0.attention.output.LayerNorm"),
        (26, "…0…ention.output.LayerNorm"),
        (12, "…0…LayerNorm"),
        (6, "…rNorm"),
    ],
)
def test_a_shortened_name_keeps_its_layer(width: int, short: str) -> None:
    assert shorten("encoder.layer.0.attention.output.LayerNorm", width) == short


def test_layers_and_experts_stay_whole() -> None:
    name = "model.layers.12.mlp.experts.17.gate_up_projection"
    assert shorten(name, 30) == "…12…erts.17.gate_up_projection"
    for width in range(16, len(name)):
        assert "12" in shorten(name, width)
        assert "17" in shorten(name, width)


@pytest.mark.parametrize("names", [NORMS, STACKS, EXPERTS, BARE])
@pytest.mark.parametrize("width", range(4, 60, 3))
def test_two_names_never_read_alike(names: list[str], width: int) -> None:
    told = fitted(names, width)
    assert len({tuple(lines) for lines in told.values()}) == len(names)
    assert all(len(line) <= width for lines in told.values() for line in lines)


@given(
    st.lists(st.text("ab.1", min_size=1, max_size=40), min_size=2, max_size=6, unique=True),
    st.integers(4, 40),
)
def test_names_of_any_kind_never_read_alike(names: list[str], width: int) -> None:
    told = fitted(names, width)
    assert len({tuple(lines) for lines in told.values()}) == len(names)
    assert all(len(line) <= width for lines in told.values() for line in lines)


@pytest.mark.parametrize("names", [NORMS, STACKS, EXPERTS, BARE])
@pytest.mark.parametrize("limit", [60, 80, 100])
def test_rows_of_a_table_are_told_apart(names: list[str], limit: int) -> None:
    columns = (
        Column("rule", "left"), Column("matrix", "left", flexible=True),
        Column("finding", "left", wrapping=True), Column("number"), Column("another number"),
    )  # fmt: skip
    lines = [
        Line(["SPC001", name, "384 NaN, the first at [0]", "1.234", "5.678"]) for name in names
    ]
    text = render_text(Screen("FAIL.", columns, lines), limit)
    rows = ["SPC001" + row for row in text.split("  SPC001")[1:]]
    assert len(rows) == len(set(rows)) == len(names)
    assert all(len(line) <= limit for line in text.splitlines())
