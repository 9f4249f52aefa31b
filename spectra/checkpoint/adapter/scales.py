"""The scale of a LoRA without PEFT's settings, where its file tells it: alphas, and metadata."""

import json
import struct
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from spectra.checkpoint.adapter.factors import LoraFactors
from spectra.checkpoint.adapter.settings import Setting, refuse_unsupported, settings_of
from spectra.checkpoint.checkpoint import Checkpoint
from spectra.checkpoint.codecs import read_small
from spectra.checkpoint.entry import TensorEntry
from spectra.errors import AdapterError
from spectra.text import quote, shown

METADATA: Final = "lora_adapter_metadata"
NUMBERS: Final = {"F16": "<e", "F32": "<f", "F64": "<d", "I32": "<i", "I64": "<q"}


def told_scale(spec: str, made: LoraFactors, told: Setting) -> LoraFactors:
    """Return factors with the scale that the file's metadata gives.

    Raises:
        AdapterError: They are told for another rank.
    """
    if told.rank != made.rank:
        raise AdapterError(
            f"{shown(spec)}: module {quote(made.module)} has factors of rank {made.rank}, but "
            f"{METADATA} gives r = {told.rank:g}, so its scale is unknown. Save the adapter again."
        )
    return replace(made, scale=told.scale)


def alphas_of(weights: Checkpoint, entries: list[TensorEntry]) -> dict[str, float]:
    """Return alpha by the name of its tensor.

    Raises:
        AdapterError: One is no number above 0.
    """
    concurrency = weights.folder.concurrency if weights.folder else 1
    plain = [entry for entry in entries if entry.codec is None]
    found = read_small(weights.files, concurrency, plain)
    values: dict[str, float] = {}
    for entry in entries:
        raw, form = found.get(entry.name, b""), NUMBERS.get(entry.dtype, "")
        if entry.dtype == "BF16":
            raw, form = b"\0\0" + raw, "<f"
        value = struct.unpack(form, raw)[0] if form and len(raw) == struct.calcsize(form) else None
        if value is None or not 0 < value <= 1e9:
            raise AdapterError(
                f"{shown(weights.spec)}: {quote(entry.name)} is "
                f"{entry.dtype if value is None else f'{value:g}'}, expected a number above 0. "
                "Save the adapter again."
            )
        values[entry.name] = float(value)
    return values


def scales_told(weights: Checkpoint, modules: Iterable[str]) -> dict[str, Setting]:
    """Return rank and scale by module, as diffusers writes PEFT's settings into metadata.

    Raises:
        AdapterError: They cannot be read, or ask for what is not supported.
    """
    text = weights.metadata.get(METADATA)
    if not isinstance(text, str):
        return {}
    try:
        flat = json.loads(text)
    except (ValueError, RecursionError):
        flat = None
    if not isinstance(flat, dict):
        raise AdapterError(
            f"{shown(weights.spec)}: {METADATA} is no JSON object, so the scale is not known. Save "
            "the adapter again."
        )
    configs: dict[str, dict[str, Any]] = {}
    for key, value in flat.items():
        part, _, setting = key.partition(".")
        configs.setdefault(part, {})[setting] = value
    found: dict[str, Setting] = {}
    for part, config in configs.items():
        refuse_unsupported(weights.spec, {"peft_type": "LORA", **config})
        own = [name for name in modules if name.startswith(f"{part}.")]
        told = settings_of(config, [name.removeprefix(f"{part}.") for name in own])
        found |= {name: told[name.removeprefix(f"{part}.")] for name in own}
    return found
