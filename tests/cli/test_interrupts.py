"""Interrupts at any instant: one line, the exit code, and nothing half-written."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from examples import write_model

NOTHING = "error: interrupted; nothing was written. Run the same command again.\n"
KEPT = "What was measured is kept: the same command goes on from there.\n"
MEASURED = NOTHING.replace("Run the same command again.\n", KEPT)
AT_IMPORT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs the tests may ignore it
class Interrupting:
    def find_spec(name, *_):
        if name == {name!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting)
from spectra_cli.entry import main
main()
"""
AT_CALL = """
import os, pathlib, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
def interrupting(self, *given, {name}=pathlib.Path.{name}, **named):
    found = {name}(self, *given, **named)
    if {word!r} in self.name:
        os.kill(os.getpid(), {number})
    return found
pathlib.Path.{name} = interrupting
from spectra_cli.entry import main
main()
"""


def run(script: str, *words: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, words)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model", {"layers.0.q.weight": torch.eye(4)})


@pytest.mark.parametrize(
    "name", ["spectra_cli.main", "typer", "rich", "spectra.words", "torch", "spectra.api", "pandas"]
)
def test_an_interrupt_while_modules_are_loaded(name: str, model: Path, tmp_path: Path) -> None:
    done = run(AT_IMPORT.format(name=name), "kappa", model, "-o", tmp_path / "x.parquet")
    said = MEASURED if name == "pandas" else NOTHING  # which only what is written needs
    assert (done.returncode, done.stdout, done.stderr) == (130, "", said)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_nothing_is_loaded_before_interrupts_are_answered() -> None:
    """What is before is Python's own: its start, `site`, and the lines that pip wrote."""
    script = """
import _signal, sys
before = set(sys.modules)
def first(number, handler):
    print(*sorted(set(sys.modules) - before))
    raise SystemExit
_signal.signal = first
from spectra_cli.entry import main
main()
"""
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["spectra_cli", "spectra_cli.entry"]


@pytest.mark.parametrize(
    ("words", "number"),
    [
        (["spectrum", "--dry-run"], signal.SIGINT), (["spectrum", "--dry-run"], signal.SIGTERM),
        (["check", "--init"], signal.SIGINT),
        (["check", "--save-baseline", "b.json"], signal.SIGTERM),
        (["report", "-o", "page.html"], signal.SIGINT), (["ls", "-o", "ls.json"], signal.SIGTERM),
    ],
    ids=str,
)  # fmt: skip
def test_twice_at_whatever_a_command_begins(
    words: list[str], number: int, model: Path, tmp_path: Path
) -> None:
    twice = f"os.kill(os.getpid(), {number}); os.kill(os.getpid(), {number})"
    script = AT_CALL.format(name="stat", word=model.name, number=number)
    script = script.replace(f"os.kill(os.getpid(), {number})", twice)
    done = subprocess.run(
        [sys.executable, "-c", script, *words, str(model)],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    said = NOTHING if number == signal.SIGINT else NOTHING.replace("interrupted", "terminated")
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", said)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("function", ["touch", "write_text", "write_bytes"])
def test_an_interrupt_while_a_file_is_written_leaves_no_part_of_it(
    function: str, model: Path, tmp_path: Path
) -> None:
    suffix = ".parquet" if function == "write_bytes" else ".json"
    (tmp_path / f"precious{suffix}").write_text("before")
    script = AT_CALL.format(name=function, word="precious", number=int(signal.SIGINT))
    done = run(script, "kappa", model, "-o", tmp_path / f"precious{suffix}")
    assert (done.returncode, done.stderr) == (130, MEASURED)
    assert (tmp_path / f"precious{suffix}").read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", f"precious{suffix}"]


@pytest.mark.parametrize("function", ["replace", "write_text"])
def test_what_was_written_before_is_told(function: str, model: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.csv"
    word = "first" if function == "replace" else "second"
    script = AT_CALL.format(name=function, word=word, number=int(signal.SIGTERM))
    done = run(script, "kappa", model, "-o", first, "-o", second)
    assert done.returncode == 143
    told = f"error: terminated; only {first} was written. {KEPT}"
    assert done.stderr == told
    assert first.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.json", "model"]


def test_an_interrupt_in_the_middle_of_the_work_does_not_wait_for_it(tmp_path: Path) -> None:
    large = {f"layers.{i}.q.weight": torch.randn(1500, 1500) for i in range(8)}
    base = write_model(tmp_path / "base", large)
    path = tmp_path / "result.json"
    path.write_text("precious")
    script = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "import spectra.api, spectra.report.plots, spectra_cli.run, spectra_cli.entry as door; "
        "print('ready', flush=True); door.main()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, "spectrum", str(base), "-o", str(path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err in (NOTHING, MEASURED)
    assert path.read_text() == "precious"


def test_an_interrupt_that_whoever_started_it_ignores_is_ignored(model: Path) -> None:
    script = AT_IMPORT.format(name="torch").replace("default_int_handler", "SIG_IGN")
    done = run(script, "kappa", model)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", [["-m", "spectra_cli"], ["-m", "spectra"]], ids="".join)
def test_every_door_answers(words: list[str], tmp_path: Path) -> None:
    """A module of that name found first stands for the time that imports take."""
    (tmp_path / "typer.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGINT)")
    reset = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    (tmp_path / "sitecustomize.py").write_text(reset)
    done = subprocess.run(
        [sys.executable, *words, "ls", "nope"], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", NOTHING)
