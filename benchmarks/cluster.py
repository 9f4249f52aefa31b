"""Two workers of a Ray cluster on this machine against the local engine, whole commands."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import save_file

from benchmarks.clock import seconds, unmeasured
from benchmarks.models import ADAPTER, minilm

RUNS = 3
LEAST = 0.85  # of the local engine's throughput
SIDE, COUNT = 2048, 40
NODES = """
import logging, sys
logging.disable()
from ray.cluster_utils import Cluster
nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
for _ in range(2):
    nodes.add_node(num_cpus=1)
print(nodes.address, flush=True)
sys.stdin.read()
nodes.shutdown()
"""


def main() -> None:
    print(
        "| command | local | two nodes that run | throughput, at least 0.85 x "
        "| with a cluster of its own |\n|---|---|---|---|---|"
    )
    with TemporaryDirectory() as folder, running() as address:
        squares = written(Path(folder) / "squares")
        questions = {
            f"spectrum, {COUNT} squares of {SIDE}": ["spectrum", str(squares)],
            "diff --intruders --exact": [
                "diff", str(minilm()), str(ADAPTER), "--intruders", "--exact"],
        }  # fmt: skip
        ways = [[], ["--engine", "ray", "--address", address], ["--engine", "ray"]]
        for name, words in questions.items():
            times: list[list[float]] = [[] for _ in ways]
            for _ in range(RUNS):
                told = set()
                for own, way in zip(times, ways, strict=True):
                    own.append(seconds(lambda: told.add(ran([*words, *way]))))  # noqa: B023
                assert len(told) == 1, name
            local, joined, started = map(median, times)
            ratio = median(a / b for a, b in zip(times[0], times[1], strict=True))
            verdict = "" if ratio >= LEAST else " NO"
            print(
                f"| {name} | {local:.1f} s | {joined:.1f} s | {ratio:.2f} x{verdict} "
                f"| {started:.1f} s |", flush=True,
            )  # fmt: skip


def ran(words: list[str]) -> str:
    """Run a command with a store of its own; return what it prints."""
    with unmeasured() as environment:
        environment.pop("RAY_ADDRESS", None)
        done = subprocess.run(
            [sys.executable, "-m", "spectra_cli", *words, "--device", "cpu", "--format", "csv"],
            env=environment, check=True, capture_output=True, text=True,
        )  # fmt: skip
    return done.stdout


@contextmanager
def running() -> Iterator[str]:
    """Yield the address of a cluster of two nodes with a core each, and a head without."""
    with subprocess.Popen(
        [sys.executable, "-c", NODES], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate("")


def written(folder: Path) -> Path:
    """Write matrices of one size, bfloat16."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    save_file(
        {f"layers.{i}.q_proj.weight": torch.randn(SIDE, SIDE, generator=generator).bfloat16()
         for i in range(COUNT)},
        folder / "model.safetensors",
    )  # fmt: skip
    return folder
