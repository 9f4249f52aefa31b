"""How far a run is, told while it works."""

import time
from pathlib import Path

import pytest
import torch

import spectra
from examples import write_model
from spectra.errors import UsageError
from spectra.runs import progress
from spectra.runs.progress import State, told_while
from spectra.work.executor import Progress

ONE = Progress(30.0, 120.0, "layers.1.q.weight", 3, 12, 80.4)


def test_the_line_has_count_share_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    state = State()
    assert state.told() == "nothing done yet, 0.1 s so far"
    state.take(ONE)
    assert state.told() == "3 of 12 matrices, 25 %, about 80 s left"
    monkeypatch.setattr(time, "monotonic", lambda: 130.0)
    assert state.told() == "3 of 12 matrices, 25 %, about 50 s left"
    state.take(Progress(1.0, 120.0, "x", 1, 12, None))
    assert state.told() == "1 of 12 matrices, 1 %, time left not known yet"
    state.take(Progress(1.0, 120.0, "x", 1, 12, None, "measurements"))
    assert state.told().startswith("1 of 12 measurements, ")
    state.take(Progress(60.0, 120.0, "x", 7, 12, None, known=6))
    assert state.told().startswith("7 of 12 matrices (6 known from before), 50 %, ")


def test_lines_come_whether_or_not_a_matrix_ends(capsys: pytest.CaptureFixture[str]) -> None:
    with told_while(progress.line, 0.01) as report:
        while capsys.readouterr().err.count("nothing done yet") < 1:
            time.sleep(0.01)
        report(ONE)
        while "3 of 12 matrices, 25 %, about " not in capsys.readouterr().err:
            time.sleep(0.01)
    capsys.readouterr()
    time.sleep(0.05)
    assert capsys.readouterr().err == ""


def test_a_bar_is_one_line_of_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    state = State()
    state.take(ONE)
    progress.bar(state)
    shown = capsys.readouterr().err
    assert shown.startswith("\r\x1b[K━━━━━━━━──────")
    assert len(shown.removeprefix("\r\x1b[K")) <= 60


def test_progress_is_shown_where_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setattr(progress, "EVERY", 0.0)
    model = write_model(tmp_path, {f"layers.{i}.q.weight": torch.eye(300) for i in range(20)})
    spectra.spectrum(model)
    assert capsys.readouterr().err == ""
    spectra.spectrum(model, progress=True)
    assert "matri" in capsys.readouterr().err
    with pytest.raises(UsageError, match="workers=0 is too few"):
        spectra.spectrum(model, workers=0, progress=True)
