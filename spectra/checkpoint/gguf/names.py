"""What a tensor of a GGUF file is called in transformers' own model."""

import re
from dataclasses import dataclass
from functools import lru_cache

from spectra.checkpoint.gguf.codec import gguf_library

USUAL = (
    "@self_attn.q_norm @self_attn.k_norm @self_attn. @mlp.gate_proj @mlp.up_proj @mlp.down_proj "
    "@mlp.gate @mlp. @ model.norm lm_head model."
)
"""Beginnings of names, the first that fits counts; `@` is `model.layers.0.`."""

_MIXTRAL = "@block_sparse_moe.gate @block_sparse_moe.experts.w"
_JAMBA = (
    "@feed_forward.router @feed_forward.gate_proj @feed_forward.up_proj @feed_forward.down_proj "
    "@feed_forward.experts. @feed_forward.shared_expert. @pre_ff_layernorm @mamba. "
    "model.final_layernorm"
)
_LFM2 = (
    "@feed_forward. @self_attn.q_layernorm @self_attn.k_layernorm @self_attn.out_proj "
    "@operator_norm @ffn_norm model.embedding_norm"
)
_BLOOM = (
    "transformer.h.0.self_attention. transformer.h.0.mlp.dense transformer.h.0.input_layernorm "
    "transformer.h.0. transformer.word_embeddings transformer.ln_f"
)

_PLAIN = (
    "arcee baichuan cohere2 command-r dream ernie4_5 exaone-moe exaone4 gemma gemma2 gemma3 "
    "gemma3n gemma4 granite grovemoe internlm2 jais2 llada-moe llama-embed maincoder minicpm "
    "mistral3 nemotron olmo olmo2 olmoe orion paddleocr qwen2 qwen2moe qwen2vl qwen3 qwen3moe "
    "qwen3vl qwen3vlmoe rnd1 seed_oss smollm3 stablelm xverse"
)
_EUROBERT = (
    "layers.0.self_attn. layers.0.mlp. layers.0.input_layernorm layers.0.post_attention_layernorm "
    "embed_tokens norm"
)
_MODERN_BERT = (
    "layers.0.attn layers.0.mlp.W layers.0.mlp_norm embeddings.tok_embeddings embeddings.norm "
    "final_norm"
)
_MPT = (
    "transformer.blocks.0.norm_1 transformer.blocks.0.norm_2 transformer.blocks.0.attn. "
    "transformer.blocks.0.ffn. transformer.wte transformer.norm_f lm_head"
)
_GRANITE = "@block_sparse_moe.output_linear @block_sparse_moe.router.layer @shared_mlp. @mamba."
_SHARED = "bailingmoe bailingmoe2 deepseek deepseek2 dots1 ernie4_5-moe glm4moe"

_TABLE: tuple[tuple[str, str, bool], ...] = (
    # Architectures; what comes before USUAL; whether USUAL follows.
    (_PLAIN, "", True),
    ("apertus", "@attention_layernorm @feedforward_layernorm", True),
    ("bert", "encoder.layer.0. embeddings.", False),
    ("bloom falcon", f"{_BLOOM} lm_head", False),
    ("chatglm glm4", "@mlp.gate_up_proj @post_mlp_layernorm", True),
    (_SHARED, "@mlp.shared_experts.", True),
    ("eurobert", _EUROBERT, False),
    ("falcon-h1 jamba llama4", _JAMBA, True),
    ("gpt-oss", "@mlp.router", True),
    ("gpt2 starcoder", "transformer. lm_head", False),
    ("gptneox", "gpt_neox. embed_out", False),
    ("granitehybrid granitemoe", _GRANITE, True),
    ("hunyuan-dense", "@self_attn.query_layernorm @self_attn.key_layernorm", True),
    ("lfm2", _LFM2, True),
    ("lfm2moe", f"@feed_forward.w @feed_forward.gate {_LFM2}", True),
    ("llama minimax-m2 phimoe", _MIXTRAL, True),
    ("mamba mamba2 nemotron_h nemotron_h_moe", "backbone.embeddings backbone. lm_head", False),
    ("modern-bert", _MODERN_BERT, False),
    ("mpt", _MPT, False),
    ("phi2", "@self_attn.dense @mlp.fc model.final_layernorm", True),
    ("phi3", "@self_attn.qkv_proj @mlp.gate_up_proj", True),
    ("qwen35 qwen35moe qwen3next", "@linear_attn.", True),
    ("starcoder2", "@mlp.c_fc @mlp.c_proj", True),
    ("t5 t5encoder", "encoder. decoder. shared lm_head", False),
)
"""Which of the names that the library knows for a tensor is that of transformers.

Held against the converter of llama.cpp and transformers' own files. An architecture that is
not here keeps GGUF's names: a wrong guess would pair what does not belong together.
"""

