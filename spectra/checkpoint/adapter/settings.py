"""What an adapter's config says: which method, and the rank and scale of each module."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spectra.checkpoint.adapter.patterns import FORM, first_fits
from spectra.errors import AdapterError
from spectra.text import quote, shown

CONFIG = "adapter_config.json"
UNKNOWN = (
    f"r in {CONFIG} contradicts its tensors, so its scale is not known: alpha over their rank is "
    "assumed"
)
MOVED_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Initialisations that subtract from the base, so that its published weights are not W0."""

UNSUPPORTED = {
    "use_qalora": "QA-LoRA",
    "use_bdlora": "block-diagonal LoRA",
    "kasa_config": "KaSA",
    "arrow_config": "Arrow routing",
    "layer_replication": "layer_replication",
    "alora_invocation_tokens": "aLoRA, whose update holds only after certain tokens",
}
"""Settings under which the update is more than factors on a module's weight."""

SAFE_STARTS = ("gaussian", "eva", "orthogonal", "mica", "true", "false")
"""Initialisations that leave the base as it is."""

KNOWN = frozenset([
    "peft_type", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora",
    "fan_in_fan_out", "target_parameters", "trainable_token_indices", "peft_version",
    "init_lora_weights", "modules_to_save", "lora_bias",
    # What chooses modules or steers training, and leaves the update what the factors say.
    "task_type", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode",
    "target_modules", "exclude_modules", "lora_dropout", "bias", "layers_to_transform",
    "layers_pattern", "megatron_config", "megatron_core", "loftq_config", "eva_config",
    "corda_config", "lora_ga_config", "velora_config", "qalora_group_size", "monteclora_config",
    "runtime_config", "ensure_weight_tying", "enable_lora", "merge_weights", "unsloth_fixed",
])  # fmt: skip
"""Settings of `LoraConfig` in PEFT up to 0.21 that are understood, or change no values.

MonteCLoRA samples in training alone: PEFT merges plain factors.
"""

MERGE = "Merge it into its base (`merge_and_unload`) and give the merged model."


@dataclass(frozen=True, slots=True)
class Setting:
    """Rank and scale of one module."""

    rank: float
    scale: float  # alpha / rank, or alpha / sqrt(rank) where rank-stabilised


def settings_of(
    config: Mapping[str, Any], modules: Iterable[str], alpha_key: str = "lora_alpha"
) -> dict[str, Setting]:
    """Return each module's rank and scale.

    Args:
        config: adapter_config.json.
        modules: Names as PEFT matches patterns against them.
        alpha_key: What the settings call alpha.

    Returns:
        By module. The first pattern that fits counts, in the order of the file, as PEFT
        loads it; PEFT sorts the patterns when it saves.

    Raises:
        AdapterError: Rank or alpha is missing or out of range, or a pattern is malformed.

    Source:
        Hu et al. 2021, arXiv:2106.09685; Kalajdzievski 2023, arXiv:2312.03732 (rsLoRA).
    """
    names = list(dict.fromkeys(modules))
    tables = {key: _table(config, key) for key in ("rank_pattern", "alpha_pattern")}
    fits = first_fits({key: list(table) for key, table in tables.items()}, names, CONFIG)
    stabilised = flag(config, "use_rslora")
    found: dict[str, Setting] = {}
    for name in names:
        values = []
        for key, pattern, least in (("r", "rank_pattern", 1), (alpha_key, "alpha_pattern", 0)):
            chosen = fits[pattern].get(name)
            value = config.get(key) if chosen is None else tables[pattern][chosen]
            values.append(_number(value, key, name, least))
        rank, alpha = values
        found[name] = Setting(rank, alpha / math.sqrt(rank) if stabilised else alpha / rank)
    return found


def patterns_left(
    config: Mapping[str, Any], names: Iterable[str], form: str = FORM
) -> list[tuple[str, str]]:
    """Return the patterns for ranks and alphas that fit none of the names, each with its table.

    Args:
        config: adapter_config.json.
        names: As PEFT matches patterns against them.
        form: What it searches for, as `first_fits` has it.

    Raises:
        AdapterError: A pattern is malformed.
    """
    told = [(key, one) for key in ("rank_pattern", "alpha_pattern") for one in _table(config, key)]
    fits = first_fits(
        {str(place): [one] for place, (_, one) in enumerate(told)}, list(names), CONFIG, form
    )
    return [one for place, one in enumerate(told) if not fits[str(place)]]


def targets_of(config: Mapping[str, Any]) -> Sequence[str]:
    """Return the endings of `target_modules`; empty where it is a pattern, or not told."""
    told = config.get("target_modules")
    plain = isinstance(told, list) and all(isinstance(one, str) for one in told)
    return told if plain and told is not None else ()


