"""How far a run is, told while it works."""

import os
import termios
import time
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
import torch

import spectra
from examples import write_model
from spectra.errors import UsageError
from spectra.runs import progress
from spectra.runs.progress import State, shown, told_while
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
    state.take(Progress(36.0, 120.0, "x", 12, 40, 12.0, known=5, read=1 << 30, to_read=9 << 29))
    assert state.told() == (
        "12 of 40 matrices (5 known from before), 1.0 of 4.5 GiB, 30 %, about 12 s left"
    )
    assert state.told(short=True) == "12 of 40 (5 known), 1.0 of 4.5 GiB, 30 %, 12 s left"


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
    monkeypatch.setenv("COLUMNS", "61")
    state = State()
    state.take(ONE)
    progress.bar(state)
    shown = capsys.readouterr().err
    assert shown.startswith("\r\x1b[K━━━━━──────")
    assert shown.endswith(" left")
    assert len(shown.removeprefix("\r\x1b[K")) <= 59


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 100, 160])
def test_a_bar_fits_however_much_there_is_to_say(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    state = State()
    large = 123 << 30
    for left in (None, 5e5):
        state.take(
            Progress(30.0, 120.0, "m" * 90, 1234, 54321, left, "measurements", 999, 7, large)
        )
        progress.bar(state)
        shown = capsys.readouterr().err.removeprefix("\r\x1b[K")
        assert len(shown) + len("^C") <= columns, "it is cleared with the bar: it wraps no line"
        if columns >= 80:
            assert shown.startswith("━")
            assert "(999 known" in shown
            assert "0.0 of 123.0 GiB, 25 %, " in shown
            assert shown.rstrip("m ").endswith("left" if left else ("unknown", "yet"))


@pytest.mark.parametrize(("columns", "wide"), [(40, 40), (120, 120), (0, 80)])
def test_a_bar_has_the_width_of_the_terminal_it_is_on(
    columns: int, wide: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in `spectra ... | tail`, where the output is no terminal."""
    monkeypatch.delenv("COLUMNS", raising=False)
    keyboard, terminal = os.openpty()
    termios.tcsetwinsize(terminal, (24, columns))
    with os.fdopen(keyboard, "rb", 0) as seen, os.fdopen(terminal, "w") as screen:
        monkeypatch.setattr("sys.stderr", screen)
        state = State()
        state.take(ONE)
        progress.bar(state)
        shown = seen.read(4096).decode().removeprefix("\r\x1b[K")
    assert wide / 2 < len(shown) < wide


def test_bytes_are_told_of_what_is_read_and_each_once(tmp_path: Path) -> None:
    fused = "model.layers.{}.self_attn.qkv_proj.weight"
    config = (
        '{"model_type": "phi3", "num_attention_heads": 2, "num_key_value_heads": 2,'
        ' "hidden_size": 16, "head_dim": 8}'
    )
    model = write_model(tmp_path, {fused.format(i): torch.eye(48, 16) for i in range(2)}, config)
    told: list[Progress] = []
    spectra.spectrum.plan(model, layers=0, cache=False).run(told.append)
    assert {one.to_read for one in told} == {48 * 16 * 4}
    assert told[-1].read == told[-1].to_read
    assert [one.read for one in told] == sorted(one.read for one in told)
    told.clear()
    spectra.spectrum(model, layers=0)
    spectra.spectrum.plan(model).run(told.append)
    assert (told[-1].known, told[-1].read, told[-1].to_read) in {
        (3, 48 * 16 * 4, 48 * 16 * 4), (0, 2 * 48 * 16 * 4, 2 * 48 * 16 * 4),
    }  # fmt: skip


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


class Watched(nbclient.NotebookClient):  # type: ignore[misc]
    """A notebook's client that notes what a kernel displays."""

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:  # noqa: ANN401 - Jupyter's own
        if msg["msg_type"] in {"display_data", "update_display_data"}:
            self.seen = [*getattr(self, "seen", []), (cell_index, msg["content"]["data"])]
        return super().process_message(msg, cell, cell_index)


@pytest.mark.filterwarnings("ignore")  # of Jupyter's own
def test_a_notebook_has_a_bar_that_moves_and_goes() -> None:
    begin = (
        "import time\nfrom spectra.runs.progress import shown\n"
        "from spectra.work.executor import Progress\n"
        "one = Progress(1.0, 4.0, 'x', 1, 4, 50.0, known=1, read=1 << 30, to_read=2 << 30)\n"
    )
    during = "with shown(None) as report:\n    report(one)\n    time.sleep({})\n    {}"
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(begin + during.format(1.5, "print('done')")),
            nbformat.v4.new_code_cell(during.format(0.5, "raise KeyboardInterrupt")),
            nbformat.v4.new_code_cell(during.format(0, "print('at once')")),
        ]
    )
    client = Watched(notebook, timeout=60, kernel_name="python3", allow_errors=True)
    client.execute()
    empty = {"text/html": "", "text/plain": ""}
    bars = [[data for cell, data in client.seen if cell == index] for index in range(3)]
    told = [data["text/plain"] for data in bars[0]]
    begins = "1 of 4 matrices (1 known from before), 1.0 of 2.0 GiB, 25 %, about "
    assert len(told) >= 3, "the time left goes down while one matrix takes long"
    assert all(text.startswith(begins) for text in told[:-1])
    assert "value='0.250'" in bars[0][0]["text/html"]
    assert (bars[0][-1], bars[1][-1], bars[2]) == (empty, empty, [])
    assert [one["data"] for one in notebook.cells[1].outputs if "data" in one] == [empty]


@pytest.mark.parametrize(
    ("settings", "redrawn"),
    [({}, True), ({"TERM": "dumb"}, False), ({"CI": "true"}, False), ({"CI": "false"}, True)],
    ids=["terminal", "dumb", "CI", "no CI"],
)
def test_a_bar_is_drawn_where_a_line_can_be_redrawn(
    settings: dict[str, str], redrawn: bool,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(progress, "EVERY", 0.01)
    for name, value in {"TERM": "xterm", "CI": "", **settings}.items():
        monkeypatch.setenv(name, value)
    assert _told(capsys, redrawn=False), "a pipe has lines"
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert _told(capsys, redrawn=redrawn)


def _told(capsys: pytest.CaptureFixture[str], *, redrawn: bool) -> bool:
    told = ""
    capsys.readouterr()  # what another wrote at its end
    with shown(True) as report:
        report(ONE)
        until = time.monotonic() + 10
        while "25 %" not in told and time.monotonic() < until:
            time.sleep(0.01)
            told += capsys.readouterr().err
    return "25 %" in told and ("\r" in told) is redrawn
