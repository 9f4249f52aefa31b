"""The table of families that fuse several matrices, or store one transposed."""

import re

from spectra.matrices.part import Part
from spectra.matrices.rule import (
    Config,
    Rule,
    count,
    cut,
    divide,
    in_blocks,
    stacked,
    stacked_either_way,
    striped,
    turned,
    whole,
)

Q, K, V = Part("q", "attn.q"), Part("k", "attn.k"), Part("v", "attn.v")
GATE, UP = Part("gate", "mlp.gate"), Part("up", "mlp.up")
LATENT = Part("kv", "other")  # DeepSeek's keys and values before they are expanded
FILTER = Part("gate", "other")  # Qwen's gate on the attention's output

heads = count("num_attention_heads", "n_heads", "n_head")
key_heads = count("num_key_value_heads", "num_attention_heads")
delta_keys = count("linear_num_key_heads")
delta_values = count("linear_num_value_heads")
delta_key_size = count("linear_key_head_dim")
delta_value_size = count("linear_value_head_dim")


def shared_key_heads(config: Config) -> int:
    """Return the key heads of Falcon or StarCoder: some, one, or one per query head."""
    if config.get("new_decoder_architecture") or "n_head_kv" in config:
        return count("num_kv_heads", "n_head_kv", "num_attention_heads")(config)
    return 1 if config.get("multi_query", True) else heads(config)


def query_heads_each(config: Config) -> tuple[int, int, int]:
    """Return the q, k and v heads in the group of one key head."""
    return divide(heads(config), shared_key_heads(config)), 1, 1


def grouped_query(config: Config) -> tuple[int, int, int]:
    """Return all q, k and v heads."""
    return heads(config), key_heads(config), key_heads(config)


def dbrx_heads(config: Config) -> tuple[int, int, int]:
    """Return all q, k and v heads, as DBRX writes them."""
    keys = count("attn_config.kv_n_heads")(config)
    return heads(config), keys, keys


def latent_and_rope(config: Config) -> tuple[int, int]:
    """Return the rows of DeepSeek's latent and of the key part that rotates."""
    return count("kv_lora_rank")(config), count("qk_rope_head_dim")(config)


def key_and_value(config: Config) -> tuple[int, int]:
    """Return the k and v rows of one head, expanded from DeepSeek's latent."""
    return count("qk_nope_head_dim")(config), count("v_head_dim")(config)


def delta_rows(config: Config) -> tuple[int, int, int]:
    """Return the q, k and v rows of a gated delta net."""
    keys = delta_keys(config) * delta_key_size(config)
    return keys, keys, delta_values(config) * delta_value_size(config)


def delta_rows_each(config: Config) -> tuple[int, int, int, int]:
    """Return the q, k, v and z rows that go with one of its key heads."""
    values = divide(delta_values(config), delta_keys(config)) * delta_value_size(config)
    return delta_key_size(config), delta_key_size(config), values, values


def gguf_rows(config: Config) -> tuple[int, int, int]:
    """Return the q, k and v rows of GGUF's `attn_qkv`, or their proportion."""
    queries, keys, values = grouped_query(config)
    if "head_dim" not in config or "v_head_dim" not in config:
        return queries, keys, values
    size = count("head_dim")(config)
    return queries * size, keys * size, values * count("v_head_dim")(config)


gate_then_up = cut(GATE, UP)
thirds = cut(Q, K, V)
per_head = cut(Q, K, V, groups=heads)
dbrx_experts = count("ffn_config.moe_num_experts")

_CONV1D = "gpt2 imagegpt openai-gpt"
_LATENT = "deepseek_v2 deepseek_v3 deepseek_v32 kimi_k2 glm4_moe_lite"
_DELTA = "qwen3_next qwen3_5_text qwen3_5_moe_text"
_VISUAL = "qwen2_vl qwen2_5_vl qwen3_vl qwen3_vl_moe qwen3_5 qwen3_5_moe"
# What transformers 5 holds in memory; files keep one tensor per expert unless saved with
# save_original_format=False. (Qwen3.5 and Gemma 4 are published so.)
_EXPERTS = (
    "mixtral minimax minimax_m2 phimoe qwen2_moe qwen3_moe qwen3_next qwen3_5_moe "
    "qwen3_5_moe_text olmoe deepseek_v2 deepseek_v3 deepseek_v32 glm4_moe glm4_moe_lite dots1 "
    "ernie4_5_moe hunyuan_v1_moe jamba lfm2_moe gemma4 gemma4_text granitemoe "
    "granitemoeshared granitemoehybrid"
)
_GRANITE = "granitemoe granitemoeshared granitemoehybrid"

