"""kappa of a 7B-shaped model against a loop of torch.linalg.svd, and what a selection saves."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors import safe_open
from safetensors.torch import save_file

import spectra
from benchmarks.memory import COMMAND, FIXED, MIB, peak

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
        whole, ours = timed(path, None)
        few, selected = timed(path, "10%")
        exact = spectra.kappa(path, select="10%").summary["selected"]
        plain = naive(path)
        worst = max(abs((row.number("kappa") or 0.0) / plain[row.matrix][1] - 1.0)
                    for row in ours.rows)  # fmt: skip
        svd = sum(seconds for seconds, _ in plain.values())
        ranked = sorted(plain, key=lambda name: (plain[name][1], name))[: len(exact)]
        print(f"kappa of all: {whole:.1f} s; a loop of torch.linalg.svd {svd:.1f} s: "
              f"{svd / whole:.1f} x; off from float32 svd by at most {worst:.1e}")  # fmt: skip
        print(f"all 32 layers, by arithmetic: {whole * 32 / LAYERS / 60:.1f} min against "
              f"{svd * 32 / LAYERS / 60:.0f} min")  # fmt: skip
        same = set(ranked) == set(selected.summary["selected"])
        print(f"--select 10%: {few:.1f} s, {whole / few:.1f} x less than all; "
              f"{selected.summary['outside']} stopped at a bound; the set is "
              f"{'that' if same else 'NOT that'} of the loop")  # fmt: skip
        found, bare = peak(COMMAND, ["kappa", folder, "--format", "json"]), peak("import torch")
        bound = bare + FIXED + 4 * 4 * SIZE * INNER
        print(f"peak of a process of its own: {found / MIB:.0f} MiB of {bound / MIB:.0f} allowed "
              "(torch + 600 MiB + 4 x the largest matrix)")  # fmt: skip


def timed(path: Path, select: str | None) -> tuple[float, spectra.Result]:
    """Time one analysis."""
    start = time.perf_counter()
    result = spectra.kappa(path, select=select)
    return time.perf_counter() - start, result


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
