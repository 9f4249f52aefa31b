"""Pictures of the real model: what they show, and that they are the same every time."""

import subprocess
import sys
from pathlib import Path
from statistics import median

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.lines import Line2D
from matplotlib.text import Text

import spectra
from spectra.analyzers import Row
from spectra.errors import OutputError, UsageError
from spectra.numbers import number
from spectra.report import save_figure
from spectra.report.plots.spectrum import representative
from spectra.runs.result import Result

SCRIPT = """
import sys, spectra
from pathlib import Path
from statistics import median
from spectra.report.plots import save_figure
result = spectra.kappa(sys.argv[1], select="10%", selection=spectra.Selection(layers="0"))
figure = result.plot()
for name in sys.argv[2:]:
    save_figure(figure, Path(name))
assert "matplotlib.pyplot" not in sys.modules
"""


@pytest.fixture(scope="module")
def spectrum(minilm: Path) -> Result:
    return spectra.spectrum(minilm)


@pytest.fixture(scope="module")
def change(minilm: Path, minilm_lora: Path) -> Result:
    return spectra.diff(minilm, minilm_lora)


@pytest.fixture(scope="module")
def intruders(minilm: Path, minilm_lora: Path) -> Result:
    return spectra.diff(minilm, minilm_lora, intruders=True)


@pytest.fixture(scope="module")
def kappa(minilm: Path) -> Result:
    return spectra.kappa(minilm, select="10%")


@pytest.fixture(params=["spectrum", "change", "intruders", "kappa"])
def result(request: pytest.FixtureRequest) -> Result:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Result)
    return found


DRAWN: dict[int, tuple[Result, Figure]] = {}


def picture(result: Result) -> Figure:
    """Draw a result once for all tests that only look."""
    if id(result) not in DRAWN:
        DRAWN[id(result)] = (result, result.plot())
    return DRAWN[id(result)][1]


def marked(figure: Figure, name: str) -> list[Line2D]:
    """Return the lines drawn under this id."""
    return [line for axes in figure.axes for line in axes.get_lines() if line.get_gid() == name]


def texts(figure: Figure) -> list[str]:
    """Return everything that is written on a page."""
    found = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    return [text.get_text() for text in found if text.get_visible()]


def spills(figure: Figure) -> bool:
    """Say whether anything drawn or written leaves the page."""
    figure.draw_without_rendering()
    page = figure.bbox
    boxes = [text.get_window_extent() for text in figure.texts]
    inside = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
    return not all(
        box.x0 >= -1 and box.y0 >= -1 and box.x1 <= page.width + 1 and box.y1 <= page.height + 1
        for box in [*boxes, inside]
    )


def named(axes: Axes, which: str) -> bool:
    """Say whether an axis has a label, itself or in the panel it is shared with."""
    shared = axes.get_shared_x_axes() if which == "x" else axes.get_shared_y_axes()
    return any(
        (other.get_xlabel() if which == "x" else other.get_ylabel())
        for other in shared.get_siblings(axes)
    )


def test_every_axis_is_labelled(result: Result) -> None:
    figure = picture(result)
    assert figure.axes
    for axes in figure.axes:
        if axes.get_label() == "<colorbar>":
            assert axes.get_ylabel()
            continue
        assert named(axes, "x")
        assert named(axes, "y") or not len(axes.get_yticks())  # the scale of |cos| has none


def test_heading_names_the_models_and_repeats_the_reading(result: Result) -> None:
    written = " ".join(texts(picture(result)))
    for model in result.models:
        assert Path(model.spec).name in written
    for word in result.summary["reading"].split():
        assert word in written


def test_nothing_leaves_the_page_and_letters_are_readable(result: Result) -> None:
    figure = picture(result)
    assert not spills(figure)
    sizes = [text.get_fontsize() for text in figure.findobj(Text) if isinstance(text, Text)]
    assert min(float(size) for size in sizes) >= 8.0
    assert figure.get_figwidth() * figure.dpi == 1200


