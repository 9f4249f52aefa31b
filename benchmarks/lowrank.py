"""Writers of adapters against the ways they replace, in one process and with its threads.

A rank-64 adapter of a 7B model (224 modules) cut to rank 16 as a whole command, against
decomposing the products of one module of each shape, times their numbers. The leading 64
directions of a 4096 x 4096 update against `torch.linalg.svd` of it.
"""

import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file

from benchmarks.pairs import write_layer
from spectra.kernels.truncation import truncated

LAYERS, RANK, KEPT = 32, 64, 16
MODULES = {
    "self_attn.q_proj": (4096, 4096), "self_attn.k_proj": (4096, 4096),
    "self_attn.v_proj": (4096, 4096), "self_attn.o_proj": (4096, 4096),
    "mlp.gate_proj": (11008, 4096), "mlp.up_proj": (11008, 4096), "mlp.down_proj": (4096, 11008),
}  # fmt: skip
SIDE, FEW = 4096, 64
CHECKPOINT = 1 << 30  # bytes


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def write(folder: Path) -> None:
    """Write the adapter; its directions fall off over two decades."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for layer in range(LAYERS):
        for name, (rows, cols) in MODULES.items():
            key = f"base_model.model.model.layers.{layer}.{name}"
            a, b = (
                torch.randn(shape, generator=generator) for shape in ((RANK, cols), (rows, RANK))
            )
            tensors[f"{key}.lora_A.weight"] = (0.01 * a).bfloat16()
            tensors[f"{key}.lora_B.weight"] = (b * torch.logspace(-2, -4, RANK)).bfloat16()
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": [*MODULES]}
    (folder / "adapter_config.json").write_text(json.dumps(config))


def resize() -> tuple[float, float]:
    """Return the seconds of the command, and about those of decomposing every product."""
    with TemporaryDirectory() as place:
        folder = Path(place)
        write(folder)
        words = ["lowrank", "resize", place, "--rank", str(KEPT), "-o", f"{place}/small", "-q"]
        ours = seconds(
            lambda: subprocess.run([sys.executable, "-m", "spectra", *words],
                                   check=True, stdout=subprocess.DEVNULL)
        )  # fmt: skip
    theirs = 0.0
    for shape in sorted({tuple(sorted(one)) for one in MODULES.values()}):
        product = torch.randn(shape[0], RANK) @ torch.randn(RANK, shape[1])
        count = LAYERS * sum(tuple(sorted(one)) == shape for one in MODULES.values())
        theirs += count * seconds(lambda: torch.linalg.svd(product, full_matrices=False))  # noqa: B023
    return ours, theirs


def extract() -> tuple[float, float, float]:
    """Return the seconds of both ways, and how much more is lost than by the best."""
    generator = torch.Generator().manual_seed(0)
    shape = 256 ** -torch.linspace(0, 1, 256)
    delta = (torch.randn(SIDE, 256, generator=generator) * shape) @ torch.randn(
        256, SIDE, generator=generator
    ) + 0.1 * torch.randn(SIDE, SIDE, generator=generator)
    found = truncated(delta, lambda sigma, _: min(FEW, len(sigma)))
    ours = seconds(lambda: truncated(delta, lambda sigma, _: min(FEW, len(sigma))))
    start = time.perf_counter()
    sigma = torch.linalg.svd(delta, full_matrices=False).S.double()
    theirs = time.perf_counter() - start
    return ours, theirs, math.sqrt(found.rest / float(sigma[FEW:].square().sum())) - 1.0


def write_layers(folder: Path, nbytes: int) -> None:
    """Write `base` and `merged`, the layer of `pairs` again and again up to a size."""
    write_layer(folder / "layer")
    for name in ("base", "merged"):
        tensors = load_file(folder / "layer" / name / "model.safetensors")
        every = {}
        held = 0
        for layer in range(nbytes):
            for key, values in tensors.items():
                every[key.replace("layers.0", f"layers.{layer}")] = values.clone()
                held += values.nbytes
                if held >= nbytes:
                    break
            if held >= nbytes:
                break
        (folder / name).mkdir()
        save_file(every, folder / name / "model.safetensors")


def command(*words: str) -> Callable[[], object]:
    return lambda: subprocess.run(
        [sys.executable, "-m", "spectra", *words, "-q"], check=True, stdout=subprocess.DEVNULL
    )


def repair() -> tuple[float, float]:
    """Return the seconds of the command, and of a copy and a comparison."""
    with TemporaryDirectory() as place:
        folder = Path(place)
        write_layers(folder, CHECKPOINT)
        pair = str(folder / "base"), str(folder / "merged")
        theirs = seconds(lambda: shutil.copytree(folder / "merged", folder / "copy"))
        theirs += seconds(command("diff", *pair, "--intruders", "--no-cache"))
        ours = seconds(command("lowrank", "repair", *pair, "--all", "-o", str(folder / "made")))
    return ours, theirs


def main() -> None:
    print("| what | seconds | the other way | ratio | goal |\n|---|---:|---:|---:|---:|")
    ours, theirs, more = extract()
    print(
        f"| rank {FEW} of {SIDE} x {SIDE}, {more:.1e} above the best | {ours:.1f} | {theirs:.1f} | "
        f"{theirs / ours:.0f} | 8 |",
        flush=True,
    )
    ours, theirs = resize()
    count = LAYERS * len(MODULES)
    print(
        f"| resize of {count} modules | {ours:.1f} | {theirs:.0f} | {theirs / ours:.0f} | 50 |",
        flush=True,
    )
    ours, theirs = repair()
    print(
        f"| repair of 1 GiB, over a copy and a comparison | {ours:.0f} | {theirs:.0f} | "
        f"{ours / theirs:.2f} x | 1.5 x |",
        flush=True,
    )
