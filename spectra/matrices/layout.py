"""Layouts that hide several matrices in one tensor, or store one transposed.

A fused tensor's sigma_1 mixes its parts, so each part is its own matrix. One small
table, keyed on model type and the end of the tensor's name; whatever it does not know
is taken as it stands, so that a new family works on the day it appears.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Rows:
    """Some of the output rows: of each of `groups` blocks of `size`, `start` to `stop`."""

    groups: int
    size: int
    start: int
    stop: int

    @property
    def count(self) -> int:
        """Rows kept."""
        return self.groups * (self.stop - self.start)

    def of(self, matrix: Tensor) -> Tensor:
        """Return these rows of a 2-D tensor."""
        blocks = matrix.unflatten(0, (self.groups, self.size))
        return blocks[:, self.start : self.stop].flatten(0, 1)


@dataclass(frozen=True, slots=True)
class Part:
    """One matrix inside a stored tensor."""

    label: str = ""  # "q", "gate"; empty where the tensor is one matrix
    kind: str | None = None  # role, where the part and not the name tells it
    expert: int | None = None  # index into the first axis of a fused expert tensor
    block: tuple[int, int] | None = None  # stored rows of one expert or group: start, stop
    transposed: bool = False  # stored [in, out]
    rows: Rows | None = None  # after transposing
    group: int | None = None  # of a grouped convolution

    @property
    def suffix(self) -> str:
        """What the matrix's name adds to the tensor's: `[q]`, `[expert=3,up]`."""
        words = [f"expert={self.expert}"] if self.expert is not None else []
        words += [f"group={self.group}"] if self.group is not None else []
        words += [self.label] if self.label else []
        return f"[{','.join(words)}]" if words else ""

    def of(self, tensor: Tensor) -> Tensor:
        """Return this part of the stored tensor: rows = outputs, cols = inputs."""
        if self.block is not None:
            tensor = tensor[self.block[0] : self.block[1]]
        elif self.expert is not None:
            tensor = tensor[self.expert]
        matrix = tensor.flatten(1)
        if self.transposed:
            matrix = matrix.mT
        return self.rows.of(matrix) if self.rows else matrix

    def shape(self, stored: tuple[int, ...]) -> tuple[int, int]:
        """Return rows and columns without reading anything."""
        if self.block is not None:
            stored = (self.block[1] - self.block[0], *stored[1:])
        elif self.expert is not None:
            stored = stored[1:]
        rows, cols = stored[0], 1
        for extent in stored[1:]:
            cols *= extent
        if self.transposed:
            rows, cols = cols, rows
        return (self.rows.count if self.rows else rows), cols


class LayoutError(ValueError):
    """The config and the tensor's shape do not fit the family's rule."""


Shape = tuple[int, ...]
Config = Mapping[str, Any]
Rule = Callable[[Config, Shape], list[Part]]

QKV = (("q", "attn.q"), ("k", "attn.k"), ("v", "attn.v"))
GATE_UP = (("gate", "mlp.gate"), ("up", "mlp.up"))


def parts_of(name: str, shape: Shape, config: Config) -> list[Part]:
    """Return the matrices that one stored tensor holds.

    Args:
        name: Key in the checkpoint.
        shape: As stored.
        config: The model's config.json; `model_type` and head counts are read.

    Raises:
        LayoutError: The family's rule does not fit this shape.
    """
    inner = config.get("text_config")
    for table in (config, inner if isinstance(inner, dict) else {}):
        family = table.get("model_type")
        for families, pattern, rule in TABLE:
            if family in families and pattern.search(name):
                return rule({**config, **table}, shape)
    if len(shape) == 2:
        return [Part()]
    if len(shape) > 3 or "conv" in name:
        return _convolution(name, shape, config)
    raise LayoutError(f"{len(shape)}-dimensional, of a layout not known")


def _transpose(_config: Config, _shape: Shape) -> list[Part]:
    """Conv1D of GPT-2: stored [in, out]."""
    return [Part(transposed=True)]


def _transposed_thirds(_config: Config, shape: Shape) -> list[Part]:
    """GPT-2's c_attn: Conv1D, then q, k, v one after the other."""
    return _split(shape[-1], (1, 1, 1), QKV, transposed=True)