def test_the_same_bytes_from_run_to_run(result: Result, tmp_path: Path) -> None:
    figure, again = picture(result), result.plot()
    for suffix in (".png", ".svg"):
        first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
        save_figure(figure, first)
        save_figure(again, second)
        assert first.read_bytes() == second.read_bytes()
    save_figure(figure, second)
    assert first.read_bytes() == second.read_bytes()
    assert imread(tmp_path / "first.png").shape[1] == 1200
    assert b"Software" not in (tmp_path / "first.png").read_bytes()
    assert "<dc:date>" not in (tmp_path / "first.svg").read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "first.png", "first.svg", "second.png", "second.svg",
    ]  # fmt: skip


def test_the_same_bytes_in_another_process(minilm: Path, tmp_path: Path) -> None:
    there = [tmp_path / "there.png", tmp_path / "there.svg"]
    subprocess.run([sys.executable, "-c", SCRIPT, minilm, *there], check=True)
    figure = spectra.kappa(minilm, select="10%", selection=spectra.Selection(layers="0")).plot()
    for path in there:
        here = path.with_stem("here")
        save_figure(figure, here)
        assert here.read_bytes() == path.read_bytes()


def test_the_users_settings_neither_matter_nor_change(kappa: Result, tmp_path: Path) -> None:
    save_figure(kappa.plot(), tmp_path / "plain.svg")
    with mpl.rc_context({"text.usetex": True, "font.size": 30, "svg.hashsalt": "x"}):
        before = dict(mpl.rcParams)
        save_figure(kappa.plot(), tmp_path / "odd.svg")
        assert dict(mpl.rcParams) == before
    assert (tmp_path / "plain.svg").read_bytes() == (tmp_path / "odd.svg").read_bytes()


def test_one_cross_per_intruder(intruders: Result) -> None:
    (crosses,) = marked(picture(intruders), "intruders")
    assert len(np.asarray(crosses.get_xydata())) == intruders.summary["intruders"] == 3


def test_intruders_are_outlined_in_the_close_ups(intruders: Result) -> None:
    figure = picture(intruders)
    worst = {
        row.matrix.removesuffix(".weight") for row in intruders.rows if row.number("intruders")
    }
    panels = [axes for axes in figure.axes if axes.get_title(loc="left") in worst]
    assert len(panels) == 3
    for axes in panels:
        (mesh,) = [item for item in axes.collections if isinstance(item, QuadMesh)]
        values = mesh.get_array()
        assert values is not None
        assert values.shape == (10, 32)
        ticks = [label.get_text() for label in axes.get_yticklabels()]
        crossed = [place for place, text in enumerate(ticks) if text.startswith("×")]
        assert len(crossed) == len(axes.patches) == 1
        assert values[crossed[0]].max() < 0.5


def test_the_scale_of_cosines_marks_threshold_and_chance(intruders: Result) -> None:
    written = texts(picture(intruders))
    assert "intruder below 0.5" in written
    nulls = [row.number("null_cos") or 0.0 for row in intruders.rows if row.arrays]
    assert f"chance {min(nulls):.2g} to {max(nulls):.2g}" in written


def test_the_cut_stands_where_the_summary_says(kappa: Result) -> None:
    figure = picture(kappa)
    (line,) = marked(figure, "cut")
    assert np.asarray(line.get_xdata()).tolist() == [kappa.summary["cut"]] * 2
    assert f"cut at {number(kappa.summary['cut'])}" in texts(figure)


def test_selected_bars_differ_in_more_than_colour(kappa: Result) -> None:
    (axes,) = picture(kappa).axes
    hatched = [bool(patch.get_hatch()) for patch in axes.patches]
    assert hatched == [True] * 3 + [False] * 34
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert [f"{name}.weight" for name in names[:3]] == kappa.summary["selected"]


