"""A tiny random model of every family that transformers knows, of its own making.

`build(model_type)` shrinks the family's default configuration by what its keys mean; the few
that this does not do justice to have a recipe of their own.
"""

import importlib
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

import torch
import transformers as hf
from transformers.configuration_utils import PreTrainedConfig
from transformers.models.auto import configuration_auto, modeling_auto

from recipes import RECIPES

SEED = 20250506
MOST = 1_250_000  # parameters: 5 MB in float32

TASKS = (
    "MULTIMODAL_LM", "IMAGE_TEXT_TO_TEXT", "SEQ_TO_SEQ_CAUSAL_LM", "SPEECH_SEQ_2_SEQ", "MASKED_LM",
    "CTC", "RNNT", "TDT", "CAUSAL_LM", "TEXT_TO_WAVEFORM", "TEXT_TO_SPECTROGRAM",
    "OBJECT_DETECTION", "UNIVERSAL_SEGMENTATION", "INSTANCE_SEGMENTATION", "MASK_GENERATION",
    "ZERO_SHOT_OBJECT_DETECTION", "ZERO_SHOT_IMAGE_CLASSIFICATION", "DEPTH_ESTIMATION",
    "SEMANTIC_SEGMENTATION", "IMAGE_MATTING", "IMAGE_TO_IMAGE", "KEYPOINT_DETECTION",
    "KEYPOINT_MATCHING", "POSE_ESTIMATION", "IMAGE_CLASSIFICATION", "VIDEO_CLASSIFICATION",
    "CAUSAL_IMAGE_MODELING", "AUDIO_CLASSIFICATION", "AUDIO_FRAME_CLASSIFICATION",
    "TIME_SERIES_PREDICTION", "TABLE_RECOGNITION", "TEXT_RECOGNITION", "RETRIEVAL",
    "VISUAL_QUESTION_ANSWERING", "TABLE_QUESTION_ANSWERING", "DOCUMENT_QUESTION_ANSWERING",
    "PRETRAINING", "TOKEN_CLASSIFICATION", "SEQUENCE_CLASSIFICATION", "QUESTION_ANSWERING",
    "DECISION", "TIME_SERIES_CLASSIFICATION", "TIME_SERIES_REGRESSION", "BACKBONE", "IMAGE",
    "TEXT_ENCODING",
)  # fmt: skip
"""What a model is asked for first; without any, its bare body."""

WIDTH, INNER, HEADS, HEAD, EXPERTS, VOCABULARY, LENGTH, IMAGE, PATCH = (
    32,
    48,
    4,
    8,
    4,
    112,
    64,
    32,
    8,
)


def at_most(limit: int) -> Callable[[int], int]:
    """Keep what is small."""
    return lambda value: min(value, limit)


def if_large(size: int, least: int = 16) -> Callable[[int], int]:
    """Replace what is a width rather than a factor."""
    return lambda value: size if value >= least else value


