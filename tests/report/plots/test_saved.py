"""Pictures of results read back from their documents, which hold no arrays."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

import spectra
from examples import with_spectrum, write_model
from pictures import picture, written
from spectra.report import draw, save_figure
from spectra.report.plots.scree import sigma_of
from spectra.runs.result import Result

SIGMA = torch.linspace(3.0, 0.5, 90)


def again(result: Result) -> Figure:
    """Draw a result as if from its file."""
    return draw(json.loads(json.dumps(result.document(), allow_nan=False)))


def density(figure: Figure) -> tuple[np.ndarray, np.ndarray]:
    """Return heights and edges of the first panel's bars."""
    bars = next(patch for patch in figure.axes[0].patches if isinstance(patch, StepPatch))
    heights, edges, _ = bars.get_data()
    return heights, edges


def panel(figure: Figure, title: str) -> Axes:
    return next(axes for axes in figure.axes if axes.get_title(loc="left").startswith(title))


@pytest.fixture(scope="module")
def spectrum(minilm: Path) -> Result:
    return spectra.spectrum(minilm)


def test_what_needs_no_arrays_is_the_same_to_the_byte(
    minilm: Path, minilm_lora: Path, tmp_path: Path
) -> None:
    few = spectra.Selection(layers="0-1")
    for result in (
        spectra.kappa(minilm, select="10%", selection=few),
        spectra.diff(minilm, minilm_lora, selection=few),
        spectra.spectrum(write_model(tmp_path / "small", {"a.weight": torch.eye(12)})),
    ):
        save_figure(picture(result), tmp_path / "live.png")
        save_figure(again(result), tmp_path / "again.png")
        assert (tmp_path / "live.png").read_bytes() == (tmp_path / "again.png").read_bytes()


def test_a_profile_draws_the_spectrum_that_it_was_taken_of(spectrum: Result) -> None:
    for row in spectrum.document()["rows"]:
        sigma = spectrum.arrays[row["matrix"]]["sigma"].double().numpy()
        found = sigma_of(row, {})
        assert len(found) == len(sigma)
        assert (np.diff(found) <= 0.0).all()
        count = len(sigma)
        ranks = [round(i * (count - 1) / 64 + 1e-9) for i in range(65)]
        if count > 65:
            assert found[ranks] == pytest.approx(sigma[ranks], rel=1e-5)
        else:
            assert found == pytest.approx(sigma, rel=1e-5)


def test_the_density_of_a_profile_has_the_mass_of_the_spectrum(spectrum: Result) -> None:
    live, saved = picture(spectrum), again(spectrum)
    masses = []
    for figure in (live, saved):
        heights, edges = density(figure)
        ends = edges[[0, -1]]
        assert ends == pytest.approx(density(live)[1][[0, -1]], rel=1e-4)
        found = np.concatenate([[0.0], np.cumsum(heights * np.diff(edges))])
        masses.append(np.interp(density(live)[1], edges, found))
    assert masses[0][-1] == pytest.approx(1.0)
    assert masses[0] == pytest.approx(masses[1], abs=2 / 64)
    assert "A saved result holds 65 singular values of a matrix" in written(saved)
    assert "A saved result" not in written(live)
    assert "(about " in written(saved)


def test_the_panels_of_a_profile_are_those_of_the_spectrum(spectrum: Result) -> None:
    live, saved = panel(picture(spectrum), "attn.q"), panel(again(spectrum), "attn.q")
    for one, other in zip(live.get_lines(), saved.get_lines(), strict=True):
        first, second = np.asarray(one.get_ydata()), np.asarray(other.get_ydata())
        assert second[[0, -1]] == pytest.approx(first[[0, -1]], rel=1e-5)


def test_intruders_are_crossed_and_close_ups_are_missed(minilm: Path, minilm_lora: Path) -> None:
    result = spectra.diff(
        minilm, minilm_lora, intruders=True, selection=spectra.Selection(layers="5")
    )
    figure = again(result)
    assert len(figure.axes) == 2
    crosses = [line for line in figure.axes[0].get_lines() if line.get_gid() == "intruders"]
    assert len(np.asarray(crosses[0].get_xydata())) == result.summary["intruders"] > 0
    assert "a saved result does not hold every |cos|" in written(figure)
    assert "close-ups outline" in written(picture(result))


def test_zeros_at_the_end_of_a_profile_are_zeros(tmp_path: Path) -> None:
    sigma = torch.cat([torch.logspace(1, -1, 60), torch.zeros(40)])
    found = spectra.spectrum(write_model(tmp_path / "m", {"a": with_spectrum(sigma, 100, 100)}))
    (row,) = found.document()["rows"]
    row["sigma_profile"] = [value if value > 1e-5 else 0.0 for value in row["sigma_profile"]]
    filled = np.count_nonzero(sigma_of(row, {}))
    assert 58 <= filled <= 60


def test_arrays_may_come_from_elsewhere(tmp_path: Path) -> None:
    result = spectra.spectrum(write_model(tmp_path / "m", {"a": with_spectrum(SIGMA, 100, 90)}))
    kept = {name: {"sigma": found["sigma"].numpy()} for name, found in result.arrays.items()}
    save_figure(draw(result.document(), kept), tmp_path / "kept.png")
    save_figure(picture(result), tmp_path / "live.png")
    assert (tmp_path / "kept.png").read_bytes() == (tmp_path / "live.png").read_bytes()


@pytest.mark.parametrize("command", ["spectrum", "diff", "kappa", "role"])
def test_roles_to_come_are_drawn_last(command: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", {f"{name}.weight": SIGMA.diag() for name in "ab"})
    tuned = write_model(tmp_path / "t", {f"{name}.weight": 2 * SIGMA.diag() for name in "ab"})
    document = {
        "spectrum": lambda: spectra.spectrum(folder),
        "diff": lambda: spectra.diff(folder, tuned),
        "kappa": lambda: spectra.kappa(folder),
        "role": lambda: spectra.kappa(folder, select="50%", per="role"),
    }[command]().document()
    document["rows"][0]["role"] = "role\nto come"
    assert "role\\nto come" in written(draw(document))
