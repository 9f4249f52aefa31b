"""How long `spectra --help` takes; nothing heavy may be loaded for it."""

import statistics
import subprocess
import sys
import time

RUNS = 11


def main() -> None:
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        command = [sys.executable, "-m", "spectra_cli", "--help"]
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    print(f"spectra --help: {statistics.median(times):.3f} s (median of {RUNS}; at most 0.3)")
