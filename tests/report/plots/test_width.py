"""Pictures of a family's largest singular values: what they show, and odd families."""

import io
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.lines import Line2D
from matplotlib.text import Text

import spectra
from analyzers.subjects import view_of
from pictures import picture, written
from scaled import write_scaled
from spectra.analyzers import Row, Width
from spectra.analyzers.width import Member
from spectra.report import draw, save_figure
from spectra.work import Model, Result

MODULES = {
    "attn.q": "self_attn.q_proj", "attn.k": "self_attn.k_proj", "attn.v": "self_attn.v_proj",
    "attn.o": "self_attn.o_proj", "mlp.gate": "mlp.gate_proj", "mlp.up": "mlp.up_proj",
    "mlp.down": "mlp.down_proj", "router": "mlp.gate", "embed": "wte", "lm_head": "lm_head",
    "conv": "conv1d", "other": "blob",
}  # fmt: skip
HIDDEN = tuple(MODULES)[:7]
FOUR = {"proxy-256": 256, "proxy-512": 512, "proxy-1024": 1024, "target-2048": 2048}


def family(
    models: Mapping[str, int],
    roles: Sequence[str] = HIDDEN,
    layers: int | Sequence[int] = 6,
    power: float = 0.25,
    training: Sequence[tuple[float, float]] = (),
    scale: float = 1.0,
) -> Result:
    """A finished analysis of models by name and width."""
    source = random.Random(0)  # noqa: S311 - no secret
    depths = [layers] * len(models) if isinstance(layers, int) else layers
    rows = []
    for (model, width), depth in zip(models.items(), depths, strict=True):
        for i in range(depth):
            for at, role in enumerate(roles):
                sigma = scale * (1.0 + (i * 7 + at * 3) % 5) * (width / 256) ** power
                sigma *= math.exp(source.gauss(0.0, 0.05))
                view = view_of(f"model.layers.{i}.{MODULES[role]}.weight", width, width)
                labels: dict[str, Any] = {"model": model, "width": width}
                rows.append(Row(view.place(labels), "ok", None, dict.fromkeys(Width.keys, sigma)))
    members = tuple(
        Member(model, width, *(training[i] if training else ()))
        for i, (model, width) in enumerate(models.items())
    )
    return concluded(rows, members)


def concluded(rows: Sequence[Row], members: Sequence[Member]) -> Result:
    marked, summary = Width(tuple(members)).conclude(rows)
    models = [
        Model(one.model, one.model, "model", labels={"model": one.model, "width": one.width})
        for one in members
    ]
    settings = {"members": [asdict(one) for one in members]}
    return Result("width", "0", settings, models, marked, (), summary, 0.0)


def panels(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.axison]


def marked(axes: Axes, name: str) -> list[Line2D]:
    return [line for line in axes.get_lines() if line.get_gid() == name]


def texts(figure: Figure) -> list[Text]:
    """Return what is seen: labels of ticks beyond an axis are there, but not drawn."""
    found = list(figure.texts)
    for axes in figure.axes:
        legend = axes.get_legend()
        found += legend.get_texts() if legend else []
        if not axes.axison:
            continue
        found += [axes.xaxis.label, axes.yaxis.label]
        found += [text for text in axes.get_children() if isinstance(text, Text)]
        for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            found += [
                tick.label1
                for tick in axis.get_major_ticks()
                if limits[0] <= tick.get_loc() <= limits[1] and tick.label1.get_visible()
            ]
    return [text for text in found if text.get_text().strip()]


def drawn(result: Result) -> Figure:
    """Draw, and look whether all is on the page and no two texts of it touch."""
    figure = picture(result)
    figure.draw_without_rendering()
    page = figure.bbox
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts(figure)]
    for i, (name, box) in enumerate(boxes):
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= page.x1 + 1 and box.y1 <= page.y1 + 1
        assert inside, name
        for other, second in boxes[i + 1 :]:
            wide = min(box.x1, second.x1) - max(box.x0, second.x0)
            high = min(box.y1, second.y1) - max(box.y0, second.y0)
            assert min(wide, high) <= 1.0, (name, other)
    return figure


