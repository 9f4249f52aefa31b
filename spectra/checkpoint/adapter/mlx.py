"""A LoRA as mlx-lm saves it: factors the other way round, and a scale instead of alpha."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from spectra.checkpoint.adapter.adapter import Adapter
from spectra.checkpoint.adapter.factors import (
    Kind,
    LoraFactors,
    bare_names,
    check_factors,
    refuse_empty,
    stack_factors,
)
from spectra.checkpoint.adapter.methods import method_of, refusal
from spectra.checkpoint.adapter.settings import CONFIG
from spectra.checkpoint.adapter.views import turned
from spectra.checkpoint.checkpoint import Checkpoint
from spectra.checkpoint.entry import TensorEntry
from spectra.errors import AdapterError
from spectra.text import quote, shown

MLX = "mlx-lm"
MLX_WEIGHTS = "adapters.safetensors"
OWN = ("fine_tune_type", "lora_parameters", "lora_layers")
"""Settings that mlx-lm writes and PEFT does not."""

HALF = re.compile(r"(?P<module>.+)\.lora_(?P<side>[ab])", re.DOTALL)
TABLE = re.compile(r"(?:.*\.)?(?!embed_out\Z)(?:\w*embed\w*|wte|wpe)", re.DOTALL)
"""Modules that are embeddings, whose factors have the table's rows first; one is a head."""

BEGINNINGS: Mapping[str, Sequence[tuple[str, str]]] = {
    "gpt2": (("transformer.", "model."), ("", "model.")),
    "gpt_neox": (("lm_head", "model.embed_out"), ("gpt_neox.layers.", "model.h."),
                 ("gpt_neox.", "model."), ("layers.", "model.h."), ("", "model.")),
}  # fmt: skip
"""How names begin in transformers' models, and in mlx-lm's; those of other families are alike."""

OLD_ALPHA = (
    "lora_parameters gives alpha beside scale: scale alone counts, as in mlx-lm since 2024; "
    "versions before multiplied it by alpha / rank"
)


def mlx_name(family: object, name: str) -> str:
    """Return what mlx-lm calls a module or tensor of a base.

    Args:
        family: `model_type` of its config.json.
        name: As transformers has it, with or without the beginning that a head gives it.

    Source:
        mlx-lm 0.32, `sanitize` of `models/gpt2.py` and `models/gpt_neox.py`.
    """
    for begins, own in BEGINNINGS.get(str(family), ()):
        if name.startswith(begins):
            return own + name.removeprefix(begins)
    return name


def is_mlx(config: Mapping[str, Any]) -> bool:
    """Say whether settings are those that mlx-lm writes."""
    return "peft_type" not in config and any(key in config for key in OWN)


def mlx_adapter(config: Mapping[str, Any], weights: Checkpoint) -> Adapter:
    """Put an adapter of mlx-lm together.

    Of `fine_tune_type` full the weights are whole tensors.

    Raises:
        AdapterError: The scale is missing, the factors do not fit, or they are of a kind that
            is not read.

    Source:
        `mlx_lm/tuner/lora.py` and `dora.py`: W + scale (lora_a lora_b)^T, and with DoRA each
        output at length m.
    """
    spec = weights.spec
    refuse_empty(spec, weights.entries)
    way = config.get("fine_tune_type", "lora")
    names = bare_names(weights.entries)
    entries = {names[stored]: entry for stored, entry in weights.entries.items()}
    factors: dict[str, LoraFactors] = {}
    assumed = ""
    if way != "full":
        if way not in ("lora", "dora"):
            raise AdapterError(
                f"{shown(spec)} was trained as {quote(way)}, expected lora, dora or full. Fuse it "
                "into its base (`mlx_lm.fuse`) and give the fused model."
            )
        other = method_of(weights.entries, factors=False)
        if other is not None:
            raise refusal(spec, *other)
        scale, assumed = _scale(config)
        factors = _factors(spec, entries, scale, dora=way == "dora")
    used = {name for module in factors for name in _names(module)}
    saved = {name: entry for name, entry in entries.items() if name not in used}
    return Adapter(weights, factors, saved, config, coat=MLX, assumed=assumed)


