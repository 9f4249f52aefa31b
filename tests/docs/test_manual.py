"""The manual page says what the commands say, and roff reads it."""

import re
import shutil
import subprocess
import sys
from typing import Any

import pytest
import typer
from spectra_cli.main import app

from blocks import ROOT

PAGE = ROOT / "docs" / "spectra.1"
GROUP: Any = typer.main.get_command(app)


def test_it_is_what_the_commands_are_now() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cogapp", "-I", "docs", "--check", "--diff", str(PAGE)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"run `make format`; the manual differs:\n{done.stdout}"


@pytest.mark.parametrize("name", GROUP.commands)
def test_every_command_and_option_is_in_it(name: str) -> None:
    text = PAGE.read_text().replace("\\-", "-").replace("\\&", "")
    assert re.search(rf"^\.SS spectra {name}\b", text, re.MULTILINE)
    for one in GROUP.commands[name].params:
        assert one.hidden or one.opts[-1] in text or one.metavar in text


@pytest.mark.skipif(shutil.which("groff") is None, reason="there is no groff here")
def test_roff_reads_it_without_a_warning() -> None:
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", str(PAGE)], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    shown = re.sub(r"\x1b\[\d*m|.\x08", "", done.stdout)
    assert "spectra - answer questions about a neural network" in shown
    assert "EXIT STATUS" in shown
