"""What a matrix does in its network, told from its name by one table."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from spectra.matrices.layers import expert_in, layers_of
from spectra.text import numberless

ATTENTION = r"\w*(?:attn|[Aa]ttention)\w*"
FEED_FORWARD = r"(?:mlp|ffn|feed_forward|moe|block_sparse_moe|experts)"

LINEAR = r"(?:patch|box_linear|input|predictor|xpath_unitseq2|relative_pos)"
"""Before `embeddings`: what is multiplied, not looked up."""

_TABLE: tuple[tuple[str, str], ...] = (
    # Routers first: one is often called `gate`, and lies where a gate projection would.
    ("router", rf"(?:{FEED_FORWARD}|mixer|(?:text|vision)_moe)\.gate(?:\.wg)?"),
    ("router", r"router(?:\.\w+)?|shared_expert_gate"),
    # RWKV's feed-forward, whose names are those of attention.
    ("mlp.up", r"blocks\.0\.feed_forward\.key"),
    ("mlp.down", r"blocks\.0\.feed_forward\.value"),
    # Scores over the vocabulary; some are so named only at the top of the model.
    ("lm_head", r"(?:\w+_)?lm_heads?(?:\.decoder|\.\d+|\.out_proj)?|predictions\.decoder"),
    ("lm_head", r"shared_head\.head|embed_out|lm_loss|pred_layer\.proj|codec_head|ctc_head"),
    ("lm_head", r"(?:mlm|mim|mmm_text|mmm_image)_head\.decoder|generation_head\.vision_head"),
    ("lm_head", r"vocab_projector|decoder\.output_projection|joint\.head|logits_dense|wp_head"),
    ("lm_head", r"bpe_head|\A(?:output|output_projection|proj_out|decoder|head\.decoder)"),
    # Tables looked up by an index: tokens, positions, distances.
    ("embed", rf"(?!{LINEAR}_)(?:\w+_)?embeddings?(?:_\d+)?(?:\.\d+)?|positional_embedding_\w+"),
    ("embed", r"cpmant\.input_embedding|\Areference_points|detr_decoder\.reference_points"),
    ("embed", r"embed_(?:tokens|positions|in|timestep|global)(?:_per_layer)?(?:\.\d+|\.pe_k)?"),
    ("embed", r"embed_(?:audio|text)_tokens|text_embed_tokens"),
    ("embed", r"(?:tokens|positions|pos|rel_attn|level|shape|pronunciation|codec|label|cls)_embed"),
    ("embed", r"(?:query|point|not_a_point|no_mask|denoising_class|reference_point|spk)_embed"),
    ("embed", r"(?:num_speakers|abs_pos)_embed|point_embed\.\d+|(?:rel_)?pos_embed_window"),
    ("embed", r"(?:\w+_)?(?:input_embeds|position_embeds)_layers?(?:\.\d+)?|codec_embedding\.\d+"),
    ("embed", r"(?:row|column)_embedder|(?:rel_)?(?:pos|segment|freq|position)_emb|rel_pos_[hw]"),
    ("embed", r"(?!vision_)\w+_tokens?|(?:\w+\.)?HashBucketCodepointEmbedder_\d+"),
    ("embed", r"codebook(?:\.embed\w*)?|(?:\w+_)?embeddings_table|queries_(?:embedder|features)"),
    ("embed", r"query_feat|query_\d+_resolution|bias_values|position_enc"),
    ("embed", r"(?:position_)?embedding_table|(?:relative_)?position_bias_table|pos_idx_to_embed"),
    ("embed", r"latents|latent_query|index_kpool_compress_ape|encoder\.embed|embeddings\.embed"),
    ("embed", r"(?:\w+_)?positional_encoding|token_embd|\Atransformer\.w|\Aw\Z|class_pos_emb"),
    ("embed", r"wte|wpe|shared|relative_attention_bias|relative_position_bias_table"),
    # Attention, self or cross.
    ("attn.q", r"(?:q|q_proj|q_lin|q_attn|query|query_proj|[Ww]q|to_q)(?:\.linear)?"),
    ("attn.q", r"q_a_proj|q_b_proj|linear_q|q_head|project_q|projection_query|q_content_proj"),
    ("attn.q", r"\w+_query_content_proj"),
    ("attn.k", r"(?:k|k_proj|k_lin|key|key_proj|[Ww]k|to_k)(?:\.linear)?"),
    ("attn.k", r"linear_k|k_head|project_k|projection_key|k_content_proj|\w+_key_content_proj"),
    ("attn.v", r"(?:v|v_proj|v_lin|value|value_proj|[Ww]v|to_v)(?:\.linear)?"),
    (
        "attn.v",
        r"linear_v|v_head|project_v|projection_value|v_proj_\w+|(?:self|cross)_attn_value_proj",
    ),
    ("attn.o", rf"o_proj(?:\.linear)?|{ATTENTION}\.(?:output\.dense|output|dense|o|[Ww]o|out)"),
    ("attn.o", rf"{ATTENTION}\.(?:to_out(?:\.0)?|linear_out|output_proj|projection(?:_layer)?)"),
    ("attn.o", rf"{ATTENTION}\.(?:proj|c_proj|out_proj|out_lin|post_proj|attention_out)"),
    # Feed-forward, experts and shared experts.
    ("mlp.gate", rf"gate_proj|wi_0|fc12|{FEED_FORWARD}\.(?:\d+\.)?w1"),
    ("mlp.up", rf"up_proj|wi_1|[Ww]i|fc11|{FEED_FORWARD}\.(?:\d+\.)?(?:w3|v1)"),
    ("mlp.up", r"intermediate[._]dense|c_fc|(?:linear_)?fc1|fc_in|lin1|dense_h_to_4h"),
    ("mlp.up", r"\d+\.(?:ffn|linear1)|pwconv1|intermediate_query\.dense"),
    ("mlp.up", r"(?:feed_forward|ffn)\d?\.linear_?1|ff\.net\.0\.proj|mlp\.in_proj"),
    ("mlp.down", rf"down_proj|[Ww]o|{FEED_FORWARD}\.(?:\d+\.)?w2"),
    ("mlp.down", r"output[._]dense|mlp\.c_proj|(?:linear_)?fc2|fc_out|lin2|dense_4h_to_h"),
    ("mlp.down", r"ffn_output|weights_out|output_linear|\d+\.linear2|pwconv2|output_query\.dense"),
    ("mlp.down", r"(?:feed_forward|ffn)\d?\.linear_?2|ff\.net\.\d+|mlp\.out_proj"),
    ("conv", r"conv1d"),
    # GGUF's own names, which tensors of architectures not translated keep.
    ("router", r"ffn_gate_inp(?:_shexp)?"),
    ("embed", r"position_embd|token_types"),
    ("attn.q", r"(?:cross_)?attn_q(?:_a|_b)?"),
    ("attn.k", r"(?:cross_)?attn_k"),
    ("attn.v", r"(?:cross_)?attn_v"),
    ("attn.o", r"(?:cross_)?attn_(?:output|o)"),
    ("mlp.gate", r"ffn_gate(?:_exps|_shexp)?"),
    ("mlp.up", r"ffn_up(?:_exps|_shexp)?"),
    ("mlp.down", r"ffn_down(?:_exps|_shexp)?"),
)
TABLE = tuple((kind, re.compile(rf"(?:.*\.)?(?:{pattern})")) for kind, pattern in _TABLE)
"""First match wins; a pattern must cover the end of the name, from a dot."""


@dataclass(frozen=True, slots=True)
class Role:
    """What a matrix does, and where."""

    kind: str  # one of ROLES
    layer: int | None = None
    expert: int | None = None


def common_role(roles: Sequence[Role]) -> Role:
    """Return the role of several matrices taken as one: of q, k and v, `attn`."""
    kinds = {role.kind for role in roles}
    kind = kinds.pop() if len(kinds) == 1 else roles[0].kind.partition(".")[0]
    return Role(kind, roles[0].layer, roles[0].expert)


RWKV: Final = {"head.weight": "lm_head", "emb.weight": "embed"}
RWKV_NAMES: Final = "rwkv.", "blocks.0.ln0."
"""Of a model whose head scores tokens under a name that elsewhere is a classifier's: as
transformers has it, and as its authors."""

ADDEND: Final = "[sparse]"  # the part of a weight whose other part has no known scale


def roles_of(names: Mapping[str, int]) -> dict[str, Role]:
    """Return the role, layer and expert of every tensor of a model, told from their names.

    Args:
        names: All of them, as `layers_of` asks, each with the number of its dimensions as
            stored: more than two are a convolution unless the name says otherwise.

    Returns:
        Roles by name; of kind `other` for every name the table does not know.
    """
    layers = layers_of(names)
    own = RWKV if any(name.startswith(RWKV_NAMES) for name in names) else {}
    return {
        name: Role(
            "other"
            if name.endswith(ADDEND)
            else own.get(name) or kind_of(name.partition("[")[0], dimensions),
            layers[name],
            expert_in(name),
        )
        for name, dimensions in names.items()
    }


def kind_of(name: str, dimensions: int = 2) -> str:
    """Return the kind of role alone; which numbers are in a name plays no part in it."""
    return _kind(numberless(name), dimensions > 2)


@lru_cache(maxsize=4096)
def _kind(name: str, deep: bool) -> str:
    stem = name.removesuffix(".weight")
    kind = next((kind for kind, pattern in TABLE if pattern.fullmatch(stem)), "other")
    kernel = deep and name.endswith("weight")  # a bare parameter is none
    return "conv" if kernel and kind in {"embed", "other"} else kind
