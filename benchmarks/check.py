"""How long `spectra check` takes in all, the start of Python and every report included."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from safetensors.torch import load_file, save_file

from benchmarks.clock import unmeasured
from benchmarks.models import minilm

RUNS = 5


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tuned = slightly_changed(folder / "tuned")
        saved = folder / "base.json"
        run(minilm(), "--save-baseline", saved)
        reports = [word for end in ("sarif", "xml", "json", "md") for word in
                   ("-o", folder / f"check.{end}")]  # fmt: skip
        told = {
            "alone": (minilm(),),
            "against its baseline, a model (and base of the rules SPC1xx)":
                (tuned, "--baseline", minilm(), *reports),
            "against its baseline, saved, and its base":
                (tuned, "--baseline", saved, "--base", minilm(), *reports),
        }  # fmt: skip
        for what, words in told.items():
            times = sorted(run(*words) for _ in range(RUNS))
            print(f"all-MiniLM-L6-v2 {what}: {times[RUNS // 2]:.1f} s (median of {RUNS}; below 8)")


def slightly_changed(folder: Path) -> Path:
    """Write the model with every number one percent larger."""
    folder.mkdir()
    tensors = load_file(minilm() / "model.safetensors")
    moved = {key: w * 1.01 if w.is_floating_point() else w for key, w in tensors.items()}
    save_file(moved, folder / "model.safetensors")
    (folder / "config.json").write_text((minilm() / "config.json").read_text())
    return folder


def run(*words: str | Path) -> float:
    """Time one command in a process of its own."""
    line = [sys.executable, "-m", "spectra_cli", "check", "--isolated", *map(str, words)]
    with unmeasured() as environment:
        start = time.perf_counter()
        found = subprocess.run(line, check=False, capture_output=True, text=True, env=environment)
        seconds = time.perf_counter() - start
    assert found.returncode in (0, 1), found.stderr
    return seconds
