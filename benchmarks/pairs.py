"""Checkpoints to compare: a decoder layer of a 7B shape and tunings of it, and the hard cases.

`python -m benchmarks.pairs FOLDER NAME...` writes `layer`, `smollm2`, or a hard case of a side
(`flat@1100`).
"""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.models import smollm2

HIDDEN, INNER = 4096, 11008
SHAPES = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (HIDDEN, HIDDEN),
    "self_attn.v_proj": (HIDDEN, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (INNER, HIDDEN),
    "mlp.up_proj": (INNER, HIDDEN),
    "mlp.down_proj": (HIDDEN, INNER),
}
ENTRY = 0.02  # of the noise
HEAD = 256  # directions above the noise, as trained weights have; one matrix has few
FEW = {"self_attn.v_proj": 6}  # so that some of its ten largest lie at the noise's edge
RANK = 16
# Strengths of an adapter's directions, of the base's largest value: a few that outdo most of
# the head where they are, and the usual ones, half of them within the head's own directions.
STRONG = {
    "self_attn.q_proj": (0.9, 0.6),
    "self_attn.k_proj": (0.7,),
    "self_attn.o_proj": (1.2, 0.8),
    "mlp.gate_proj": (0.7,),
    "mlp.down_proj": (0.9, 0.5, 0.4),
}
USUAL = 0.12
COUNT = {1100: 8, 4096: 2}  # matrices of a hard checkpoint, so that starting is a small part


def main() -> None:
    """Write what is asked for."""
    folder, *names = sys.argv[1:]
    for name in names:
        if name == "layer":
            write_layer(Path(folder) / name)
        elif name == "smollm2":
            write_smollm2(Path(folder) / name)
        else:
            kind, _, side = name.partition("@")
            write_hard(Path(folder) / name, kind, int(side))


def write_layer(folder: Path, shapes: dict[str, tuple[int, int]] = SHAPES) -> None:
    """Write `base`, `adapter`, its bfloat16 merge and a full fine-tune, beside each other."""
    base, merged, full, factors = ({} for _ in range(4))
    for index, (module, (rows, cols)) in enumerate(shapes.items()):
        source = torch.Generator().manual_seed(index)
        noise = torch.randn(rows, cols, generator=source).mul_(ENTRY)
        edge = ENTRY * (math.sqrt(rows) + math.sqrt(cols))
        count = min(FEW.get(module, HEAD), rows // 4, cols // 4)
        decay = torch.arange(1.0, count + 1.0) ** -(0.5 + 0.05 * index)
        sigma = edge * (0.8 + (3.0 + 2.0 * index) * decay)
        left, right = orthonormal(rows, count, source), orthonormal(cols, count, source)
        weight = noise.addmm_(left * sigma, right.mT).bfloat16()
        name = f"model.layers.0.{module}"
        base[f"{name}.weight"] = weight
        up, down = adapter(left, right, float(sigma[0]) * strengths(module), source)
        factors[f"base_model.model.{name}.lora_A.weight"] = down
        factors[f"base_model.model.{name}.lora_B.weight"] = up
        merged[f"{name}.weight"] = (weight.float() + up @ down).bfloat16()
        # Two hundredths of the noise everywhere, and directions that decay from a strong one.
        full_strengths = 0.25 * float(sigma[0]) * torch.arange(1.0, 33.0) ** -0.7
        up, down = adapter(left, right, full_strengths, source)
        moved = torch.randn(rows, cols, generator=source).mul_(0.02 * ENTRY).addmm_(up, down)
        full[f"{name}.weight"] = moved.add_(weight).bfloat16()
    for name, tensors in (("base", base), ("merged", merged), ("full", full)):
        write(folder / name, tensors)
    (folder / "adapter").mkdir(parents=True)
    save_file(factors, folder / "adapter" / "adapter_model.safetensors")
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "base",
        "r": RANK,
        "lora_alpha": RANK,
        "target_modules": [module.partition(".")[2] for module in shapes],
    }
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(settings))


def strengths(module: str) -> Tensor:
    """Of a rank-16 adapter, in the base's largest value."""
    strong = torch.tensor(STRONG.get(module, ()))
    return torch.cat([strong, USUAL * torch.arange(1.0, RANK + 1.0 - len(strong)) ** -0.5])


