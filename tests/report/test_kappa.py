"""Condition numbers as a table and as a picture: what is ranked, marked, cut and compared."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from torch import Tensor

import spectra
from examples import with_spectrum, write_model
from pictures import picture
from spectra.kernels.gaussian import kappa_null
from spectra.report.screens import screen_of
from spectra.report.table import Screen, render_text
from spectra.words import RankBy
from spectra.work import Result

LONG = "model.language_model.layers.{}.a_block_with_a_long_name.self_attn.{}_proj.weight"


@pytest.fixture(scope="module")
def kappa(minilm: Path) -> Result:
    return spectra.kappa(minilm, select="10%")


@pytest.fixture(scope="module")
def excess(minilm: Path) -> Result:
    return spectra.kappa(minilm, select="10%", rank_by="kappa_excess")


@pytest.fixture(scope="module")
def by_role(minilm: Path) -> Result:
    return spectra.kappa(minilm, select="10%", per="role")


def column(screen: Screen, title: str) -> list[str]:
    """Return the cells of one column."""
    place = [column.title for column in screen.columns].index(title)
    return [line.cells[place] for line in screen.lines]


def marked(figure: Figure, name: str) -> list[Line2D]:
    """Return the lines drawn under this id."""
    return [line for axes in figure.axes for line in axes.get_lines() if line.get_gid() == name]


def texts(figure: Figure) -> list[str]:
    """Return everything that is written on a page."""
    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text)]


def names_drawn(figure: Figure) -> list[str]:
    """Return the matrices that have a bar, from the top."""
    return [f"{label.get_text()}.weight" for label in figure.axes[0].get_yticklabels()]


def spills(figure: Figure) -> bool:
    """Say whether anything leaves the page, the key included."""
    figure.draw_without_rendering()
    legend = figure.axes[0].get_legend()
    assert legend is not None
    boxes = [
        figure.get_tightbbox().transformed(figure.dpi_scale_trans), legend.get_window_extent(),
    ]  # fmt: skip
    return any(
        box.x0 < -1 or box.y0 < -1 or box.x1 > figure.bbox.width + 1
        or box.y1 > figure.bbox.height + 1
        for box in boxes
    )  # fmt: skip


def test_the_table_ranks_and_cuts_by_kappa(kappa: Result) -> None:
    screen = screen_of(kappa.document(), full=True)
    assert [column.title for column in screen.columns] == [
        "kappa", "excess", "matrix", "role", "shape", "parameters",
    ]  # fmt: skip
    values = [float(cell.replace(",", "")) for cell in column(screen, "kappa")]
    assert values == sorted(values)
    assert column(screen, "matrix")[:3] == kappa.summary["selected"]
    assert screen.rule_after == 3
    assert screen.rule == f"cut at {kappa.summary['cut']:.4g}"
    assert [line.mark for line in screen.lines] == ["good"] * 3 + [""] * 34
    assert "kappa ranks shapes here: all 3 are 4:1 rectangles" in screen.reading


def test_the_table_ranks_and_cuts_by_excess(excess: Result) -> None:
    screen = screen_of(excess.document(), full=True)
    values = [float(cell.replace(",", "")) for cell in column(screen, "excess")]
    assert values == sorted(values)
    assert column(screen, "matrix")[:3] == excess.summary["selected"]
    assert screen.rule == f"cut at {excess.summary['cut']:.4g}"
    assert "shapes" not in screen.reading


def test_each_role_marks_what_it_selects_and_has_no_rule(by_role: Result) -> None:
    screen = screen_of(by_role.document(), full=True)
    assert screen.rule_after is None
    assert screen.rule == ""
    chosen = [
        name
        for name, mark in zip(column(screen, "matrix"), column(screen, "selected"), strict=True)
        if mark == "yes"
    ]
    assert sorted(chosen) == sorted(by_role.summary["selected"])
    roles = column(screen, "role")
    assert [roles.index(role) for role in roles] == sorted(roles.index(role) for role in roles)
    few = screen_of(by_role.document())
    assert len(few.lines) == 7 + 6  # one selected of each role and the next, pooler has none
    assert few.more == "... 24 more (-v shows all)"


@pytest.mark.parametrize("name", ["kappa", "excess", "by_role"])
@pytest.mark.parametrize("width", [60, 80, 100])
def test_nothing_wraps(name: str, width: int, request: pytest.FixtureRequest) -> None:
    text = render_text(screen_of(request.getfixturevalue(name).document()), width)
    assert max(map(len, text.splitlines())) <= width
    table = [line for line in text.splitlines() if "dense" in line or "self." in line]
    assert len(table) >= 6


def test_the_next_command_repeats_what_was_asked(by_role: Result, excess: Result) -> None:
    hint = screen_of(by_role.document(), seconds=1.0, hints=True).onward[0]
    assert hint.endswith(" --select 10% --per role --export peft -o lora.json")
    hint = screen_of(excess.document(), seconds=1.0, hints=True).onward[0]
    assert hint.endswith(" --select 10% --rank-by kappa_excess --export peft -o lora.json")


def half_resolved() -> Mapping[str, Tensor]:
    """In bfloat16 one matrix below its rounding, one above, one singular, one not finite."""
    source = torch.Generator().manual_seed(5)
    ends = {"a": 1e-4, "b": 0.3, "c": 0.5}
    made = {
        name: with_spectrum(torch.tensor([*[1.0] * 29, end]), 30, 30, source).bfloat16()
        for name, end in ends.items()
    }
    nan = torch.full((30, 30), torch.nan)
    return made | {"d": torch.zeros(30, 30).bfloat16(), "e": nan.bfloat16()}


def test_a_kappa_that_storage_does_not_resolve_is_marked(tmp_path: Path) -> None:
    result = spectra.kappa(write_model(tmp_path, half_resolved()))
    screen = screen_of(result.document())
    assert column(screen, "matrix") == ["c", "b", "a", "d", "e"]
    cells = column(screen, "kappa")
    assert [cell.startswith("* ") for cell in cells] == [False, False, True, False, False]
    assert cells[3:] == ["singular", "—"]
    told = "* 1 kappa measures the rounding of BF16, not the model: sigma_min lies below it."
    assert told in screen.facts
    figure = picture(result)
    assert told in texts(figure)
    assert sum(text.startswith("* ") for text in texts(figure)) == 2
    assert not spills(figure)


def test_each_bar_of_kappa_shows_what_its_shape_would_give(kappa: Result) -> None:
    figure = picture(kappa)
    (ticks,) = marked(figure, "null")
    by_name = {row.matrix: row.place for row in kappa.rows}
    expected = [kappa_null(by_name[n].rows, by_name[n].cols) for n in names_drawn(figure)]
    assert np.asarray(ticks.get_xdata()).tolist() == expected
    assert np.asarray(ticks.get_ydata()).tolist() == list(range(37))
    assert "κ of a Gaussian matrix of this shape" in texts(figure)


def test_excess_is_drawn_against_one_and_every_bar_is_seen(excess: Result) -> None:
    figure = picture(excess)
    (axes,) = figure.axes
    begin, _ = axes.get_xlim()
    ends = [patch.get_x() + patch.get_width() for patch in axes.patches]  # type: ignore[attr-defined]
    assert names_drawn(figure)[:3] == excess.summary["selected"]
    drawn = {row.matrix: row.number("kappa_excess") for row in excess.rows}
    assert ends == pytest.approx([drawn[name] for name in names_drawn(figure)])
    assert min(ends) > 1.2 * begin
    (ticks,) = marked(figure, "null")
    assert set(np.asarray(ticks.get_xdata()).tolist()) == {1.0}
    assert axes.get_xlabel().startswith("excess = κ / κ of a Gaussian matrix")
    (line,) = marked(figure, "cut")
    assert np.asarray(line.get_xdata()).tolist() == [excess.summary["cut"]] * 2


def test_each_role_is_drawn_together_without_one_cut(by_role: Result) -> None:
    figure = picture(by_role)
    assert not marked(figure, "cut")
    hatched = [bool(patch.get_hatch()) for patch in figure.axes[0].patches]
    names = names_drawn(figure)
    chosen = [name for name, hatch in zip(names, hatched, strict=True) if hatch]
    assert sorted(chosen) == sorted(by_role.summary["selected"])
    assert hatched[::6] == [True] * 7
    assert figure.axes[0].get_ylabel() == "matrix, by role, lowest κ first"


def test_a_page_too_small_for_all_shows_each_roles_cut(tmp_path: Path) -> None:
    source = torch.Generator().manual_seed(1)
    tensors = {
        f"model.layers.{i}.self_attn.{kind}_proj.weight": torch.randn(12, 9, generator=source)
        for i in range(32)
        for kind in "qkvo"
    }
    model = write_model(tmp_path, tensors)
    figure = picture(spectra.kappa(model, select="10%", per="role"))
    assert len(names_drawn(figure)) == 4 * 4
    assert "The 16 around each role's cut of 128: 112 more are not drawn." in texts(figure)
    many = picture(spectra.kappa(model, select="60%", per="role"))
    assert len(names_drawn(many)) == 60
    assert any("more are not drawn, 19 of them selected." in text for text in texts(many))


@pytest.mark.parametrize("rank_by", ["kappa", "kappa_excess"])
def test_the_longest_key_stays_on_the_page(rank_by: RankBy, tmp_path: Path) -> None:
    source = torch.Generator().manual_seed(2)
    tensors = {
        LONG.format(i, kind): with_spectrum(
            torch.logspace(0, -float(i) / 4, 515), 515, 520, source
        ).bfloat16()
        for i in range(8)
        for kind in "qk"
    }
    tensors["zero.weight"] = torch.zeros(515, 520).bfloat16()  # at once singular: it has no floor
    result = spectra.kappa(write_model(tmp_path, tensors), select="6%", rank_by=rank_by)
    assert {row.status for row in result.rows} == {"ok", "outside", "singular"}
    figure = picture(result)
    assert not spills(figure)
    word = "κ" if rank_by == "kappa" else "excess"
    assert f"outside the cut: at least this {word}" in texts(figure)
