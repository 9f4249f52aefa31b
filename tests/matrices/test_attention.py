"""Every q, k, v that we cut out of a file is the one the model itself multiplies.

Tiny models are saved by transformers, read back by us, and compared with what their own
attention computes; nowhere with a second copy of our table.
"""

import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from matrices.products import Attention, watch
from matrices.saved import FORMATS, Save, Saved, close, same_direction

SELF, CROSS = ".attn.", ".crossattention."


def run(model: Any) -> None:  # noqa: ANN401 - any family's
    """Show the model one token at position 0, where RoPE turns nothing, or one image."""
    token, image = torch.tensor([[3]]), torch.randn(1, 3, 8, 8)
    inputs = {
        "vit": {"pixel_values": image},
        "dinov2": {"pixel_values": image},
        "siglip": {"pixel_values": image, "input_ids": token},
        "vision-encoder-decoder": {"pixel_values": image, "decoder_input_ids": token},
        "t5": {"input_ids": torch.tensor([[3, 5]]), "decoder_input_ids": token},
        "gpt2": {"input_ids": token, "encoder_hidden_states": torch.randn(1, 3, 32)},
    }
    model(**inputs.get(model.config.model_type, {"input_ids": token}))


def per_query_head(ours: Tensor, recorded: Tensor, size: int) -> Tensor:
    """Repeat each key head for the query heads that share it, as the forward pass did."""
    times = recorded.shape[1] // ours.shape[1]
    heads: Tensor = ours.unflatten(1, (-1, size))
    return heads.repeat_interleave(times, dim=1).flatten(1)


def check(seen: Attention, ours: Saved, within: str = "", size: int = 8) -> None:
    q, k, v = (ours.find(f"attn.{letter}", within=within) for letter in "qkv")
    same_direction(seen.inputs @ q.mT, seen.q)
    same_direction(per_query_head(seen.memory @ k.mT, seen.k, size), seen.k)
    close(per_query_head(seen.memory @ v.mT, seen.v, size), seen.v)


@FORMATS
@pytest.mark.parametrize(
    ("family", "module", "within"),
    [
        ("gpt2", "transformer.h.1.attn", SELF),
        ("gpt2", "transformer.h.1.crossattention", CROSS),
        ("imagegpt", "transformer.h.1.attn", SELF),
        ("openai-gpt", "transformer.h.1.attn", SELF),
        ("starcoder", "transformer.h.1.attn", SELF),
        ("starcoder-mha", "transformer.h.1.attn", SELF),
        ("codegen", "transformer.h.1.attn", SELF),
        ("gpt-neox", "gpt_neox.layers.1.attention", ""),
        ("bloom", "transformer.h.1.self_attention", ""),
        ("falcon-mha", "transformer.h.1.self_attention", ""),
        ("falcon-mqa", "transformer.h.1.self_attention", ""),
        ("falcon-new", "transformer.h.1.self_attention", ""),
        ("persimmon", "model.layers.1.self_attn", ""),
        ("mpt", "transformer.blocks.1.attn", SELF),
        ("dbrx", "transformer.blocks.1.norm_attn_norm.attn", SELF),
        ("bert", "bert.encoder.layer.1.attention.self", ""),
        ("deberta", "deberta.encoder.layer.1.attention.self", ""),
        ("modernbert", "model.layers.1.attn", SELF),
        ("nomic", "layers.1.self_attn", ""),
        ("llama", "model.layers.1.self_attn", ""),
        ("phi3", "model.layers.1.self_attn", ""),
        ("glm4", "model.layers.1.self_attn", ""),
        ("mixtral", "model.layers.1.self_attn", ""),
        ("t5", "encoder.block.1.layer.0.SelfAttention", "encoder."),
        ("t5", "decoder.block.1.layer.1.EncDecAttention", "EncDecAttention"),
        ("vit", "vit.layers.1.attention", ""),
        ("dinov2", "encoder.layer.1.attention", ""),
        ("siglip", "text_model.encoder.layers.1.self_attn", "text_model"),
        ("vit-gpt2", "encoder.layers.1.attention", "encoder.layer"),
        ("vit-gpt2", "decoder.transformer.h.1.attn", SELF),
        ("vit-gpt2", "decoder.transformer.h.1.crossattention", CROSS),
    ],
    ids=lambda value: value.rpartition(".")[2] if "1." in value else value.strip("."),
)
def test_q_k_v_are_what_the_attention_multiplies(
    saved: Save, family: str, module: str, within: str, original: bool
) -> None:
    ours = saved(family, original=original)
    with watch(ours.model.get_submodule(module)) as passes:
        run(ours.model)
    check(passes[0], ours, within, size=6 if family == "t5" else 8)


@pytest.mark.parametrize("family", ["qwen2.5-vl", "qwen3-vl-moe", "qwen3.5-moe"])
def test_qkv_of_a_vision_tower_beside_a_text_model(saved: Save, family: str) -> None:
    ours = saved(family)
    attention = ours.model.get_submodule("model.visual.blocks.1.attn")
    still = torch.ones(1, 8), torch.zeros(1, 8)  # cos, sin of no rotation
    with watch(attention) as passes:
        attention(torch.randn(1, 32), cu_seqlens=torch.tensor([0, 1]), position_embeddings=still)
    check(passes[0], ours, within="visual.")