def adapter(
    left: Tensor, right: Tensor, strength: Tensor, source: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return factors of which every second direction leans on one of the head's."""
    count = len(strength)
    up, down = (
        torch.randn(len(side), count, generator=source).div_(math.sqrt(len(side)))
        for side in (left, right)
    )
    for index in range(1, count, 2):
        own = index % left.shape[1]
        up[:, index] = 0.6 * up[:, index] + 0.8 * left[:, own]
        down[:, index] = 0.6 * down[:, index] + 0.8 * right[:, own]
    return up * strength, down.mT.contiguous()


def write_hard(folder: Path, kind: str, side: int) -> None:
    """Write `base` and `tuned` of float32 squares, a few so that starting is a small part."""
    base, tuned = {}, {}
    for index in range(COUNT.get(side, 2)):
        source = torch.Generator().manual_seed(100 + index)
        weight = BASES[kind](side, source)
        rank = 1 if kind in {"flat", "identity", "orthogonal"} else 8
        update = outdoing(weight, rank, source)
        name = f"model.layers.{index}.self_attn.q_proj.weight"
        base[name], tuned[name] = weight, weight + update
    write(folder / "base", base)
    write(folder / "tuned", tuned)


def outdoing(weight: Tensor, rank: int, source: torch.Generator) -> Tensor:
    """Return an update of which the first direction is half again as strong as the largest."""
    rows, cols = weight.shape
    vector = torch.randn(cols, 1, generator=source)
    for _ in range(8):
        vector = weight.mT @ (weight @ vector)
        vector /= vector.norm()
    amount = 1.5 * float((weight @ vector).norm()) / torch.arange(1.0, rank + 1.0)
    up, down = (
        torch.randn(side, rank, generator=source) / math.sqrt(side) for side in (rows, cols)
    )
    return (up * amount) @ down.mT


def write_smollm2(folder: Path) -> None:
    """Write two layers' matrices of SmolLM2-135M, dequantised, and each with a rank-16 update."""
    base, tuned = {}, {}
    for index, weight in enumerate(smollm2() or ()):
        source = torch.Generator().manual_seed(index)
        name = f"model.layers.{index}.self_attn.q_proj.weight"
        base[name], tuned[name] = weight, weight + outdoing(weight, 16, source)
    write(folder / "base", base)
    write(folder / "tuned", tuned)


def planted(sigma: Callable[[int], Tensor]) -> Callable[[int, torch.Generator], Tensor]:
    """Return what makes a matrix of these singular values."""

    def make(side: int, source: torch.Generator) -> Tensor:
        values = sigma(side)
        left, right = (orthonormal(side, len(values), source) for _ in range(2))
        return (left * values) @ right.mT

    return make


def clusters(side: int) -> Tensor:
    """Six groups of eight values within 1e-5 of each other, on a flat rest."""
    heads = torch.linspace(4.0, 2.0, 6)[:, None] * (1.0 - 1e-5 * torch.linspace(0.0, 1.0, 8))
    return torch.cat([heads.flatten(), torch.linspace(1.0, 0.1, side - 48)])


def ordinary(side: int, source: torch.Generator) -> Tensor:
    """A head of 40 on noise."""
    head = planted(lambda _: torch.linspace(6.0, 1.5, 40))(side, source)
    return head + torch.randn(side, side, generator=source) * (0.3 / math.sqrt(side))


def one_row(side: int, source: torch.Generator) -> Tensor:
    """A head on noise, and a row sixty times larger."""
    weight = ordinary(side, source)
    weight[side // 3] *= 60.0
    return weight


BASES: dict[str, Callable[[int, torch.Generator], Tensor]] = {
    "flat": lambda side, source: torch.randn(side, side, generator=source) / math.sqrt(side),
    "clusters": planted(clusters),
    "identity": lambda side, _: torch.eye(side),
    "orthogonal": planted(torch.ones),
    "kappa": planted(lambda side: torch.logspace(0.0, -8.0, side)),
    "low-rank": planted(lambda side: torch.linspace(3.0, 1.0, side // 32)),
    "k32": ordinary,
    "decay": planted(lambda side: torch.arange(1.0, side + 1.0) ** -1.0),
    "row": one_row,
}


def orthonormal(rows: int, cols: int, source: torch.Generator) -> Tensor:
    """Random orthonormal columns."""
    return torch.linalg.qr(torch.randn(rows, cols, generator=source)).Q


def write(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Write one file."""
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors")


if __name__ == "__main__":
    main()
