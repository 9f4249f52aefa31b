"""Peak memory over sharded checkpoints of 4 and 8 GiB, each command in its own process."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.clock import unmeasured
from benchmarks.models import LARGE, synthetic_shapes, write_sharded

GIB = 1 << 30
MIB = 1 << 20
FIXED = 600 * MIB
LARGEST = 4 * LARGE[0][0] * LARGE[0][1]  # bytes of the largest matrix in float32

COMMAND = "import sys; from spectra_cli.main import run; assert run(sys.argv[1:]) == 0"
NOTE = (
    "pathlib.Path({path!r}).write_text(next(line.split()[1] for line in "
    "pathlib.Path('/proc/self/status').read_text().splitlines() if line.startswith('VmHWM')))"
)


def main() -> None:
    baseline = peak("import torch")
    print(f"import torch alone: {baseline / MIB:,.0f} MiB; largest matrix in float32: "
          f"{LARGEST / MIB:,.0f} MiB")  # fmt: skip
    for size in (4, 8):
        with tempfile.TemporaryDirectory() as folder:
            base = write_sharded(Path(folder) / "base", size * GIB)
            names = [name for name, _ in synthetic_shapes(size * GIB)]
            few = [names[0], names[1], *names[4:12]]
            for command in ("spectrum", "kappa"):
                measure(f"{command}, {size} GiB", [command, str(base)], baseline, 4)
            words = ["check", str(base), "--isolated", "--exit-zero"]
            measure(f"check, {size} GiB", words, baseline, 4)
            tuned = write_sharded(Path(folder) / "tuned", size * GIB, changed=few)
            words = ["diff", str(base), str(tuned), "--intruders"]
            measure(f"diff --intruders, {size} GiB", words, baseline, 8)


def measure(name: str, words: list[str], baseline: int, times: int) -> None:
    """Run one command and hold its peak against the bound."""
    start = time.perf_counter()
    found = peak(COMMAND, [*words, "--format", "json"])
    bound = baseline + FIXED + times * LARGEST
    verdict = "ok" if found <= bound else "TOO MUCH"
    print(
        f"{name}: {found / MIB:,.0f} MiB of {bound / MIB:,.0f} allowed (torch + 600 MiB + "
        f"{times} x largest): {verdict}; {time.perf_counter() - start:.0f} s",
        flush=True,
    )


def peak(code: str, words: Sequence[str] = ()) -> int:
    """Run Python code in a process of its own and return its peak resident memory in bytes.

    The process reads its own high-water mark: what wait() reports for a child counts the
    parent's memory too, which it shares until it has started.
    """
    with tempfile.NamedTemporaryFile("r") as report, unmeasured() as environment:
        measured = f"{code}; import pathlib; {NOTE.format(path=report.name)}"
        subprocess.run(
            [sys.executable, "-c", measured, *words],
            stdout=subprocess.DEVNULL, check=True, env=environment,
        )  # fmt: skip
        return int(report.read()) * 1024
