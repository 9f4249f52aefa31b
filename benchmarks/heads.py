"""Heads of a 7B shape and which read what earlier ones write: seconds, and memory at its peak.

32 layers of 32 heads of 128 lines in a stream of 4096, random in bfloat16, but for one head that
asks for what an earlier one writes. As whole commands: the heads alone, then pairs of heads with
what is known of them in the store; the pairs' share is told by a line of its own.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import save_file

LAYERS, HEADS, SIZE, WIDTH = 32, 32, 128, 4096
WRITER, READER = (3, 5), (20, 7)


def write(folder: Path) -> None:
    """Write a shard a layer."""
    generator = torch.Generator().manual_seed(0)
    names = {}
    for layer in range(LAYERS):
        own, shard = f"model.layers.{layer}", f"layer-{layer}.safetensors"
        made = {f"{own}.input_layernorm.weight": torch.ones(WIDTH, dtype=torch.bfloat16)}
        for name in "qkvo":
            values = torch.randn(WIDTH, WIDTH, generator=generator).bfloat16()
            made[f"{own}.self_attn.{name}_proj.weight"] = 0.02 * values
        if layer == WRITER[0]:
            lines = slice(WRITER[1] * SIZE, (WRITER[1] + 1) * SIZE)
            written = made[f"{own}.self_attn.o_proj.weight"][:, lines].mT.clone()
        if layer == READER[0]:
            lines = slice(READER[1] * SIZE, (READER[1] + 1) * SIZE)
            made[f"{own}.self_attn.q_proj.weight"][lines] = written
        save_file(made, folder / shard)
        names |= dict.fromkeys(made, shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    config = {"model_type": "llama", "num_attention_heads": HEADS, "num_key_value_heads": HEADS}
    (folder / "config.json").write_text(json.dumps(config))


def run(folder: Path, *words: str) -> tuple[float, float, float]:
    """Return a command's seconds, seconds of processors, and GiB at its peak."""
    command = [sys.executable, "-m", "spectra", "heads", str(folder), "-q", *words]
    start = time.perf_counter()
    child = subprocess.Popen(
        command, stdout=subprocess.DEVNULL,
        env={**os.environ, "SPECTRA_CACHE_DIR": str(folder / "store")},
    )  # fmt: skip
    _, status, used = os.wait4(child.pid, 0)
    took = time.perf_counter() - start
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    unit = 1 << (30 if sys.platform == "darwin" else 20)
    return took, used.ru_utime + used.ru_stime, used.ru_maxrss / unit


def main() -> None:
    with TemporaryDirectory() as place:
        folder = Path(place)
        write(folder)
        print("| what | seconds | of processors | GiB |\n|---|---|---|---|")
        for name, words in (
            ("heads", ()), ("pairs, heads known", ("--compose", "-o", f"{place}/found.json")),
        ):  # fmt: skip
            took, used, most = run(folder, *words)
            print(f"| {name} | {took:.0f} | {used:.0f} | {most:.2f} |", flush=True)
        told = json.loads((folder / "found.json").read_text())["summary"]["composition"]
        first = told["strongest"][0]
        found = (first["kind"], first["writer_layer"], first["writer_head"],
                 first["reader_layer"], first["reader_head"])  # fmt: skip
        assert found == ("q", *WRITER, *READER), found
        print(f"\n{told['pairs']:,} scores, the planted one first: {first['score']:.4f}, "
              f"{first['over']:.1f} times chance; estimated to {100 * told['error']:.1f} %, "
              f"{told['checked']} exactly.")  # fmt: skip


if __name__ == "__main__":
    main()