NUMBERS: tuple[tuple[str, Callable[[int], int]], ...] = (
    ((r".*(?:token|bos|eos|pad|sep|cls|mask|unk|lang|index)_?(?:id|index|idx)|.*_token_index|.*_id"
     r"|.*_index|image_token|.*_stream_.os_id|.*_idx"), lambda value: value % 90),
    ((r".*vocab.*|num_embeds|num_(?:bpe|wordpiece)_labels|num_embeddings"
     r"|num_hash_buckets|.*unit_embeddings|num_codevectors_per_group|num_centroids|num_classes"
     r"|num_clusters"), at_most(VOCABULARY)),
    (r"codebook_size", at_most(64)),
    (r"mamba_(?:n|num)_heads", at_most(8)),
    (r"n_group|topk_group|num_expert_group", at_most(1)),
    (r".*(?:top_?k|experts_per_tok(?:en)?|moe_k)", at_most(2)),
    (r"(?:.*_)?(?:num|n)_.*experts?|num_experts?|zero_expert_num", at_most(EXPERTS)),
    (r"(?:.*_)?(?:num_)?(?:key_value|kv).*heads|cross_num_key_value_heads", at_most(2)),
    (r"(?:.*_)?(?:num|n)_?(?:\w+_)?heads?|(?:.*_)?attention_heads|resampler_heads|.*attn_heads",
     at_most(HEADS)),
    ((r"(?:.*_)?head_dim|d_kv|kv_channels|d_head|dim_head|attention_head_size|.*dim_head|mamba_d_head"
     r"|mamba_headdim|.*_head_size"), at_most(HEAD)),
    (r"(?:.*_)?qk_rope_head_dim|rotary_dim", at_most(4)),
    ((r"(?:.*_)?(?:(?:num|n)_)?(?:\w+_)?(?:layers?|depth)|(?:.*_)?num_blocks|block_repeats"
     r"|num_layers_per_stack"), at_most(2)),
    ((r"(?:.*_)?(?:intermediate_(?:size|dim)|ffn_dim|d_ff|d_inner|n_inner|dff|dim_ff|mlp_dim"
     r"|feed_?forward\w*|dim_feedforward|linear_units|hidden_channels|ffn_hidden_size"
     r"|mlp_hidden_size|hidden_dim_ff|ffn_size|.*shared_expert_dim|share_expert_dim)"),
     if_large(INNER)),
    ((r"(?:.*_)?(?:hidden_(?:size|dim)|d_model|n_embd|embed_dim|emb_dim|dim|embedding_(?:size|dim)"
     r"|width|features?_(?:size|dim)|emb_size|hidden_(?:channels|width)|channels?|projection_dim"
     r"|proj_(?:size|dim)|output_dim|(?:in|out)_dim|units|latents?(?:_dim)?|filter_channels"
     r"|out_channels?|hidden|in_channels|d_latents|embed_proj_dim|num_filters|dim_model_base"
     r"|vector_size|hidden_width|feat_dim|(?:in|out)put_size|lru_width|d_ssm|.*_rank|inplanes"
     r"|initial_channel|proj_in_dim|num_input_features|num_mel_bins|hidden_dimension|rank|planes"
     r"|num_latents|embd_size|scale)"), if_large(WIDTH)),
    (r"(?:.*_)?image_size|img_size|crop_size|resolution|spec_size|max_img_size|.*prompt_size",
     at_most(IMAGE)),
    (r"(?:.*_)?patch_size", at_most(PATCH)),
    (r"window_size", at_most(4)),
    ((r".*(?:position|length|seq_len|_ctx|context|max_len|buckets|bins|pos_emb|queries|proposals"
     r"|frames|ep_len|num_patches|max_distance|sliding_window|attention_window|landmarks|extent"
     r"|chunk|local_attention|block_size|tokens|posemb|max_.*).*"), at_most(LENGTH)),
    (r"(?:.*_)?(?:state_size|d_state|n_groups|mamba_num_heads|expand_dim)", at_most(8)),
    (r"upsample_groups", at_most(4)),
)  # fmt: skip
"""What an integer of a configuration means, by its key, and what it is in a tiny model."""

_NUMBERS = tuple((re.compile(pattern), tiny) for pattern, tiny in NUMBERS)


def number(key: str, value: int) -> int:
    """Return what an integer setting is in a tiny model."""
    if value <= 0:
        return value
    for pattern, tiny in _NUMBERS:
        if pattern.fullmatch(key):
            return tiny(value)
    return value


LISTS: tuple[tuple[str, Callable[[int], int]], ...] = (
    (r"depths|.*(?:blocks|repeats|sizes_of|layers)|block_sizes|stage_num.*", at_most(2)),
    (r"(?:num_)?(?:attention_)?heads.*", at_most(2)),
    (r"image_size|img_size", at_most(IMAGE)),
    (r"patch_size|tubelet_size", at_most(PATCH)),
)