def test_every_role_has_its_layers_medians_and_slope() -> None:
    training = [(4e-3, 0.1), (2e-3, 0.1), (1e-3, 0.1), (5e-4, 0.1)]
    result = family(FOUR, training=training)
    figure = drawn(result)
    shown = {axes.get_title(loc="left").split("\n")[0]: axes for axes in panels(figure)}
    assert tuple(shown) == HIDDEN
    for role in result.summary["roles"]:
        axes = shown[role["role"]]
        (dots,), (medians,) = marked(axes, "layers"), marked(axes, "medians")
        rows = [row for row in result.rows if row.place.role == role["role"]]
        assert sorted(np.asarray(dots.get_ydata())) == pytest.approx(
            sorted(row.number("sigma_max") or 0.0 for row in rows)
        )
        assert list(np.asarray(medians.get_ydata())) == pytest.approx(list(role["sigma"].values()))
        assert list(np.asarray(medians.get_xdata())) == pytest.approx(
            [math.log10(width) for width in FOUR.values()]
        )
        slope, low, high = role["slope"], role["low"], role["high"]
        told = f"slope {slope:+.2f} [{low:+.2f}, {high:+.2f}]"
        assert axes.get_title(loc="left").split("\n")[1] == told
    assert "predicted from eta and lambda: +0.25" in written(figure)
    assert "matched: slope 0" in written(figure)


@pytest.mark.parametrize("trained", [True, False])
def test_lines_have_the_slopes_they_are_said_to_have(trained: bool) -> None:
    training = [(4e-3, 0.1), (2e-3, 0.2), (1e-3, 0.4), (5e-4, 0.8)] if trained else []
    result = family(FOUR, power=-0.25, training=training)
    overall = result.summary["overall"]
    assert overall["expected"] == (pytest.approx(-0.25) if trained else None)
    for axes, role in zip(panels(picture(result)), result.summary["roles"], strict=True):
        slopes = []
        for line in axes.get_lines():
            if line.get_gid() in {"layers", "medians"}:
                continue
            (x0, x1), (y0, y1) = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
            slopes.append(math.log10(y1 / y0) / (x1 - x0))
        assert slopes == pytest.approx([role["slope"], 0.0, -0.25], abs=1e-9)
        fitted = axes.get_lines()[0]
        middle = np.log10(np.asarray(fitted.get_ydata())).mean()
        assert middle == pytest.approx(np.log10(list(role["sigma"].values())).mean())


def test_panels_span_the_same_ratio() -> None:
    spans = {
        round(math.log10(axes.get_ylim()[1] / axes.get_ylim()[0]), 9)
        for axes in panels(picture(family(FOUR)))
    }
    assert len(spans) == 1


@pytest.mark.parametrize("count", [1, 2, 4, 8, 12])
def test_any_number_of_roles(count: int) -> None:
    result = family(FOUR, tuple(MODULES)[:count])
    figure = drawn(result)
    names = [axes.get_title(loc="left").split("\n")[0] for axes in panels(figure)]
    hidden = [role["role"] for role in result.summary["roles"] if role["counted"]]
    assert names[: len(hidden)] == hidden
    assert len(names) <= 9
    left_out = [
        role["role"]
        for role in result.summary["roles"]
        if role["role"] not in {name.removesuffix(" (not counted)") for name in names}
    ]
    assert (f"Not drawn: {', '.join(left_out)}." in written(figure)) == bool(left_out)


@pytest.mark.parametrize(
    ("models", "roles"),
    [
        ({"a": 256, "b": 1024}, HIDDEN),
        ({"a": 256, "b": 257}, HIDDEN[:2]),
        ({"a": 8, "b": 100_000}, HIDDEN[:1]),
        ({"s1": 256, "s2": 256, "w": 512}, HIDDEN[:2]),
        (
            {f"m{d}": d for d in (256, 320, 384, 448, 512, 768, 1024, 1536, 2048, 16384)},
            HIDDEN[:3],
        ),
        ({"tuned": 256, "a-model-whose-name-is-far-too-long-for-a-tick-of-an-axis": 256}, HIDDEN),
        ({"$x_": 64, "b\n\x1b[31m名前": 64, "c" * 300: 64}, HIDDEN[:3]),
        ({"$x_": 64, "b\n\x1b[31m名前": 64, "c" * 300: 128}, HIDDEN[:1]),
    ],
    ids=[
        "two",
        "nearly equal",
        "far apart",
        "seeds",
        "ten",
        "one width",
        "odd names",
        "odd names 2",
    ],
)
def test_any_models(models: Mapping[str, int], roles: Sequence[str]) -> None:
    drawn(family(models, roles))


def test_models_of_one_width_stand_side_by_side() -> None:
    figure = drawn(family({"base": 64, "tuned": 64}, HIDDEN[:3]))
    assert "model" in written(figure).split()
    for axes in panels(figure):
        (medians,) = marked(axes, "medians")
        assert list(np.asarray(medians.get_xdata())) == [0.0, 1.0]
        assert axes.get_title(loc="left").split("\n")[1].startswith("ratio ")
        assert len(axes.get_lines()) == 2


