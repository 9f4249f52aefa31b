"""What a second run of the same question takes, and one of a release with a few other tensors."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file

from benchmarks.clock import least, unmeasured
from benchmarks.models import ADAPTER, minilm
from spectra.work.store import SETTLED

CHANGED = 3  # tensors of the next release
RUNS = 3

QUESTIONS = {
    "diff --intruders": ["diff", "{model}", str(ADAPTER), "--intruders"],
    "spectrum": ["spectrum", "{model}"],
    "kappa": ["kappa", "{model}"],
    "check": ["check", "{model}", "--isolated"],
}
LAYERS, SIDE, INNER, HEADS = 43, 256, 688, 4  # of a model of 301 matrices
MANY = {
    "spectrum": ["spectrum", "{model}/base"],
    "kappa --select 10%": ["kappa", "{model}/base", "--select", "10%"],
    "diff --intruders": ["diff", "{model}/base", "{model}/tuned", "--intruders"],
    "diff --per-head": ["diff", "{model}/base", "{model}/tuned", "--per-head"],
    "check --base": ["check", "{model}/tuned", "--base", "{model}/base", "--exit-zero"],
    "heads": ["heads", "{model}/base"],
    "spectrum --plot": ["spectrum", "{model}/base", "--plot", "{model}/spectrum.png"],
    "diff --intruders --plot": [
        "diff", "{model}/base", "{model}/tuned", "--intruders", "--plot", "{model}/diff.svg",
    ],
    "report --base, a page": [
        "report", "{model}/tuned", "--base", "{model}/base", "-o", "{model}/page.html",
    ],
}  # fmt: skip
INSIDE = """
import contextlib, io, json, sys, time
from spectra_cli.main import run

def took(*more):
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        assert run([*sys.argv[1:], "--format", "csv", *more]) in (0, 1)
    return time.perf_counter() - start

took("--no-cache")  # everything is imported
print(json.dumps([took(), min(took() for _ in range(5))]))
"""


def main() -> None:
    print(f"import torch alone: {least(loaded, RUNS):.2f} s\n")
    print(
        "| command | first run | again, at most 1.5 s | 3 tensors changed | after imports, first "
        "and again | at least 30 x |\n|---|---|---|---|---|---|"
    )
    with TemporaryDirectory() as folder:
        many = written(Path(folder) / "many")
        model, release = copied(Path(folder) / "model"), released(Path(folder) / "release")
        time.sleep(SETTLED + 1.0)  # a file that is newer is read again
        for name, words in QUESTIONS.items():
            with unmeasured() as environment:
                first, told = ran(words, model, environment)
                again, same = min(ran(words, model, environment) for _ in range(RUNS))
                assert same == told, name
                third, _ = ran(words, release, environment)
            verdict = "" if again <= 1.5 else " NO"
            worked = json.loads(within(words, model))
            ratio = worked[0] / worked[1]
            print(
                f"| {name} | {first:.2f} s | {again:.2f} s{verdict} | {third:.2f} s "
                f"| {worked[0]:.3f} s, {worked[1]:.3f} s | {ratio:.0f} x |",
                flush=True,
            )
        print(f"\n| {7 * LAYERS} matrices | first run | again, at most 1.5 s |\n|---|---|---|")
        for name, words in MANY.items():
            with unmeasured() as environment:
                first, told = ran(words, many, environment)
                again, same = min(ran(words, many, environment) for _ in range(RUNS))
            assert same == told, name
            print(f"| {name} | {first:.1f} s | {again:.2f} s{'' if again <= 1.5 else ' NO'} |",
                  flush=True)  # fmt: skip


def loaded() -> None:
    subprocess.run([sys.executable, "-c", "import torch"], check=True)


def ran(words: list[str], model: Path, environment: Mapping[str, str]) -> tuple[float, str]:
    """Return how long a process takes, and what it prints."""
    line = [word.format(model=model) for word in words]
    start = time.perf_counter()
    table = [] if words[0] == "report" else ["--format", "csv"]
    done = subprocess.run(
        [sys.executable, "-m", "spectra_cli", *line, *table], env=environment,
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return time.perf_counter() - start, done.stdout


def within(words: list[str], model: Path) -> str:
    """Return what the first and the next run take in one process, all imports done."""
    line = [word.format(model=model) for word in words]
    with unmeasured() as environment:
        return subprocess.run(
            [sys.executable, "-c", INSIDE, *line], env=environment, check=True,
            capture_output=True, text=True,
        ).stdout  # fmt: skip


def copied(folder: Path) -> Path:
    shutil.copytree(minilm(), folder)
    return folder


def released(folder: Path) -> Path:
    """Write the model with a few tensors moved."""
    copied(folder)
    tensors = load_file(folder / "model.safetensors")
    for name in [name for name, values in tensors.items() if values.dim() == 2][-CHANGED:]:
        tensors[name] = tensors[name] * 1.01
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def written(folder: Path) -> Path:
    """Write a model of many small matrices, and what a fine-tune made of it."""
    source = torch.Generator().manual_seed(0)
    shapes = {f"self_attn.{one}_proj": (SIDE, SIDE) for one in "qkvo"}
    shapes |= {"mlp.gate_proj": (INNER, SIDE), "mlp.up_proj": (INNER, SIDE),
               "mlp.down_proj": (SIDE, INNER)}  # fmt: skip
    base = {
        f"model.layers.{layer}.{name}.weight": torch.randn(*shape, generator=source)
        for layer in range(LAYERS) for name, shape in shapes.items()
    }  # fmt: skip
    tuned = {name: one + 0.02 * torch.randn(one.shape, generator=source)
             for name, one in base.items()}  # fmt: skip
    config = {"model_type": "llama", "hidden_size": SIDE, "num_attention_heads": HEADS}
    for name, tensors in (("base", base), ("tuned", tuned)):
        (folder / name).mkdir(parents=True)
        save_file(tensors, folder / name / "model.safetensors")
        (folder / name / "config.json").write_text(json.dumps(config))
    return folder
