"""Families of checkpoints whose largest singular values are planted."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from examples import with_spectrum, write_model

SHAPES: Mapping[str, Callable[[int], tuple[int, int]]] = {
    "self_attn.q_proj": lambda d: (d, d),
    "self_attn.k_proj": lambda d: (d // 2, d),
    "mlp.up_proj": lambda d: (3 * d, d),
    "mlp.down_proj": lambda d: (d, 3 * d),
}


def scaled_weights(
    width: int, sigma: Callable[[str, int], float], layers: int = 3, seed: int = 0
) -> dict[str, Tensor]:
    """Return a Llama-like model's tensors.

    Args:
        width: d.
        sigma: Largest singular value of a module (`mlp.up_proj`) of a layer.
        layers: Depth.
        seed: Of the directions and the rest of every spectrum.
    """
    source = torch.Generator().manual_seed(1000 * seed + width)
    tensors = {"model.embed_tokens.weight": torch.randn(30, width, generator=source)}
    for layer in range(layers):
        tensors[f"model.layers.{layer}.input_layernorm.weight"] = torch.ones(width)
        for module, shape in SHAPES.items():
            rows, cols = shape(width)
            top = sigma(module, layer)
            values = top * torch.linspace(0.9, 0.3, min(rows, cols), dtype=torch.float64)
            values[0] = top
            name = f"model.layers.{layer}.{module}.weight"
            tensors[name] = with_spectrum(values, rows, cols, source).float()
    return tensors


def write_scaled(
    folder: Path, width: int, sigma: Callable[[str, int], float], layers: int = 3
) -> Path:
    """Write such a model; its folder's name is as given."""
    return write_model(folder, scaled_weights(width, sigma, layers), '{"model_type": "llama"}')


def write_state(folder: Path, step: int, rates: tuple[float, ...] = ()) -> Path:
    """Write what transformers' Trainer leaves beside a checkpoint."""
    log = [{"step": i, "loss": 2.0, "learning_rate": rate} for i, rate in enumerate(rates)]
    state = {"global_step": step, "log_history": [*log, {"step": step, "eval_loss": 1.0}]}
    (folder / "trainer_state.json").write_text(json.dumps(state))
    return folder


def write_attention(folder: Path, width: int = 8, seed: int = 8) -> Path:
    """Write two layers of attention, four heads of queries on two of keys and values."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for layer in range(2):
        own = f"model.layers.{layer}"
        tensors[f"{own}.input_layernorm.weight"] = torch.ones(width)
        for name, rows in (("q", width), ("k", width // 2), ("v", width // 2), ("o", width)):
            made = torch.randn(rows, width, generator=generator)
            tensors[f"{own}.self_attn.{name}_proj.weight"] = made
    config = {"model_type": "llama", "num_attention_heads": 4, "num_key_value_heads": 2}
    return write_model(folder, tensors, json.dumps(config))
