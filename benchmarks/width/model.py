"""The models: transformers' Llama, wider and wider at one depth and one head dimension."""

import math

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.width.corpus import VOCABULARY
from benchmarks.width.rules import ETA_VECTOR, Setting

LAYERS = 3
HEAD = 32
RATIO = 3  # width of the MLP / d: near Llama's 8/3, and the same fraction at every width
CONTEXT = 128
EMBEDDING_STD = 0.1


def llama(width: int, seed: int) -> LlamaForCausalLM:
    """A model with entries of std 1/sqrt(fan-in); embedding 0.1; head 1/fan-in (muP)."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=RATIO * width,
        num_hidden_layers=LAYERS,
        num_attention_heads=width // HEAD,
        num_key_value_heads=width // HEAD,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            std = 1 / math.sqrt(parameter.shape[1])
            if "embed" in name:
                std = EMBEDDING_STD
            elif "lm_head" in name:
                std = 1 / parameter.shape[1]
            torch.nn.init.normal_(parameter, std=std, generator=generator)
    return model


def matrices(model: LlamaForCausalLM) -> dict[str, torch.nn.Parameter]:
    """The parameters whose two dimensions grow with d, by name."""
    return {name: p for name, p in model.named_parameters() if "_proj." in name}


def optimizer(model: LlamaForCausalLM, setting: Setting) -> torch.optim.AdamW:
    """AdamW with a group each of matrices, head and vectors; eps too small to matter."""
    inner = list(matrices(model).values())
    head = [model.lm_head.weight]
    known = {id(p) for p in inner + head}
    vectors = [p for p in model.parameters() if id(p) not in known]
    groups = [
        {"params": inner, "lr": setting.eta, "weight_decay": setting.decay},
        {"params": head, "lr": setting.eta, "weight_decay": 0.0},
        {"params": vectors, "lr": ETA_VECTOR, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-12, fused=True)
