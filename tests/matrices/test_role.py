"""Role, layer and expert of the names that real checkpoints use."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples import role_of
from spectra.matrices.role import Role, roles_of
from spectra.words import ROLES

Place = tuple[str, int | None, int | None]

MOE = "model.layers.7.mlp"
SPARSE = "model.layers.7.block_sparse_moe"
BERT = "bert.encoder.layer.2"
T5 = "decoder.block.2.layer"

NAMES: dict[str, dict[str, Place]] = {
    "bert": {
        f"{BERT}.attention.self.query.weight": ("attn.q", 2, None),
        f"{BERT}.attention.self.key.weight": ("attn.k", 2, None),
        f"{BERT}.attention.self.value.weight": ("attn.v", 2, None),
        f"{BERT}.attention.output.dense.weight": ("attn.o", 2, None),
        f"{BERT}.intermediate.dense.weight": ("mlp.up", 2, None),
        f"{BERT}.output.dense.weight": ("mlp.down", 2, None),
        "bert.embeddings.word_embeddings.weight": ("embed", None, None),
        "bert.embeddings.token_type_embeddings.weight": ("embed", None, None),
        "embeddings.position_embeddings.weight": ("embed", None, None),
        "bert.pooler.dense.weight": ("other", None, None),
        "cls.predictions.decoder.weight": ("lm_head", None, None),
        "cls.predictions.transform.dense.weight": ("other", None, None),
        "classifier.weight": ("other", None, None),
    },
    "roberta": {
        "roberta.encoder.layer.11.attention.self.query.weight": ("attn.q", 11, None),
        "roberta.encoder.layer.11.output.dense.weight": ("mlp.down", 11, None),
        "lm_head.decoder.weight": ("lm_head", None, None),
        "lm_head.dense.weight": ("other", None, None),
    },
    "distilbert": {
        "distilbert.transformer.layer.0.attention.q_lin.weight": ("attn.q", 0, None),
        "distilbert.transformer.layer.0.attention.k_lin.weight": ("attn.k", 0, None),
        "distilbert.transformer.layer.0.attention.v_lin.weight": ("attn.v", 0, None),
        "distilbert.transformer.layer.0.attention.out_lin.weight": ("attn.o", 0, None),
        "distilbert.transformer.layer.0.ffn.lin1.weight": ("mlp.up", 0, None),
        "distilbert.transformer.layer.0.ffn.lin2.weight": ("mlp.down", 0, None),
        "vocab_transform.weight": ("other", None, None),
        "vocab_projector.weight": ("lm_head", None, None),
    },
    "deberta": {
        "deberta.encoder.layer.3.attention.self.query_proj.weight": ("attn.q", 3, None),
        "deberta.encoder.layer.3.attention.self.key_proj.weight": ("attn.k", 3, None),
        "deberta.encoder.layer.3.attention.self.value_proj.weight": ("attn.v", 3, None),
        "deberta.encoder.layer.3.attention.self.pos_query_proj.weight": ("other", 3, None),
        "deberta.encoder.layer.3.attention.output.dense.weight": ("attn.o", 3, None),
        "deberta.encoder.rel_embeddings.weight": ("embed", None, None),
    },
    "albert": {
        "albert.encoder.albert_layer_groups.0.albert_layers.0.ffn.weight": ("mlp.up", 0, None),
        "albert.encoder.albert_layer_groups.0.albert_layers.0.ffn_output.weight": (
            "mlp.down", 0, None,
        ),
        "albert.encoder.albert_layer_groups.0.albert_layers.0.attention.dense.weight": (
            "attn.o", 0, None,
        ),
        "albert.encoder.embedding_hidden_mapping_in.weight": ("other", None, None),
    },
    "gpt2": {
        "transformer.h.5.attn.c_proj.weight": ("attn.o", 5, None),
        "h.5.crossattention.q_attn.weight": ("attn.q", 5, None),
        "h.5.crossattention.c_proj.weight": ("attn.o", 5, None),
        "h.5.mlp.c_fc.weight": ("mlp.up", 5, None),
        "h.5.mlp.c_proj.weight": ("mlp.down", 5, None),
        "wte.weight": ("embed", None, None),
        "transformer.wpe.weight": ("embed", None, None),
        "tokens_embed.weight": ("embed", None, None),
        "lm_head.weight": ("lm_head", None, None),
    },
    "gpt-neox": {
        "gpt_neox.layers.4.attention.dense.weight": ("attn.o", 4, None),
        "gpt_neox.layers.4.mlp.dense_h_to_4h.weight": ("mlp.up", 4, None),
        "gpt_neox.layers.4.mlp.dense_4h_to_h.weight": ("mlp.down", 4, None),
        "gpt_neox.embed_in.weight": ("embed", None, None),
        "embed_out.weight": ("lm_head", None, None),
    },
    "bloom and falcon": {
        "h.4.self_attention.dense.weight": ("attn.o", 4, None),
        "transformer.h.4.mlp.dense_4h_to_h.weight": ("mlp.down", 4, None),
        "word_embeddings.weight": ("embed", None, None),
    },
    "opt": {
        "model.decoder.layers.1.self_attn.out_proj.weight": ("attn.o", 1, None),
        "model.decoder.layers.1.fc1.weight": ("mlp.up", 1, None),
        "model.decoder.layers.1.fc2.weight": ("mlp.down", 1, None),
        "model.decoder.embed_positions.weight": ("embed", None, None),
        "model.decoder.project_in.weight": ("other", None, None),
    },
    "gpt-j": {
        "transformer.h.9.attn.q_proj.weight": ("attn.q", 9, None),
        "transformer.h.9.attn.out_proj.weight": ("attn.o", 9, None),
        "transformer.h.9.mlp.fc_in.weight": ("mlp.up", 9, None),
        "transformer.h.9.mlp.fc_out.weight": ("mlp.down", 9, None),
    },
    "llama, mistral, qwen, gemma": {
        "model.layers.31.self_attn.q_proj.weight": ("attn.q", 31, None),
        "model.layers.31.self_attn.k_proj.weight": ("attn.k", 31, None),
        "model.layers.31.self_attn.v_proj.weight": ("attn.v", 31, None),
        "model.layers.31.self_attn.o_proj.weight": ("attn.o", 31, None),
        "model.layers.31.mlp.gate_proj.weight": ("mlp.gate", 31, None),
        "model.layers.31.mlp.up_proj.weight": ("mlp.up", 31, None),
        "model.layers.31.mlp.down_proj.weight": ("mlp.down", 31, None),
        "language_model.model.layers.3.mlp.up_proj.weight": ("mlp.up", 3, None),
        "model.embed_tokens.weight": ("embed", None, None),
        "model.embed_tokens_per_layer.weight": ("embed", None, None),
        "language_model.lm_head.weight": ("lm_head", None, None),
    },
    "llama as meta names it": {
        "layers.3.attention.wq.weight": ("attn.q", 3, None),
        "layers.3.attention.wo.weight": ("attn.o", 3, None),
        "layers.3.feed_forward.w1.weight": ("mlp.gate", 3, None),
        "layers.3.feed_forward.w2.weight": ("mlp.down", 3, None),
        "layers.3.feed_forward.w3.weight": ("mlp.up", 3, None),
        "tok_embeddings.weight": ("embed", None, None),
        "output.weight": ("lm_head", None, None),
    },
    "phi": {
        "model.layers.2.self_attn.dense.weight": ("attn.o", 2, None),
        "model.layers.2.self_attn.o_proj.weight": ("attn.o", 2, None),
        "model.layers.2.mlp.down_proj.weight": ("mlp.down", 2, None),
    },
    "mixtral": {
        f"{SPARSE}.gate.weight": ("router", 7, None),
        f"{SPARSE}.experts.3.w1.weight": ("mlp.gate", 7, 3),
        f"{SPARSE}.experts.3.w2.weight": ("mlp.down", 7, 3),
        f"{SPARSE}.experts.3.w3.weight": ("mlp.up", 7, 3),
    },
    "qwen3-moe and deepseek": {
        f"{MOE}.gate.weight": ("router", 7, None),
        f"{MOE}.gate_proj.weight": ("mlp.gate", 7, None),
        f"{MOE}.experts.127.gate_proj.weight": ("mlp.gate", 7, 127),
        f"{MOE}.experts.127.up_proj.weight": ("mlp.up", 7, 127),
        f"{MOE}.experts.127.down_proj.weight": ("mlp.down", 7, 127),
        f"{MOE}.shared_experts.gate_proj.weight": ("mlp.gate", 7, None),
        f"{MOE}.shared_expert.down_proj.weight": ("mlp.down", 7, None),
        f"{MOE}.shared_expert_gate.weight": ("router", 7, None),
        "model.layers.7.self_attn.q_a_proj.weight": ("attn.q", 7, None),
        "model.layers.7.self_attn.q_b_proj.weight": ("attn.q", 7, None),
        "model.layers.61.shared_head.head.weight": ("lm_head", 61, None),
        "model.layers.61.eh_proj.weight": ("other", 61, None),
    },
    "llama-4 and gpt-oss": {
        "model.layers.1.feed_forward.router.weight": ("router", 1, None),
        "model.layers.1.feed_forward.shared_expert.up_proj.weight": ("mlp.up", 1, None),
        "model.layers.1.feed_forward.experts.down_proj": ("mlp.down", 1, None),
        "vision_model.positional_embedding_vlm": ("embed", None, None),
        "model.layers.1.mlp.router.weight": ("router", 1, None),
    },
    "dbrx": {
        "transformer.blocks.1.ffn.router.layer.weight": ("router", 1, None),
        "transformer.blocks.1.ffn.experts.mlp.w1": ("mlp.gate", 1, None),
        "transformer.blocks.1.ffn.experts.mlp.v1": ("mlp.up", 1, None),
        "transformer.blocks.1.ffn.experts.mlp.w2": ("mlp.down", 1, None),
        "transformer.blocks.1.norm_attn_norm.attn.out_proj.weight": ("attn.o", 1, None),
    },
    "granite and gemma-4 experts": {
        f"{SPARSE}.router.layer.weight": ("router", 7, None),
        f"{SPARSE}.output_linear.weight": ("mlp.down", 7, None),
        "model.layers.7.router.proj.weight": ("router", 7, None),
        "model.layers.7.experts.down_proj": ("mlp.down", 7, None),
    },
    "t5": {
        f"{T5}.0.SelfAttention.q.weight": ("attn.q", 2, None),
        f"{T5}.0.SelfAttention.o.weight": ("attn.o", 2, None),
        f"{T5}.0.SelfAttention.relative_attention_bias.weight": ("embed", 2, None),
        f"{T5}.1.EncDecAttention.k.weight": ("attn.k", 2, None),
        f"{T5}.1.EncDecAttention.v.weight": ("attn.v", 2, None),
        f"{T5}.2.DenseReluDense.wi.weight": ("mlp.up", 2, None),
        f"{T5}.2.DenseReluDense.wi_0.weight": ("mlp.gate", 2, None),
        f"{T5}.2.DenseReluDense.wi_1.weight": ("mlp.up", 2, None),
        f"{T5}.2.DenseReluDense.wo.weight": ("mlp.down", 2, None),
        f"{T5}.2.mlp.experts.expert_5.wi.weight": ("mlp.up", 2, 5),
        f"{T5}.2.mlp.router.classifier.weight": ("router", 2, None),
        "shared.weight": ("embed", None, None),
    },
    "bart and whisper": {
        "model.decoder.layers.5.encoder_attn.q_proj.weight": ("attn.q", 5, None),
        "model.decoder.layers.5.encoder_attn.out_proj.weight": ("attn.o", 5, None),
        "model.encoder.layers.5.fc1.weight": ("mlp.up", 5, None),
        "model.shared.weight": ("embed", None, None),
        "proj_out.weight": ("lm_head", None, None),
    },
    "vit": {
        "vit.encoder.layer.8.attention.attention.query.weight": ("attn.q", 8, None),
        "vit.encoder.layer.8.attention.output.dense.weight": ("attn.o", 8, None),
        "vit.encoder.layer.8.intermediate.dense.weight": ("mlp.up", 8, None),
        "vit.encoder.layer.8.output.dense.weight": ("mlp.down", 8, None),
        "vit.layers.8.attention.o_proj.weight": ("attn.o", 8, None),
        "blocks.8.attn.proj.weight": ("attn.o", 8, None),
    },
    "clip and siglip": {
        "text_model.encoder.layers.4.self_attn.out_proj.weight": ("attn.o", 4, None),
        "vision_model.encoder.layers.4.mlp.fc2.weight": ("mlp.down", 4, None),
        "text_model.embeddings.token_embedding.weight": ("embed", None, None),
        "vision_model.embeddings.position_embedding.weight": ("embed", None, None),
        "visual_projection.weight": ("other", None, None),
        "vision_model.head.attention.out_proj.weight": ("attn.o", None, None),
    },
    "qwen-vl": {
        "visual.blocks.6.attn.proj.weight": ("attn.o", 6, None),
        "visual.blocks.6.mlp.linear_fc1.weight": ("mlp.up", 6, None),
        "visual.merger.mlp.0.weight": ("other", None, None),
    },
    "modernbert": {
        "model.layers.6.attn.Wo.weight": ("attn.o", 6, None),
        "model.layers.6.mlp.Wi.weight": ("mlp.up", 6, None),
        "model.layers.6.mlp.Wo.weight": ("mlp.down", 6, None),
        "model.embeddings.tok_embeddings.weight": ("embed", None, None),
        "decoder.weight": ("lm_head", None, None),
        "head.dense.weight": ("other", None, None),
    },
    "nomic": {
        "encoder.layers.6.mlp.fc11.weight": ("mlp.up", 6, None),
        "encoder.layers.6.mlp.fc12.weight": ("mlp.gate", 6, None),
    },
    "mamba and hybrids": {
        "backbone.layers.9.mixer.in_proj.weight": ("other", 9, None),
        "backbone.layers.9.mixer.x_proj.weight": ("other", 9, None),
        "backbone.layers.9.mixer.dt_proj.weight": ("other", 9, None),
        "backbone.layers.9.mixer.out_proj.weight": ("other", 9, None),
        "backbone.layers.9.mixer.A_log": ("other", 9, None),
        "backbone.layers.9.mixer.conv1d.weight": ("conv", 9, None),
        "backbone.layers.9.mixer.q_proj.weight": ("attn.q", 9, None),
        "backbone.layers.9.mixer.o_proj.weight": ("attn.o", 9, None),
        "backbone.layers.9.mixer.gate.weight": ("router", 9, None),
        "backbone.layers.9.mixer.experts.3.up_proj.weight": ("mlp.up", 9, 3),
        "backbone.embeddings.weight": ("embed", None, None),
        "model.layers.9.linear_attn.out_proj.weight": ("attn.o", 9, None),
    },
    "lists": {
        "layers.3.weight": ("other", 3, None),
        "model.mm_projector.2.weight": ("other", None, None),
        "transformer.h.0.ffn.2.weight": ("other", 0, None),
        "encoder.layers.3.linear1.weight": ("mlp.up", 3, None),
        "weight": ("other", None, None),
        "layer10.weight": ("other", None, None),
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "place"),
    [
        pytest.param(name, place, id=f"{family}: {name} is {place[0]}")
        for family, names in NAMES.items()
        for name, place in names.items()
    ],
)
def test_a_name_tells_role_layer_and_expert(name: str, place: Place) -> None:
    assert role_of(name) == Role(*place)


@pytest.mark.parametrize(
    ("name", "dimensions", "kind"),
    [
        ("vision_model.embeddings.patch_embedding.weight", 4, "conv"),
        ("vit.embeddings.patch_embeddings.projection.weight", 4, "conv"),
        ("model.encoder.conv1.weight", 3, "conv"),
        ("backbone.layers.0.mixer.conv1d.weight", 3, "conv"),
        ("features.0.weight", 4, "conv"),
        ("encoder.layer.0.attention.self.query.weight", 3, "attn.q"),
        ("model.layers.1.mlp.experts.down_proj", 3, "mlp.down"),
    ],
    ids=str,
)
def test_more_than_two_dimensions_are_a_convolution_unless_named(
    name: str, dimensions: int, kind: str
) -> None:
    assert role_of(name, dimensions).kind == kind


@given(st.text(alphabet="abqkvo_.0123456789", max_size=40), st.integers(0, 5))
def test_any_name_has_a_role(name: str, dimensions: int) -> None:
    assert role_of(name, dimensions).kind in ROLES


@given(st.sampled_from([(n, p) for names in NAMES.values() for n, p in names.items()]))
def test_a_prefix_changes_no_layer_and_no_expert(named: tuple[str, Place]) -> None:
    name, (_, layer, expert) = named
    found = role_of(f"base_model.model.{name}")
    assert (found.layer, found.expert) == (layer, expert)


def test_nested_layers_have_one_number() -> None:
    names = [
        f"stages.{stage}.blocks.{block}.mlp.fc1.weight" for stage in (0, 1) for block in (0, 1)
    ]
    assert [role.layer for role in roles_of(dict.fromkeys(names, 2)).values()] == [0, 1, 2, 3]


def test_a_head_of_rwkv_scores_tokens_where_that_of_others_may_be_a_classifier() -> None:
    ours = {"head.weight": 2, "rwkv.embeddings.weight": 2, "rwkv.blocks.0.attention.key.weight": 2}
    authors = {"head.weight": 2, "emb.weight": 2, "blocks.0.ln0.weight": 1}
    vision = {"head.weight": 2, "blocks.0.attn.qkv.weight": 2}
    kinds = [
        {name: role.kind for name, role in roles_of(names).items()}
        for names in (ours, authors, vision)
    ]
    assert [one["head.weight"] for one in kinds] == ["lm_head", "lm_head", "other"]
    assert kinds[1]["emb.weight"] == "embed"
