"""What a matrix does in its network, told from its name by one table."""

import re
from dataclasses import dataclass

ROLES = (
    "attn.q", "attn.k", "attn.v", "attn.o", "mlp.gate", "mlp.up", "mlp.down",
    "router", "embed", "lm_head", "conv", "other",
)  # fmt: skip

EXPERT = re.compile(r"(?:^|\.)experts\.(?:[a-z_]+\.)?(\d+)(?=\.|$)")
LAYER = re.compile(r"(?:^|\.)(\d+)(?=\.|$)")

ATTENTION = r"(?:self_attn|cross_attn|self_attention|attention|attn|SelfAttention|EncDecAttention|encoder_attn|mixer)"
_TABLE: tuple[tuple[str, str], ...] = (
    # Experts and routers first: a router is often called `gate`.
    ("router", r"(?:block_sparse_moe|moe|mlp|feed_forward|ffn|router)\.(?:gate|router)(?:\.layer)?"
               r"|router(?:\.(?:layer|classifier|dense))?|shared_expert_gate"),
    ("embed", r"(?:\w*_)?embeddings?(?:_\w+)?|embed_(?:tokens|positions|in)|wte|wpe|shared"
              r"|tok_embeddings|tokens_embed|positions_embed|(?:word|token_type|position)_embeddings"
              r"|embeddings\.tok_embeddings|token_embd"),
    ("lm_head", r"lm_head|embed_out|output_projection|lm_head\.decoder"
                r"|cls\.predictions\.decoder|generator_lm_head"),
    ("attn.q", r"query|q|q_proj|q_lin|query_proj|wq|q_a_proj|q_b_proj|to_q|in_proj_q"),
    ("attn.k", r"key|k|k_proj|k_lin|key_proj|wk|to_k"),
    ("attn.v", r"value|v|v_proj|v_lin|value_proj|wv|to_v"),
    ("attn.o", ATTENTION + r"\.(?:output\.dense|output|dense|c_proj|o|o_proj|out_proj|out_lin"
               r"|wo|Wo|out|proj)|o_proj|out_lin|wo_attn"),
    ("mlp.gate", r"gate_proj|wi_0|(?:experts|feed_forward|mlp)\.(?:[a-z_]+\.)?(?:\d+\.)?w1"
                 r"|ffn\.experts\.mlp\.w1"),
    ("mlp.up", r"up_proj|wi_1|wi|Wi|(?:experts|feed_forward|mlp)\.(?:[a-z_]+\.)?(?:\d+\.)?w3"
               r"|ffn\.experts\.mlp\.v1|intermediate\.dense|c_fc|fc1|fc_in|lin1|dense_h_to_4h"),
    ("mlp.down", r"down_proj|(?:experts|feed_forward|mlp)\.(?:[a-z_]+\.)?(?:\d+\.)?w2"
                 r"|ffn\.experts\.mlp\.w2|output\.dense|mlp\.c_proj|fc2|fc_out|lin2"
                 r"|dense_4h_to_h|wo|(?:mlp|ffn)\.(?:Wo|wo|output)"),
)  # fmt: skip
TABLE = tuple((kind, re.compile(rf"(?:.*\.)?(?:{pattern})")) for kind, pattern in _TABLE)
"""First match wins; a pattern must cover the end of the name, from a dot."""


@dataclass(frozen=True, slots=True)
class Role:
    """What a matrix does, and where."""

    kind: str  # one of ROLES
    layer: int | None = None
    expert: int | None = None


def role_of(name: str, dimensions: int = 2) -> Role:
    """Return the role, layer and expert that a tensor's name tells.

    Args:
        name: Key in the checkpoint, e.g. `model.layers.3.self_attn.q_proj.weight`.
        dimensions: Of the stored tensor; more than two is a convolution unless the
            name says otherwise.

    Returns:
        A role; `other` for every name the table does not know.
    """
    stem = name.removesuffix(".weight")
    expert = EXPERT.search(stem)
    layer = LAYER.search(EXPERT.sub("", stem))
    kind = next((kind for kind, pattern in TABLE if pattern.fullmatch(stem)), "other")
    if dimensions > 2 and not kind.startswith("mlp"):
        kind = "conv"
    return Role(
        kind=kind,
        layer=int(layer[1]) if layer else None,
        expert=int(expert[1]) if expert else None,
    )