_TABLE: tuple[tuple[str, str, Rule], ...] = (
    # Attention. `*` is any family: torch.nn.MultiheadAttention itself.
    ("*", r"in_proj_weight", thirds),
    (_CONV1D, r"attn\.c_attn\.weight", turned(thirds)),
    (_CONV1D, r"crossattention\.c_attn\.weight", turned(cut(K, V))),
    (_CONV1D, r"(?:c_fc|c_proj|q_attn)\.weight", turned(whole)),
    ("gpt_neox bloom persimmon", r"query_key_value\.weight", per_head),
    ("deberta", r"self\.in_proj\.weight", per_head),
    ("falcon RefinedWeb RefinedWebModel", r"query_key_value\.weight",
     cut(Q, K, V, groups=shared_key_heads, shares=query_heads_each)),
    ("gpt_bigcode", r"attn\.c_attn\.weight",
     cut(Q, K, V, groups=shared_key_heads, shares=query_heads_each)),
    ("codegen", r"qkv_proj\.weight", cut(Q, V, K, groups=lambda _config: 4)),
    ("phi3", r"qkv_proj\.weight", cut(Q, K, V, shares=grouped_query)),
    ("dbrx", r"attn\.Wqkv\.weight", cut(Q, K, V, shares=dbrx_heads)),
    ("modernbert mpt nomic_bert", r"attn\.Wqkv\.weight", thirds),
    (_VISUAL, r"visual\.blocks\.\d+\.attn\.qkv\.weight", thirds),
    (_LATENT, r"kv_a_proj_with_mqa\.weight", cut(LATENT, K, shares=latent_and_rope)),
    (_LATENT, r"kv_b_proj\.weight", cut(K, V, groups=heads, shares=key_and_value)),
    (_DELTA, r"self_attn\.q_proj\.weight", cut(Q, FILTER, groups=heads)),
    (_DELTA, r"in_proj_qkv\.weight", cut(Q, K, V, shares=delta_rows)),
    (_DELTA, r"in_proj_qkvz\.weight",
     cut(Q, K, V, Part("z", "other"), groups=delta_keys, shares=delta_rows_each)),
    ("gemma3", r"mm_input_projection_weight", turned(whole)),
    # GGUF's own names, where a tensor has no counterpart in transformers' model.
    ("*", r"blk\.\d+\.attn_qkv\.weight", cut(Q, K, V, shares=gguf_rows)),
    ("*", r"(?:self_attn\.k_b_proj|blk\.\d+\.attn_k_b)\.weight", cut(K)),
    ("*", r"(?:self_attn\.v_b_proj|blk\.\d+\.attn_v_b)\.weight", cut(V)),
    ("*", r"blk\.\d+\.ffn_(?:gate|up|down)_exps\.weight", stacked(whole)),
    ("*", r"blk\.\d+\.ffn_gate_up_exps\.weight", stacked(gate_then_up)),
    # Feed-forward.
    ("phi3 glm glm4", r"gate_up_proj\.weight", gate_then_up),
    ("modernbert modernbert-decoder", r"mlp\.Wi\.weight", gate_then_up),
    (_GRANITE, r"shared_mlp\.input_linear\.weight", gate_then_up),
    ("dinov2 dinov2_with_registers", r"mlp\.weights_in\.weight", gate_then_up),
    # Experts.
    (_EXPERTS, r"experts\.gate_up_proj", stacked(gate_then_up)),
    (_EXPERTS, r"experts\.down_proj", stacked(whole)),
    (_GRANITE, r"block_sparse_moe\.input_linear\.weight", stacked(gate_then_up)),
    (_GRANITE, r"block_sparse_moe\.output_linear\.weight", stacked(whole)),
    ("llama4 llama4_text aria aria_text", r"experts\.gate_up_proj", stacked(turned(gate_then_up))),
    ("llama4 llama4_text aria aria_text", r"experts\.down_proj", stacked(turned(whole))),
    ("aria aria_text", r"experts\.fc1\.weight", stacked(turned(gate_then_up))),
    ("aria aria_text", r"experts\.fc2\.weight", stacked(turned(whole))),
    ("gpt_oss", r"experts\.gate_up_proj", stacked(turned(striped(GATE, UP)))),
    ("gpt_oss", r"experts\.down_proj", stacked(turned(whole))),
    ("qwen3_vl_moe_text", r"experts\.gate_up_proj", stacked_either_way(gate_then_up, axis=1)),
    ("qwen3_vl_moe_text", r"experts\.down_proj", stacked_either_way(whole, axis=0)),
    ("dbrx", r"experts\.mlp\.(?:w1|v1)", in_blocks(whole, dbrx_experts)),
    ("dbrx", r"experts\.mlp\.w2", in_blocks(turned(whole), dbrx_experts)),
)  # fmt: skip

TABLE = tuple(
    (frozenset(families.split()) - {"*"}, re.compile(rf"(?:^|\.){end}$"), rule)
    for families, end, rule in _TABLE
)
"""Families (none: any), end of the tensor's name, rule. First match wins."""
