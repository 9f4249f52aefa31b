"""Pictures of odd results: nothing crashes, warns, leaves the page or is kept silent."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch
from torch import Tensor

import spectra
from examples import with_spectrum, write_model
from pictures import picture, written
from spectra.report import draw, save_figure
from spectra.report.plots.spectrum import FEWEST
from spectra.runs.result import Result

HOSTILE = "h.0.$\\frac{x_$ 名前\n\x1b[31m\u202e" + "long_" * 80 + "weight"


def drawn(result: Result) -> str:
    """Draw, look at the margins, and return what is written."""
    figure = picture(result)
    inside = figure.get_tightbbox()
    assert inside.x0 >= -0.01
    assert inside.y0 >= -0.01
    assert inside.x1 <= figure.get_figwidth() + 0.01
    assert inside.y1 <= figure.get_figheight() + 0.01
    for text in figure.texts:
        box = text.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width
    return written(figure)


def crosses(figure: Figure) -> int:
    """Count the crosses of a page."""
    lines = [line for axes in figure.axes for line in axes.get_lines()]
    return sum(
        len(np.asarray(line.get_xydata())) for line in lines if line.get_gid() == "intruders"
    )


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def all_three(tensors: Mapping[str, Tensor], folder: Path) -> dict[str, str]:
    """Draw every analysis of a model, itself doubled as the tuned one."""
    base = write_model(folder / "base", tensors)
    tuned = write_model(folder / "tuned", {name: 2.0 * value for name, value in tensors.items()})
    results = {
        "spectrum": spectra.spectrum(base),
        "diff": spectra.diff(base, tuned),
        "intruders": spectra.diff(base, tuned, intruders=True),
        "same": spectra.diff(base, base, intruders=True),
    }
    if any(min(value.shape) > 1 for value in tensors.values()):  # others have no kappa to rank
        results["kappa"] = spectra.kappa(base)
        results["selected"] = spectra.kappa(base, select="50%")
    return {name: drawn(result) for name, result in results.items()}


@pytest.mark.parametrize(
    "tensor",
    [
        pytest.param(noise(24, 16), id="one matrix of no layer"),
        pytest.param(noise(1, 1), id="one number"),
        pytest.param(noise(1, 40), id="one row"),
        pytest.param(torch.eye(12), id="all singular values equal"),
        pytest.param(torch.zeros(8, 6), id="zero"),
        pytest.param(with_spectrum(torch.tensor([3.0, 1e-12]), 6, 6), id="two values"),
        pytest.param(noise(9, 9).double() * 1e150, id="huge"),
        pytest.param(noise(9, 9).double() * 1e-150, id="tiny"),
        pytest.param(noise(9, 9).double() * 1e289, id="near the limit"),
        pytest.param(noise(9, 9).double() * 1e300, id="enormous"),
        pytest.param(noise(9, 9).double() * 1e-300, id="minute"),
    ],
)
def test_one_matrix(tensor: Tensor, tmp_path: Path) -> None:
    said = all_three({"weight": tensor}, tmp_path)
    assert "the only matrix" in said["spectrum"]
    assert "nothing to draw" in said["same"]


def test_nothing_but_nan(tmp_path: Path) -> None:
    said = all_three(
        {f"layers.{i}.mlp.up_proj.weight": noise(8, 8) / 0.0 for i in range(3)}, tmp_path
    )
    assert "No matrix could be measured." in said["spectrum"]
    assert "No matrix could be measured." in said["kappa"]
    assert "No pair could be measured." in said["diff"]


def test_what_is_not_finite_is_left_out_and_counted(tmp_path: Path) -> None:
    tensors = {"a.weight": noise(8, 8), "b.weight": noise(8, 8, seed=1), "c.weight": noise(8, 8)}
    tensors["b.weight"][0, 0] = torch.nan
    said = all_three(tensors, tmp_path)
    for name in ("spectrum", "kappa", "diff", "intruders"):
        assert "1 matrix without numbers left out." in said[name]


def test_singular_matrices_are_marked(tmp_path: Path) -> None:
    tensors = {f"layers.{i}.mlp.up_proj.weight": noise(8, 6, seed=i) for i in range(4)}
    tensors["layers.1.mlp.up_proj.weight"].zero_()
    base = write_model(tmp_path / "base", tensors)
    said = drawn(spectra.kappa(base, select="3"))
    assert "singular: κ is infinite" in said
    figure = picture(spectra.kappa(base, select="4"))
    assert "singular, selected" in written(figure)
    bars = picture(spectra.kappa(base, select="2")).axes[0]
    cut = next(line for line in bars.get_lines() if line.get_gid() == "cut")
    (word,) = (text for text in bars.texts if text.get_text() == "singular")
    assert not word.get_window_extent().overlaps(cut.get_window_extent())
    assert "cut at" not in written(figure)  # the last one selected has no kappa
    open_bars = [bar.get_linestyle() == "--" for bar in figure.axes[0].patches]
    assert open_bars == [False, False, False, True]
    said = drawn(spectra.spectrum(base))
    assert "∞: singular, no finite condition number." in said
    assert "a matrix that has no such value" in said


def test_zero_and_full_matrices_together(tmp_path: Path) -> None:
    said = all_three({"a.weight": torch.zeros(4, 4), "b.weight": torch.zeros(4, 5)}, tmp_path)
    assert "no power law fits any" in said["spectrum"]
    assert "no eigenvalue above rounding" in said["spectrum"]


def test_names_are_drawn_as_plain_text(tmp_path: Path) -> None:
    tensors = {HOSTILE: noise(12, 8), "$": noise(8, 8, seed=1), "b$a^_{": noise(12, 12, seed=2)}
    folder = tmp_path / "$1 und \u91cd _^{"
    for said in all_three(tensors, folder).values():
        assert "\x1b" not in said
        assert "\u202e" not in said
        assert "b$a^_{" in said or "nothing to draw" in said
    figure = picture(spectra.kappa(folder / "base"))
    for suffix in (".png", ".svg"):
        save_figure(figure, tmp_path / f"picture{suffix}")
    tree = (tmp_path / "picture.svg").read_text(encoding="utf-8")
    assert "\x1b" not in tree
    assert "b$a^_{" in tree


def test_experts_share_a_line_and_a_cell(tmp_path: Path) -> None:
    tensors = {
        f"model.layers.{layer}.mlp.experts.{expert}.{name}.weight": noise(10, 8, seed=expert)
        for layer in range(3)
        for expert in range(5)
        for name in ("gate_proj", "up_proj", "down_proj")
    }
    result = spectra.spectrum(write_model(tmp_path / "moe", tensors))
    said = drawn(result)
    assert "the median of its layer's experts (up to 5)" in said
    assert "A cell shows the median of its matrices (up to 5 share one)." in said
    assert "mlp.up  (3 layers)" in said
    figure = picture(result)
    panel = next(axes for axes in figure.axes if axes.get_title(loc="left").startswith("mlp.up"))
    ups = [row for row in result.rows if row.place.role == "mlp.up" and row.place.layer == 0]
    expected = torch.stack([row.arrays["sigma"] for row in ups]).quantile(0.5, dim=0)
    assert np.asarray(panel.get_lines()[0].get_ydata()) == pytest.approx(expected.numpy())


def llama(layers: int) -> dict[str, Tensor]:
    """Return small matrices under the names that a large model has."""
    names = [f"self_attn.{name}_proj" for name in "qkvo"] + [
        f"mlp.{name}_proj" for name in ("gate", "up", "down")
    ]
    tensors = {
        f"model.layers.{layer}.{name}.weight": noise(12, 12, seed=layer * 7 + place)
        for layer in range(layers)
        for place, name in enumerate(names)
    }
    return tensors | {"model.embed_tokens.weight": noise(40, 12), "lm_head.weight": noise(40, 12)}


def test_a_large_model_is_cut_to_a_page_and_says_so(tmp_path: Path) -> None:
    base = write_model(tmp_path / "large", llama(10))
    tuned = write_model(
        tmp_path / "tuned",
        {name: value + noise(*value.shape, seed=9) for name, value in llama(10).items()},
    )
    said = drawn(spectra.kappa(base, select="50"))
    assert "The 40 lowest of 70: 30 more are not drawn, 10 of them selected." in said
    assert "30 more are not drawn." in drawn(spectra.kappa(base))
    assert "for the 8 commonest roles, not for lm_head" in drawn(spectra.spectrum(base))
    assert "60 more changed matrices have no bar." in drawn(spectra.diff(base, tuned))
    found = spectra.diff(base, tuned, intruders=True, k=4, epsilon=0.7)
    assert "32 more changed matrices are not drawn" in drawn(found)
    shown = sorted((int(row.number("intruders") or 0) for row in found.rows), reverse=True)[:40]
    assert crosses(picture(found)) == sum(shown)


def test_no_intruders_no_crosses(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", {"a.weight": noise(16, 12), "b.weight": noise(16, 12)})
    tuned = write_model(
        tmp_path / "tuned", {"a.weight": 2 * noise(16, 12), "b.weight": noise(16, 12)}
    )
    result = spectra.diff(base, tuned, intruders=True)
    assert result.summary["intruders"] == 0
    figure = picture(result)
    assert crosses(figure) == 0
    assert len(figure.axes) == 3  # all matrices, the worst one, the scale


def test_many_vectors_and_the_right_side(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", {"a.weight": noise(150, 140)})
    tuned = write_model(tmp_path / "tuned", {"a.weight": noise(150, 140, seed=4)})
    result = spectra.diff(base, tuned, intruders=True, k=130, side="right", epsilon=0.9)
    said = drawn(result)
    assert "index of right singular vector, tuned" in said
    assert crosses(picture(result)) == result.summary["intruders"] > 100


def test_undetermined_vectors_are_counted(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", {"a.weight": noise(6, 6).double()})
    tuned = write_model(tmp_path / "tuned", {"a.weight": torch.eye(6, dtype=torch.float64)})
    said = drawn(spectra.diff(base, tuned, intruders=True))
    assert "6 vectors are not determined: singular values coincide." in said


def test_everything_tuned_away(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", {"a.weight": noise(6, 6)})
    tuned = write_model(tmp_path / "tuned", {"a.weight": torch.zeros(6, 6)})
    said = drawn(spectra.diff(base, tuned, intruders=True))
    assert "100 %   rank 6" in said


def test_from_nothing(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", {"a.weight": torch.zeros(6, 6), "b.weight": noise(6, 6)})
    tuned = write_model(tmp_path / "tuned", {"a.weight": noise(6, 6), "b.weight": noise(6, 6)})
    assert "1 changed matrix has no relative size: its base is zero." in drawn(
        spectra.diff(base, tuned)
    )


def test_singular_values_that_were_not_kept(tmp_path: Path) -> None:
    tensors = {"a.weight": noise(6, 6), "b.weight": noise(7, 5)}
    document = spectra.spectrum(write_model(tmp_path / "base", tensors)).document()
    for row in document["rows"]:
        del row["sigma_profile"]
    said = written(draw(document))
    assert "Singular values were not kept." in said
    assert "Condition number κ" in said  # it needs none
    document["rows"] = document["rows"][:1]
    document["summary"] = {"reading": "Word " * 400}
    said = written(draw(document))
    assert "Singular values were not kept." in said
    assert "Word …" in said


def test_layers_that_are_only_some_of_them(tmp_path: Path) -> None:
    tensors = {
        name: value for name, value in llama(90).items() if "mlp.up" in name or "mlp.down" in name
    }
    base = write_model(tmp_path / "deep", tensors)
    drawn(spectra.spectrum(base))
    said = drawn(spectra.spectrum(base, selection=spectra.Selection(layers="7")))
    assert "mlp.up  (1 layer)" in said


def wide(sigma: Tensor) -> Tensor:
    """A matrix with these singular values."""
    left, _ = torch.linalg.qr(noise(len(sigma), len(sigma)))
    made: Tensor = left * sigma
    return made


@pytest.mark.parametrize(
    "sigma",
    [
        pytest.param(torch.linspace(1.0, 3.0, 64), id="even"),
        pytest.param(torch.cat([torch.tensor([1e-3]), torch.linspace(1, 3, 63)]), id="one low"),
        pytest.param(torch.cat([torch.linspace(1, 3, 63), torch.tensor([300.0])]), id="one high"),
        pytest.param(torch.cat([torch.ones(30), torch.full((34,), 1e3)]), id="two heaps"),
        pytest.param(torch.tensor([1.0, 1e4, 1e8]), id="three"),
        pytest.param(torch.tensor([2.0, 2.0]), id="two alike"),
        pytest.param(torch.logspace(-2, 2, 200), id="long"),
        pytest.param(torch.logspace(-2, 2, 200) ** 2, id="longer"),
    ],
)
def test_no_bar_stands_alone(tmp_path: Path, sigma: Tensor) -> None:
    """Every bar has values enough to be no accident of where bins begin, and none is missing."""
    result = spectra.spectrum(write_model(tmp_path / "it", {"a.weight": wide(sigma)}))
    axes = picture(result).axes[0]
    bars = next(patch for patch in axes.patches if isinstance(patch, StepPatch))
    heights, edges, _ = bars.get_data()
    values = heights * np.diff(edges) * len(sigma)
    (row,) = result.rows
    known = row.number("resolved_rank") or 0.0
    assert (values >= min(FEWEST, known) - 1e-6).all()
    assert values.sum() == pytest.approx(known, rel=1e-6)
    cut, square = row.number("alpha_xmin"), sigma.double().numpy() ** 2
    if cut is not None and min((square < 0.99 * cut).sum(), (square > cut).sum()) >= FEWEST:
        assert np.abs(edges / cut - 1.0).min() < 1e-3
    alone = [line for line in axes.get_lines() if line.get_gid() == "alone"]
    seen = np.concatenate([np.asarray(line.get_xdata()) for line in alone] or [np.empty(0)])
    assert all(np.isclose(square, value, rtol=1e-3).any() for value in seen)


@pytest.mark.parametrize(("layers", "told"), [(6, range(6)), (64, range(0, 64, 9)), (9, None)])
def test_layers_are_told_apart(tmp_path: Path, layers: int, told: range | None) -> None:
    result = spectra.spectrum(write_model(tmp_path / "it", llama(layers)))
    figure = picture(result)
    assert figure.get_figheight() < 10.0  # inches, of a page 8 wide
    key = next(axes for axes in figure.axes if axes.get_ylabel() == "layer")
    names = [int(label.get_text()) for label in key.get_yticklabels()]
    assert names == sorted({0, layers - 1, *names})
    assert len(names) == min(layers, 8)
    assert told is None or names == list(told)
    panel = next(axes for axes in figure.axes if axes.get_title(loc="left").startswith("attn.q"))
    colours = Counter(str(line.get_color()) for line in panel.get_lines())
    assert len(panel.get_lines()) == layers
    assert sorted(colours.values()) == sorted([1] * len(names) + [layers - 8] * (layers > 8))
    assert ("Grey: the layers between" in written(figure)) == (layers > 8)
    top = {row.place.layer: row.number("sigma_max") or 0.0 for row in result.rows
           if row.place.role == "attn.q"}  # fmt: skip
    text = next(text.get_text() for text in panel.texts)
    highest, lowest = (end(top, key=lambda layer: top[layer]) for end in (max, min))
    assert text == f"highest {highest}, lowest {lowest}"
    assert "Highest, lowest: the layers by σ max." in written(figure)


def test_one_layer_has_no_key_and_no_outermost(tmp_path: Path) -> None:
    figure = picture(spectra.spectrum(write_model(tmp_path / "it", llama(1))))
    assert "highest" not in written(figure)
    assert not any(axes.get_ylabel() == "layer" for axes in figure.axes)


def test_a_layer_of_zeros_is_the_lowest_and_is_told(tmp_path: Path) -> None:
    tensors = llama_of(noise)
    tensors["layers.1.mlp.up_proj.weight"].zero_()
    figure = picture(spectra.spectrum(write_model(tmp_path / "it", tensors)))
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert any(text.endswith(", lowest 1") for text in texts)
    assert "All zero, so without a line: mlp.up of layer 1." in written(figure)


def test_no_text_lies_over_a_line(tmp_path: Path) -> None:
    """A matrix that collapsed falls through the whole panel."""
    tensors = llama_of(noise)
    tensors["layers.1.mlp.up_proj.weight"] = torch.outer(torch.ones(12), torch.arange(1.0, 13.0))
    figure = picture(spectra.spectrum(write_model(tmp_path / "it", tensors)))
    for axes in figure.axes:
        for text in axes.texts if axes.get_lines() else ():
            assert text.get_window_extent().y0 >= axes.get_window_extent().y1 - 1


def test_a_matrix_with_nan_is_no_missing_one(tmp_path: Path) -> None:
    """It is hatched in the grids, where white is for what is not there."""
    base = write_model(tmp_path / "base", llama_of(noise))
    broken = write_model(tmp_path / "broken", llama_of(noise, broken=True))
    for result in (spectra.spectrum(broken), spectra.diff(base, broken)):
        said = drawn(result)
        assert "Hatched: no numbers, such as of NaN or Inf." in said
        assert "–: a matrix that has no such value." not in said
        assert "White: no such matrix." not in said
        assert "1 matrix without numbers left out." in said


def llama_of(make: Callable[..., Tensor], *, broken: bool = False) -> dict[str, Tensor]:
    """Two roles in three layers; one of them with a NaN."""
    tensors = {
        f"layers.{layer}.mlp.{name}_proj.weight": make(12, 12, seed=2 * layer + place + broken)
        for layer in range(3)
        for place, name in enumerate(("up", "down"))
    }
    if broken:
        tensors["layers.1.mlp.up_proj.weight"][2, 3] = torch.nan
    return tensors