_BEGINNINGS = {
    word: tuple(f"{own} {USUAL if usual else ''}".replace("@", "model.layers.0.").split())
    for words, own, usual in _TABLE
    for word in words.split()
}

_SPELLED = {
    ("lfm2moe", "ffn_gate_exps"): "model.layers.0.feed_forward.experts.w1",
    ("lfm2moe", "ffn_up_exps"): "model.layers.0.feed_forward.experts.w3",
    ("lfm2moe", "ffn_down_exps"): "model.layers.0.feed_forward.experts.w2",
}

# Fused rows are [q | k | v] in GGUF; only for these is it known how the model has them.
_FUSED = frozenset([
    "bloom", "falcon", "gpt2", "gptneox", "modern-bert", "mpt", "phi3", "qwen35", "qwen35moe",
    "qwen3next", "starcoder",
])  # fmt: skip
# What the converter changes so that it is no longer what the model stores, or one of several.
_CHANGED = re.compile(r"ssm_a|ssm_d|ffn_gate_up_exps|rope_freqs|rope_factors_\w+|attn_rot_embd")
_STACKS = frozenset({"altup_proj", "altup_unembd_proj"})  # one tensor for each in the model

_LAYER = re.compile(r"^((?:enc\.|dec\.)?blk)\.(0|[1-9]\d{0,5})\.")
_ZERO = re.compile(r"(?<=\.)0(?=\.)")


@dataclass(frozen=True, slots=True)
class Place:
    """A GGUF name taken apart: `blk.3.attn_q.weight` is stem `attn_q` of layer 3."""

    stem: str
    layer: int = -1  # -1: none
    stack: str = ""  # `blk`, `enc.blk`, `dec.blk`
    ending: str = ""  # `.weight`, `.bias` or nothing

    @classmethod
    def of(cls, name: str) -> "Place":
        """Take a name apart."""
        found = _LAYER.match(name)
        rest = name[found.end() :] if found else name
        stem, dot, last = rest.rpartition(".")
        stem, ending = (stem, f".{last}") if last in {"weight", "bias"} and dot else (rest, "")
        return cls(stem, int(found[2]), found[1], ending) if found else cls(stem, ending=ending)


def model_name(architecture: str, place: Place, *, gated: bool) -> str:
    """Return the name in transformers' model; empty where it is not known.

    Args:
        architecture: GGUF's word for the family.
        place: The GGUF name, taken apart.
        gated: Whether the feed-forward layers of the file have a gate, as T5 v1.1's do.

    Returns:
        A name such as `model.layers.3.self_attn.q_proj.weight`; for stacked experts that
        of one, with `{}` for its number.

    Raises:
        CheckpointError: The Python package gguf is not installed.
    """
    if _CHANGED.fullmatch(place.stem):
        return ""
    if place.stem == "attn_qkv" and architecture not in _FUSED:
        return ""
    stem = f"{place.stack}.0.{place.stem}" if place.stack else place.stem
    found = _names(architecture).get(stem, "")
    if gated and place.stem == "ffn_up" and found.endswith(".wi"):
        found += "_1"
    if not found:
        return ""
    if place.layer >= 0:
        found = _ZERO.sub(str(place.layer), found, count=1)
    if place.stem in _STACKS:
        found += ".{}"
    elif place.stem.endswith("_exps"):
        found = found.replace("experts.", "experts.{}.")
    return found + place.ending


@lru_cache(maxsize=16)
def _names(architecture: str) -> dict[str, str]:
    """Return the model's name for each GGUF name of the first layer, without endings."""
    beginnings = _BEGINNINGS.get(architecture)
    library = gguf_library()
    words = {word: key for key, word in library.MODEL_ARCH_NAMES.items()}
    if beginnings is None or architecture not in words:
        return {}
    known: dict[str, list[str]] = {}
    for name, (_, gguf_name) in library.get_tensor_name_map(words[architecture], 1).mapping.items():
        known.setdefault(gguf_name, []).append(name)
    chosen = {}
    for gguf_name, names in known.items():
        fitting = (name for start in beginnings for name in names if name.startswith(start))
        chosen[gguf_name] = next(fitting, "")
    for (word, stem), name in _SPELLED.items():
        if word == architecture:
            chosen[f"blk.0.{stem}"] = name
    return chosen
