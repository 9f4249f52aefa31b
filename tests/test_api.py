"""The Python interface: the same words as the command line."""

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.pyplot import subplots

import spectra
from examples import write_model
from spectra.analyzers import Diff, Spectrum
from spectra.checkpoint import Adapter, Checkpoint
from spectra.errors import SpectraError, UsageError
from spectra.matrices import Selection
from spectra.report import formats


def test_open_returns_headers_of_models_and_adapters(minilm: Path, minilm_lora: Path) -> None:
    model, adapter = spectra.open(minilm), spectra.open(str(minilm_lora))
    assert isinstance(model, Checkpoint)
    assert isinstance(adapter, Adapter)
    assert spectra.open(model) is model
    assert "encoder.layer.0.output.dense.weight" in model.entries
    assert repr(model) == f"<Checkpoint {minilm}: 104 tensors, 90,856,960 bytes>"
    assert repr(adapter) == f"<Adapter {minilm_lora}: PEFT, on 36 modules>"
    made = spectra.kappa(model, select=1, layers=[0]).export("names")
    assert repr(made) == made.text.rstrip()


def test_each_analysis_has_a_frame_rows_summary_and_plot(
    minilm: Path, minilm_lora: Path, tmp_path: Path
) -> None:
    some = spectra.Selection(layers="0", roles=["attn"])
    results = [
        spectra.spectrum(minilm, selection=some),
        spectra.diff(minilm, minilm_lora, intruders=True, selection=some),
        spectra.kappa(minilm, select="50%", selection=some),
    ]
    for result in results:
        assert list(result.frame["matrix"]) == [row.matrix for row in result.rows]
        assert len(result.frame) == 4
        assert result.summary["reading"]
        path = tmp_path / f"{result.command}.svg"
        figure = result.plot(path)
        assert figure.axes
        assert path.stat().st_size > 0
    assert list(results[2].frame["selected"]).count(True) == 2


def test_an_analysis_is_planned_with_its_own_arguments_and_runs_later(minilm: Path) -> None:
    some = spectra.Selection(layers="0", roles="attn.q")
    plan = spectra.kappa.plan(minilm, select=1, selection=some, device="cpu", workers=1)
    assert repr(plan) == "<spectra.Planned kappa: .estimate() or .run()>"
    assert (plan.estimate().matrices, plan.estimate().nbytes) == (1, 384 * 384 * 4)
    told: list[str] = []
    found = plan.run(lambda progress: told.append(progress.matrix))
    assert told == ["encoder.layer.0.attention.self.query.weight"]
    assert found.document() == spectra.kappa(minilm, select=1, selection=some).document()


def test_a_result_shows_one_screen_of_itself(minilm: Path, tmp_path: Path) -> None:
    live = spectra.ls(minilm)
    lines = repr(live).splitlines()
    assert lines[0].strip() == live.summary["reading"]
    assert len(lines) <= 28
    assert max(map(len, lines)) <= 100
    assert "... 20 more (.frame has all)" in repr(live)
    formats.write_result(live.document(), tmp_path / "ls.json")
    assert repr(spectra.load(tmp_path / "ls.json")) == repr(live)


def test_a_device_that_is_not_there_is_refused_before_anything_is_read(minilm: Path) -> None:
    with pytest.raises(UsageError, match=r"device='cuda:99' is not there"):
        spectra.spectrum(minilm, device="cuda:99")


def test_what_cannot_be_meant_is_refused_in_one_line(tmp_path: Path) -> None:
    models = [write_model(tmp_path / name, {"a.weight": torch.eye(n)}) for name, n in
              (("a", 4), ("b", 8))]  # fmt: skip
    for device in ("gpu", "cuda:x", "mps"):
        with pytest.raises(UsageError, match=f"device='{device}' is not known"):
            spectra.spectrum(models[0], device=device)
    for workers in (0, -1):
        with pytest.raises(UsageError, match=f"workers={workers} is too few"):
            spectra.spectrum.plan(models[0], workers=workers)
    for what in ({"eta": -1}, {"weight_decay": [0.1, 0.0]}, {"widths": [0, 1]}):
        with pytest.raises(UsageError, match="is no number above 0"):
            spectra.width.plan(models, **what)
    with pytest.raises(UsageError, match="nothing is selected to export"):
        spectra.ls(models[0]).export("peft")
    with pytest.raises(UsageError, match=r"^layers='0,x' cannot be read at 'x'"):
        spectra.Selection(layers=[0, "x"])  # type: ignore[list-item]