def _names(module: str) -> tuple[str, ...]:
    return f"{module}.lora_a", f"{module}.lora_b", f"{module}.m"


def _scale(config: Mapping[str, Any]) -> tuple[float, str]:
    """Return the scale of all modules, and what is not certain about it."""
    told = config.get("lora_parameters")
    told = told if isinstance(told, dict) else {}
    scale, alpha = told.get("scale"), told.get("alpha")
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not abs(scale) <= 1e9:
        raise AdapterError(
            f"{CONFIG}: scale of lora_parameters is {quote(scale)}, expected a number. Save the "
            "adapter again."
        )
    # Up to 2025 the defaults named an alpha that nothing read; `lora_layers` is of 2024.
    unsure = alpha is not None and alpha != told.get("rank") and "lora_layers" in config
    return float(scale), OLD_ALPHA if unsure else ""


def _factors(
    spec: str, entries: Mapping[str, TensorEntry], scale: float, *, dora: bool
) -> dict[str, LoraFactors]:
    halves: dict[str, dict[str, TensorEntry]] = {}
    for name, entry in entries.items():
        half = HALF.fullmatch(name)
        if half:
            halves.setdefault(half["module"], {})[half["side"]] = entry
    if not halves:
        raise AdapterError(
            f"{shown(spec)} holds no factors (lora_a, lora_b) in {MLX_WEIGHTS}. Save the adapter "
            "again."
        )
    found: dict[str, LoraFactors] = {}
    for module, own in halves.items():
        if set(own) != {"a", "b"}:
            raise AdapterError(
                f"{shown(spec)}: module {quote(module)} has lora_{''.join(own)} alone, expected "
                "lora_a and lora_b. Save the adapter again."
            )
        length = entries.get(f"{module}.m") if dora else None
        found[module] = _one(spec, module, (own["a"], own["b"]), length, scale)
        if dora and length is None:
            raise AdapterError(
                f"{shown(spec)}: module {quote(module)} has no m, but {CONFIG} says dora. Save "
                "the adapter again."
            )
    return found


def _one(
    spec: str,
    module: str,
    halves: tuple[TensorEntry, TensorEntry],
    length: TensorEntry | None,
    scale: float,
) -> LoraFactors:
    a, b = halves
    axes = len(a.shape), len(b.shape)
    if not a.is_weights or not b.is_weights or axes not in {(2, 2), (3, 3), (2, 3)}:
        raise AdapterError(
            f"{shown(spec)}: module {quote(module)} has lora_a {a.dtype} {list(a.shape)} and "
            f"lora_b {b.dtype} {list(b.shape)}, expected floating point, [in, r] and [r, out]. "
            "Save the adapter again."
        )
    if axes[1] == 3:
        return _stack(spec, module, halves, scale)
    table = TABLE.fullmatch(module) is not None
    if table and length is not None:
        raise AdapterError(
            f"{shown(spec)}: module {quote(module)} is an embedding with DoRA, one length for each "
            "of its rows, which is not read. Fuse it into its base (`mlx_lm.fuse`) and give the "
            "fused model."
        )
    kind: Kind = "embedding" if table else "linear"
    made = LoraFactors(module, kind, turned(a), turned(b), a.shape[1], scale, length)
    return check_factors(spec, made)


def _stack(
    spec: str, module: str, halves: tuple[TensorEntry, TensorEntry], scale: float
) -> LoraFactors:
    """Return the factors of a stack of experts: lora_a [count, r, in], lora_b [count, out, r]."""
    a, b = halves
    count, _, rank = b.shape
    flat = (count * rank, a.shape[-1])
    if a.shape not in {flat, (count, rank, a.shape[-1])} or a.codec is not None:
        raise AdapterError(
            f"{shown(spec)}: module {quote(module)} has lora_a {list(a.shape)} and lora_b "
            f"{list(b.shape)}, expected [experts, r, in] and [experts, out, r]. Save the adapter "
            "again."
        )
    return stack_factors(module, a, b, scale)
