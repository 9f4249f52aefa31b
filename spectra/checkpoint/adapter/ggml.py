"""A LoRA as a GGUF file, with the names and the order of rows that its base has in GGUF."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from spectra.checkpoint.adapter.adapter import Adapter
from spectra.checkpoint.adapter.factors import (
    Kind,
    LoraFactors,
    check_factors,
    refuse_empty,
    stack_factors,
)
from spectra.checkpoint.adapter.views import turned
from spectra.checkpoint.checkpoint import Checkpoint
from spectra.checkpoint.entry import FLOATING, Skipped, TensorEntry
from spectra.checkpoint.gguf.codec import GgufCodec, Order
from spectra.checkpoint.gguf.facts import Facts
from spectra.checkpoint.gguf.names import Place, model_name
from spectra.checkpoint.gguf.reader import Value
from spectra.checkpoint.gguf.restore import restored
from spectra.errors import AdapterError
from spectra.text import endings, quote, shown

HALF = re.compile(r"(?P<tensor>.+)\.lora_(?P<side>[ab])", re.DOTALL)
ALPHA = "adapter.lora.alpha"
EMBEDDING = "token_embd.weight"
EXPERTS = re.compile(r"ffn_(gate|up|down)_exps")
IN_OUT = (
    "the factors lie [in, out], as llama.cpp's convert_lora_to_gguf.py leaves those of a Conv1D, "
    "and llama.cpp itself applies [out, in] alone"
)
COUNTS = {
    "block_count": ("num_hidden_layers", "n_layer", "num_layers"),
    "attention.head_count": ("num_attention_heads", "n_head"),
    "attention.head_count_kv": ("num_key_value_heads", "n_head_kv", "num_kv_heads"),
    "rope.dimension_count": ("qk_rope_head_dim",),
    "ssm.group_count": ("linear_num_key_heads",),
    "ssm.time_step_rank": ("linear_num_value_heads",),
    "ssm.state_size": ("linear_key_head_dim",),
}
"""What GGUF says of a model, and where config.json does: an adapter's own file says nothing."""


def is_gguf_adapter(found: Checkpoint) -> bool:
    """Say whether an opened GGUF file is an adapter."""
    return found.metadata.get("general.type") == "adapter"


def gguf_adapter(weights: Checkpoint) -> Adapter:
    """Put a GGUF LoRA together; its modules keep GGUF's names until the base is known.

    Raises:
        AdapterError: It is no LoRA, or its factors do not fit.

    Source:
        llama.cpp: `convert_lora_to_gguf.py`, and `llama_adapter_lora_weight::get_scale`:
        alpha / rank, or 1 where alpha is 0.
    """
    spec, metadata = weights.spec, weights.metadata
    refuse_empty(spec, weights.entries)
    kind, alpha = metadata.get("adapter.type"), metadata.get(ALPHA)
    if kind != "lora":
        raise AdapterError(
            f"{shown(spec)} is a GGUF adapter of type {quote(kind)}, expected lora. Merge it into "
            "its base and give the merged model."
        )
    if any(key.startswith("adapter.alora.") for key in metadata):
        raise AdapterError(
            f"{shown(spec)} is an aLoRA, whose update holds only after certain tokens. Merge it "
            "into its base and give the merged model."
        )
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 <= alpha <= 1e9:
        raise AdapterError(
            f"{shown(spec)} gives {ALPHA} as {quote(alpha)}, expected a number of at least 0. "
            "Convert the adapter again."
        )
    halves: dict[str, dict[str, TensorEntry]] = {}
    saved: dict[str, TensorEntry] = {}
    for name, entry in weights.entries.items():
        half = HALF.fullmatch(name)
        if half:
            halves.setdefault(half["tensor"], {})[half["side"]] = entry
        else:
            saved[name] = entry
    factors = {name: _factors(spec, name, own, float(alpha)) for name, own in halves.items()}
    if not factors:
        raise AdapterError(
            f"{shown(spec)} holds no factors (lora_a, lora_b). Convert the adapter again."
        )
    return Adapter(weights, factors, saved, coat="GGUF", naming="gguf")


def _factors(spec: str, name: str, halves: Mapping[str, TensorEntry], alpha: float) -> LoraFactors:
    if set(halves) != {"a", "b"}:
        raise AdapterError(
            f"{shown(spec)}: tensor {quote(name)} has lora_{''.join(halves)} alone, expected "
            "lora_a and lora_b. Convert the adapter again."
        )
    a, b = halves["a"], halves["b"]
    kind: Kind = "embedding" if name == EMBEDDING else "linear"
    if kind == "embedding" and len(a.shape) == 2:
        a = turned(a)
    rank = b.shape[-1] if b.shape else 0
    scale = alpha / rank if alpha and rank else 1.0
    made = LoraFactors(name, kind, a, b, rank, scale)
    stacked = len(a.shape) == len(b.shape) == 3
    if (
        stacked
        and a.shape[:2] == (b.shape[0], rank)
        and a.dtype in FLOATING
        and b.dtype in FLOATING
    ):
        return made
    return check_factors(spec, made)