def listed(key: str, values: list[Any]) -> list[Any]:
    """Return a list of settings with small numbers in it, as long as it was."""
    if key == "block_configs":  # of PP-LCNet: kernel, inputs, outputs, stride, squeezed
        return [[[k, i // 4, o // 4, *rest] for k, i, o, *rest in stage] for stage in values]
    if not all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return values
    for pattern, tiny in LISTS:
        if re.fullmatch(pattern, key):
            return [tiny(value) for value in values]
    widths = r".*(?:hidden_size|dim|channels?|widths?|filters|embed|units|features).*s?"
    if re.fullmatch(widths, key) and max(values) > 64:
        step = 2 ** ((max(values) - 1) // 64).bit_length()
        return [max(4, value // step) if value >= 8 else value for value in values]
    return values


def type_names(config: PreTrainedConfig) -> tuple[str, ...]:
    """Return the settings that a configuration takes."""
    return tuple(field.name for field in fields(config)) if is_dataclass(config) else ()


DEPTHS = ("num_hidden_layers", "num_layers", "n_layers", "n_layer")


def layer_lists(held: Mapping[str, Any]) -> tuple[int, dict[str, list[Any]]]:
    """Return as many layers as show every kind of layer once, at least two, and their lists."""
    count = next((held[key] for key in DEPTHS if isinstance(held.get(key), int)), 0)
    lists = {key: list(value) for key, value in held.items()
             if isinstance(value, list | tuple) and len(value) == count > 2}  # fmt: skip
    seen: set[str] = set()
    kept = []
    for index in range(count):
        kind = repr([value[index] for value in lists.values() if isinstance(value[index], str)])
        if kind not in seen:
            seen.add(kind)
            kept.append(index)
    kept = sorted({*kept, *range(min(2, count))} if len(kept) < 2 else kept)
    return len(kept), {key: [value[i] for i in kept] for key, value in lists.items()}


def shrunk(config: PreTrainedConfig, given: Mapping[str, Any] | None = None) -> PreTrainedConfig:
    """Return a configuration like this one, of a tiny model.

    Args:
        config: With the family's own values.
        given: Settings that are known better; of a part: a mapping under its key.
    """
    given = {**RECIPES.get(type(config).__name__, {}), **(given or {})}
    keys = type_names(config)
    held = {key: vars(config).get(config.attribute_map.get(key, key)) for key in keys}
    layers, lists = layer_lists(held)
    settings: dict[str, Any] = {}
    for key, value in held.items():
        if isinstance(value, PreTrainedConfig):
            inner = given.get(key, {})
            settings[key] = dict(inner) if "model_type" in inner else shrunk(value, inner)
        elif key in lists:
            settings[key] = lists[key]
        elif key in DEPTHS and lists:
            settings[key] = layers
        elif key == "num_key_value_heads" and value == held.get("num_attention_heads"):
            settings[key] = number("num_attention_heads", value) if value else value
        elif key == "embed_dim" and isinstance(value, int) and "depths" in held:
            settings[key] = WIDTH // 2  # doubled from stage to stage
        elif isinstance(value, int) and not isinstance(value, bool):
            settings[key] = number(key, value)
        elif isinstance(value, list | tuple) and value:
            settings[key] = type(value)(listed(key, list(value)))
    parts = {key for key, value in held.items() if isinstance(value, PreTrainedConfig)}
    return type(config)(**settings | {k: v for k, v in given.items() if k not in parts})


@cache
def model_types() -> tuple[str, ...]:
    """Return every family that transformers can name."""
    return tuple(sorted(configuration_auto.CONFIG_MAPPING))


def classes(model_type: str) -> list[str]:
    """Return the classes of a family's models, the most telling first."""
    maps = [getattr(modeling_auto, f"MODEL_FOR_{task}_MAPPING_NAMES") for task in TASKS]
    maps.append(modeling_auto.MODEL_MAPPING_NAMES)
    found: list[str] = []
    for names in maps:
        own = names.get(model_type, ())
        found += [own] if isinstance(own, str) else own
    return list(dict.fromkeys(found)) or unmapped(model_type)


def unmapped(model_type: str) -> list[str]:
    """Return the classes of a configuration that no task is mapped to, the largest first."""
    config = configuration_auto.CONFIG_MAPPING[model_type]
    try:
        home = importlib.import_module(config.__module__.replace("configuration_", "modeling_"))
    except ModuleNotFoundError:  # a configuration of another family's models
        return []
    models = {name: cls for name, cls in vars(home).items()
              if isinstance(cls, type) and issubclass(cls, hf.PreTrainedModel)
              and not name.endswith("PreTrainedModel")}  # fmt: skip
    return [name for name, cls in models.items() if cls.config_class is config][::-1]


def class_of(name: str, config: PreTrainedConfig) -> Any:  # noqa: ANN401 - a class of models
    """Return a class of models; not all of them are exported."""
    home = type(config).__module__.replace("configuration_", "modeling_")
    return getattr(hf, name, None) or getattr(importlib.import_module(home), name)


def config_of(model_type: str) -> PreTrainedConfig:
    """Return the configuration of a tiny model."""
    own = configuration_auto.CONFIG_MAPPING[model_type]
    return shrunk(own())


@cache
def class_for(model_type: str) -> str:
    """Return the first class of a family's models that comes into being and is small.

    Raises:
        ValueError: None does.
    """
    failed = []
    for name in classes(model_type):
        try:
            parameters = size(class_of(name, config_of(model_type)), config_of(model_type))
        except Exception as error:  # noqa: BLE001 - each class refuses in a way of its own
            failed.append(f"{name}: {error}")
            continue
        if parameters <= MOST:
            return name
        failed.append(f"{name} has {parameters:,} parameters")
    raise ValueError(f"{model_type}: {failed[0] if failed else 'transformers has no such model'}")


def build(model_type: str) -> Any:  # noqa: ANN401 - a PreTrainedModel; its modules differ by family
    """Return a tiny random model of a family, always the same.

    Raises:
        ValueError: transformers has no model of this name, cannot build it here, or it is large.
    """
    config = config_of(model_type)
    cls = class_of(class_for(model_type), config)
    torch.manual_seed(SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return cls(config).eval()


def size(cls: Any, config: PreTrainedConfig) -> int:  # noqa: ANN401 - a class of models
    """Return the number of a model's parameters without making them."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sum(parameter.numel() for parameter in cls(config).parameters())