def test_every_analysis_takes_what_was_opened(minilm: Path, minilm_lora: Path) -> None:
    model, adapter, some = spectra.open(minilm), spectra.open(minilm_lora), ["SPC001", "SPC107"]
    opened = spectra.check(model, base=model, adapter=adapter, select=some)
    named = spectra.check(minilm, base=minilm, adapter=minilm_lora, select=some)
    assert opened.document() == named.document()
    assert {one["rule"] for one in named.summary["findings"]} == {"SPC107"}
    before = spectra.check(adapter, baseline=adapter, select="SPC001")
    assert [entry.part for entry in before.models] == ["model", "baseline"]
    with pytest.raises(UsageError, match="was opened twice"):
        spectra.check(model, base=spectra.open(minilm))


def test_an_analyzer_of_ones_own_is_measured(minilm: Path) -> None:
    found = spectra.measure(Spectrum(), minilm, selection=spectra.Selection(layers="0"))
    assert len(found.rows) == 6


def test_a_notebook_shows_the_sentence_and_the_table_and_nothing_a_file_wrote(
    tmp_path: Path,
) -> None:
    name = "<img src=x onerror=alert(1)>.weight"
    others = {f"layer.{i}.weight": torch.eye(3) for i in range(30)}
    result = spectra.kappa(write_model(tmp_path, {name: torch.eye(2), **others}), select=1)
    shown = result._repr_html_()
    assert shown.startswith("<p><strong>1 of 31 matrices selected")
    assert "&lt;img src=x" in shown
    assert "<img" not in shown
    assert shown.count("<tr>") == 5  # heads, the one selected and what follows
    assert "... 27 more (.frame has all)" in shown


def test_ls_lists_matrices_without_numbers(minilm: Path) -> None:
    result = spectra.ls(minilm)
    assert result.summary["matrices"] == 40
    assert "sigma_max" not in result.frame


def test_errors_share_one_base(tmp_path: Path) -> None:
    with pytest.raises(SpectraError):
        spectra.kappa(tmp_path / "nope")
    folder = write_model(tmp_path, {"a.weight": torch.eye(2)})
    with pytest.raises(SpectraError, match="is no share"):
        spectra.kappa(folder, select="all")


def test_one_text_stands_for_a_list_of_one_and_a_number_for_its_text(minilm: Path) -> None:
    some = spectra.Selection(include="*intermediate*", layers="0-1")
    assert some.include == ("*intermediate*",)
    assert len(spectra.kappa(minilm, select=1, selection=some).rows) == 2
    assert spectra.Selection(roles="attn").roles == ("attn",)
    assert Selection(include="a", exclude=["b", "c"]) == Selection(("a",), ("b", "c"))
    with pytest.raises(UsageError, match=r"side='lft' is no side"):
        Diff(side="lft")  # type: ignore[arg-type]


def test_frames_keep_layers_as_integers(minilm: Path) -> None:
    frame = spectra.ls(minilm).frame
    assert str(frame["layer"].dtype) == str(frame["expert"].dtype) == "Int64"


def test_the_version_and_names_are_public() -> None:
    assert spectra.__version__.startswith("0.")
    assert "Selection" in dir(spectra)


def test_importing_spectra_alone_is_light() -> None:
    code = "import spectra, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nope'"):
        _ = spectra.nope


def test_a_change_that_quantising_made_is_not_told_as_training_alone(tmp_path: Path) -> None:
    weight = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
    whole = write_model(tmp_path / "whole", {"a.weight": weight})
    eight = write_model(tmp_path / "eight", {"a.weight": weight.to(torch.float8_e4m3fn)})
    said = "One side is decoded from float8: what quantising lost is part of the change."
    assert said in spectra.diff(whole, eight).summary["reading"]
    assert said in spectra.diff(eight, whole).summary["reading"]
    assert "quantising" not in spectra.diff(eight, eight).summary["reading"]
    exact = write_model(tmp_path / "exact", {"a.weight": weight.to(torch.float8_e4m3fn).float()})
    assert spectra.diff(exact, eight).summary["reading"] == "Nothing changed in 1 matrix."
    assert "quantising" not in spectra.diff(whole, whole).summary["reading"]