def test_depths_may_differ() -> None:
    result = family(FOUR, HIDDEN[:2], layers=[3, 5, 8, 13])
    (dots,) = marked(panels(drawn(result))[0], "layers")
    assert len(np.asarray(dots.get_ydata())) == 29


def test_one_layer_is_no_median() -> None:
    figure = drawn(family(FOUR, layers=1))
    assert "median of layers" not in written(figure)
    assert all(not marked(axes, "layers") for axes in panels(figure))


def test_an_odd_layer_does_not_flatten_the_rest() -> None:
    result = family(FOUR, HIDDEN[:2])
    rows = [
        replace(row, values=dict.fromkeys(Width.keys, 1e9)) if i == 3 else row
        for i, row in enumerate(result.rows)
    ]
    members = [Member(model, width) for model, width in FOUR.items()]
    figure = drawn(concluded(rows, members))
    for axes in panels(figure):
        assert math.log10(axes.get_ylim()[1] / axes.get_ylim()[0]) == pytest.approx(2.2)
        low, high = axes.get_ylim()
        assert all(low < y < high for y in np.asarray(marked(axes, "medians")[0].get_ydata()))
    assert "what is outside is not seen" in written(figure)


@pytest.mark.parametrize("scale", [1e-289, 1e-150, 1e150, 1e288])
def test_any_size(scale: float) -> None:
    drawn(family(FOUR, HIDDEN[:1], scale=scale))


def test_nothing_to_draw_is_said() -> None:
    result = family(FOUR)
    members = [Member(model, width) for model, width in FOUR.items()]
    zero = [replace(row, values=dict.fromkeys(Width.keys, 0.0)) for row in result.rows]
    broken = [
        replace(row, values=dict.fromkeys(Width.keys), status="non-finite") for row in result.rows
    ]
    for rows in (zero, broken, []):
        text = written(drawn(concluded(rows, members)))
        assert "No matrix that could be measured is other than zero." in text


def test_what_is_left_out_is_told() -> None:
    result = family(FOUR, HIDDEN[:2])
    zero = replace(result.rows[0], values=dict.fromkeys(Width.keys, 0.0))
    lost = replace(result.rows[1], values=dict.fromkeys(Width.keys), status="non-finite")
    members = [Member(model, width) for model, width in FOUR.items()]
    text = written(drawn(concluded([zero, lost, *result.rows[2:]], members)))
    assert "Zero and left out: 1." in text
    assert "NaN or Inf and left out: 1." in text


def test_only_embeddings_are_drawn_as_what_they_are() -> None:
    figure = drawn(family(FOUR, ["embed"], layers=1))
    assert "embed (not counted)" in written(figure)
    assert "matched" not in written(figure).replace("not matched", "")


def test_the_same_bytes_every_time(tmp_path: Path) -> None:
    for suffix in (".png", ".svg"):
        paths = [tmp_path / f"{i}{suffix}" for i in range(2)]
        for path in paths:
            save_figure(picture(family(FOUR, HIDDEN[:3])), path)
        assert paths[0].read_bytes() == paths[1].read_bytes()
    assert imread(io.BytesIO((tmp_path / "0.png").read_bytes())).shape[1] == 1200


def test_checkpoints_from_disk(tmp_path: Path) -> None:
    def law(width: int) -> Callable[[str, int], float]:
        return lambda _module, layer: (1.0 + layer) * width**0.25

    widths = (16, 32, 64)
    result = spectra.width([write_scaled(tmp_path / f"d{d}", d, law(d)) for d in widths])
    (medians,) = marked(panels(drawn(result))[0], "medians")
    assert list(np.asarray(medians.get_ydata())) == pytest.approx(
        [2.0 * d**0.25 for d in widths], rel=1e-3
    )


@pytest.mark.parametrize(
    ("tensor", "matrix"),
    [
        ("model.layers.{i}.mlp.experts.{e}.up_proj.weight", "{tensor}"),
        ("model.layers.{i}.mlp.experts.gate_up_proj", "{tensor}[expert={e},up]"),
    ],
)
def test_experts_of_a_layer_are_one_dot(tensor: str, matrix: str) -> None:
    document = family(FOUR, ["mlp.up"], layers=2).document()
    alone, document["rows"] = document["rows"], []
    for at, row in enumerate(alone):
        for expert in range(3):
            name = tensor.format(i=at % 2, e=expert)
            sigma = (1 + expert) * row["sigma_max"]
            found = {"tensor": name, "matrix": matrix.format(tensor=name, e=expert)}
            document["rows"].append({**row, **found, "expert": expert, "sigma_max": sigma})
    (dots,) = marked(panels(draw(document))[0], "layers")
    assert np.asarray(dots.get_ydata()) == pytest.approx([2.0 * row["sigma_max"] for row in alone])
