"""Write adapters as mlx-lm saves them, and what it fuses of them.

Run with mlx-lm 0.32 (`pip install mlx-lm "mlx[cpu]"`), which the tests do without:
`python tests/data/mlx_lm/write.py`.
"""

from pathlib import Path
from typing import Any

import mlx.core as mx  # type: ignore[import-not-found]
from mlx import nn
from mlx.utils import tree_flatten, tree_unflatten  # type: ignore[import-not-found]
from mlx_lm.models.switch_layers import SwitchLinear  # type: ignore[import-not-found]
from mlx_lm.tuner.dora import DoRALinear  # type: ignore[import-not-found]
from mlx_lm.tuner.lora import (  # type: ignore[import-not-found]
    LoRAEmbedding,
    LoRALinear,
    LoRASwitchLinear,
)

HERE = Path(__file__).parent
SCALE, RANK = 3.5, 2
LAYER = "model.layers.0"
LAYERS: dict[str, Any] = {
    f"{LAYER}.self_attn.q_proj": lambda: nn.Linear(12, 10, bias=False),
    f"{LAYER}.self_attn.o_proj": lambda: nn.Linear(12, 12, bias=False),
    f"{LAYER}.mlp.switch_mlp.gate_proj": lambda: SwitchLinear(12, 8, 3, bias=False),
    f"{LAYER}.mlp.switch_mlp.down_proj": lambda: SwitchLinear(8, 12, 3, bias=False),
    "model.embed_tokens": lambda: nn.Embedding(12, 12),
}
WRAPS = {nn.Linear: LoRALinear, SwitchLinear: LoRASwitchLinear, nn.Embedding: LoRAEmbedding}


def main() -> None:
    mx.set_default_device(mx.cpu)
    mx.random.seed(0)
    base = {name: make() for name, make in LAYERS.items()}
    mx.save_safetensors(str(HERE / "base.safetensors"), flat(base))
    for way in ("lora", "dora"):
        layers: dict[str, Any] = {}
        for name, layer in base.items():
            if way == "dora" and not isinstance(layer, nn.Linear):
                continue
            wrap = DoRALinear if way == "dora" else WRAPS[type(layer)]
            layers[name] = wrap.from_base(layer, r=RANK, scale=SCALE)
            layers[name].freeze(keys=["weight"])
            for key, value in layers[name].trainable_parameters().items():
                if key in {"lora_a", "lora_b"}:
                    layers[name][key] = mx.random.normal(value.shape) * 0.3
                elif key == "m":
                    layers[name][key] = value * (1 + 0.3 * mx.random.uniform(shape=value.shape))
        kept = {
            f"{name}.{key}": layer[key]
            for name, layer in layers.items()
            for key in ("lora_a", "lora_b", "m")
            if key in layer
        }
        mx.save_safetensors(str(HERE / f"{way}.safetensors"), kept)
        fused = {name: layer.fuse() for name, layer in layers.items()}
        mx.save_safetensors(str(HERE / f"{way}_fused.safetensors"), flat({**base, **fused}))


def flat(layers: dict[str, Any]) -> dict[str, Any]:
    """Return parameters by name."""
    return dict(tree_flatten(tree_unflatten([(k, v.parameters()) for k, v in layers.items()])))


if __name__ == "__main__":
    main()
