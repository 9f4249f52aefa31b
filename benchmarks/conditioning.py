"""Condition numbers and sigma_max against torch's decompositions, interleaved, same threads."""

import math
import statistics
from collections.abc import Callable, Iterator

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.clock import interleaved, least, seconds
from benchmarks.models import minilm
from spectra.kernels.extremes import extreme_singular_values, largest_singular_value

RUNS = 3  # of ours for one of torch's
SHAPES = [(4096, 4096), (14336, 4096)]
OUTLIERS = 200
KAPPA = 1e3


def main() -> None:
    threads = torch.get_num_threads()
    print(f"torch {torch.__version__}, {threads} threads, float32, medians, A A A B")
    single, double, rate = peaks()
    print(f"products: {single / 1e9:.0f} GFLOP/s float32, {double / 1e9:.0f} float64; "
          f"memory: {rate / 1e9:.1f} GB/s\n")  # fmt: skip
    for shape in SHAPES:
        for name, matrix in matrices(*shape):
            compare(f"{name} {shape[0]} x {shape[1]}", matrix, (single, double, rate))
    real()


def matrices(rows: int, cols: int) -> Iterator[tuple[str, Tensor]]:
    """Noise; a slowly decaying head on noise; every ratio of neighbours the same."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(rows, cols, generator=generator)
    yield "Gaussian", noise
    sigma = 5.0 * math.sqrt(rows) * torch.arange(1.0, OUTLIERS + 1.0) ** -0.3
    yield "decaying", noise.addmm_(basis(rows, OUTLIERS, 1) * sigma, basis(cols, OUTLIERS, 2).mT)
    del noise
    short = min(rows, cols)
    sigma = torch.logspace(0.0, -math.log10(KAPPA), short)
    yield "planted", (basis(rows, short, 3) * sigma) @ basis(cols, short, 4).mT


def basis(rows: int, cols: int, seed: int) -> Tensor:
    """Orthonormal columns."""
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(rows, cols, generator=generator)).Q


def peaks() -> tuple[float, float, float]:
    """Operations a second of square products, and bytes a second of one pass over a matrix."""
    matrix = torch.randn(2048, 2048)
    vector = torch.randn(4096, 1)
    large = torch.randn(4096, 4096)
    wide, operations = matrix.double(), 2.0 * 2048**3
    return (
        operations / least(lambda: matrix @ matrix),
        operations / least(lambda: wide @ wide),
        4.0 * large.numel() / least(lambda: large @ vector),
    )


def compare(name: str, matrix: Tensor, speed: tuple[float, float, float]) -> None:
    """Time kappa, sigma_max, svdvals and svd, and hold the answers against float64."""
    ways: dict[str, Callable[[], object]] = {
        "kappa": lambda: extreme_singular_values(matrix),
        "sigma max": lambda: largest_singular_value(matrix),
        "svdvals": lambda: torch.linalg.svdvals(matrix),
        "svd": lambda: torch.linalg.svd(matrix, full_matrices=False),
    }
    ours = ("kappa", "sigma max")
    for way in ours:
        ways[way]()
    took = {
        way: statistics.median(seconds(run) for _ in range(RUNS if way in ours else 1))
        for way, run in ways.items()
    }
    found, top = extreme_singular_values(matrix), largest_singular_value(matrix)
    sigma = torch.linalg.svdvals(matrix.double())
    off = abs(found.sigma_max / found.sigma_min * float(sigma[-1] / sigma[0]) - 1.0)
    width = (found.largest.high / found.largest.low) * (found.smallest.high / found.smallest.low)
    short, long = sorted(matrix.shape)
    single, double, rate = speed
    # LU of a square matrix in float64; half the Gram matrix of any other, at best in float32.
    factor = 2.0 / 3.0 * short**3 / double if short == long else float(long) * short**2 / single
    once = 4.0 * matrix.numel() / rate

    def times_faster(way: str, than: str) -> str:
        return f"{than} {took[than]:.2f} s ({took[than] / took[way]:.1f} x)"

    print(
        f"{name}: kappa {took['kappa']:.2f} s, {times_faster('kappa', 'svdvals')}, "
        f"{times_faster('kappa', 'svd')}; {took['kappa'] / (factor + once):.1f} x the factor and "
        f"one pass\n    {found.sigma_max / found.sigma_min:.6g} by {found.decided_by}, proven "
        f"within {width - 1.0:.1e}, off by {off:.1e}\n    sigma max {took['sigma max']:.3f} s, "
        f"{times_faster('sigma max', 'svdvals')}; {took['sigma max'] / once:.0f} x one pass\n"
        f"    proven within {top.high / top.low - 1.0:.1e}, "
        f"off by {abs(top.low / float(sigma[0]) - 1.0):.1e}",
        flush=True,
    )


def real() -> None:
    """All of MiniLM, whose sides of 384 are small: every value is exact."""
    stored = load_file(minilm() / "model.safetensors")
    weights = [w for w in stored.values() if w.ndim == 2 and w.is_floating_point()]
    mine, full = interleaved(
        lambda: [extreme_singular_values(w) for w in weights],
        lambda: [torch.linalg.svd(w, full_matrices=False) for w in weights],
        RUNS,
    )
    off = 0.0
    for weight in weights:
        sigma = torch.linalg.svdvals(weight.double())
        found = extreme_singular_values(weight)
        off = max(off, abs(found.sigma_max / found.sigma_min * float(sigma[-1] / sigma[0]) - 1.0))
    print(f"all-MiniLM-L6-v2, {len(weights)} matrices: kappa {mine:.2f} s, svd {full:.2f} s "
          f"({full / mine:.1f} x), off by at most {off:.1e}")  # fmt: skip
