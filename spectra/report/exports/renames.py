"""What transformers 5 calls a tensor whose published name is another.

Most families keep their names. Those here are renamed, and some tensors taken apart, when a
model is loaded.
"""

import re
from collections.abc import Mapping
from typing import Any

_VIT = (
    (r"encoder\.layer\.(\d+)\.", r"layers.\1."),
    (r"attention\.attention\.(q|k|v)[a-z]+\.", r"attention.\1_proj."),
    (r"attention\.output\.dense\.", "attention.o_proj."),
    (r"intermediate\.dense\.", "mlp.fc1."),
    (r"(layers\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
)
_DINO = (
    (r"attention\.attention\.(q|k|v)[a-z]+\.", r"attention.\1_proj."),
    (r"attention\.output\.dense\.", "attention.o_proj."),
    (r"mlp\.weights_in\.", "mlp.{gate|up}_proj."),
    (r"mlp\.weights_out\.", "mlp.down_proj."),
)
_LLAVA = (
    (r"^language_model\.lm_head\.", "lm_head."),
    (r"^language_model\.model\.", "model.language_model."),
    (r"^vision_tower\.", "model.vision_tower."),
    (r"^multi_modal_projector\.", "model.multi_modal_projector."),
)
_QWEN_VL = (
    (r"^visual\.", "model.visual."),
    (r"^model\.(?!language_model\.|visual\.)", "model.language_model."),
)
_NOMIC = (
    (r"^encoder\.layers\.", "layers."),
    (r"^emb_ln\.", "embeddings.LayerNorm."),
    (r"attn\.out_proj\.", "self_attn.o_proj."),
    (r"attn\.Wqkv\.", "self_attn.{q|k|v}_proj."),
    (r"\.fc11\.", ".up_proj."),
    (r"\.fc12\.", ".gate_proj."),
    (r"\.fc2\.", ".down_proj."),
    (r"\.norm1\.", ".post_attention_layernorm."),
    (r"\.norm2\.", ".post_mlp_layernorm."),
)
_GRANITE = (
    (r"\.input_linear\.weight$", ".experts.gate_up_proj"),
    (r"\.output_linear\.weight$", ".experts.down_proj"),
    (r"\.router\.layer\.", ".router."),
)
_ARIA = (
    (r"\.experts\.fc1\.weight$", ".experts.gate_up_proj"),
    (r"\.experts\.fc2\.weight$", ".experts.down_proj"),
)
_MIXTRAL = ((r"\.block_sparse_moe\.", ".mlp."),)

_TABLE = (
    # Families; every pattern in turn and what takes its place. `{q|k|v}`: one for each part.
    ("vit deit", _VIT),
    ("dinov2 dinov2_with_registers", _DINO),
    ("gemma3 llava mistral3 paligemma aya_vision got_ocr2 internvl vipllava", _LLAVA),
    ("qwen2_vl qwen2_5_vl", _QWEN_VL),
    ("nomic_bert", _NOMIC),
    ("gpt_neox", ((r"^embed_out\.", "lm_head."),)),
    (
        "granitemoe granitemoeshared granitemoehybrid",
        tuple((rf"(?<=\.block_sparse_moe){old}", new) for old, new in _GRANITE),
    ),
    ("aria_text", _ARIA),
    ("phimoe", (*_MIXTRAL, (r"\.mlp\.gate\.", ".mlp.router."))),
)
_RENAMES = {
    family: tuple((re.compile(old), new) for old, new in rules)
    for families, rules in _TABLE
    for family in families.split()
}
_USUAL = tuple((re.compile(old), new) for old, new in _MIXTRAL)  # of any family that has it
HALVES = ("encoder", "decoder")
"""Where config.json holds the settings of two models, what their tensors' names begin with."""

_EACH = re.compile(r"\{([a-z|]+)\}")


def names_in_memory(tensor: str, config: Mapping[str, Any]) -> dict[str, str]:
    """Return the parameters that one tensor becomes.

    Args:
        tensor: Its key in the checkpoint.
        config: The model's config.json; `model_type` is read, also of an encoder and a
            decoder that have settings of their own.

    Returns:
        Names by the part's label (`q`); by the empty label where it stays one parameter.
    """
    half, _, rest = tensor.partition(".")
    if half in HALVES and rest and isinstance(config.get(half), Mapping):
        return {
            label: f"{half}.{name}" for label, name in names_in_memory(rest, config[half]).items()
        }
    family = config.get("model_type")
    rules = _RENAMES.get(family, _USUAL) if isinstance(family, str) else _USUAL
    name = tensor
    for old, new in rules:
        name = old.sub(new, name)
    found = _EACH.search(name) if "{" in name and name != tensor else None
    if found is None:
        return {"": name}
    return {label: name.replace(found[0], label) for label in found[1].split("|")}
