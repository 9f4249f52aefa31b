"""`spectrum` of a model against the sum of its bare svdvals calls, interleaved."""

import statistics
import tempfile
import time
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

import spectra
from benchmarks.models import minilm

RUNS = 5


def main() -> None:
    threads = torch.get_num_threads()
    print(f"torch {torch.__version__}, {threads} threads, float32, median of {RUNS}")
    compare("all-MiniLM-L6-v2 (40 matrices, read included)", minilm() / "model.safetensors", RUNS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        shapes = [(4096, 4096), (4096, 4096), (1024, 4096), (4096, 11008)]
        generator = torch.Generator().manual_seed(0)
        save_file(
            {
                f"layers.{i}.w{j}.weight": torch.randn(*shape, generator=generator)
                for i in range(2)
                for j, shape in enumerate(shapes)
            },
            path,
        )
        compare("two 7B-like layers (8 matrices, read included)", path, 1)


def compare(name: str, path: Path, runs: int) -> None:
    """Time both sides A B A B."""
    ours, bare = [], []
    for _ in range(runs):
        ours.append(seconds_ours(path))
        bare.append(seconds_bare(path))
    mine, theirs = statistics.median(ours), statistics.median(bare)
    print(f"{name}: spectrum {mine:.2f} s, bare svdvals {theirs:.2f} s: {mine / theirs:.2f} x "
          "(at most 1.15)")  # fmt: skip


def seconds_ours(path: Path) -> float:
    """Time the whole analysis, reading and every summary included."""
    start = time.perf_counter()
    spectra.spectrum(path)
    return time.perf_counter() - start


def seconds_bare(path: Path) -> float:
    """Time nothing but torch.linalg.svdvals on every 2-D float tensor, all threads."""
    total = 0.0
    with safe_open(path, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118 - safe_open is no mapping
            tensor = file.get_tensor(key)
            if tensor.ndim == 2 and tensor.is_floating_point():
                start = time.perf_counter()
                torch.linalg.svdvals(tensor)
                total += time.perf_counter() - start
    return total
