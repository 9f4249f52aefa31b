"""Conclusions drawn from spectra: collapse, spikes, chance, overlaps, brackets, outliers."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.faults.fault import Fault, Ran, read

WEIGHT = "model.layers.0.self_attn.q_proj.weight"
TABLE = "model.embed_tokens.weight"
EDGE = 1.2  # of the true edge, at which ten planted directions are seen


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def model(tensors: Callable[[], dict[str, Tensor]], name: str = "model") -> Callable[[Path], None]:
    """Write a file of these."""

    def make(folder: Path) -> None:
        (folder / name).mkdir()
        held = {key: value.contiguous() for key, value in tensors().items()}
        save_file(held, folder / name / "model.safetensors")

    return make


def both(*makers: Callable[[Path], None]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for maker in makers:
            maker(folder)

    return make


def findings(folder: Path) -> str:
    """What a check of the model says of each matrix."""
    document = read(folder, "check", "model", "--isolated").document
    told = [f"{one['rule']} {one['matrix']}: {one['message']}"
            for one in document["summary"]["findings"]]  # fmt: skip
    return "; ".join(told) or "no finding"


def values(ran: Ran, *keys: str) -> str:
    """Those of the first row."""
    row = ran.document["rows"][0]
    return json.dumps({key: row.get(key) for key in keys})


def spikes(folder: Path) -> str:
    ran = read(folder, "spectrum", "model")
    return f"{values(ran, 'spikes', 'heavy_tail')} {ran.reading}"


def noise(kind: str, side: int = 512, seed: int = 0) -> Tensor:
    """Independent entries of variance 1."""
    source = np.random.default_rng(seed)
    drawn = {
        "uniform": lambda: source.uniform(-(3**0.5), 3**0.5, (side, side)),
        "ternary": lambda: source.integers(-1, 2, (side, side)) * 1.5**0.5,
        "Laplace": lambda: source.laplace(0.0, 0.5**0.5, (side, side)),
        "t(3)": lambda: source.standard_t(3, (side, side)) / 3**0.5,
    }[kind]()
    return torch.from_numpy(drawn).float()


def planted(kind: str) -> dict[str, Tensor]:
    """Noise and ten directions seen at `EDGE` times its edge."""
    found = noise(kind)
    side = len(found)
    seen = EDGE * 2.0 * side**0.5
    strength = (seen + (seen * seen - 4.0 * side) ** 0.5) / 2.0  # t + side / t is what is seen
    left, right = (torch.linalg.qr(normal(side, 10, seed=seed)).Q for seed in (1, 2))
    return {WEIGHT: 0.02 * (found + strength * left @ right.mT)}


def vocabulary(dtype: torch.dtype, words: int = 256_000, width: int = 512) -> dict[str, Tensor]:
    return {TABLE: (0.02 * normal(words, width) + 0.03 * normal(width, seed=1)).to(dtype)}


def collapsed() -> dict[str, Tensor]:
    made = normal(50_000, 8) @ normal(8, 256, seed=1) / 8**0.5
    return {TABLE: (0.02 * made + 0.03 * normal(256, seed=2)).bfloat16()}


def nulls() -> dict[str, Tensor]:
    return {f"model.layers.{i}.mlp.up_proj.weight": normal(*shape, seed=i)
            for i, shape in enumerate(((4096, 64), (1536, 384)))}  # fmt: skip


def changed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value + 0.1 * normal(*value.shape, seed=9) for key, value in tensors.items()}


def chance(folder: Path) -> str:
    rows = read(folder, "diff", "base", "model", "--intruders").document["rows"]
    return ", ".join(f"{row['rows']} x {row['cols']}: {row['null_cos']:.4f}" for row in rows)


def base_of_rank(sigma: tuple[float, ...]) -> dict[str, Tensor]:
    """A base with these singular values and no others, float64."""
    left, right = (torch.linalg.qr(normal(60, len(sigma), seed=s).double()).Q for s in (3, 4))
    return {WEIGHT: (left * torch.tensor(sigma, dtype=torch.float64)) @ right.mT}


def overlap(sigma: tuple[float, ...], name: str) -> Fault:
    def before() -> dict[str, Tensor]:
        return base_of_rank(sigma)

    def after() -> dict[str, Tensor]:
        return {WEIGHT: before()[WEIGHT] + normal(60, 60, seed=5).double()}

    return Fault(
        f"numerics: subspace_overlap, {name}",
        "a number that a permutation of columns changes",
        "null, with a status",
        both(model(before, "base"), model(after)),
        lambda folder: values(
            read(folder, "diff", "base", "model", "--intruders"),
            "subspace_overlap", "overlap_status",
        ),
        lambda said: json.loads(said) == {
            "subspace_overlap": None, "overlap_status": "undetermined",
        },
    )  # fmt: skip


def graded() -> dict[str, Tensor]:
    left, right = (torch.linalg.qr(normal(100, 100, seed=s).double()).Q for s in (6, 7))
    return {WEIGHT: (left * torch.logspace(0, -13, 100, dtype=torch.float64)) @ right.mT}


def holds_the_truth(said: str) -> bool:
    """10^13 is exact to the rounding of the stored entries, some 1e-16 of sigma_1."""
    found = json.loads(said)
    return found["kappa_low"] < 0.999e13 and found["kappa_high"] > 1.001e13


def recogniser() -> dict[str, Tensor]:
    """Four layers of LSTM and a CTC head, the head of few directions and large."""
    tensors = {
        f"rnn.weight_{part}_l{layer}": 0.02 * normal(512, 128, seed=8 * layer + (part == "ih"))
        for layer in range(4)
        for part in ("ih", "hh")
    }
    head = 1.0 * normal(29, 1, seed=50) @ normal(1, 128, seed=51) + 0.05 * normal(29, 128, seed=52)
    return {**tensors, "ctc.weight": head}


def flagged(kind: str) -> Fault:
    return Fault(
        f"numerics: {kind} noise, no direction planted",
        "40 to 172 spikes",
        "a warning that the tail is heavy",
        model(lambda: {WEIGHT: noise(kind)}),
        spikes,
        lambda said: '"heavy_tail": true' in said and "entries of heavy tails" in said,
    )


def counted(kind: str) -> Fault:
    return Fault(
        f"numerics: {kind} noise, ten directions at 1.2 times the edge",
        "0 spikes; 40 to 172 on a grid",
        "10",
        model(lambda: planted(kind)),
        spikes,
        lambda said: '"spikes": 10' in said,
    )


def gaussian() -> dict[str, Tensor]:
    return {f"model.layers.{i}.self_attn.q_proj.weight": normal(512, 512, seed=i)
            for i in range(25)}  # fmt: skip


def with_spikes(folder: Path) -> str:
    rows = read(folder, "spectrum", "model").document["rows"]
    return f"{sum(row['spikes'] > 0 for row in rows)} of {len(rows)}"


FAULTS = (
    Fault(
        "numerics: a healthy vocabulary of 256,000 words in bf16",
        "SPC301: numerical rank 0.2 % < 50 %",
        "no finding",
        model(lambda: vocabulary(torch.bfloat16)),
        findings,
        lambda said: said == "no finding",
    ),
    Fault(
        "numerics: a collapsed vocabulary in bf16",
        "",
        "SPC301",
        model(collapsed),
        findings,
        lambda said: said.startswith("SPC301 ") and "rank above rounding 3.5%" in said,
    ),
    counted("uniform"),
    counted("ternary"),
    flagged("Laplace"),
    flagged("t(3)"),
    Fault(
        "numerics: 25 squares of Gaussian noise",
        "a spike in 7 of 25",
        "at most 1 in 100",
        model(gaussian),
        with_spikes,
        lambda said: said == "0 of 25",
    ),
    Fault(
        "numerics: null_cos of tall matrices",
        "0.0588, 0.0895",
        "0.0399, 0.0794 within 0.0003",
        both(model(nulls, "base"), model(lambda: changed(nulls()))),
        chance,
        lambda said: said == "4096 x 64: 0.0398, 1536 x 384: 0.0796",
    ),
    overlap((9.0, 7.0, 5.0, 3.0), "base of rank 4, k = 10"),
    overlap((20.0, 19.0, 18.0, 17.0, 16.0, 15.0, 14.0, 13.0, *([5.0] * 40)), "a tie at the 10th"),
    Fault(
        "numerics: exact kappa of rotated logspace(0, -13, 100)",
        "kappa_low = kappa_high, truth up to 1e-3 outside",
        "a bracket that holds 1e13",
        model(graded),
        lambda folder: values(
            read(folder, "kappa", "model", "--exact"), "kappa_low", "kappa", "kappa_high"
        ),
        holds_the_truth,
    ),
    Fault(
        "numerics: a CTC head among eight LSTM matrices",
        "SPC204, SPC301: 10 times the median of its role",
        "no finding",
        model(recogniser),
        findings,
        lambda said: said == "no finding",
    ),
)