def _interleaved_heads(config: Config, shape: Shape) -> list[Part]:
    """GPT-NeoX, BLOOM, old Falcon: rows are heads x (q, k, v) x head size."""
    heads = _count(config, "num_attention_heads", "n_head")
    size = _exact(shape[0], 3 * heads) * 3
    step = size // 3
    return [
        Part(label, kind, rows=Rows(heads, size, i * step, (i + 1) * step))
        for i, (label, kind) in enumerate(QKV)
    ]


def _falcon(config: Config, shape: Shape) -> list[Part]:
    """Falcon: grouped (new decoder), multi-query, or the interleaved form."""
    heads = _count(config, "num_attention_heads", "n_head")
    if config.get("new_decoder_architecture"):
        groups = _count(config, "num_kv_heads", "n_head_kv", "num_attention_heads")
    elif config.get("multi_query", True):
        groups = 1
    else:
        return _interleaved_heads(config, shape)
    size = _exact(shape[0], groups)
    step = _exact(size, heads // groups + 2)
    edges = (0, size - 2 * step, size - step, size)
    return [
        Part(label, kind, rows=Rows(groups, size, edges[i], edges[i + 1]))
        for i, (label, kind) in enumerate(QKV)
    ]


def _grouped_query(config: Config, shape: Shape) -> list[Part]:
    """Phi-3's qkv_proj: all q heads, then k, then v."""
    heads = _count(config, "num_attention_heads")
    keys = _count(config, "num_key_value_heads", "num_attention_heads")
    return _split(shape[0], (heads, keys, keys), QKV)


def _thirds(_config: Config, shape: Shape) -> list[Part]:
    """ModernBERT's Wqkv: q, k, v one after the other."""
    return _split(shape[0], (1, 1, 1), QKV)


def _halves(_config: Config, shape: Shape) -> list[Part]:
    """Phi-3's gate_up_proj: gate, then up."""
    return _split(shape[0], (1, 1), GATE_UP)


def _expert_halves(_config: Config, shape: Shape) -> list[Part]:
    """Qwen3.5-MoE: [experts, 2 ffn, hidden], gate then up."""
    return _per_expert(shape, _split(_three(shape)[1], (1, 1), GATE_UP))


def _transposed_expert_halves(_config: Config, shape: Shape) -> list[Part]:
    """Llama-4: [experts, hidden, 2 ffn], gate then up."""
    return _per_expert(shape, _split(_three(shape)[2], (1, 1), GATE_UP, transposed=True))


def _transposed_expert_stripes(_config: Config, shape: Shape) -> list[Part]:
    """gpt-oss: [experts, in, 2 ffn], gate and up in alternate columns."""
    pairs = _exact(_three(shape)[2], 2)
    stripes = [
        Part(label, kind, transposed=True, rows=Rows(pairs, 2, i, i + 1))
        for i, (label, kind) in enumerate(GATE_UP)
    ]
    return _per_expert(shape, stripes)


def _expert_down(_config: Config, shape: Shape) -> list[Part]:
    """[experts, out, in]."""
    return _per_expert(shape, [Part(kind="mlp.down")])


def _transposed_expert_down(_config: Config, shape: Shape) -> list[Part]:
    """[experts, in, out]."""
    return _per_expert(shape, [Part(kind="mlp.down", transposed=True)])


def _dbrx(transposed: bool) -> Rule:
    """DBRX: all experts' rows in one 2-D tensor; w2 is [in, out] per expert."""

    def rule(config: Config, shape: Shape) -> list[Part]:
        settings = config.get("ffn_config")
        experts = _count(settings if isinstance(settings, dict) else {}, "moe_num_experts")
        size = _exact(shape[0], experts)
        return [
            Part(expert=i, block=(i * size, (i + 1) * size), transposed=transposed)
            for i in range(experts)
        ]

    return rule


def _convolution(name: str, shape: Shape, config: Config) -> list[Part]:
    """Kernels [out, in/groups, ...]: one matrix per group, the kernel flattened."""
    groups = config.get("num_conv_pos_embedding_groups", 1) if "pos_conv" in name else 1
    if groups == 1:
        return [Part()]
    size = _exact(shape[0], groups)
    return [Part(group=i, block=(i * size, (i + 1) * size)) for i in range(groups)]


def _split(
    total: int,
    shares: tuple[int, ...],
    labels: tuple[tuple[str, str], ...],
    *,
    transposed: bool = False,
) -> list[Part]:
    """Cut consecutive rows in proportion to `shares`."""
    unit = _exact(total, sum(shares))
    parts, start = [], 0
    for share, (label, kind) in zip(shares, labels, strict=True):
        stop = start + share * unit
        parts.append(Part(label, kind, transposed=transposed, rows=Rows(1, total, start, stop)))
        start = stop
    return parts


def _per_expert(shape: Shape, parts: list[Part]) -> list[Part]:
    """Repeat the parts of one expert for all of them."""
    return [
        Part(part.label, part.kind, expert, transposed=part.transposed, rows=part.rows)
        for expert in range(_three(shape)[0])
        for part in parts
    ]


def _three(shape: Shape) -> Shape:
    """Return a 3-D shape."""
    if len(shape) != 3:
        raise LayoutError(f"expected 3 dimensions for fused experts, got {list(shape)}")
    return shape


def _exact(total: int, parts: int) -> int:
    """Divide without remainder."""
    if parts < 1 or total % parts:
        raise LayoutError(f"{total} rows do not divide into {parts}")
    return total // parts


def _count(config: Config, *keys: str) -> int:
    """Return the first of these settings that is a positive integer."""
    for key in keys:
        value = config.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    raise LayoutError(f"config.json has no usable {keys[0]}")


def _row(families: str, pattern: str, rule: Rule) -> tuple[frozenset[str], re.Pattern[str], Rule]:
    """Spell one line of the table."""
    return frozenset(families.split()), re.compile(rf"(?:^|\.){pattern}$"), rule


TABLE = (
    _row("gpt2 imagegpt openai-gpt", r"attn\.c_attn\.weight", _transposed_thirds),
    _row("gpt2 imagegpt openai-gpt", r"(?:c_fc|c_proj|q_attn)\.weight", _transpose),
    _row("gpt_neox bloom", r"query_key_value\.weight", _interleaved_heads),
    _row("falcon RefinedWeb RefinedWebModel", r"query_key_value\.weight", _falcon),
    _row("phi3", r"qkv_proj\.weight", _grouped_query),
    _row("phi3", r"gate_up_proj\.weight", _halves),
    _row("modernbert", r"Wqkv\.weight", _thirds),
    _row("llama4 llama4_text", r"experts\.gate_up_proj(?:\.weight)?", _transposed_expert_halves),
    _row("llama4 llama4_text", r"experts\.down_proj(?:\.weight)?", _transposed_expert_down),
    _row("gpt_oss", r"experts\.gate_up_proj", _transposed_expert_stripes),
    _row("gpt_oss", r"experts\.down_proj", _transposed_expert_down),
    _row("qwen3_5_moe qwen3_5_moe_text", r"experts\.gate_up_proj", _expert_halves),
    _row("qwen3_5_moe qwen3_5_moe_text", r"experts\.down_proj", _expert_down),
    _row("dbrx", r"experts\.mlp\.(?:w1|v1)", _dbrx(transposed=False)),
    _row("dbrx", r"experts\.mlp\.w2", _dbrx(transposed=True)),
)