def test_in_proj_weight_is_torchs_own_multihead_attention(saved: Save) -> None:
    ours = saved("siglip")
    attention = ours.model.get_submodule("vision_model.head.attention")
    probe, patches = torch.randn(1, 2, 32), torch.randn(1, 5, 32)
    within, heads = "vision_model.head", (4, 8)
    q, k, v, o = (ours.find(f"attn.{x}", layer=None, within=within) for x in "qkvo")
    mixed = nn.functional.scaled_dot_product_attention(
        (probe @ q.mT).unflatten(-1, heads).transpose(1, 2),
        (patches @ k.mT).unflatten(-1, heads).transpose(1, 2),
        (patches @ v.mT).unflatten(-1, heads).transpose(1, 2),
    )
    close(mixed.transpose(1, 2).flatten(2) @ o.mT, attention(probe, patches, patches)[0])


@pytest.mark.parametrize("family", ["deepseek-v2", "deepseek-v3", "deepseek-v3.2", "glm4-moe-lite"])
def test_latent_attention_expands_keys_and_values_from_the_latent(saved: Save, family: str) -> None:
    ours = saved(family)
    attention = ours.model.get_submodule("model.layers.1.self_attn")
    latents: list[Tensor] = []  # before and after its norm
    handle = attention.kv_a_layernorm.register_forward_hook(
        lambda _module, args, output: latents.extend(
            (args[0].flatten(0, -2), output.flatten(0, -2))
        )
    )
    with watch(attention) as passes:
        run(ours.model)
    handle.remove()
    passes[0].factors = passes[0].factors[-2:]  # DeepSeek-V3.2's indexer multiplies before
    raw, normed = latents
    close(passes[0].inputs @ ours.find("other", within="[kv]").mT, raw)
    keys = passes[0].k.unflatten(1, (4, -1))  # 4 heads of 6 + 4: expanded, then rotating
    close(normed @ ours.find("attn.k", within="kv_b_proj").mT, keys[..., :6].flatten(1))
    rotating = passes[0].inputs @ ours.find("attn.k", within="kv_a_proj").mT
    # At position 0 RoPE turns nothing, but it may put odd entries behind even ones.
    close(rotating.expand(4, -1).sort().values, keys[0, :, 6:].sort().values)
    close(normed @ ours.find("attn.v").mT, passes[0].v)


def text_of(family: str) -> str:
    return "model.language_model" if family == "qwen3.5-moe" else "model"


@pytest.mark.parametrize("family", ["qwen3-next", "qwen3.5-moe"])
def test_gated_attention_keeps_its_gate_among_the_queries(
    saved: Save, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, within = saved(family), f"{text_of(family)}.layers.1.self_attn"
    attention = ours.model.get_submodule(within)
    for norm in ("q_norm", "k_norm"):
        monkeypatch.setitem(attention._modules, norm, nn.Identity())
    gated: list[Tensor] = []
    handle = attention.o_proj.register_forward_pre_hook(
        lambda _module, args: gated.append(args[0][0])
    )
    with watch(attention) as passes:
        run(ours.model)
    handle.remove()
    check(passes[0], ours, within)
    gate = passes[0].inputs @ ours.find("other", within=f"{within}.q_proj.weight[gate]").mT
    close(passes[0].v * gate.sigmoid(), gated[0])


@pytest.mark.parametrize("family", ["qwen3-next", "qwen3.5-moe"])
def test_linear_attention_of_a_gated_delta_net(
    saved: Save, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = saved(family)
    net = ours.model.get_submodule(f"{text_of(family)}.layers.0.linear_attn")
    taps = torch.zeros_like(net.conv1d.weight)
    taps[..., -1] = 1  # each channel sees its own last token alone
    monkeypatch.setitem(net.conv1d._parameters, "weight", nn.Parameter(taps))
    module, rule = sys.modules[type(net).__module__], "torch_chunk_gated_delta_rule"
    seen: list[Tensor] = []
    original = getattr(module, rule)

    def watched(*args: Tensor, **settings: object) -> object:
        seen.extend(args[:3])
        return original(*args, **settings)

    monkeypatch.setattr(module, rule, watched)
    gates: list[Tensor] = []
    handle = net.norm.register_forward_pre_hook(lambda _module, args: gates.append(args[1]))
    inputs = torch.randn(1, 1, 32)
    net(inputs)
    handle.remove()
    for kind, recorded in zip(("attn.q", "attn.k", "attn.v"), seen, strict=True):
        matrix = ours.find(kind, layer=0, within="linear_attn")
        close(nn.functional.silu(inputs @ matrix.mT).flatten(), recorded.flatten())
    gate = "in_proj_qkvz.weight[z]" if family == "qwen3-next" else "in_proj_z.weight"
    close((inputs @ ours.find("other", layer=0, within=gate).mT).flatten(), gates[0].flatten())
