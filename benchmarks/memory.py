"""Peak memory over sharded checkpoints of 4 and 8 GiB, each command in its own process."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.models import LARGE, synthetic_shapes, write_sharded

GIB = 1 << 30
MIB = 1 << 20
FIXED = 600 * MIB
LARGEST = 4 * LARGE[0][0] * LARGE[0][1]  # bytes of the largest matrix in float32


def main() -> None:
    baseline, _ = peak([sys.executable, "-c", "import torch"])
    print(f"import torch alone: {baseline / MIB:,.0f} MiB; largest matrix in float32: "
          f"{LARGEST / MIB:,.0f} MiB")  # fmt: skip
    for size in (4, 8):
        with tempfile.TemporaryDirectory() as folder:
            base = write_sharded(Path(folder) / "base", size * GIB)
            names = [name for name, _ in synthetic_shapes(size * GIB)]
            few = [names[0], names[1], *names[4:12]]
            for command in ("spectrum", "kappa"):
                measure(f"{command}, {size} GiB", [command, str(base)], baseline, 4)
            tuned = write_sharded(Path(folder) / "tuned", size * GIB, changed=few)
            words = ["diff", str(base), str(tuned), "--intruders"]
            measure(f"diff --intruders, {size} GiB", words, baseline, 8)


def measure(name: str, words: list[str], baseline: int, times: int) -> None:
    """Run one command and hold its peak against the bound."""
    start = time.perf_counter()
    found, _ = peak([sys.executable, "-m", "spectra_cli", *words, "--format", "json"])
    bound = baseline + FIXED + times * LARGEST
    verdict = "ok" if found <= bound else "TOO MUCH"
    print(
        f"{name}: {found / MIB:,.0f} MiB of {bound / MIB:,.0f} allowed (torch + 600 MiB + "
        f"{times} x largest): {verdict}; {time.perf_counter() - start:.0f} s",
        flush=True,
    )


def peak(command: list[str]) -> tuple[int, int]:
    """Return a process's peak resident memory in bytes, and its exit code."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    return usage.ru_maxrss * 1024, process.returncode
