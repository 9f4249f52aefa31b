"""What the library logs while it works, such as a wait, is told at once and beside the bar."""

import logging
import time

import pytest
from spectra_cli import terminal

from spectra.runs.progress import CLEARED
from spectra.work.executor import Progress

from .conftest import Command

TEXT = "org/m: the rate limit is reached (status 429); trying again in 45 s."


@pytest.fixture(autouse=True)
def _drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a terminal of which a line can be drawn again, unless a test says otherwise."""
    monkeypatch.setenv("CI", "")
    monkeypatch.setenv("TERM", "xterm")


def test_it_is_a_warning_and_once(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):  # a command line each
        assert command("--version").code == 0
    logging.getLogger("spectra").warning("%s", TEXT)
    assert capsys.readouterr().err == f"warning: {TEXT}\n"


@pytest.mark.parametrize("drawn", [True, False])
def test_it_takes_the_place_of_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, drawn: bool
) -> None:
    terminal.hear()
    monkeypatch.setattr("sys.stderr.isatty", lambda: drawn, raising=False)
    with terminal.progress_bar(quiet=False) as report:
        report(Progress(30.0, 120.0, "q", 3, 12))
        capsys.readouterr()
        logging.getLogger("spectra").warning("%s", TEXT)
        told = ""
        until = time.monotonic() + 5
        while TEXT not in told and time.monotonic() < until:
            told += capsys.readouterr().err
    assert f"{CLEARED if drawn else ''}warning: {TEXT}\n" in told
    capsys.readouterr()
    terminal.note("after")
    assert capsys.readouterr().err == "after\n"
