"""`spectra.load`: what a file holds, as the result that was written to it."""

import json
from pathlib import Path

import pandas as pd
import pytest

import spectra
from report.html import documents
from spectra.errors import SpectraError, UsageError
from spectra.report.document import SavedError

EVERY = documents.EVERY | documents.SERIES


def saved(folder: Path, document: object) -> Path:
    path = folder / "r.json"
    path.write_text(json.dumps(document))
    return path


@pytest.fixture(scope="module")
def live(minilm: Path, minilm_lora: Path) -> spectra.Result:
    return spectra.diff(
        minilm, minilm_lora, intruders=True, selection=spectra.Selection(layers="5")
    )


@pytest.mark.parametrize("name", EVERY)
def test_a_result_comes_back_whole(name: str, tmp_path: Path) -> None:
    document = EVERY[name](2)
    back = spectra.load(saved(tmp_path, document))
    assert isinstance(back, spectra.Result)
    assert json.dumps(back.document()) == json.dumps(document)
    assert back.frame.shape[0] == len(back.rows) == len(document["rows"])
    for row, found in zip(back.rows, document["rows"], strict=True):
        assert (row.matrix, row.status) == (found["matrix"], found["status"])
        for key in ("sigma_max", "delta_norm"):
            assert key not in found or row.number(key) == found[key]


def test_it_is_as_the_live_one(live: spectra.Result, tmp_path: Path) -> None:
    back = spectra.load(str(saved(tmp_path, live.document())))
    assert (back.command, back.version) == (live.command, live.version)
    assert back.summary == live.summary
    assert (back.skipped, back.models) == (list(live.skipped), list(live.models))
    pd.testing.assert_frame_equal(back.frame, live.frame)
    assert [row.flat() for row in back.rows] == [row.flat() for row in live.rows]


@pytest.mark.parametrize("name", [name for name in EVERY if name != "check"])
def test_it_draws_what_the_file_holds(name: str, tmp_path: Path) -> None:
    back = spectra.load(saved(tmp_path, EVERY[name]()))
    figure = back.plot(tmp_path / "r.png")
    assert (tmp_path / "r.png").stat().st_size > 10_000
    assert figure.axes


def test_a_result_without_rows_has_an_empty_frame(tmp_path: Path) -> None:
    assert spectra.load(saved(tmp_path, documents.spectrum(1) | {"rows": []})).frame.empty


def test_what_is_no_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SavedError, match=r"r\.json is no result .* the whole is a list"):
        spectra.load(saved(tmp_path, []))
    with pytest.raises(SpectraError, match="cannot be read: No such file"):
        spectra.load(tmp_path / "none.json")


def test_what_a_picture_stumbles_over_is_one_line(tmp_path: Path) -> None:
    document = documents.diff(1)
    document["rows"][0]["intruder_detail"][0]["index"] = 10**9
    with pytest.raises(SavedError, match=r"r\.json is damaged \(IndexError: .*Write it again"):
        spectra.load(saved(tmp_path, document)).plot()


def test_it_shows_itself_in_a_notebook(tmp_path: Path) -> None:
    document = documents.diff(1)
    shown = spectra.load(saved(tmp_path, document))._repr_html_()
    assert document["summary"]["reading"] in shown
    del document["rows"][0]["intruder_detail"][0]["decided_by"]
    with pytest.raises(SavedError, match=r"r\.json is damaged \(KeyError: .*decided_by"):
        spectra.load(saved(tmp_path, document))._repr_html_()


def test_an_export_needs_the_model(tmp_path: Path) -> None:
    back = spectra.load(saved(tmp_path, documents.kappa(1)))
    with pytest.raises(
        UsageError, match=r"Run: spectra\.kappa\(.*, select='10%'\)\.export\('peft'\)$"
    ):
        back.export("peft")


def test_a_folder_is_no_result(tmp_path: Path) -> None:
    with pytest.raises(SpectraError, match="is a folder"):
        spectra.load(tmp_path)
