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
from spectra.checkpoint.quote import quote, shown
from spectra.errors import AdapterError, CheckpointError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
MOVED_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Initialisations that subtract from the base, so that its published weights are not W0."""

UNSUPPORTED = {
    "use_dora": "DoRA",
    "use_qalora": "QA-LoRA",
    "use_bdlora": "block-diagonal LoRA",
    "kasa_config": "KaSA",
    "arrow_config": "Arrow routing",
    "layer_replication": "layer_replication",
    "target_parameters": "target_parameters (factors on 3-D expert tensors)",
    "trainable_token_indices": "trainable_token_indices (rows of the embedding)",
}
"""Settings under which the update is more than `scale * B @ A` on a module's weight."""

EXTRA_FACTORS = {".lora_magnitude_vector": "DoRA", ".lora_diag": "KaSA"}
"""Tensors that take part in the update, whatever the settings say."""

MERGE = "Merge it into its base (`merge_and_unload`) and give the merged model."
PREFIX = "base_model.model."
WRAPPERS = re.compile(r"\.(modules_to_save(\.default)?|base_layer)(?=\.)")
FACTOR = re.compile(
    r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(\.default)?(?P<weight>\.weight)?",
    re.DOTALL,
)

Kind = Literal["linear", "embedding"]
Halves = dict[tuple[str, Kind], dict[str, TensorEntry]]  # by module, then by A or B


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
        pickled = (folder / "adapter_model.bin").is_file()
        held = "adapter_model.bin (PyTorch pickle)" if pickled else "no weights"
        raise CheckpointError(
            f"{shown(spec)} has {CONFIG} but {held}; expected {WEIGHTS}. Save the adapter with "
            "safetensors (`save_pretrained(folder)`) and give that folder."
        )
    weights = open_file(spec, path)
    halves, saved, skipped = _sort(spec, weights)
    factors: dict[str, LoraFactors] = {}
    for (module, kind), found in halves.items():
        if module in factors:
            raise AdapterError(
                f"{shown(spec)}: module {quote(module)} has factors of an embedding and of a "
                "linear layer, expected one pair. Save the adapter again."
            )
        factors[module] = _factors(spec, config, module, kind, found)
    if not factors and not saved:
        raise AdapterError(
            f"{shown(spec)} holds no LoRA factors (lora_A, lora_B) in {WEIGHTS}. "
            "Save the adapter again (`save_pretrained`)."
        )
    return Adapter(
        spec=spec,
        resolved=str(folder),
        config=config,
        factors=factors,
        saved=saved,
        weights=weights,
        skipped=tuple(skipped),
    )


def _sort(spec: str, weights: Checkpoint) -> tuple[Halves, dict[str, TensorEntry], list[Skipped]]:
    """Tell an adapter's factors from its whole tensors and from what is neither."""
    halves: Halves = {}
    saved: dict[str, TensorEntry] = {}
    skipped: list[Skipped] = []
    for name, entry in weights.entries.items():
        for part, method in EXTRA_FACTORS.items():
            if part in name:
                raise _unsupported(spec, method)
        plain = name.removeprefix(PREFIX)
        factor = FACTOR.fullmatch(plain)
        if factor and bool(factor["weight"]) != bool(factor["embedding"]):
            kind: Kind = "embedding" if factor["embedding"] else "linear"
            found = halves.setdefault((factor["module"], kind), {})
            _add(spec, found, factor["side"], entry)
        elif ".lora_" in plain:
            skipped.append(Skipped(name, "not a LoRA factor of a weight"))
        else:
            _add(spec, saved, WRAPPERS.sub("", plain), entry)
    return halves, saved, skipped


def lora_scale(config: Mapping[str, Any], module: str) -> float:
    """Return alpha/r, or alpha/sqrt(r) with rank stabilisation, of one module.

    Raises:
        AdapterError: Rank or alpha is missing or out of range, or a pattern is malformed.

    Source:
        Hu et al. 2021, arXiv:2106.09685; Kalajdzievski 2023, arXiv:2312.03732 (rsLoRA).
    """
    rank = _setting(config, "r", "rank_pattern", module)
    alpha = _setting(config, "lora_alpha", "alpha_pattern", module)
    stabilised = config.get("use_rslora") or False
    if not isinstance(stabilised, bool):
        raise AdapterError(
            f"{CONFIG}: use_rslora is {quote(stabilised)}, expected true or false. "
            "Save the adapter again."
        )
    return alpha / math.sqrt(rank) if stabilised else alpha / rank


