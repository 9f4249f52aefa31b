"""What families do around their attention: norms, scale of the logits, rotation of positions.

Each is tested against the forward pass of a tiny model that transformers makes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from spectra.matrices.rule import Config

NormKind: TypeAlias = Literal["", "rms", "rms1", "layer", "gain"]
"""Nothing; RMSNorm; one that stores its gain less 1; LayerNorm; a gain alone."""
Pairing: TypeAlias = Literal["", "halves", "neighbours"]
"""Which two lines of a head a rotation mixes: i and i + half, or 2 i and 2 i + 1."""


@dataclass(frozen=True, slots=True)
class Norm:
    """A norm: the module that holds its gain, and what it does."""

    names: tuple[str, ...]  # none: it has no gain
    kind: NormKind
    of: Literal["layer", "previous", "model"] = "layer"  # where these are; `#` is the last layer
    first: str = ""  # of the first layer, where the others' is in the previous one


@dataclass(frozen=True, slots=True)
class Family:
    """What is known of the attention of a family."""

    before: Norm | None = None  # what queries, keys and values are read through
    across: Norm | None = None  # what the queries of attention to another stack are
    memory: Norm | None = None  # and its keys and values
    behind: Norm | None = None  # what passes before it is added to the stream
    each: NormKind = ""  # of the queries and keys of every head
    pairing: Pairing = ""
    added: bool = False  # positions are added to the logits
    scale: Literal["size", "one"] = "size"  # 1 / sqrt(rows of a head), unless settings tell


def _llama(**more: Any) -> Family:  # noqa: ANN401 - fields of Family
    return replace(Family(Norm(("input_layernorm",), "rms"), pairing="halves"), **more)


def _layer(*names: str, **more: Any) -> Family:  # noqa: ANN401 - fields of Family
    return replace(Family(Norm(names, "layer")), **more)


_LAYER = Norm(("input_layernorm",), "layer")
_GEMMA = Norm(("input_layernorm",), "rms1")
_AFTER = Norm(("post_attention_layernorm",), "rms1")
_SEQUENCES = _layer("self_attn_layer_norm", across=Norm(("encoder_attn_layer_norm",), "layer"),
                    memory=Norm(("encoder.layer_norm",), "layer", "model"))  # fmt: skip
_T5 = Family(
    Norm(("layer.0.layer_norm",), "rms"), Norm(("layer.1.layer_norm",), "rms"),
    Norm(("encoder.final_layer_norm",), "rms", "model"), scale="one", added=True,
)  # fmt: skip
# Where norms stand behind what is added (post-norm), a module reads what the one before it left.
_BART = Family(
    Norm(("final_layer_norm",), "layer", "previous", "layernorm_embedding"),
    Norm(("self_attn_layer_norm",), "layer"),
    Norm(("encoder.layers.#.final_layer_norm",), "layer", "model"),
)  # fmt: skip

_FAMILIES: Mapping[str, Family] = {
    "llama mistral mixtral qwen2 qwen2_moe qwen2_vl_text qwen2_5_vl_text phi3 granite granitemoe "
    "smollm3 gpt_oss": _llama(),
    "qwen3 qwen3_moe qwen3_vl_text qwen3_vl_moe_text olmoe": _llama(each="rms"),
    "olmo": _llama(before=Norm((), "layer")),
    "olmo2": _llama(before=None, behind=Norm(("post_attention_layernorm",), "rms"), each="rms"),
    "starcoder2 stablelm phi": _llama(before=_LAYER),
    "cohere": _llama(before=_LAYER, pairing="neighbours"),
    "glm": _llama(pairing="neighbours"),
    "glm4": _llama(pairing="neighbours", behind=Norm(("post_self_attn_layernorm",), "rms")),
    "deepseek_v2 deepseek_v3": _llama(pairing="neighbours"),
    "gemma": _llama(before=_GEMMA),
    "gemma2": _llama(before=_GEMMA, behind=_AFTER),
    "gemma3_text": _llama(before=_GEMMA, behind=_AFTER, each="rms1"),
    "gpt_neox": _llama(before=_LAYER),
    "falcon": _llama(before=Norm(("ln_attn", "input_layernorm"), "layer")),
    "gptj": _layer("ln_1", pairing="neighbours"),
    "gpt2": _layer("ln_1", across=Norm(("ln_cross_attn",), "layer")),
    "gpt_neo": _layer("ln_1", scale="one"),
    "bloom": _layer("input_layernorm", added=True),
    "mpt": _layer("norm_1", added=True),
    "opt": _layer("self_attn_layer_norm"),
    "vit deit": _layer("layernorm_before"),
    "dinov2": _layer("norm1", behind=Norm(("layer_scale1.lambda1",), "gain")),
    "clip_text_model clip_vision_model siglip_text_model siglip_vision_model":
        _layer("layer_norm1"),
    "bert roberta xlm-roberta camembert electra":
        Family(Norm(("output.LayerNorm",), "layer", "previous", "embeddings.LayerNorm")),
    "distilbert":
        Family(Norm(("output_layer_norm",), "layer", "previous", "embeddings.LayerNorm")),
    "bart marian": _BART,
    "mbart pegasus whisper": _SEQUENCES,
    "t5 mt5": _T5,
}  # fmt: skip

FAMILIES: Mapping[str, Family] = {
    name: family for names, family in _FAMILIES.items() for name in names.split()
}
"""By `model_type`."""


def family_of(settings: Config) -> Family | None:
    """Return what is known of the attention of a model by its settings; None: nothing."""
    name = settings.get("model_type")
    found = FAMILIES.get(name) if isinstance(name, str) else None
    if _unknown(settings):
        return None
    if name == "deepseek_v3" and settings.get("rope_interleave") is False and found:
        return replace(found, pairing="halves")
    if settings.get("alibi") is True:
        return found and replace(found, pairing="", added=True)
    return found


def _unknown(settings: Config) -> str:
    """Return the setting under which a family is another than the one here; empty: none."""
    if settings.get("model_type") == "opt" and settings.get("do_layer_norm_before") is False:
        return "do_layer_norm_before false"
    # Of the families here those whose norm of each head is a LayerNorm.
    some = (one for one in ("qk_layernorm", "use_qk_norm") if settings.get(one))
    return next((f"{one} true" for one in some), "")


def told_of(settings: Config) -> str:
    """Name a family that is not known: its type, and the setting that makes it another."""
    name = str(settings.get("model_type") or "none")
    other = _unknown(settings) if name in FAMILIES else ""
    return f"{name} with {other}" if other else name


def scale_of(family: Family, settings: Config, size: int, layer: int | None) -> float | str:
    """Return what the product of a query and a key is multiplied with before the softmax.

    Or the setting that should tell it and does not.

    Args:
        family: Of the model.
        settings: Of the tensor's part of the model.
        size: Lines of a query.
        layer: Counted from 0.
    """
    name = settings.get("model_type")
    scale = 1.0 if family.scale == "one" else size**-0.5
    if name in {"granite", "granitemoe"}:
        return _told(settings, "attention_multiplier", 1.0)
    if name in {"gemma2", "gemma3_text"}:
        found = _told(settings, "query_pre_attn_scalar", 256.0)
        return found if isinstance(found, str) else found**-0.5
    if name == "mpt":
        inner = settings.get("attn_config")
        some = inner if isinstance(inner, Mapping) else {}
        return scale if some.get("softmax_scale") is None else _told(some, "softmax_scale", scale)
    if name == "gpt2":
        scale = 1.0 if settings.get("scale_attn_weights") is False else scale
        if settings.get("scale_attn_by_inverse_layer_idx") is True:
            scale /= (layer or 0) + 1
    if name in {"deepseek_v2", "deepseek_v3"}:
        rope = rope_of(settings)
        if _type_of(rope) not in {"default", ""} and rope.get("mscale_all_dim"):
            factor, share = _told(rope, "factor"), _told(rope, "mscale_all_dim")
            if isinstance(factor, str) or isinstance(share, str):
                return factor if isinstance(factor, str) else str(share)
            scale *= _mscale(factor, share) ** 2
    return scale


def _told(settings: Config, key: str, otherwise: float | None = None) -> float | str:
    """Return a setting that is a positive number; or what it is in place of one."""
    found = settings.get(key, otherwise)
    usable = isinstance(found, int | float) and not isinstance(found, bool) and found > 0.0
    return float(found) if usable and math.isfinite(found) else f"{key} {found}"


def cap_of(settings: Config) -> float | None:
    """Return c of logits that become c tanh(logit / c); None: they stay as they are."""
    found = settings.get("attn_logit_softcapping")
    return float(found) if isinstance(found, int | float) and found and math.isfinite(found) \
        else None  # fmt: skip


def rope_of(settings: Config) -> Mapping[str, Any]:
    """Return the settings of rotary positions, in whichever place a version keeps them."""
    for key in ("rope_parameters", "rope_scaling"):
        found = settings.get(key)
        if isinstance(found, Mapping):
            inner = [one for one in found.values() if isinstance(one, Mapping)]
            return inner[0] if inner else found  # a type of layer each, which differ in speed
    return {}


def rotating(settings: Config, size: int) -> int | str:
    """Return how many lines of a query rotate, of `size` that may; or the setting that says more.

    They rotate two by two.
    """
    found = settings.get("rotary_dim")
    if isinstance(found, int) and not isinstance(found, bool):
        lines = min(found, size)
        return lines if lines >= 0 and lines % 2 == 0 else f"rotary_dim {found} for {size} lines"
    for place, key in ((rope_of(settings), "partial_rotary_factor"),
                       (settings, "partial_rotary_factor"), (settings, "rotary_pct")):  # fmt: skip
        share = place.get(key)
        if isinstance(share, int | float):
            fits = 0.0 <= share <= 1.0
            return int(size * share) // 2 * 2 if fits else f"{key} {share}"
    return size // 2 * 2


def rotates(settings: Config, layer: int | None) -> bool:
    """Say whether a layer of a family with rotary positions has them."""
    told = settings.get("no_rope_layers")
    if isinstance(told, list) and layer is not None and layer < len(told):
        return bool(told[layer])  # 1 where it has
    return True


def length_of(settings: Config) -> float | str:
    """Return what rotating multiplies queries and keys with; or what of it is not known.

    Source:
        Peng et al. 2023, arXiv:2309.00071 (YaRN); Ding et al. 2024, arXiv:2402.13753 (LongRoPE).
    """
    rope = rope_of(settings)
    kind, told, factor = _type_of(rope), rope.get("attention_factor"), rope.get("factor")
    if kind in {"", "default", "linear", "dynamic", "llama3", "mrope"}:
        return 1.0
    if isinstance(told, int | float):
        return float(told)
    first = rope.get("original_max_position_embeddings",
                     settings.get("original_max_position_embeddings"))  # fmt: skip
    most = settings.get("max_position_embeddings")
    if factor is None and isinstance(first, int) and isinstance(most, int):
        factor = most / first
    if isinstance(factor, int | float) and kind == "yarn":
        both = rope.get("mscale"), rope.get("mscale_all_dim")
        known = both if both[0] and both[1] else (1, 0)
        return _mscale(factor, known[0]) / _mscale(factor, known[1])
    if isinstance(factor, int | float) and kind in {"longrope", "su"} and isinstance(first, int):
        return 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(first))
    lacks = kind in {"yarn", "longrope", "su"}
    return f"rope_type {kind} without a factor" if lacks else f"rope_type {kind}"


def _type_of(rope: Mapping[str, Any]) -> str:
    return str(rope.get("rope_type", rope.get("type", "")))


def _mscale(factor: float, share: Any = 1.0) -> float:  # noqa: ANN401 - a setting
    return 1.0 if factor <= 1 else 0.1 * float(share) * math.log(factor) + 1.0
