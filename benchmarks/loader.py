"""Reading tensors against safetensors itself, and listing a checkpoint of many tensors."""

import json
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open

import spectra
from benchmarks.clock import interleaved, least
from benchmarks.memory import COMMAND, MIB, peak
from benchmarks.models import minilm, write_sharded
from spectra.checkpoint import Checkpoint

RUNS = 7
NBYTES = 1 << 30
SHARDS, TENSORS = 1_000, 60_000


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_sharded(Path(folder), NBYTES)
        alone("bfloat16, 1 GiB in shards", Path(folder))
    alone("all-MiniLM-L6-v2, float32", minilm())
    with tempfile.TemporaryDirectory() as folder:
        listing(Path(folder))


def alone(name: str, folder: Path) -> None:
    """Measure in a new process: memory that this one has used is quicker to write to."""
    code = "import sys; from pathlib import Path; from benchmarks.loader import throughput; "
    code += "throughput(sys.argv[1], Path(sys.argv[2]))"
    subprocess.run([sys.executable, "-c", code, name, str(folder)], check=True)


def throughput(name: str, folder: Path) -> None:
    """Read every floating tensor and widen it to float32, both ways, from the page cache."""
    model = spectra.open(folder)
    assert isinstance(model, Checkpoint)
    entries = [entry for entry in model.entries.values() if entry.is_weights]
    nbytes = sum(entry.nbytes for entry in entries)

    def ours() -> None:
        for entry in entries:
            model.read(entry, widen=True)

    def theirs(backend: str) -> None:
        for shard in dict.fromkeys(entry.shard for entry in entries):
            inside = [entry.name for entry in entries if entry.shard == shard]
            with safe_open(folder / shard, framework="pt", backend=backend) as file:
                for tensor in inside:
                    file.get_tensor(tensor).to(torch.float32, copy=True)

    def mapped() -> None:
        theirs("mmap")

    def pread() -> None:
        theirs("pread")

    for threads in (1, torch.get_num_threads()):
        with_threads(threads, lambda: report(name, nbytes, ours, mapped, pread))


def with_threads(count: int, run: Callable[[], None]) -> None:
    """Run with a number of torch's threads, and say so."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    print(f"{count} thread{'s' if count > 1 else ''}: ", end="")
    run()
    torch.set_num_threads(before)


def report(
    name: str,
    nbytes: int,
    ours: Callable[[], None],
    mapped: Callable[[], None],
    pread: Callable[[], None],
) -> None:
    """Print both rates and their ratio."""
    own, theirs = interleaved(ours, mapped, RUNS)
    own_again, read = interleaved(ours, pread, RUNS)
    print(
        f"{name}: {nbytes / own / 1e9:.2f} GB/s; safetensors {nbytes / theirs / 1e9:.2f} GB/s "
        f"mapped, {nbytes / read / 1e9:.2f} GB/s by pread; ratio {theirs / own:.2f} and "
        f"{read / own_again:.2f} (bound 0.8)",
        flush=True,
    )


def listing(folder: Path) -> None:
    """List a checkpoint of which only the headers are real."""
    synthesise(folder, SHARDS, TENSORS)
    words = [sys.executable, "-m", "spectra_cli", "ls", str(folder)]

    def run() -> None:
        subprocess.run(words, stdout=subprocess.DEVNULL, check=True)

    taken = least(run)
    memory = peak(COMMAND, ["ls", str(folder)])
    print(
        f"spectra ls, {SHARDS:,} shards, {TENSORS:,} tensors: {taken:.2f} s, best of 5 (bound 3), "
        f"{memory / MIB:.0f} MiB (bound 500)"
    )


def synthesise(folder: Path, shards: int, tensors: int) -> None:
    """Write the headers of a mixture of experts; the weights are holes in the files."""
    weight_map: dict[str, str] = {}
    number = 0
    for shard in range(shards):
        name = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        header: dict[str, object] = {}
        position = 0
        for _ in range(tensors // shards):
            layer, rest = divmod(number, 960)
            kind = ("gate_proj", "up_proj", "down_proj")[rest % 3]
            shape = [7168, 2048] if kind == "down_proj" else [2048, 7168]
            tensor = f"model.layers.{layer}.mlp.experts.{rest // 3}.{kind}.weight"
            stop = position + 2 * shape[0] * shape[1]
            header[tensor] = {"dtype": "BF16", "shape": shape, "data_offsets": [position, stop]}
            weight_map[tensor] = name
            position, number = stop, number + 1
        raw = json.dumps(header).encode()
        with (folder / name).open("wb") as file:
            file.write(struct.pack("<Q", len(raw)) + raw)
            file.truncate(8 + len(raw) + position)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps({"model_type": "deepseek_v3"}))
