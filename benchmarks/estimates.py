"""What `--dry-run` tells of ten commands, against what they take: whole processes, by the clock.

Told three times: where nothing was ever timed, after one run of another command on another model,
and after a run of the same. Beside it what the bar of the first run says at first is left.
"""

import fcntl
import json
import os
import re
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks.clock import unmeasured
from benchmarks.models import ADAPTER, minilm
from benchmarks.pairs import HIDDEN, INNER, SHAPES, write_layer
from spectra.work.database import Database
from spectra.work.store import NAME, ROW

CALIBRATION = ["spectrum", "{minilm}"]
QUESTIONS = {
    "MiniLM: spectrum": ["spectrum", "{minilm}"],
    "MiniLM: kappa": ["kappa", "{minilm}"],
    "MiniLM: diff --intruders, adapter": ["diff", "{minilm}", "{adapter}", "--intruders"],
    "7B layer: spectrum": ["spectrum", "{layer}/base"],
    "7B layer: kappa": ["kappa", "{layer}/base"],
    "7B layer: kappa --select 15%": ["kappa", "{layer}/base", "--select", "15%"],
    "7B layer: diff, merge": ["diff", "{layer}/base", "{layer}/merged"],
    "7B layer: diff --intruders, adapter": [
        "diff", "{layer}/base", "{layer}/adapter", "--intruders",
    ],
    "7B layer: check --base": ["check", "{layer}/merged", "--base", "{layer}/base"],
    "7B layer: width, and one of half": ["width", "{layer}/base", "{half}/base"],
}  # fmt: skip
LEFT_AT_FIRST = "left at first"
BOUNDS = {"nothing known": 2.0, LEFT_AT_FIRST: 2.0, "after another": 1.3, "after itself": 1.3}
LEFT = re.compile(rb"([0-9.]+) (s|min|h) left")
SECONDS = {b"s": 1.0, b"min": 60.0, b"h": 3600.0}
WINDOW = struct.pack("HHHH", 50, 160, 0, 0)  # rows and columns of the terminal


class Told(NamedTuple):
    """Seconds that a dry run tells of a command."""

    seconds: float
    busy: float


def main() -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_layer(folder / "layer")
        half = {module: (rows // 2, cols // 2) for module, (rows, cols) in SHAPES.items()}
        write_layer(folder / "half", half)
        places = {
            "minilm": str(minilm()), "adapter": str(ADAPTER), "layer": str(folder / "layer"),
            "half": str(folder / "half"),
        }  # fmt: skip
        subprocess.run([sys.executable, "-m", "spectra_cli", "ls", places["minilm"]],
                       check=True, capture_output=True)  # fmt: skip
        table(places)


def table(places: Mapping[str, str]) -> None:
    """Print a row for each command, and how many estimates are as near as asked for."""
    print(f"a layer of {HIDDEN} and {INNER}; seconds told before, and of those taken\n")
    print("| command | taken | " + " | ".join(f"{name}" for name in BOUNDS) + " |")
    print("|---" * (2 + len(BOUNDS)) + "|", flush=True)
    near, most = dict.fromkeys(BOUNDS, 0), 1.0
    with unmeasured() as other:
        run(CALIBRATION, places, other)
        for name, words in QUESTIONS.items():
            with unmeasured() as own:
                found = {"nothing known": told(words, places, own)}
                taken, found[LEFT_AT_FIRST], rest = watched(words, places, own)
                forget(own)
                found["after another"] = told(words, places, forget(other))
                found["after itself"] = told(words, places, own)
            cells = []
            for way, one in found.items():
                ratio = one.seconds / (rest if way == LEFT_AT_FIRST else taken)
                near[way] += 1 / BOUNDS[way] <= ratio <= BOUNDS[way]
                most = max(most, one.busy)
                cells.append(f"{one.seconds:.1f} s, {ratio:.2f}")
            print(f"| {name} | {taken:.1f} s | " + " | ".join(cells) + " |", flush=True)
    count = len(QUESTIONS)
    print("".join(
        f"\n{way}: {near[way]} of {count} within {bound:g} x" for way, bound in BOUNDS.items()
    ))  # fmt: skip
    if most > 1.2:
        print(f"the machine was busy: up to {most:.1f} x as long as alone")


def told(words: list[str], places: Mapping[str, str], environment: Mapping[str, str]) -> Told:
    """Return what a dry run says."""
    done = spectra([*words, "--dry-run", "--format", "json"], places, environment)
    found = json.loads(done)["dry_run"]
    return Told(found["seconds"], found["busy"])


def watched(
    words: list[str], places: Mapping[str, str], environment: Mapping[str, str]
) -> tuple[float, Told, float]:
    """Return how long a command takes on a terminal, the first time left, and what was left."""
    ours, its = os.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, WINDOW)
    line = [sys.executable, "-m", "spectra_cli", *(word.format(**places) for word in words)]
    start, seen, first, at = time.perf_counter(), b"", None, 0.0
    with subprocess.Popen(
        line, env={**environment, "TERM": "xterm"}, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=its,
    ) as process:  # fmt: skip
        os.close(its)
        with suppress(OSError):  # nobody is on the other side any more
            while piece := os.read(ours, 1 << 16):
                seen += piece
                if first is None and (first := LEFT.search(seen)):
                    at = time.perf_counter()
    os.close(ours)
    ended = time.perf_counter()
    if process.returncode not in (0, 1):
        sys.exit(f"{' '.join(line)} ended with {process.returncode}:\n{seen.decode()}")
    told = float(first[1]) * SECONDS[first[2]] if first else float("nan")
    return ended - start, Told(told, 1.0), ended - at


def run(words: list[str], places: Mapping[str, str], environment: Mapping[str, str]) -> None:
    """Run a command."""
    spectra([*words, "-q"], places, environment)


def spectra(words: list[str], places: Mapping[str, str], environment: Mapping[str, str]) -> str:
    line = [word.format(**places) for word in words]
    done = subprocess.run(
        [sys.executable, "-m", "spectra_cli", *line], env=environment, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    if done.returncode not in (0, 1):  # 1: a check that found something
        sys.exit(f"{' '.join(line)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def forget(environment: Mapping[str, str]) -> Mapping[str, str]:
    """Drop what was measured, and keep how long it took."""
    with closing(Database(Path(environment["SPECTRA_CACHE_DIR"]) / NAME)) as base:
        for about, _, _ in base.sizes(ROW):
            base.drop(ROW, about)
    return environment
