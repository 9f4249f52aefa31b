"""Whole commands over four layers of a 7B shape against a plain loop over the same kernels.

`python -m benchmarks engine [kappa|diff]`: the loop reads one matrix after the other and measures
it with all threads, as a user would write it with torch and spectra's analyzers. Both sides are new
processes, the command before and after the loop. `--layers 1` takes a quarter of the time.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file

from benchmarks.clock import unmeasured
from benchmarks.memory import MIB, peak
from benchmarks.pairs import write_layer

GOAL = 1.3
MEMORY = "2500MB"  # of both commands
COMMAND = "import sys; from spectra_cli.main import run; assert run(sys.argv[1:]) == 0"
KEYS = {"kappa": ("kappa", "sigma_max", "sigma_min"),
        "diff": ("delta_norm", "delta_relative", "intruders")}  # fmt: skip


def main(words: Sequence[str] = ()) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks engine")
    parser.add_argument("commands", nargs="*", default=[*KEYS])
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args(words)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; {7 * given.layers} "
          f"matrices, bf16; --memory {MEMORY}")  # fmt: skip
    print(
        "\n| command | seconds (processor's) | plain loop | ratio, at least 1.3 | answers | peak |"
    )
    print("|---|---|---|---|---|---|", flush=True)
    with TemporaryDirectory() as name:
        folder = given.folder or Path(name)
        if not (folder / "base").exists():
            write(folder, given.layers)
        for command in given.commands:
            row(command, folder)


def row(command: str, folder: Path) -> None:
    """Measure one command, and print its row."""
    models = [
        str(folder / part) for part in (("base",) if command == "kappa" else ("base", "full"))
    ]
    more = ["--intruders"] if command == "diff" else []
    ours, theirs = folder / "ours.json", folder / "loop.json"
    line = [command, *models, *more, "--memory", MEMORY, "-q", "-o", str(ours)]
    before = timed("-m", "spectra_cli", *line)
    loop = timed("-m", "benchmarks.engine", "loop", command, str(theirs), *models)
    after = timed("-m", "spectra_cli", *line)
    took = Took(*(statistics.mean(both) for both in zip(before, after, strict=True)))
    found = {one["matrix"]: one for one in json.loads(ours.read_text())["rows"]}
    apart = [
        name for name, values in json.loads(theirs.read_text()).items()
        if any(off(found[name][key], values[key]) for key in KEYS[command])
    ]  # fmt: skip
    answers = f"{len(apart)} differ: {', '.join(apart[:2])}" if apart else f"{len(found)} equal"
    most = peak(COMMAND, line) / MIB
    kept = "" if most * MIB <= 2500e6 else " TOO MUCH"
    ratio = loop.seconds / took.seconds
    print(f"| `{' '.join([command, *more])}` | {took} | {loop} | {ratio:.2f} x"
          f"{'' if ratio >= GOAL else ', not reached'} | {answers} | {most:,.0f} MiB{kept} |",
          flush=True)  # fmt: skip


def off(one: float | None, other: float | None) -> bool:
    """Say whether two answers are not the same to a millionth: threads differ, and last digits."""
    if one is None or other is None:
        return one is not other
    return abs(one - other) > 1e-6 * abs(other)


class Took(NamedTuple):
    """What a process took."""

    seconds: float
    processor: float  # seconds of all its threads, which other work changes less

    def __str__(self) -> str:
        return f"{self.seconds:.1f} ({self.processor:.0f})"


def timed(*words: str) -> Took:
    """Return what a process takes."""
    with unmeasured() as environment:
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *words], env=environment, stdout=subprocess.DEVNULL,
                       check=True)  # fmt: skip
        seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = [one.ru_utime + one.ru_stime for one in (before, after)]
    return Took(seconds, spent[1] - spent[0])


def loop(command: str, out: str, *models: str) -> None:
    """Measure one matrix after the other with all threads, and write what is found."""
    import spectra  # noqa: PLC0415 - its own process alone needs it
    from spectra.analyzers import Diff, Kappa  # noqa: PLC0415
    from spectra.matrices import Selection  # noqa: PLC0415
    from spectra.work import plan_model, plan_pair  # noqa: PLC0415
    from spectra.work.load import Loader  # noqa: PLC0415

    base, *tuned = map(spectra.open, models)
    plan = plan_pair(base, tuned[0], Selection()) if tuned else plan_model(base, Selection())
    analyzer: Diff | Kappa = Diff(intruders=True) if command == "diff" else Kappa()
    loader, found = Loader(plan.tasks), {}
    for task in plan.tasks:
        measured = analyzer.measure(loader.load(task).subject("cpu"))  # type: ignore[arg-type]
        found[task.place.matrix] = {key: measured.values[key] for key in KEYS[command]}
    Path(out).write_text(json.dumps(found))


def write(folder: Path, layers: int) -> None:
    """Write a layer, and others of its spectra: its rows and columns in another order."""
    write_layer(folder / "layer")
    for part in ("base", "full"):
        (folder / part).mkdir()
        index = {}
        for layer in range(layers):
            shard = f"model-{layer:05d}.safetensors"
            tensors = {
                name.replace("layers.0", f"layers.{layer}"):
                    value.roll((layer, 2 * layer), (0, 1)).contiguous()
                for name, value in load_file(folder / "layer" / part / "model.safetensors").items()
            }  # fmt: skip
            save_file(tensors, folder / part / shard)
            index |= dict.fromkeys(tensors, shard)
        weight_map = json.dumps({"weight_map": index})
        (folder / part / "model.safetensors.index.json").write_text(weight_map)


if __name__ == "__main__":
    assert sys.argv[1] == "loop"
    loop(*sys.argv[2:])
    os._exit(0)
