"""The picture of heads: a cell a head, in the order of their numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

import spectra
from scaled import write_attention
from spectra.errors import UsageError
from spectra.report import draw
from spectra.report.plots import draw_into
from spectra.report.plots.heatmap import grid_of
from spectra.report.plots.stacks import columns_of


def test_a_cell_a_head_by_layer(tmp_path: Path) -> None:
    result = spectra.heads(write_attention(tmp_path / "model"))
    document = result.document()
    grid = grid_of(document["rows"], lambda row: row["copying"], by="head")
    assert (grid.roles, grid.layers) == (["0", "1", "2", "3"], [0, 1])
    expected = [[row.values["copying"] for row in result.rows if row.values["head"] == head]
                for head in range(4)]  # fmt: skip
    np.testing.assert_allclose(grid.values, np.array(expected, dtype=float))
    figure = draw(document, {})
    assert [axes.get_ylabel() for axes in figure.axes].count("head") == 3


def test_heads_without_numbers_are_said(tmp_path: Path) -> None:
    document = spectra.heads(write_attention(tmp_path / "model")).document()
    rows = [{**row, "head": None, "copying": None} for row in document["rows"]]
    figure = draw({**document, "rows": rows}, {})
    assert any("No head has numbers." in text.get_text() for text in figure.texts)


def test_a_dead_head_is_a_zero_that_can_be_read(tmp_path: Path) -> None:
    """It has no place on a logarithmic scale: no colour, so its number is dark."""
    document = spectra.heads(write_attention(tmp_path / "model")).document()
    first = {**document["rows"][0], "ov_sigma_max": 0.0}
    figure = draw({**document, "rows": [first, *document["rows"][1:]]}, {})
    shown = [text for axes in figure.axes for text in axes.texts]
    (zero,) = (text for text in shown if text.get_text() == "0")
    assert zero.get_color() != "white"


def test_where_every_head_is_zero_no_scale_has_numbers(tmp_path: Path) -> None:
    document = spectra.heads(write_attention(tmp_path / "model")).document()
    none = dict.fromkeys(("ov_sigma_max", "qk_sigma_max"), 0.0)
    figure = draw({**document, "rows": [{**row, **none} for row in document["rows"]]}, {})
    assert [axes.get_ylabel() for axes in figure.axes] == ["head", "copying", "head", "head"]


def test_where_every_score_is_zero_that_is_said(tmp_path: Path) -> None:
    document = spectra.heads(write_attention(tmp_path / "model"), compose=True).document()
    found = document["summary"]["composition"]
    some = {**found, "strongest": [{**one, "over": 0.0} for one in found["strongest"]]}
    zero = {**document, "summary": {**document["summary"], "composition": some}}
    figure = draw(zero, {})
    assert any("Every score is 0: what is written" in text.get_text() for text in figure.texts)
    with pytest.raises(UsageError, match="every score is 0: what is written, nothing later reads"):
        draw_into(Figure().add_subplot(), zero)
    some["strongest"][0] = found["strongest"][0]
    assert len(draw(zero, {}).axes[0].get_lines()) == 1
    assert len(draw({**zero, "rows": []}, {}).axes[0].get_lines()) == 1


def test_modules_that_share_a_layer_have_columns_of_their_own() -> None:
    one = columns_of([("h.0.attn", 0), ("h.2.attn", 2)])
    assert (one.places, one.names) == ({"h.0.attn": 0, "h.2.attn": 2}, ["0", "1", "2"])
    assert (one.axis, one.note) == ("layer (index)", "")
    modules = [(f"model.{stack}.layers.{layer}.{name}", layer)
               for stack, names in (("decoder", ("encoder_attn", "self_attn")),
                                    ("encoder", ("self_attn",)))
               for layer in (0, 1) for name in names]  # fmt: skip
    several = columns_of(modules)
    assert several.names == ["e0", "e1", "d0", "d0×", "d1", "d1×"]
    assert several.places["model.decoder.layers.1.encoder_attn"] == 5
    assert several.note == "Of the columns d: decoder, e: encoder, ×: attends across."
    assert several.noun == "module"


@pytest.mark.parametrize("compose", [False, True])
def test_stacks_stand_beside_each_other(compose: bool, tmp_path: Path) -> None:
    document = spectra.heads(write_attention(tmp_path / "model"), compose=compose).document()

    def moved(text: str) -> str:
        text = text.replace("model.layers.0", "encoder.layers.0")
        return text.replace("model.layers.1", "decoder.layers.0")

    document = json.loads(moved(json.dumps(document)))
    for row in document["rows"]:
        row["layer"] = 0
    axes = draw(document, {}).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["e0", "d0"]
    if compose:
        assert [np.asarray(line.get_xdata()).tolist() for line in axes.get_lines()][:1] == [[0, 1]]


def test_a_composition_is_lines_from_layer_to_layer_and_a_panel_a_side(tmp_path: Path) -> None:
    result = spectra.heads(write_attention(tmp_path / "model"), compose=True, strongest=7)
    figure = draw(result.document(), {})
    lines, *panels = figure.axes
    drawn = [np.asarray(line.get_xdata(), dtype=float) for line in lines.get_lines()]
    assert len(drawn) == 7
    assert all(len(one) == 2 and one[0] < one[1] for one in drawn)
    assert [axes.get_xlabel() for axes in panels[:3]] == ["layer that reads"] * 3
