"""Small models and matrices made for tests."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from spectra.matrices.role import Role, roles_of


def write_model(
    folder: Path, tensors: Mapping[str, Tensor], config: str = "", name: str = "model.safetensors"
) -> Path:
    """Write one safetensors file, and a config.json where given; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / name)
    if config:
        (folder / "config.json").write_text(config)
    return folder


def role_of(name: str, dimensions: int = 2) -> Role:
    """Return the role of a tensor that is alone in its model."""
    return roles_of({name: dimensions})[name]


def with_spectrum(
    sigma: Tensor, rows: int, cols: int, generator: torch.Generator | None = None
) -> Tensor:
    """Return a float64 rows x cols matrix with these singular values, random vectors."""
    rank = len(sigma)
    left = torch.linalg.qr(torch.randn(rows, rank, generator=generator, dtype=torch.float64)).Q
    right = torch.linalg.qr(torch.randn(cols, rank, generator=generator, dtype=torch.float64)).Q
    matrix: Tensor = (left * sigma.double()) @ right.mT
    return matrix


def write_lora(folder: Path, modules: Mapping[str, tuple[int, int]], rank: int = 4) -> Path:
    """Write a PEFT LoRA of random factors on modules of some outputs and inputs."""
    generator = torch.Generator().manual_seed(rank)
    tensors = {}
    for name, (rows, cols) in modules.items():
        for side, shape in (("A", (rank, cols)), ("B", (rows, rank))):
            key = f"base_model.model.{name}.lora_{side}.weight"
            tensors[key] = torch.randn(shape, generator=generator)
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": [*modules]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder
