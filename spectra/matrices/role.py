"""What a matrix does in its network, told from its name by one table."""

import re
from dataclasses import dataclass
from functools import lru_cache

from spectra.matrices.layers import expert_in, layers_of

ROLES = (
    "attn.q", "attn.k", "attn.v", "attn.o", "mlp.gate", "mlp.up", "mlp.down",
    "router", "embed", "lm_head", "conv", "other",
)  # fmt: skip

ATTENTION = r"\w*(?:attn|[Aa]ttention)\w*"
FEED_FORWARD = r"(?:mlp|ffn|feed_forward|moe|block_sparse_moe|experts)"

_TABLE: tuple[tuple[str, str], ...] = (
    # Routers first: one is often called `gate`, and lies where a gate projection would.
    ("router", rf"(?:{FEED_FORWARD}|mixer)\.gate(?:\.wg)?"),
    ("router", r"router(?:\.\w+)?|shared_expert_gate"),
    # Scores over the vocabulary; some are so named only at the top of the model.
    ("lm_head", r"lm_head(?:\.decoder)?|predictions\.decoder|shared_head\.head|embed_out"),
    ("lm_head", r"vocab_projector|generator_lm_head|\A(?:output|output_projection|proj_out)"),
    ("lm_head", r"\Adecoder"),
    # Tables looked up by an index: tokens, positions, distances.
    ("embed", r"(?!patch_)(?:\w+_)?embeddings?|positional_embedding_\w+|token_embd"),
    ("embed", r"embed_(?:tokens|positions|in)(?:_per_layer)?|(?:tokens|positions|pos)_embed"),
    ("embed", r"wte|wpe|shared|relative_attention_bias|relative_position_bias_table"),
    # Attention, self or cross.
    ("attn.q", r"q|q_proj|q_lin|q_attn|query|query_proj|[Ww]q|to_q|q_a_proj|q_b_proj"),
    ("attn.k", r"k|k_proj|k_lin|key|key_proj|[Ww]k|to_k"),
    ("attn.v", r"v|v_proj|v_lin|value|value_proj|[Ww]v|to_v"),
    ("attn.o", rf"o_proj|{ATTENTION}\.(?:output\.dense|output|dense|o|[Ww]o|out|to_out\.0)"),
    ("attn.o", rf"{ATTENTION}\.(?:proj|c_proj|out_proj|out_lin)"),
    # Feed-forward, experts and shared experts.
    ("mlp.gate", rf"gate_proj|wi_0|fc12|{FEED_FORWARD}\.(?:\d+\.)?w1"),
    ("mlp.up", rf"up_proj|wi_1|[Ww]i|fc11|{FEED_FORWARD}\.(?:\d+\.)?(?:w3|v1)"),
    ("mlp.up", r"intermediate[._]dense|c_fc|(?:linear_)?fc1|fc_in|lin1|dense_h_to_4h"),
    ("mlp.up", r"\d+\.(?:ffn|linear1)|pwconv1"),
    ("mlp.down", rf"down_proj|[Ww]o|{FEED_FORWARD}\.(?:\d+\.)?w2"),
    ("mlp.down", r"output[._]dense|mlp\.c_proj|(?:linear_)?fc2|fc_out|lin2|dense_4h_to_h"),
    ("mlp.down", r"ffn_output|weights_out|output_linear|\d+\.linear2|pwconv2"),
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


def role_of(name: str, dimensions: int = 2) -> Role:
    """Return the role, layer and expert that a tensor's name tells.

    Args:
        name: Key in the checkpoint, e.g. `model.layers.3.self_attn.q_proj.weight`.
        dimensions: Of the stored tensor; more than two is a convolution unless the
            name says otherwise.

    Returns:
        A role; `other` for every name the table does not know. Where layers are nested, the
        layer counts from the name's own stage on, as the others are not known here.
    """
    return Role(kind_of(numberless(name), dimensions), layers_of([name])[name], expert_in(name))


def kind_of(name: str, dimensions: int = 2) -> str:
    """Return the kind of role alone; the numbers in a name play no part in it."""
    kind = _kind(name.removesuffix(".weight"))
    return "conv" if dimensions > 2 and kind in {"embed", "other"} else kind


def numberless(name: str) -> str:
    """Return a name with the numbers of its layers and experts made equal.

    Rules that read names ask for a number, never for a certain one.
    """
    return _INSIDE.sub("0", name)


_INSIDE = re.compile(r"(?<![^.])[0-9]+(?=\.)")


@lru_cache(maxsize=4096)
def _kind(stem: str) -> str:
    """Return the first kind of the table that a name's stem fits."""
    return next((kind for kind, pattern in TABLE if pattern.fullmatch(stem)), "other")
