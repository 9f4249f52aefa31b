"""What the table of families promises, and what it refuses.

That its rules agree with the models' own forward pass is tested in test_attention.py and
test_feed_forward.py.
"""

from typing import Any

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from examples import role_of
from families import model_types
from matrices.saved import FORMATS, Save, close
from matrices.tiny import MODELS
from spectra.matrices.families import TABLE
from spectra.matrices.layout import LayoutError, Part, parts_of

UNHEARD_OF = {
    "RefinedWeb", "RefinedWebModel",  # Falcon's names before transformers took it in
    "kimi_k2",  # DeepSeek-V3's code under its own name
}  # fmt: skip


@FORMATS
@pytest.mark.parametrize("family", MODELS)
def test_the_parts_of_a_tensor_are_all_of_it(saved: Save, family: str, original: bool) -> None:
    ours = saved(family, original=original)
    names = [view.name for view in ours.views]
    assert len(names) == len(set(names))
    numel: dict[str, int] = {}
    for view in ours.views:
        matrix = ours.values(view)
        assert matrix.shape == (view.rows, view.cols)
        numel[view.entry.name] = numel.get(view.entry.name, 0) + matrix.numel()
    assert numel == {name: ours.checkpoint.entries[name].numel for name in numel}


@pytest.mark.parametrize("family", MODELS)
def test_every_unfused_projection_is_read_rows_by_outputs(saved: Save, family: str) -> None:
    ours = saved(family, original=False)  # names in the file are those of the modules
    modules = dict(ours.model.named_modules())
    checked = 0
    for view in ours.views:
        module = modules.get(view.entry.name.removesuffix(".weight"))
        if isinstance(module, nn.Linear | Conv1D) and not view.part.label:
            inputs = torch.randn(2, view.cols)
            output = module(inputs)
            if isinstance(output, tuple):  # a router that goes on to choose
                continue
            close(inputs @ ours.values(view).mT, output)
            checked += 1
        elif isinstance(module, nn.Conv2d | nn.Conv3d):
            patch = torch.randn(1, module.in_channels, *module.kernel_size)
            close(ours.values(view) @ patch.flatten(), module(patch).flatten())
            checked += 1
    assert checked >= 2


def test_every_family_of_the_table_is_one_of_transformers() -> None:
    known = {family for families, _, _ in TABLE for family in families}
    assert known - set(model_types()) == UNHEARD_OF


def test_gemma3_stores_its_projector_inputs_first(saved: Save) -> None:
    ours = saved("gemma3")
    matrix = ours.find("other", layer=None, within="mm_input_projection_weight")
    projector = ours.model.get_submodule("model.multi_modal_projector")
    close(matrix, projector.mm_input_projection_weight.mT)


def test_a_grouped_convolution_is_one_matrix_per_group() -> None:
    convolution = nn.Conv1d(8, 12, kernel_size=5, groups=4, bias=False)
    config = {"model_type": "data2vec-audio", "num_conv_pos_embedding_groups": 4}
    weight = convolution.weight.detach()
    parts = parts_of("encoder.pos_conv_embed.layers.0.conv.weight", tuple(weight.shape), config)
    window = torch.randn(1, 8, 5)
    groups = window.unflatten(1, (4, 2))[0]
    ours = [part.of(weight) @ group.flatten() for part, group in zip(parts, groups, strict=True)]
    close(torch.cat(ours), convolution(window).flatten())
    assert [part.suffix for part in parts] == ["[group=0]", "[group=1]", "[group=2]", "[group=3]"]
    assert parts[0].shape(tuple(weight.shape)) == (3, 10)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("model.encoder.conv1.weight", (8, 4, 3)),
        ("layers.0.mixer.conv1d.weight", (8, 1, 4)),
        ("patch_embed.proj.weight", (8, 3, 4, 4)),
        ("visual.patch_embed.proj.weight", (8, 3, 2, 4, 4)),
    ],
    ids=["1d", "depthwise", "2d", "3d"],
)
def test_a_kernel_is_flattened(name: str, shape: tuple[int, ...]) -> None:
    (part,) = parts_of(name, shape, {})
    assert part == Part()
    kernel = torch.randn(shape)
    assert torch.equal(part.of(kernel), kernel.reshape(8, -1))