def test_values_that_are_only_put_in_order_are_not_quantised(tmp_path: Path) -> None:
    weight = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
    whole = write_model(tmp_path / "whole", {"a.weight": weight})
    torch.save({"a.weight": (weight + 1).T.contiguous().T}, tmp_path / "turned.bin")
    turned = spectra.open(tmp_path / "turned.bin", allow_pickle=True)
    result = spectra.diff(whole, turned)
    assert result.models[1].codecs == {}
    assert "quantising" not in result.summary["reading"]


def test_the_words_of_the_command_line_choose_in_python_too(
    minilm: Path, minilm_lora: Path
) -> None:
    some = spectra.Selection("*attention*", "*key*", "attn", "0-1")
    words: dict[str, Any] = {"include": "*attention*", "exclude": ["*key*"], "role": "attn"}
    wanted = [row.matrix for row in spectra.ls(minilm, selection=some).rows]
    assert len(wanted) == 6
    for layers in ("0-1", [0, 1], range(2), (0, 1)):
        found = spectra.ls(minilm, **words, layers=layers)
        assert [row.matrix for row in found.rows] == wanted
    opened = [spectra.ls(minilm, layers=5, role="attn.q"), spectra.kappa(minilm, role="attn.q",
              layers=5), spectra.spectrum(minilm, role="attn.q", layers=5), spectra.diff(minilm,
              minilm_lora, role="attn.q", layers=5)]  # fmt: skip
    for result in opened:
        (row,) = result.rows
        assert row.matrix == "encoder.layer.5.attention.self.query.weight"


@pytest.mark.parametrize("one", ["ls", "spectrum", "diff", "kappa", "width", "trend", "measure"])
def test_every_function_takes_the_words(one: str) -> None:
    known = inspect.signature(getattr(spectra, one)).parameters
    words = {"include", "exclude", "role", "layers", "selection", "allow_pickle", "variant"}
    assert words <= known.keys()


def test_a_result_is_saved_in_every_format_and_reported(minilm: Path, tmp_path: Path) -> None:
    result = spectra.kappa(minilm, layers=[0], select=1)
    for suffix in ("json", "jsonl", "csv", "md", "txt", "parquet", "html"):
        path = result.save(tmp_path / f"r.{suffix}")
        assert path.stat().st_size > 0
    loaded = spectra.load(tmp_path / "r.json")
    assert loaded.summary["selected"] == result.summary["selected"]
    assert (
        loaded.save(str(tmp_path / "again.json")).read_bytes() == (tmp_path / "r.json").read_bytes()
    )
    page = spectra.report(result, tmp_path / "r.json", loaded, output=tmp_path / "all.html")
    assert page.read_text().startswith("<!doctype html>")
    assert spectra.report(result, output=tmp_path / "card.md", card=True).read_text()
    with pytest.raises(spectra.SpectraError, match=r"Expected one of \.html, \.json"):
        result.save(tmp_path / "r.xyz")
    with pytest.raises(spectra.SpectraError, match="no result was given"):
        spectra.report(output=tmp_path / "none.html")
    with pytest.raises(spectra.SpectraError, match="holds one result, got 2"):
        spectra.report(result, result, output=tmp_path / "two.csv")
    assert not (tmp_path / "two.csv").exists()