def _add(spec: str, table: dict[str, TensorEntry], key: str, entry: TensorEntry) -> None:
    """Note one tensor; two names that mean the same one are refused."""
    if key in table:
        raise AdapterError(
            f"{shown(spec)} holds {quote(table[key].name)} and {quote(entry.name)}, which mean "
            "the same tensor: which one counts is unknown. Save the adapter again."
        )
    table[key] = entry


def _factors(
    spec: str, config: Mapping[str, Any], module: str, kind: Kind, found: Mapping[str, TensorEntry]
) -> LoraFactors:
    """Check that A and B of one module fit each other and the configured rank."""
    subject = f"{shown(spec)}: module {quote(module)}"
    if set(found) != {"A", "B"}:
        raise AdapterError(
            f"{subject} has lora_{''.join(found)} alone, expected lora_A and lora_B. "
            "Save the adapter again."
        )
    a, b = found["A"], found["B"]
    axes = 2 if kind == "embedding" else max(2, len(a.shape))  # a convolution's B is 1 x 1
    if not len(a.shape) == len(b.shape) == axes or a.shape[0] != b.shape[1]:
        raise AdapterError(
            f"{subject} has lora_A {list(a.shape)} and lora_B {list(b.shape)}, expected [r, in] "
            "and [out, r]. Save the adapter again, without grouped convolutions."
        )
    if set(b.shape[2:]) - {1}:
        raise AdapterError(
            f"{subject} has lora_B {list(b.shape)}, expected a 1 x 1 convolution [out, r, 1, 1]. "
            f"{MERGE}"
        )
    rank = _setting(config, "r", "rank_pattern", module)
    if rank != a.shape[0]:
        raise AdapterError(
            f"{subject} has factors of rank {a.shape[0]}, but {CONFIG} gives r = {rank:g}, so its "
            "scale is unknown. Give the config saved with these weights."
        )
    return LoraFactors(module, kind, a, b, a.shape[0], lora_scale(config, module))


def _setting(config: Mapping[str, Any], key: str, patterns: str, module: str) -> float:
    """Return a module's rank or alpha: the first pattern that fits, else the default.

    The order is the file's, as PEFT loads it; PEFT sorts the patterns when it saves.
    """
    table = config.get(patterns) or {}
    if not isinstance(table, dict):
        raise AdapterError(
            f"{CONFIG}: {patterns} is {quote(table)}, expected an object from module patterns to "
            "numbers. Save the adapter again."
        )
    value: Any = config.get(key)
    for pattern, found in table.items():
        try:
            fits = re.match(rf"(.*\.)?({pattern})$", module)
        except (re.error, OverflowError, RecursionError) as error:
            raise AdapterError(
                f"{CONFIG}: {patterns} holds {quote(pattern)}, expected a regular expression "
                f"({quote(str(error))[1:-1]}). Save the adapter again."
            ) from None
        if fits:
            value = found
            break
    least = 1 if key == "r" else 0
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not least <= value < math.inf:
        raise AdapterError(
            f"{CONFIG}: {key} of {quote(module)} is {quote(value)}, expected a number of at least "
            f"{least}. Save the adapter again."
        )
    return float(value)


def _refuse_unsupported(spec: str, config: Mapping[str, Any]) -> None:
    """Refuse by name what would give a wrong update."""
    kind = config.get("peft_type")
    if kind != "LORA":
        raise AdapterError(
            f"{shown(spec)} is a PEFT adapter of type {quote(kind)}, expected LORA. {MERGE}"
        )
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(MOVED_BASE):
        raise AdapterError(
            f"{shown(spec)} was initialised with {quote(start)}, which changes the base before "
            "training: base + update is not the tuned model. Merge it and give the merged model."
        )
    for setting, value in config.items():
        unknown = setting.startswith("use_") and setting != "use_rslora"
        if value and (unknown or setting in UNSUPPORTED):
            raise _unsupported(spec, UNSUPPORTED.get(setting, quote(setting)))


def _unsupported(spec: str, name: str) -> AdapterError:
    """Return the error for an update that is more than two factors."""
    return AdapterError(f"{shown(spec)} uses {name}, which is not supported yet. {MERGE}")
