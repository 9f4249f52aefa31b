"""Remote runs where each request takes 50 ms: one range after the other against several."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from benchmarks.clock import unmeasured
from benchmarks.models import minilm

TESTS = Path(__file__).parent.parent / "tests"
LATENCY = 0.05  # seconds
RUNS = 2
LAYERS, EXPERTS, HIDDEN, INNER = 12, 16, 384, 96  # fine-grained experts of MiniLM's width
QUESTIONS = "kappa", "spectrum", "check --isolated"

COMMAND = "import sys; from spectra_cli.main import run; sys.exit(run(sys.argv[1:]))"
ONE_BY_ONE = f"from spectra.checkpoint.hub.remote import RemoteFile as R; R.ranges = 1; {COMMAND}"


def main() -> None:
    sys.path.append(str(TESTS))
    from loopback import loopback  # noqa: PLC0415 - the tests' own hub

    with loopback() as hub, tempfile.TemporaryDirectory() as folder:
        models = {"MiniLM": minilm(), "mixture": mixture(Path(folder) / "mixture")}
        for name, model in models.items():
            hub.add(f"org/{name}", model)
        hub.faults.latency = LATENCY

        def ran(code: str, words: list[str]) -> tuple[float, str, int]:
            """Return the seconds of a whole process, what it prints, and its requests."""
            hub.forget()
            with tempfile.TemporaryDirectory() as home, unmeasured() as environment:
                start = time.perf_counter()
                done = subprocess.run(
                    [sys.executable, "-c", code, *words, "--format", "csv"],
                    env={**environment, **hub.environment(Path(home))},
                    check=True, capture_output=True, text=True,
                )  # fmt: skip
                return time.perf_counter() - start, done.stdout, len(hub.requests)

        print("| model | command | requests | one by one | in flight | ratio |")
        print("|---|---|---|---|---|---|")
        for name in models:
            for question in QUESTIONS:
                words = [*question.split(), f"org/{name}"]
                slow, quick = [], []
                for _ in range(RUNS):
                    slow.append(ran(ONE_BY_ONE, words))
                    quick.append(ran(COMMAND, words))
                assert len({told for _, told, _ in [*slow, *quick]}) == 1, "other answers"
                before, after = min(slow)[0], min(quick)[0]
                print(f"| {name} | {question} | {quick[0][2]} | {before:.2f} s | {after:.2f} s | "
                      f"{before / after:.1f} |", flush=True)  # fmt: skip


def mixture(folder: Path) -> Path:
    """Write a mixture of fine-grained experts in one file: many small matrices."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    shapes = {"gate": (INNER, HIDDEN), "up": (INNER, HIDDEN), "down": (HIDDEN, INNER)}
    tensors = {
        f"model.layers.{layer}.mlp.experts.{expert}.{name}_proj.weight":
            torch.randn(shape, generator=generator)
        for layer in range(LAYERS)
        for expert in range(EXPERTS)
        for name, shape in shapes.items()
    }  # fmt: skip
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


if __name__ == "__main__":
    main()
