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

RUNS = 2
LEAST = 0.85  # of the local engine's throughput
SIDE, COUNT = 2048, 160
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
        f"`spectrum` of {COUNT} matrices of {SIDE} x {SIDE}, bfloat16; throughput is against the "
        f"local engine's, at least {LEAST:.2f} x.\n\n"
        "| engine | one matrix | all | throughput | beyond one matrix |\n|---|---|---|---|---|"
    )
    with TemporaryDirectory() as folder, running() as address:
        words = ["spectrum", str(written(Path(folder) / "squares"))]
        ways = {
            "local": [],
            "ray, two nodes that run": ["--engine", "ray", "--address", address],
            "ray, started and ended": ["--engine", "ray"],
        }
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(RUNS):
            told: set[str] = set()
            for name, way in ways.items():
                one = seconds(lambda: ran([*words, "--layers", "0", *way]))  # noqa: B023
                times[name].append((one, seconds(lambda: told.add(ran([*words, *way])))))  # noqa: B023
            assert len(told) == 1, "the same bytes"
        for name, own in times.items():
            pairs = list(zip(times["local"], own, strict=True))
            whole = median(here[1] / there[1] for here, there in pairs)
            rest = median((here[1] - here[0]) / (there[1] - there[0]) for here, there in pairs)
            one, every = (median(both[i] for both in own) for i in (0, 1))
            verdict = " NO" if "run" in name and whole < LEAST else ""
            print(
                f"| {name} | {one:.1f} s | {every:.1f} s | {whole:.2f} x{verdict} | {rest:.2f} x |",
                flush=True,
            )


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
