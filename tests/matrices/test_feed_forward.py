"""Every gate, up and down that we cut out of a file computes what the model computes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from matrices.saved import FORMATS, Save, close

ACTIVATIONS = ("act_fn", "activation_fn", "activation", "act")  # what families call it


@FORMATS
@pytest.mark.parametrize(
    ("family", "module", "within"),
    [
        ("phi3", "model.layers.1.mlp", ""),
        ("glm4", "model.layers.1.mlp", ""),
        ("llama", "model.layers.1.mlp", ""),
        ("nomic", "layers.1.mlp", ""),
        ("dinov2", "encoder.layer.1.mlp", ""),
        ("modernbert", "model.layers.1.mlp", ""),
        ("granite-moe", "model.layers.1.shared_mlp", "shared_mlp"),
        ("deepseek-v3", "model.layers.1.mlp.shared_experts", "shared_experts"),
    ],
    ids=lambda value: value.rpartition(".")[2] if "1." in value else value,
)
def test_gate_up_and_down_make_the_gated_feed_forward(
    saved: Save, family: str, module: str, within: str, original: bool
) -> None:
    ours = saved(family, original=original)
    block = ours.model.get_submodule(module)
    activation = next(found for name in ACTIVATIONS if (found := getattr(block, name, None)))
    gate, up, down = (ours.find(f"mlp.{x}", within=within) for x in ("gate", "up", "down"))
    inputs = torch.randn(1, 3, 32)
    close((activation(inputs @ gate.mT) * (inputs @ up.mT)) @ down.mT, block(inputs))


Combine = Callable[[Any, Tensor, Tensor], Tensor]


def swiglu(experts: Any, gate: Tensor, up: Tensor) -> Tensor:  # noqa: ANN401 - any family's
    activated: Tensor = experts.act_fn(gate)
    return activated * up


def gpt_oss(experts: Any, gate: Tensor, up: Tensor) -> Tensor:  # noqa: ANN401
    """Put gate and up together again, and ask the module itself."""
    combined: Tensor = experts._apply_gate(torch.stack((gate, up), dim=-1).flatten(-2))
    return combined


def dbrx(experts: Any, gate: Tensor, up: Tensor) -> Tensor:  # noqa: ANN401
    activated: Tensor = experts.mlp.activation_fn(gate)
    return activated * up


@FORMATS
@pytest.mark.parametrize(
    ("family", "module", "combine"),
    [
        ("aria", "model.layers.1.mlp.experts", swiglu),
        ("dbrx", "transformer.blocks.1.ffn.experts", dbrx),
        ("deepseek-v2", "model.layers.1.mlp.experts", swiglu),
        ("deepseek-v3", "model.layers.1.mlp.experts", swiglu),
        ("deepseek-v3.2", "model.layers.1.mlp.experts", swiglu),
        ("dots1", "model.layers.1.mlp.experts", swiglu),
        ("ernie4.5-moe", "model.layers.1.mlp.experts", swiglu),
        ("gemma4", "model.layers.1.experts", swiglu),
        ("glm4-moe", "model.layers.1.mlp.experts", swiglu),
        ("glm4-moe-lite", "model.layers.1.mlp.experts", swiglu),
        ("gpt-oss", "model.layers.1.mlp.experts", gpt_oss),
        ("granite-moe", "model.layers.1.block_sparse_moe.experts", swiglu),
        ("hunyuan-moe", "model.layers.1.mlp.experts", swiglu),
        ("jamba", "model.layers.1.feed_forward.experts", swiglu),
        ("lfm2-moe", "model.layers.1.feed_forward.experts", swiglu),
        ("llama4", "language_model.model.layers.1.feed_forward.experts", swiglu),
        ("minimax", "model.layers.1.mlp.experts", swiglu),
        ("minimax-m2", "model.layers.1.mlp.experts", swiglu),
        ("mixtral", "model.layers.1.mlp.experts", swiglu),
        ("olmoe", "model.layers.1.mlp.experts", swiglu),
        ("phi3.5-moe", "model.layers.1.mlp.experts", swiglu),
        ("qwen2-moe", "model.layers.1.mlp.experts", swiglu),
        ("qwen3-moe", "model.layers.1.mlp.experts", swiglu),
        ("qwen3-next", "model.layers.1.mlp.experts", swiglu),
        ("qwen3-vl-moe", "model.language_model.layers.1.mlp.experts", swiglu),
        ("qwen3.5-moe", "model.language_model.layers.1.mlp.experts", swiglu),
    ],
    ids=lambda value: "experts" if "1." in str(value) else getattr(value, "__name__", value),
)
def test_each_expert_computes_with_its_own_matrices(
    saved: Save, family: str, module: str, combine: Combine, original: bool
) -> None:
    ours = saved(family, original=original)
    experts = ours.model.get_submodule(module)
    inputs = torch.randn(5, 32)
    for expert in range(3):
        gate, up, down = (ours.find(f"mlp.{x}", expert=expert) for x in ("gate", "up", "down"))
        if family == "llama4":  # takes the tokens of all experts, sorted by expert
            output = experts(inputs.repeat(3, 1))[5 * expert : 5 * expert + 5]
        else:
            output = experts(inputs, torch.full((5, 1), expert), torch.ones(5, 1)).reshape(5, 32)
        close(combine(experts, inputs @ gate.mT, inputs @ up.mT) @ down.mT, output)
