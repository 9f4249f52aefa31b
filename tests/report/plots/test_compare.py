"""The picture of a comparison: a point for every move, and where they are."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

import spectra
from pictures import written
from spectra.report import draw, save_figure

Document = dict[str, Any]


@pytest.fixture(scope="module")
def model(minilm: Path) -> Document:
    return spectra.spectrum(minilm, selection=spectra.Selection(layers="1")).document()


def times(document: Document, factor: float, key: str = "sigma_max") -> Document:
    """Return a result with one number of every matrix multiplied."""
    found = copy.deepcopy(document)
    for row in found["rows"]:
        row[key] *= factor
    return found


def drawn(before: Document, after: Document) -> Figure:
    figure = draw(spectra.compare(before, after).document())
    inside = figure.get_tightbbox()
    assert inside.x0 >= -0.01
    assert inside.x1 <= figure.get_figwidth() + 0.01
    return figure


def points(figure: Figure) -> list[list[float]]:
    """Return where the points of each quantity lie."""
    return [
        np.asarray(found.get_offsets())[:, 0].tolist()
        for found in figure.axes[0].collections
        if isinstance(found, PathCollection)
    ]


def test_small_changes_are_in_per_cent_and_large_ones_factors(model: Document) -> None:
    small = drawn(model, times(model, 1.02))
    assert points(small) == [pytest.approx([2.0] * 6)]
    assert "change over before (%)" in written(small)
    large = drawn(model, times(model, 0.25))
    assert points(large) == [pytest.approx([0.25] * 6)]
    assert "after over before (factor)" in written(large)
    assert "6 of 6; most: 2.56 → 0.64 (÷ 4)" in written(large)


def test_the_weights_of_both_sides_are_named(model: Document) -> None:
    (one,) = model["models"]
    other = {**times(model, 1.1), "models": [{**one, "digest": "sample:0123456789abcdef"}]}
    told = f"weights before {one['digest'][:19]}, after sample:0123456789ab"
    assert told in written(drawn(model, other))


def test_every_quantity_has_a_line(model: Document) -> None:
    other = times(times(model, 1.1), 0.9, "frobenius")
    other["rows"][0]["frobenius"] = model["rows"][0]["frobenius"]
    assert [len(found) for found in points(drawn(model, other))] == [6, 5]


def test_what_has_no_point_is_told(model: Document) -> None:
    other = times(model, 1.1)
    other["rows"][0] |= {"sigma_min": 0.0, "kappa": None, "status": "singular"}
    assert "2 moves have no point: from or to 0, a bound, or a word." in written(
        drawn(model, other)
    )


def test_a_matrix_that_lost_its_numbers_is_hatched(model: Document) -> None:
    other = copy.deepcopy(model)
    row = other["rows"][0]
    measured = row.keys() - {"tensor", "matrix", "role", "layer", "expert", "rows", "cols", "dtype"}
    row |= dict.fromkeys(measured) | {"status": "non-finite", "error": "1 NaN"}
    figure = drawn(model, other)
    assert "nothing to draw" not in written(figure)
    assert "No number moved from one value above 0 to another." in written(figure)
    assert "Hatched: no numbers, such as of NaN or Inf." in written(figure)
    assert sum(bool(patch.get_hatch()) for patch in figure.axes[0].patches) == 1


@pytest.mark.parametrize("factor", [1.0, 1e-300, 1e290, 0.0])
def test_nothing_and_everything_can_be_drawn(
    model: Document, factor: float, tmp_path: Path
) -> None:
    figure = drawn(model, times(model, factor))
    for name in ("once.svg", "again.svg"):
        save_figure(figure, tmp_path / name)
    assert (tmp_path / "once.svg").read_bytes() == (tmp_path / "again.svg").read_bytes()
    assert ("nothing to draw" in written(figure)) == (factor == 1.0)