@pytest.mark.parametrize("name", ["vit.embeddings.position_embeddings", "pos_embed", "latents"])
def test_a_table_for_a_batch_of_one_is_that_table(name: str) -> None:
    (part,) = parts_of(name, (1, 17, 32), {})
    assert (part.shape((1, 17, 32)), part.suffix) == ((17, 32), "")
    stored = torch.randn(1, 17, 32)
    assert torch.equal(part.of(stored), stored[0])
    part.put(stored, torch.ones(17, 32))
    assert torch.equal(stored, torch.ones(1, 17, 32))


@pytest.mark.parametrize("shape", [(6, 4), (1, 4), (4, 1)], ids=["any", "row", "column"])
@pytest.mark.parametrize(
    "config", [{}, {"model_type": "new"}, {"model_type": None}], ids=["none", "new", "null"]
)
def test_an_unknown_matrix_is_taken_as_it_stands(
    shape: tuple[int, int], config: dict[str, Any]
) -> None:
    assert parts_of("blocks.0.attn.query_key_value.weight", shape, config) == [Part()]


@pytest.mark.parametrize("name", ["denorm.weight", "h.0.DeNorm.weight", "h.0.denorm1.weight"])
def test_a_matrix_whose_name_ends_like_a_norms_is_one(name: str) -> None:
    assert parts_of(name, (100, 60), {}) == [Part()]


NOT_KNOWN = "3-dimensional, of a layout not known"
NORMALISED = "half of a weight-normalised weight, not the weight itself"
DECAY = "decay rates of a state-space model, no map of inputs to outputs"
SCALES = "scales of quantised weights"


@pytest.mark.parametrize(
    ("name", "shape", "reason"),
    [
        ("layers.0.mlp.experts.w13", (2, 8, 4), NOT_KNOWN),
        ("vit.embeddings.cls_token", (1, 1, 32), "a vector of shape [1, 1, 32]"),
        ("vit.convert.token", (1, 1, 32), "a vector of shape [1, 1, 32]"),
        ("vit.embeddings.position_embeddings", (2, 17, 32), NOT_KNOWN),
        ("vit.embeddings.anything", (1, 17, 32), NOT_KNOWN),
        ("encoder.0.grn.weight", (1, 1, 1, 32), "a vector of shape [1, 1, 1, 32]"),
        ("layers.0.mixer.A_log", (64, 8), DECAY),
        ("blk.0.ssm_a", (64, 8), DECAY),
        ("layers.0.self_attn.q_norm.weight", (4, 8), "scales of a normalisation"),
        *(
            (f"layers.0.{name}.weight", (4, 8), "scales of a normalisation")
            for name in (
                "LayerNorm",
                "input_layernorm",
                "norm1",
                "rmsnorm",
                "preNorm",
                "kNorm",
                "ln_f",
                "subnorm",
                "batch_norm",
                "layer_norm2",
            )
        ),
        ("layers.0.self_attn.pos_bias_u", (4, 8), "a bias"),
        ("layers.0.mixer.x_proj_weight", (2, 8, 4), NOT_KNOWN),
        ("layers.0.moe.w1.weight", (2, 8, 4), NOT_KNOWN),
        ("encoder.0.kernel", (3, 8, 4), NOT_KNOWN),
        ("h.0.attn.bias", (1, 1, 16, 16), "a bias"),
        ("final_logits_bias", (1, 40), "a bias"),
        ("layers.0.mlp.experts.gate_up_proj_bias", (3, 40), "a bias"),
        ("h.0.attn.causal_mask", (1, 1, 16, 16), "4-dimensional, of a layout not known"),
        ("conv.parametrizations.weight.original0", (1, 1, 4), NORMALISED),
        ("conv.parametrizations.weight.original1", (32, 8, 4), NORMALISED),
        ("encoder.pos_conv_embed.conv.weight_v", (32, 8, 4), NORMALISED),
        ("layers.0.mlp.down_proj.weight_scale_inv", (4, 4), SCALES),
        ("layers.0.mlp.down_proj.weight_scale", (4, 1), SCALES),
        ("layers.0.mlp.down_proj.scales", (4, 4), SCALES),
    ],
    ids=lambda value: value if isinstance(value, str) else "x".join(map(str, value)),
)
def test_what_is_no_weight_matrix_is_refused_with_its_reason(
    name: str, shape: tuple[int, ...], reason: str
) -> None:
    with pytest.raises(LayoutError) as refusal:
        parts_of(name, shape, {"model_type": "new"})
    assert str(refusal.value) == reason