def test_the_density_shown_is_of_the_middle_matrix(spectrum: Result) -> None:
    row, why = representative(spectrum.document()["rows"])
    figure = picture(spectrum)
    name = row["matrix"].removesuffix(".weight")
    assert figure.axes[0].get_title(loc="left") == f"{name}  ({why})"
    fitted = [alpha for row in spectrum.rows if (alpha := row.number("alpha")) is not None]
    middle = median(fitted)
    assert why == f"α nearest the median of {len(fitted)} matrices, {middle:#.3g}"
    (edge,) = marked(figure, "mp_edge")
    assert np.asarray(edge.get_xdata())[0] == pytest.approx(row["mp_edge"] ** 2)
    (law,) = marked(figure, "power_law")
    assert np.asarray(law.get_xdata())[0] == pytest.approx(row["alpha_xmin"])


def test_the_law_covers_as_many_values_as_the_bars_above_its_start(spectrum: Result) -> None:
    figure = picture(spectrum)
    (law,) = marked(figure, "power_law")
    x, y = law.get_data()
    x, y = np.asarray(x), np.asarray(y)
    alpha = -np.log(y[-1] / y[0]) / np.log(x[-1] / x[0])
    row, _ = representative(spectrum.document()["rows"])
    assert alpha == pytest.approx(row["alpha"])
    sigma = spectrum.arrays[row["matrix"]]["sigma"]
    tail = int((sigma.square() >= row["alpha_xmin"] * (1 - 1e-9)).sum())
    assert float(y[0]) * float(x[0]) / (alpha - 1) * len(sigma) == pytest.approx(tail)


def test_spectra_are_drawn_for_every_role_in_its_own_panel(spectrum: Result) -> None:
    titles = [axes.get_title(loc="left") for axes in picture(spectrum).axes]
    assert "attn.q  (6 layers)" in titles
    assert "embed  (3 matrices)" in titles


def test_heatmaps_hold_the_rows_values(spectrum: Result) -> None:
    figure = picture(spectrum)
    written = texts(figure)
    row = next(row for row in spectrum.rows if "layer.5.attention.output" in row.matrix)
    assert number(row.number("alpha") or 0.0) in written
    highest = max(row.number("kappa") or 0.0 for row in spectrum.rows)
    assert number(highest) in written


@pytest.mark.parametrize("role", ["attn.q", "attn.q,mlp.up"])
def test_lines_of_few_roles_have_room_for_their_numbers(minilm: Path, role: str) -> None:
    chosen = spectra.Selection(roles=role.split(","))
    figure = picture(spectra.spectrum(minilm, selection=chosen))
    figure.canvas.draw()
    for axes in figure.axes:
        for mesh in (one for one in axes.collections if isinstance(one, QuadMesh)):
            lines = len(np.asarray(mesh.get_array()))
            assert axes.get_window_extent().height / figure.dpi >= 0.2 * lines


def test_the_most_changed_matrices_lead(change: Result) -> None:
    figure = picture(change)
    names = [label.get_text() for axes in figure.axes for label in axes.get_yticklabels()]
    worst = max(change.rows, key=_relative)
    assert worst.matrix.removesuffix(".weight") in names
    assert f"{100 * _relative(worst):.3g} %   rank 8" in texts(figure)


def _relative(row: Row) -> float:
    return row.number("delta_relative") or 0.0


def test_plot_writes_where_a_path_is_given(kappa: Result, tmp_path: Path) -> None:
    kappa.plot(tmp_path / "kappa.PNG")
    assert (tmp_path / "kappa.PNG").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["kappa.pdf", "kappa", "kappa.png.txt"])
def test_other_suffixes_are_refused_in_one_line(kappa: Result, tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=r"\.png or \.svg") as raised:
        save_figure(picture(kappa), tmp_path / name)
    assert name in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_a_path_that_cannot_be_written_is_one_line(kappa: Result, tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    figure = picture(kappa)
    for name, expected in (("folder.png", "is a folder; "), ("missing/a.svg", "cannot be written")):
        with pytest.raises(OutputError, match=expected) as raised:
            save_figure(figure, tmp_path / name)
        assert "\n" not in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]


def test_what_has_no_picture_is_refused(minilm: Path) -> None:
    with pytest.raises(UsageError, match="ls has no picture"):
        spectra.ls(minilm).plot()