def test_a_model_is_reported_as_the_command_does(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    name = "model.layers.0.mlp.up_proj.weight"
    base, tuned = (
        write_model(tmp_path / word, {name: torch.randn(8, 4, generator=generator)})
        for word in ("base", "tuned")
    )
    page = spectra.report(tuned, base=base, output=tmp_path / "page.html").read_text()
    for title in ("Release check", "What fine-tuning changed"):
        assert title in page
    card = spectra.report(spectra.open(str(base)), output=tmp_path / "card.md", card=True)
    assert "Release check" in card.read_text()
    for given, told in (
        ((None,), r"None is of type NoneType\. Expected results, files that hold some"),
        ((base, tuned), "a page of a model is of one, and 2 were given"),
        ((base, spectra.ls(base)), "a page of a model is of one, and"),
    ):
        with pytest.raises(spectra.SpectraError, match=told):
            spectra.report(*given, output=tmp_path / "none.html")
    with pytest.raises(spectra.SpectraError, match="a report of a model is made of several"):
        spectra.report(base, output=tmp_path / "none.csv")
    assert not [*tmp_path.glob("none*")]


def test_a_picture_of_one_axes_is_drawn_into_ones_own(minilm: Path, minilm_lora: Path) -> None:
    own, (left, right) = subplots(1, 2)
    kappa = spectra.kappa(minilm, layers=[0], select=1)
    assert kappa.plot(ax=left) is own
    assert left.patches
    spectra.diff(minilm, minilm_lora, layers=[0], intruders=True).plot(ax=right)
    assert right.collections
    change = spectra.diff(minilm, minilm_lora, layers=[0])
    right.clear()
    change.plot(ax=right)
    assert right.patches
    left.clear()
    spectra.heads(minilm, layers=[0]).plot(ax=left)
    assert left.get_title("left") == "Whether a head copies what it reads"
    right.clear()
    spectra.heads(minilm, layers=[0, 1], compose=True, strongest=4).plot(ax=right)
    assert len(right.get_lines()) == 4
    with pytest.raises(UsageError, match=r"^strongest= is of pairs .* Add compose=True\.$"):
        spectra.heads(minilm, strongest=4)


def test_a_picture_of_several_panels_takes_as_many_axes_or_a_figure(minilm: Path) -> None:
    own = Figure(layout="constrained", figsize=(9, 6))
    grid = own.add_gridspec(1, 2)
    left, right = own.add_subfigure(grid[0, 0]), own.add_subfigure(grid[0, 1])
    several = spectra.spectrum(minilm, layers=[0])
    assert several.plot(ax=left) is own
    titles = [axes.get_title("left") for axes in several.plot().axes]
    assert [axes.get_title("left") for axes in left.axes] == titles
    assert not left.texts
    found = spectra.heads(minilm, layers=[0, 1])
    axes = right.subplots(3, 1)
    assert found.plot(ax=axes) is own
    assert [one.get_title("left")[:7] for one in axes] == ["Whether", "What a ", "How sha"]
    assert all(one.collections for one in axes)
    assert found.plot(ax=Figure()).axes
    own.canvas.draw()
    assert found.plot(ax=iter(Figure().subplots(3, 1))).axes  # any iterable of axes
    mixed = spectra.compare(found, found)
    kappa = spectra.kappa(minilm, layers=[0])
    removed = Figure().add_subplot()
    removed.remove()
    refused: list[tuple[tuple[spectra.Result, Any], str]] = [
        ((several, axes), r"picture of this spectrum has \d+ panels, and ax= holds 3 axes. Give a"),
        ((several, axes[0]), r"ax= holds 1 axes\. Give a list of \d+, or a figure or subfigure"),
        ((several, [left]), "ax= is of type SubFigure. Expected axes of matplotlib, a list of"),
        ((several, "left"), "ax= is of type str. Expected axes"),
        ((several, []), "ax= is empty"),
        ((found, [None, None]), "ax= is of type NoneType"),
        ((found, [*axes[:2], axes[0]]), "ax= holds the same axes twice among its 3"),
        ((found, [*axes[:2], Figure().add_subplot(projection="polar")]), "projection 'polar'"),
        ((kappa, Figure().add_subplot(projection="3d")), "ax= holds axes of the projection '3d'"),
        ((kappa, removed), "ax= holds axes that were removed from their figure"),
        ((mixed, axes[0]), "No number moved beyond its error: nothing to draw"),
        ((mixed, left), "No number moved beyond its error: nothing to draw"),
    ]
    for given, told in refused:
        with pytest.raises(UsageError, match=told):
            given[0].plot(ax=given[1])


def test_every_public_name_is_documented_and_completed() -> None:
    page = (Path(__file__).parent.parent / "docs" / "api.md").read_text()
    told = {line.split(".")[-1] for line in page.splitlines() if line.startswith("::: ")}
    assert told == set(spectra.__all__)
    assert set(spectra.__all__) < set(dir(spectra))
    for name in spectra.__all__:
        assert getattr(spectra, name).__doc__, name
    assert callable(spectra.report)
    assert "output" in inspect.signature(spectra.report).parameters
    assert {"save", "plot", "frame", "summary", "rows"} <= set(dir(spectra.Result))


def test_none_is_no_filter_and_numbers_may_be_numpys(minilm: Path) -> None:
    numpy = pytest.importorskip("numpy")
    everything = len(spectra.ls(minilm).rows)
    assert len(spectra.ls(minilm, include=None, exclude=None, role=None, layers=None).rows) == (
        everything
    )
    two = spectra.ls(minilm, layers=[0, 1]).rows
    assert spectra.ls(minilm, layers=numpy.array([0, 1])).rows == two
    assert spectra.ls(minilm, layers=numpy.int64(1)).rows == two[len(two) // 2 :]
    with pytest.raises(spectra.SpectraError, match="names no layer"):
        spectra.ls(minilm, layers=[])
