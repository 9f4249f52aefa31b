"""A PEFT LoRA adapter: which modules it changes, by which factors and scale."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from spectra.checkpoint.checkpoint import Checkpoint, open_file
from spectra.checkpoint.documents import read_object
from spectra.checkpoint.entry import Skipped, TensorEntry
from spectra.errors import AdapterError, CheckpointError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
MOVED_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Initialisations that subtract from the base, so that its published weights are not W0."""

UNSUPPORTED = {
    "use_dora": "DoRA",
    "use_qalora": "QA-LoRA",
    "use_bdlora": "block-diagonal LoRA",
    "layer_replication": "layer_replication",
    "target_parameters": "target_parameters (factors on 3-D expert tensors)",
}
"""Settings under which the update is more than `scale * B @ A` on a module's weight."""

PREFIX = "base_model.model."
FACTOR = re.compile(
    r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(\.default)?(?P<weight>\.weight)?"
)

Kind = Literal["linear", "embedding"]


@dataclass(frozen=True, slots=True)
class LoraFactors:
    """One module's update: `scale * B @ A`, both still on disk."""

    module: str  # as the adapter names it, without PEFT's own prefix
    kind: Kind
    a: TensorEntry
    b: TensorEntry
    rank: int
    scale: float

    @property
    def shape(self) -> tuple[int, int]:
        """Rows (outputs) and columns (inputs) of the update, in canonical orientation."""
        if self.kind == "embedding":  # (B A)^T on a table stored [entries, features]
            return self.a.shape[1], self.b.shape[0]
        return self.b.shape[0], math.prod(self.a.shape[1:])


@dataclass(frozen=True, slots=True)
class Adapter:
    """Headers of one adapter; its factors stay on disk until read."""

    spec: str
    resolved: str
    config: Mapping[str, Any]
    factors: Mapping[str, LoraFactors]  # by module
    saved: Mapping[str, TensorEntry]  # whole tensors stored beside the factors, by name
    weights: Checkpoint
    skipped: tuple[Skipped, ...] = ()


def open_adapter(spec: str, folder: Path) -> Adapter:
    """Open a PEFT adapter folder.

    Raises:
        AdapterError: It is no LoRA, its factors do not fit each other, or its training
            changed the base, so that the base alone does not give the tuned weights.
        CheckpointError: A file is missing or breaks its format.
    """
    config = read_object(folder / CONFIG)
    _refuse_unsupported(spec, config)
    path = folder / WEIGHTS
    if not path.is_file():
        found = "adapter_model.bin" if (folder / "adapter_model.bin").is_file() else "no weights"
        raise CheckpointError(
            f"{spec} has {CONFIG} but {found}; expected {WEIGHTS}. Save the adapter with "
            "safetensors (`save_pretrained(folder)`) and give that folder."
        )
    weights = open_file(spec, path)
    halves: dict[str, dict[str, TensorEntry]] = {}
    saved: dict[str, TensorEntry] = {}
    skipped: list[Skipped] = []
    for name, entry in weights.entries.items():
        plain = name.removeprefix(PREFIX)
        factor = FACTOR.fullmatch(plain)
        if factor and bool(factor["weight"]) != bool(factor["embedding"]):
            key = factor["module"] + ("\0" if factor["embedding"] else "")
            halves.setdefault(key, {})[factor["side"]] = entry
        elif ".lora_" in plain or "trainable_tokens" in plain:
            skipped.append(Skipped(name, "not a LoRA factor of a weight"))
        else:
            saved[plain.replace(".modules_to_save.", ".").replace(".base_layer.", ".")] = entry
    factors = [_factors(spec, config, key, found) for key, found in halves.items()]
    if not factors and not saved:
        raise AdapterError(f"{spec} holds no LoRA factors (lora_A, lora_B) in {WEIGHTS}.")
    return Adapter(
        spec=spec,
        resolved=str(folder),
        config=config,
        factors={factor.module: factor for factor in factors},
        saved=saved,
        weights=weights,
        skipped=tuple(skipped),
    )


def lora_scale(config: Mapping[str, Any], module: str) -> float:
    """Return alpha/r, or alpha/sqrt(r) with rank stabilisation, of one module.

    Raises:
        AdapterError: Rank or alpha is missing or no positive number.

    Source:
        Hu et al. 2021, arXiv:2106.09685; Kalajdzievski 2023, arXiv:2312.03732 (rsLoRA).
    """
    rank = _setting(config, "r", "rank_pattern", module)
    alpha = _setting(config, "lora_alpha", "alpha_pattern", module)
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def _factors(
    spec: str, config: Mapping[str, Any], key: str, found: Mapping[str, TensorEntry]
) -> LoraFactors:
    """Check that A and B of one module fit each other and the configured rank."""
    module = key.rstrip("\0")
    kind: Kind = "embedding" if key.endswith("\0") else "linear"
    if set(found) != {"A", "B"}:
        raise AdapterError(
            f"{spec}: module {module} has lora_{''.join(found)} alone, expected lora_A and lora_B."
        )
    a, b = found["A"], found["B"]
    if min(len(a.shape), len(b.shape)) < 2 or a.shape[0] != b.shape[1]:
        raise AdapterError(
            f"{spec}: module {module} has lora_A {list(a.shape)} and lora_B {list(b.shape)}, "
            "expected [r, in] and [out, r]."
        )
    rank = _setting(config, "r", "rank_pattern", module)
    if rank != a.shape[0]:
        raise AdapterError(
            f"{spec}: module {module} has factors of rank {a.shape[0]}, but {CONFIG} gives "
            f"r = {rank:g}, so its scale is unknown. Give the config saved with these weights."
        )
    return LoraFactors(module, kind, a, b, a.shape[0], lora_scale(config, module))


def _setting(config: Mapping[str, Any], key: str, patterns: str, module: str) -> float:
    """Return a module's rank or alpha: the first pattern that fits, else the default."""
    table = config.get(patterns) or {}
    if not isinstance(table, dict):
        raise AdapterError(f"{CONFIG}: {patterns} is {table!r}, expected an object.")
    value = config.get(key)
    for pattern, found in table.items():
        try:
            fits = re.match(rf"(.*\.)?({pattern})$", module)
        except re.error as error:
            raise AdapterError(
                f"{CONFIG}: {patterns} holds {pattern!r}, no regular expression ({error})."
            ) from None
        if fits:
            value = found
            break
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0 or (key == "r" and value < 1):
        raise AdapterError(f"{CONFIG}: {key} of {module} is {value!r}, expected a number above 0.")
    return float(value)


def _refuse_unsupported(spec: str, config: Mapping[str, Any]) -> None:
    """Refuse by name what would give a wrong update."""
    kind = config.get("peft_type")
    if kind != "LORA":
        raise AdapterError(
            f"{spec} is a PEFT adapter of type {kind!r}, expected LORA. Merge it into its base "
            "(`merge_and_unload`) and give the merged model."
        )
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(MOVED_BASE):
        raise AdapterError(
            f"{spec} was initialised with {start!r}, which changes the base before training: "
            "base + update is not the tuned model. Merge it and give the merged model."
        )
    for setting, name in UNSUPPORTED.items():
        if config.get(setting):
            raise AdapterError(
                f"{spec} uses {name}, which is not supported yet. Merge it into its base "
                "(`merge_and_unload`) and give the merged model."
            )
