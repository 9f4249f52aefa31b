"""The pictures of groups of layers, and of two models beside each other."""

from pathlib import Path

import numpy as np
import pytest

import spectra
from scaled import write_attention
from spectra.report import draw


def test_a_line_over_the_layers_of_each_group_for_each_basis(minilm: Path) -> None:
    result = spectra.shared(minilm, group="2,4", rank=8)
    figure = draw(result.document(), {})
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["attn.k", "attn.v"]
    rows = [row.values for row in result.rows if row.place.role == "attn.k"]
    drawn = {
        (round(float(x[0] + 0.35)), round(float(x[-1] - 0.35)), float(y[0]))
        for line in figure.axes[0].get_lines()
        for x, y in [(np.asarray(line.get_xdata()), np.asarray(line.get_ydata()))]
    }
    assert drawn == {
        (row["in_group"][0], row["in_group"][-1], row[key])  # type: ignore[index]
        for row in rows for key in ("single_energy", "shared_energy", "shared_null")
    }  # fmt: skip
    nothing = [{**row, "shared_energy": None} for row in result.document()["rows"]]
    figure = draw({**result.document(), "rows": nothing}, {})
    assert any("has anything to share" in text.get_text() for text in figure.texts)


@pytest.mark.parametrize("same", [True, False])
def test_cosines_before_and_after_and_what_moved(tmp_path: Path, same: bool) -> None:
    first = write_attention(tmp_path / "first")
    second = first if same else write_attention(tmp_path / "second", seed=5)
    result = spectra.match(first, second)
    figure = draw(result.document(), {})
    titles = [title for axes in figure.axes if (title := axes.get_title(loc="left"))]
    moved = any(row.values["moved_share"] for row in result.rows)
    assert len(titles) == (3 if moved else 1)
    assert moved is not same
    told = " ".join(text.get_text() for text in figure.texts)
    assert ("Nothing moved" in told) is same