def targeted(config: Mapping[str, Any], modules: Sequence[str]) -> set[str]:
    """Return the modules that `target_modules` names, by their endings or by a pattern.

    Raises:
        AdapterError: The pattern is malformed.
    """
    told = config.get("target_modules")
    if isinstance(told, str):
        return set(first_fits({"target_modules": [told]}, modules, CONFIG)["target_modules"])
    ends = tuple(f".{one}" for one in targets_of(config))
    return {module for module in modules if f".{module}".endswith(ends)}


def flag(config: Mapping[str, Any], key: str) -> bool:
    """Return a setting that is true or false; absent and null are false.

    Raises:
        AdapterError: It is something else.
    """
    value = config.get(key)
    if value is not None and not isinstance(value, bool):
        raise AdapterError(
            f"{CONFIG}: {key} is {quote(value)}, expected true or false. Save the adapter again."
        )
    return bool(value)


def texts(config: Mapping[str, Any], key: str) -> Sequence[str]:
    """Return a setting that is a list of texts; absent and null are empty.

    Raises:
        AdapterError: It is something else.
    """
    value = config.get(key)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise AdapterError(
            f"{CONFIG}: {key} is {quote(value)}, expected a list of texts. Save the adapter again."
        )
    return value


def peft_version(config: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the version of PEFT that wrote the config; zeros where it is older than 0.18."""
    found = config.get("peft_version")
    numbers = (
        re.match(r"(\d{1,4})\.(\d{1,4})\.(\d{1,4})", found) if isinstance(found, str) else None
    )
    return tuple(map(int, numbers.groups())) if numbers else (0, 0, 0)


def token_indices(config: Mapping[str, Any], module: str) -> list[int]:
    """Return which rows of an embedding an adapter replaces.

    Args:
        config: adapter_config.json; `trainable_token_indices` is a list, which is about the
            input embedding, or lists by the end of a module's name.
        module: The embedding.

    Raises:
        AdapterError: They are missing, contradict each other, or are no distinct row numbers.
    """
    found = config.get("trainable_token_indices")
    if isinstance(found, dict):
        lengths = {len(end) for end in found}  # few, however many ends there are
        ends = {module[len(module) - count :] for count in lengths if count <= len(module)}
        found = [found[end] for end in ends if end in found]
        found = found[0] if found and all(rows == found[0] for rows in found) else None
    whole = isinstance(found, list) and all(type(row) is int and row >= 0 for row in found)
    if not whole or len(set(found or ())) != len(found or ()):
        raise AdapterError(
            f"{CONFIG}: trainable_token_indices of {quote(module)} is {quote(found)}, expected a "
            "list of distinct row numbers. Save the adapter again."
        )
    return list(found or ())


def refuse_unsupported(spec: str, config: Mapping[str, Any]) -> None:
    """Refuse by name what would give a wrong update.

    Raises:
        AdapterError: It is another method, or its training changed the base.
    """
    kind = config.get("peft_type")
    if kind != "LORA":
        raise unread_method(spec, kind)
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(MOVED_BASE):
        raise AdapterError(
            f"{shown(spec)} was initialised with {quote(start)}, which changes the base before "
            "training: base + update is not the tuned model. Merge it and give the merged model."
        )
    if isinstance(start, str) and start.lower() not in SAFE_STARTS:
        raise AdapterError(
            f"{shown(spec)} was initialised with {quote(start)}, which is not known: it may change "
            "the base before training. Merge it and give the merged model."
        )
    for setting, value in config.items():
        if value and setting not in KNOWN:
            raise unsupported(spec, UNSUPPORTED.get(setting, f"the setting {quote(setting)}"))


def unread_method(spec: str, kind: object, why: str = "") -> AdapterError:
    """Return the error for an adapter of a method that is not read."""
    told = f", which {why}" if why else ", expected LORA or another method that is read"
    end = MERGE if "no weight" not in why else "There is nothing of it to analyse."
    return AdapterError(f"{shown(spec)} is a PEFT adapter of type {quote(kind)}{told}. {end}")


def unsupported(spec: str, name: str) -> AdapterError:
    """Return the error for an update that is more than its factors."""
    return AdapterError(f"{shown(spec)} uses {name}, which is not supported. {MERGE}")


def _table(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    table = config.get(key)
    if table is not None and not isinstance(table, dict):
        raise AdapterError(
            f"{CONFIG}: {key} is {quote(table)}, expected an object from module patterns to "
            "numbers. Save the adapter again."
        )
    return table or {}


def _number(value: Any, key: str, module: str, least: int) -> float:  # noqa: ANN401 - any JSON value
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not least <= value <= 1e9:  # 1e9: no integer too large for a float
        raise AdapterError(
            f"{CONFIG}: {key} of {quote(module)} is {quote(value)}, expected a number of at least "
            f"{least}. Save the adapter again."
        )
    return float(value)