def named_for(adapter: Adapter, base: Checkpoint) -> tuple[Adapter, list[Skipped]]:
    """Return a GGUF LoRA with the names and the order of rows of the model's own base.

    Those of its modules whose order is not known come apart, with the reason.

    Args:
        adapter: As the file has it.
        base: Of any format; its config tells the counts of heads that the order hangs on.
    """
    word = adapter.weights.metadata.get("general.architecture")
    facts = facts_of(word if isinstance(word, str) else "", base.config)
    gated = any(".wi_1." in name for name in base.entries)
    places = {name: Place.of(name) for name in adapter.factors}
    models = {
        name: model_name(facts.architecture, place, gated=gated) or name
        for name, place in places.items()
    }
    turned = [name for name, made in adapter.factors.items() if _conv1d(made, places[name], facts)]
    wrong = any(_lies_in_out(adapter.factors[name], models[name], base) for name in turned)
    factors: dict[str, LoraFactors] = {}
    lost = [Skipped(name, IN_OUT) for name in turned if wrong]
    for name, made in adapter.factors.items():
        if wrong and name in turned:
            continue
        place, model = places[name], models[name]
        if len(made.b.shape) == 3:
            module = _stack_of(model, place, base)
            factors[module] = stack_factors(module, made.a, made.b, made.scale)
            continue
        back = _restored(made, place, facts)
        if isinstance(back, str):
            lost.append(Skipped(name, back))
        else:
            factors[model.removesuffix(".weight")] = replace(back, module=model)
    saved = {
        model_name(facts.architecture, Place.of(name), gated=gated) or name: entry
        for name, entry in adapter.saved.items()
    }
    return replace(adapter, factors=factors, saved=saved, naming="dotted"), lost


def _conv1d(made: LoraFactors, place: Place, facts: Facts) -> bool:
    """Say whether the model stores a weight [in, out]."""
    back = restored(place, made.shape, facts) if len(made.b.shape) == 2 else ""
    return not isinstance(back, str) and back.transposed


def _lies_in_out(made: LoraFactors, model: str, base: Checkpoint) -> bool:
    """Say whether factors of a Conv1D give [in, out], which of a square one cannot be told."""
    stored = next((base.entries[name].shape for name in endings(model) if name in base.entries), ())
    return made.shape == stored != stored[::-1]


def facts_of(word: str, config: Mapping[str, Any]) -> Facts:
    """Return what a base's config.json says, under the keys of a GGUF architecture."""
    inner = config.get("text_config")
    told = {**config, **(inner if isinstance(inner, dict) else {})}
    found: dict[str, Value] = {"general.architecture": word}
    for key, names in COUNTS.items():
        count = next((told[name] for name in names if type(told.get(name)) is int), None)
        if count is not None:
            found[f"{word}.{key}"] = count
    return Facts(found)


def _stack_of(model: str, place: Place, base: Checkpoint) -> str:
    """Return what a stack of experts is called: as mlx-lm has it, where its layer is known.

    Of architectures whose names are not known the base tells it, if it has experts in one place.
    """
    found = EXPERTS.fullmatch(place.stem)
    block, inside, _ = model.partition(".experts.")
    if not inside and found is not None:
        layer = re.compile(rf"((?:.+\.)?layers\.{place.layer}\.\w+)\.experts\.", re.DOTALL)
        blocks = {told[1] for name in base.entries if (told := layer.match(name))}
        block = blocks.pop() if len(blocks) == 1 else ""
    if not block or found is None:
        return model.removesuffix(".weight")
    return f"{block}.switch_mlp.{found[1]}_proj"


def _restored(made: LoraFactors, place: Place, facts: Facts) -> LoraFactors | str:
    """Return factors with the converter's order of rows undone, or why it cannot be."""
    if made.kind == "embedding":
        return made
    shape = made.shape
    back = restored(place, shape, facts)
    if isinstance(back, str):
        return back
    if back.shape != (shape[::-1] if back.transposed else shape):
        return "GGUF holds it in another shape than the model, and so its factors"
    a = made.a if back.columns is None else _ordered(made.a, columns=back.columns)
    b = made.b if back.rows is None else _ordered(made.b, rows=back.rows)
    return replace(made, a=a, b=b)


def _ordered(
    entry: TensorEntry, *, rows: Order | None = None, columns: Order | None = None
) -> TensorEntry:
    if isinstance(entry.codec, GgufCodec):
        return replace(entry, codec=replace(entry.codec, rows=rows, columns=columns))
    codec = GgufCodec(entry.dtype, entry.shape, entry, entry.shape[-1], rows, columns)
    return replace(entry, codec=codec)
