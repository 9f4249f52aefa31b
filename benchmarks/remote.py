"""A sharded checkpoint of 1 GiB behind HTTP: what is transferred, and how long it takes."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import spectra
from benchmarks.models import write_sharded
from spectra.checkpoint import Checkpoint

TESTS = Path(__file__).parent.parent / "tests"
GIB = 1 << 30
LAYERS = "2-9"

COMMAND = "import sys; from spectra_cli.main import run; sys.exit(run(sys.argv[1:]))"
READ = """
import sys, time
import torch
from spectra.checkpoint import open_spec
model = open_spec(sys.argv[1])
entry = max(model.entries.values(), key=lambda entry: entry.nbytes)
start = time.perf_counter()
model.read(entry)
print(entry.nbytes / (time.perf_counter() - start))
"""


def main() -> None:
    sys.path.append(str(TESTS))
    from loopback import Loopback, loopback  # noqa: PLC0415 - the tests' own hub

    with loopback() as hub, tempfile.TemporaryDirectory() as folder:
        model = write_sharded(Path(folder) / "model", GIB)
        hub.add("org/model", model)
        headers = sum(map(header, model.glob("*.safetensors")))

        def measure(name: str, words: list[str], asked: int, home: str) -> None:
            hub.forget()
            start = time.perf_counter()
            run(hub, Path(folder) / home, COMMAND, words)
            seconds = time.perf_counter() - start
            sent = hub.sent(".safetensors")
            print(f"{name}: {asked:,} bytes asked for, {sent:,} sent ({sent / asked:.3f}), "
                  f"{len(hub.requests)} requests, {seconds:.1f} s", flush=True)  # fmt: skip

        def run(hub: Loopback, home: Path, code: str, words: list[str]) -> str:
            environment = {"PATH": "", **hub.environment(home)}
            return subprocess.run(
                [sys.executable, "-c", code, *words],
                env=environment, stdout=subprocess.PIPE, text=True, check=True,
            ).stdout  # fmt: skip

        chosen = headers + weights(model)
        few = ["spectrum", "org/model", "--layers", LAYERS, "--format", "json"]
        measure("ls", ["ls", "org/model"], headers, "a")
        measure("spectrum --dry-run", ["spectrum", "org/model", "--dry-run"], headers, "b")
        measure(f"spectrum --layers {LAYERS}", few, chosen, "c")
        measure("the same again", few, chosen, "c")
        download = [*few, "--download", "--no-cache"]  # what was measured would not be read
        measure("the same with --download", download, chosen, "c")
        measure("and again, from the cache", download, chosen, "c")
        far = float(run(hub, Path(folder) / "d", READ, ["org/model"]))
        near = float(run(hub, Path(folder) / "d", READ, [str(model)]))
        print(f"the largest tensor: {far / 1e6:,.0f} MB/s by HTTP, {near / 1e6:,.0f} from the disk")


def header(path: Path) -> int:
    """Return the bytes of one file's header, its length included."""
    with path.open("rb") as file:
        return 8 + int.from_bytes(file.read(8), "little")


def weights(model: Path) -> int:
    """Return the bytes of the tensors that the layers chosen hold."""
    opened = spectra.open(model)
    assert isinstance(opened, Checkpoint)
    result = spectra.ls(model, selection=spectra.Selection(layers=LAYERS))
    names = {row["tensor"] for row in json.loads(result.frame.to_json(orient="records"))}
    return sum(opened.entries[name].nbytes for name in names)


if __name__ == "__main__":
    main()
