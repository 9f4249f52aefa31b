"""All classes of one family as entries of the table."""

import contextlib
import logging
import re
from collections.abc import Collection
from typing import Any

from transformers.models.auto import configuration_auto, modeling_auto

import families
from benchmarks.parameters.document import Found, entry_of
from benchmarks.parameters.holding import Config, parts
from benchmarks.parameters.table import tabled

logging.getLogger("transformers").setLevel(logging.ERROR)

FIRST = ("CAUSAL_LM", "MASKED_LM", "IMAGE_TEXT_TO_TEXT", "SEQ_TO_SEQ_CAUSAL_LM")
EXPERTS = 8  # of a whole model: more are the same again


def types() -> list[str]:
    """Return every family, those of language models first."""
    maps = [getattr(modeling_auto, f"MODEL_FOR_{task}_MAPPING_NAMES") for task in FIRST]
    order = [name for names in maps for name in names] + list(modeling_auto.MODEL_MAPPING_NAMES)
    return list(dict.fromkeys([*order, *families.model_types()]))


def entries(model_type: str) -> dict[str, Any]:
    """Return what the classes of a family hold; those that cannot be built are left out."""
    try:
        config, names = families.config_of(model_type), families.classes(model_type)
    except Exception:  # noqa: BLE001 - each family refuses in its own way
        return {}
    bodies = _listed(modeling_auto.MODEL_MAPPING_NAMES.get(model_type))
    found: dict[str, Found] = {}
    known: dict[str, bool] = {}
    for name in sorted(names, key=lambda name: name not in bodies):
        try:
            cls = families.class_of(name, config)
            rules, told, ever = tabled(cls, config, _whole(model_type), known)
        except Exception:  # noqa: BLE001, S112 - likewise
            continue
        known = known or told
        prefix = f"{cls.base_model_prefix}." if cls.base_model_prefix else ""
        found[name] = Found(name, model_type, prefix, rules, frozenset(ever), _aliases(config))
    body = next((found[name] for name in bodies if name in found), None)
    return {name: entry_of(one, None if name in bodies else body) for name, one in found.items()}


def causal(classes: Collection[str]) -> dict[str, str]:
    """Return the class of language models of each family that has one in the table."""
    told = {kind: _listed(names)[0]
            for kind, names in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items()}  # fmt: skip
    return {kind: name for kind, name in told.items() if name in classes}


def _listed(names: str | Collection[str] | None) -> list[str]:
    """Return one or several names as a list."""
    return [names] if isinstance(names, str) else list(names or ())


def _whole(model_type: str) -> Config | None:
    """Return a family's own configuration, its layers all there; None where it has none."""
    try:
        config = configuration_auto.CONFIG_MAPPING[model_type]()
    except Exception:  # noqa: BLE001 - as above
        return None
    for _, part in parts(config):
        for key, value in list(vars(part).items()):
            if type(value) is int and value > EXPERTS and re.search(r"experts$", key):
                with contextlib.suppress(Exception):
                    setattr(part, key, EXPERTS)
    return config


def _aliases(config: Config) -> dict[str, list[str]]:
    """Return the other names of settings, by their own."""
    found: dict[str, list[str]] = {}
    for prefix, part in parts(config):
        for alias, real in part.attribute_map.items():
            found.setdefault(prefix + real, []).append(prefix + alias)
    return found
