"""What the kernel tests share: one thread, and the real matrices."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

PREFIX = "base_model.model.bert."


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small decompositions on more threads than free cores take minutes, not seconds."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def real(minilm: Path) -> dict[str, Tensor]:
    """Every matrix of MiniLM by its tensor's name, float32."""
    stored = load_file(minilm / "model.safetensors")
    return {name: w for name, w in stored.items() if w.ndim == 2 and w.is_floating_point()}


@pytest.fixture(scope="session")
def updates(minilm_lora: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """The rank-8 adapter: `scale * B` and `A` by the name of the tensor they change."""
    factors = load_file(minilm_lora / "adapter_model.safetensors")
    found = {}
    for name, down in factors.items():
        if name.endswith(".lora_A.weight"):
            up = factors[name.replace(".lora_A.", ".lora_B.")]
            weight = name.removeprefix(PREFIX).replace(".lora_A.weight", ".weight")
            found[weight] = (2.0 * up, down)
    return found
