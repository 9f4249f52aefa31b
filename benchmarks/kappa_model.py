"""kappa of a 7B-shaped model against a loop of torch.linalg.svd, and what a selection saves."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import save_file

import spectra
from benchmarks.memory import COMMAND, FIXED, MIB, peak

Answer = TypeVar("Answer")

LAYERS = 4  # measured; a model of this shape has 32
SIZE, INNER = 4096, 11008
SHAPES = {
    "self_attn.q_proj": (SIZE, SIZE),
    "self_attn.k_proj": (SIZE, SIZE),
    "self_attn.v_proj": (SIZE, SIZE),
    "self_attn.o_proj": (SIZE, SIZE),
    "mlp.gate_proj": (INNER, SIZE),
    "mlp.up_proj": (INNER, SIZE),
    "mlp.down_proj": (SIZE, INNER),
}
HEAD = 32  # directions that stand out of the noise of each matrix


def main() -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder)
        write(path)
        print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; {LAYERS} of 32 "
              f"layers, bf16, {7 * LAYERS} matrices")  # fmt: skip
        whole, ours, _ = alone(timed, path, None)
        few, _, selected = alone(timed, path, "10%")
        plain = alone(naive, path)
        worst = max(abs(kappa / plain[name][1] - 1.0) for name, kappa in ours.items())
        svd = sum(seconds for seconds, _ in plain.values())
        ranked = sorted(plain, key=lambda name: (plain[name][1], name))[: len(selected)]
        print(f"kappa of all: {whole:.1f} s; a loop of torch.linalg.svd {svd:.1f} s: "
              f"{svd / whole:.1f} x; off from float32 svd by at most {worst:.1e}")  # fmt: skip
        print(f"all 32 layers, by arithmetic: {whole * 32 / LAYERS / 60:.1f} min against "
              f"{svd * 32 / LAYERS / 60:.0f} min")  # fmt: skip
        print(f"--select 10%: {few:.1f} s, {whole / few:.1f} x less than all; the set is "
              f"{'that' if set(ranked) == set(selected) else 'NOT that'} of the loop")  # fmt: skip
        found, bare = peak(COMMAND, ["kappa", folder, "--format", "json"]), peak("import torch")
        bound = bare + FIXED + 4 * 4 * SIZE * INNER
        print(f"peak of a process of its own: {found / MIB:.0f} MiB of {bound / MIB:.0f} allowed "
              "(torch + 600 MiB + 4 x the largest matrix)")  # fmt: skip


def alone(work: Callable[..., Answer], *given: object) -> Answer:
    """Do it in a new process, as a user would: threads that idle here would slow it down."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(work, *given).result()


def timed(path: Path, select: str | None) -> tuple[float, dict[str, float], list[str]]:
    """Time one analysis; kappas, where they are numbers, and what is selected."""
    start = time.perf_counter()
    result = spectra.kappa(path, select=select, cache=False)
    took = time.perf_counter() - start
    kappas = {row.matrix: row.number("kappa") for row in result.rows}
    known = {name: kappa for name, kappa in kappas.items() if kappa is not None}
    return took, known, list(result.summary["selected"])


def naive(path: Path) -> dict[str, tuple[float, float]]:
    """Seconds and kappa of every matrix as KappaTune takes it: one full SVD each."""
    found = {}
    for shard in sorted(path.glob("*.safetensors")):
        with safe_open(shard, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - no mapping
                start = time.perf_counter()
                sigma = torch.linalg.svd(file.get_tensor(name).float(), full_matrices=False).S
                kappa = float(sigma[0] / sigma[-1])
                found[name] = (time.perf_counter() - start, kappa)
    return found


def weights(layer: int) -> Iterator[tuple[str, torch.Tensor]]:
    """One layer: noise, and a head of its own strength in each matrix."""
    for index, (module, (rows, cols)) in enumerate(SHAPES.items()):
        source = torch.Generator().manual_seed(100 * layer + index)
        edge = 0.02 * (rows**0.5 + cols**0.5)
        strength = float(10.0 ** torch.rand((), generator=source))
        left, right = (
            torch.linalg.qr(torch.randn(n, HEAD, generator=source)).Q for n in (rows, cols)
        )
        sigma = edge * strength * torch.arange(1.0, HEAD + 1.0) ** -0.5
        noise = 0.02 * torch.randn(rows, cols, generator=source)
        yield f"model.layers.{layer}.{module}.weight", noise.addmm_(left * sigma, right.mT)


def write(folder: Path) -> None:
    """Write one shard a layer."""
    for layer in range(LAYERS):
        tensors = {name: values.bfloat16() for name, values in weights(layer)}
        save_file(tensors, folder / f"model-{layer:05d}.safetensors")
    names = {f"model.layers.{layer}.{module}.weight": f"model-{layer:05d}.safetensors"
             for layer in range(LAYERS) for module in SHAPES}  # fmt: skip
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