QKV = "h.0.self_attention.query_key_value.weight"
QWEN = {"model_type": "qwen3_vl_moe_text"}
UNCLEAR = "hidden size 8 does not tell inputs from outputs in "


@pytest.mark.parametrize(
    ("name", "shape", "config", "reason"),
    [
        (QKV, (96, 32), {"model_type": "bloom"},
         "config.json has no usable num_attention_heads"),
        (QKV, (96, 32), {"model_type": "bloom", "n_head": "4"},
         "config.json has no usable num_attention_heads"),
        (QKV, (96, 32), {"model_type": "bloom", "n_head": True},
         "config.json has no usable num_attention_heads"),
        (QKV, (96, 32), {"model_type": "bloom", "n_head": 5}, "96 rows do not divide into 5"),
        (QKV, (96, 32), {"model_type": "bloom", "n_head": 96}, "1 rows do not divide into 3"),
        (QKV, (64, 32), {"model_type": "falcon", "n_head": 5, "num_kv_heads": 2,
         "new_decoder_architecture": True}, "5 rows do not divide into 2"),
        ("experts.mlp.w1", (60, 32), {"model_type": "dbrx", "ffn_config": None},
         "config.json has no usable ffn_config.moe_num_experts"),
        ("mlp.experts.gate_up_proj", (60, 32), {"model_type": "mixtral"},
         "expected 3 dimensions for fused experts, got [60, 32]"),
        ("mlp.experts.down_proj", (3, 8, 8), QWEN | {"hidden_size": 8}, UNCLEAR + "[3, 8, 8]"),
        ("mlp.experts.down_proj", (3, 4, 6), QWEN | {"hidden_size": 8}, UNCLEAR + "[3, 4, 6]"),
    ],
    ids=[
        "no heads", "heads are text", "heads are a boolean", "rows and heads", "rows in a head",
        "heads and key heads", "no experts", "two dimensions", "square", "neither axis",
    ],
)  # fmt: skip
def test_a_rule_that_does_not_fit_is_refused_with_its_reason(
    name: str, shape: tuple[int, ...], config: dict[str, Any], reason: str
) -> None:
    with pytest.raises(LayoutError) as refusal:
        parts_of(name, shape, config)
    assert str(refusal.value) == reason


def test_falcon_before_transformers_took_it_in() -> None:
    old = {"model_type": "RefinedWeb", "n_head": 8, "n_head_kv": 2}
    new = {
        "model_type": "falcon", "num_attention_heads": 8, "num_kv_heads": 2,
        "new_decoder_architecture": True,
    }  # fmt: skip
    assert parts_of(QKV, (96, 32), old) == parts_of(QKV, (96, 32), new)


@pytest.mark.parametrize(
    ("name", "transposed"),
    [
        ("language_model.transformer.h.0.mlp.c_fc.weight", True),
        ("vision_model.blocks.0.mlp.c_fc.weight", False),
        ("audio_tower.blocks.0.mlp.c_fc.weight", False),
    ],
    ids=["text", "vision", "audio"],
)
def test_settings_of_the_text_model_are_not_for_the_towers_beside_it(
    name: str, transposed: bool
) -> None:
    config = {
        "model_type": "new",
        "text_config": {"model_type": "gpt2"},
        "vision_config": {"model_type": "new_vision"},
        "projector_config": {"depth": 2},
    }
    assert parts_of(name, (8, 4), config) == [Part(transposed=transposed)]


@pytest.mark.parametrize(
    ("name", "transposed"),
    [("encoder.h.0.mlp.c_fc.weight", False), ("decoder.h.0.mlp.c_fc.weight", True)],
    ids=["encoder", "decoder"],
)
def test_settings_of_the_decoder_are_not_for_the_encoder(name: str, transposed: bool) -> None:
    config = {"encoder": {"model_type": "vit"}, "decoder": {"model_type": "gpt2"}}
    assert parts_of(name, (8, 4), config) == [Part(transposed=transposed)]


def test_experts_as_mlx_lm_stacks_them_are_one_matrix_each() -> None:
    name = "model.layers.0.mlp.switch_mlp.down_proj.weight"
    parts = parts_of(name, (3, 8, 16), {"model_type": "unheard-of"})
    assert [(part.expert, part.shape((3, 8, 16))) for part in parts] == [
        (0, (8, 16)),
        (1, (8, 16)),
        (2, (8, 16)),
    ]
    assert role_of(name).kind == "mlp.down"
