"""What llama.cpp's converter did to a tensor, so that it can be undone."""

from dataclasses import dataclass
from math import prod

from spectra.checkpoint.gguf.codec import Order
from spectra.checkpoint.gguf.facts import Facts
from spectra.checkpoint.gguf.names import Place

ROTATED = frozenset([
    "arcee", "arctic", "baichuan", "bailingmoe", "chameleon", "deci", "deepseek", "eagle3",
    "granite", "granite_swa", "granitehybrid", "granitemoe", "internlm2", "llada", "llama",
    "llama-embed", "minicpm", "mistral3", "muse-glimmer", "nanbeige", "nemotron_h",
    "nemotron_h_moe", "olmo", "smollm3", "xverse",
])  # fmt: skip
"""Architectures whose q and k rows are paired for rotary embeddings, neighbour by neighbour."""

PER_HEAD = frozenset({"bloom", "gptneox"})
TURNED = frozenset({"attn_qkv", "attn_output", "ffn_up", "ffn_down"})
DELTA = frozenset({"qwen35", "qwen35moe"})
MOVED = frozenset({"attn_qkv", "attn_gate", "ssm_alpha", "ssm_beta", "ssm_conv1d", "ssm_out"})
MOST = 65_536  # heads, or rows of a head, that any model has
SQUEEZED = frozenset({"ssm_conv1d", "shortconv.conv"})  # [channels, 1, width] in the model


@dataclass(frozen=True, slots=True)
class Restored:
    """How a tensor of the file becomes the model's."""

    shape: tuple[int, ...]  # in the model
    rows: Order | None = None
    columns: Order | None = None
    transposed: bool = False

    @property
    def moved(self) -> bool:
        """Say whether values change places."""
        return self.rows is not None or self.columns is not None or self.transposed


def restored(place: Place, shape: tuple[int, ...], facts: Facts) -> Restored | str:
    """Return how to undo what the converter did to a weight.

    Args:
        place: Its GGUF name.
        shape: In the file, first axis outermost.
        facts: The model's metadata: head counts and the like.

    Returns:
        The way back, or why it cannot be found: metadata is missing or does not fit.

    Source:
        llama.cpp, `modify_tensors` of every model's converter.
    """
    word, stem = facts.architecture, place.stem
    matrix = prod(shape) > 0 and len(shape) == 2
    if word in DELTA and stem in MOVED and matrix:
        return _delta(stem, shape, facts)
    reshaped = _reshaped(stem, shape)
    if reshaped is not None:
        return reshaped
    if not matrix or place.ending == ".bias":
        return Restored(shape)
    if word == "gpt2" and stem in TURNED:
        return Restored(shape[::-1], transposed=True)
    return _attention(place, shape, facts)


def _reshaped(stem: str, shape: tuple[int, ...]) -> Restored | None:
    """Return the model's shape where the converter dropped, added or split an axis."""
    axes = len(shape)
    if stem in SQUEEZED and axes == 2:
        return Restored((shape[0], 1, shape[1]))
    if (stem == "ssm_norm" and axes == 2) or (stem in {"ssm_a", "ssm_d"} and shape[1:] == (1,)):
        return Restored((prod(shape),))
    if stem == "ffn_gate_inp_shexp" and axes == 1:
        return Restored((1, *shape))
    if stem == "attn_v_b" and axes == 3:
        return Restored((shape[0] * shape[1], shape[2]))
    if stem == "attn_k_b" and axes == 3:
        return Restored((shape[0] * shape[2], shape[1]), transposed=True)
    return None


def _attention(place: Place, shape: tuple[int, ...], facts: Facts) -> Restored | str:
    """Return how rows of queries, keys and values find their place in the model."""
    word, stem, layer = facts.architecture, place.stem, place.layer
    heads, key_heads = facts.heads(layer), facts.key_heads(layer)
    order: Order | None = None
    if stem in {"attn_q", "attn_k"} and facts.attends(layer):  # as the converter saw it
        count = heads if stem == "attn_q" else key_heads
        size = shape[0] // count if count else 0
        if size > MOST:
            return _unfit(facts, heads, key_heads, shape)
        if word in ROTATED:
            order = Order(count, 0, size, 2, (1,) * (size // 2))
        elif word == "glm4" and facts.has("rope.dimension_sections"):
            rotated = facts.number("rope.dimension_count")
            order = Order(count, 0, rotated, rotated // 2, (1, 1))
    elif stem == "attn_qkv" and word in PER_HEAD:
        size = shape[0] // (3 * heads) if heads else 0
        order = Order(1, 0, shape[0], heads, (size,) * 3)
    elif stem == "attn_qkv" and word == "falcon":
        size = shape[0] // (heads + 2 * key_heads) if heads and key_heads else 0
        each = heads // key_heads * size if key_heads else 0
        order = Order(1, 0, shape[0], key_heads, (each, size, size))
    if order is not None and not order.fits(shape[0]):
        return _unfit(facts, heads, key_heads, shape)
    return Restored(shape, rows=order)


def _delta(stem: str, shape: tuple[int, ...], facts: Facts) -> Restored | str:
    """Return how the value heads of a gated delta net are grouped by key head again."""
    keys, values = facts.number("ssm.group_count"), facts.number("ssm.time_step_rank")
    inner, state = facts.number("ssm.inner_size"), facts.number("ssm.state_size")
    model = (shape[0], 1, shape[1]) if stem in SQUEEZED else shape
    if keys == values:
        return Restored(model)
    if not 0 < keys < values <= MOST or values % keys or inner % values:
        return _unfit(facts, values, keys, shape)
    size = 1 if stem in {"ssm_alpha", "ssm_beta"} else inner // values
    first = 2 * keys * state if stem in {"attn_qkv", "ssm_conv1d"} else 0
    extent = shape[1] if stem == "ssm_out" else shape[0]
    order = Order(1, first, first + values * size, keys, (size,) * (values // keys))
    if not order.fits(extent) or order.stop != extent:
        return _unfit(facts, values, keys, shape)
    return Restored(model, columns=order) if stem == "ssm_out" else Restored(model, rows=order)


def _unfit(facts: Facts, heads: int, key_heads: int, shape: tuple[int, ...]) -> str:
    return (
        f"the order of its rows cannot be undone: {facts.architecture} with {heads} and "
        f"{key_heads} heads does not fit {list(shape)}"
    )
