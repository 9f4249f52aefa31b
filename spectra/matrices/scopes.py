"""Which settings of a config.json are about a tensor: those of its part and of its layer."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from spectra.matrices.layers import place_in
from spectra.matrices.rule import Config

SCOPES = {
    "encoder": r"(?:model\.)?encoder\.",
    "decoder": r"(?:model\.)?decoder\.",
    "vision_config": r".*visi|.*visual",
    "audio_config": r".*audio",
}
"""Which tensors the settings of a part of the model are for; others are for the text's."""

TEXT = ("text_config", "llm_config", "language_config", "thinker_config")


def is_elsewhere(name: str) -> bool:
    """Say whether a tensor is in the vision or audio part of a model."""
    return any(re.match(SCOPES[key], name) for key in SCOPES if key.endswith("_config"))


def settings_for(name: str, config: Config) -> dict[str, Any]:
    """Return the settings of the part of a model that a tensor is in, over the model's own."""
    found = dict(config)
    for key, inner in config.items():
        if isinstance(inner, Mapping) and (key in SCOPES or key in TEXT) and _is_of(key, name):
            found |= inner
    return dict(_of_layer(name, found))


def settings_in_turn(name: str, config: Config) -> Iterator[Config]:
    """Yield the model's settings, then those of the parts of it that a tensor is in."""
    yield _of_layer(name, config)
    for key, inner in config.items():
        if isinstance(inner, dict) and "model_type" in inner and _is_of(key, name):
            yield from settings_in_turn(name, {**config, key: None, **inner})


def _is_of(part: str, name: str) -> bool:
    return bool(re.match(SCOPES[part], name)) if part in SCOPES else not is_elsewhere(name)


def _of_layer(name: str, config: Config) -> Config:
    """Return the settings with those that the tensor's own layer has of its own."""
    layers = config.get("per_layer_config")
    place = place_in(name) if isinstance(layers, dict) else None
    own = layers.get(str(place.numbers[-1])) if place and isinstance(layers, dict) else None
    return {**config, **own} if isinstance(own, dict) else config
