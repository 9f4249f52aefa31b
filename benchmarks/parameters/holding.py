"""What one class of models holds under one configuration, by the names that it is saved under."""

import contextlib
import copy
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers.configuration_utils import PreTrainedConfig
from transformers.core_model_loading import revert_weight_conversion

Config = Any  # a PreTrainedConfig: its fields differ by family
Names = tuple[str, ...]
"""One parameter: of tied ones every name, any of which will do."""

RUNNING = re.compile(r".*running_(?:mean|var)")


@dataclass(frozen=True)
class Held:
    """The parameters of a model, as saved and as they are called in memory."""

    saved: frozenset[Names]
    memory: frozenset[Names]
    ever: frozenset[str]  # names of all that is saved, also of what is computed


def held(cls: Any, config: Config) -> Held:  # noqa: ANN401 - a class of models
    """Build a model without memory and return its parameters."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = cls(copy.deepcopy(config))
    ignored = model._keys_to_ignore_on_save or ()
    every = {name: value for name, value in model.state_dict(keep_vars=True).items()
             if isinstance(value, torch.Tensor)}  # fmt: skip
    state = {name: value for name, value in every.items()
             if name not in ignored and _counts(name, value)}  # fmt: skip
    saved = revert_weight_conversion(model, dict(every))
    own = revert_weight_conversion(model, dict(state))
    return Held(_grouped(own), _grouped(state), frozenset({*every, *saved}))


def _counts(name: str, value: torch.Tensor) -> bool:
    """Say whether every save has it: what trains, and statistics; not tables that are computed."""
    if not value.is_floating_point():
        return False
    trains = isinstance(value, torch.nn.Parameter) and value.requires_grad
    return trains or RUNNING.fullmatch(name) is not None


def _grouped(state: Mapping[str, Any]) -> frozenset[Names]:
    """Return names, those of one tensor together."""
    groups: dict[int, list[str]] = {}
    for name, value in state.items():
        groups.setdefault(id(value), []).append(name)
    return frozenset(tuple(sorted(names)) for names in groups.values())


@contextmanager
def reads() -> Iterator[set[tuple[type, str]]]:
    """Collect which settings are looked at: the class of the configuration and the key."""
    seen: set[tuple[type, str]] = set()
    kind: Any = PreTrainedConfig
    plain = kind.__getattribute__

    def watched(self: Config, key: str) -> Any:  # noqa: ANN401 - any setting
        if not key.startswith("_"):
            names = plain(self, "attribute_map")
            seen.add((type(self), names.get(key, key)))
        return plain(self, key)

    kind.__getattribute__ = watched
    try:
        yield seen
    finally:
        kind.__getattribute__ = plain


def parts(config: Config, prefix: str = "") -> Iterator[tuple[str, Config]]:
    """Yield a configuration and those of its parts, each with its place."""
    yield prefix, config
    for key, value in vars(config).items():
        if isinstance(value, PreTrainedConfig):
            yield from parts(value, f"{prefix}{key}.")


def value_at(config: Config, key: str) -> Any:  # noqa: ANN401 - any setting
    """Return a setting by its dotted name; None where it is not there."""
    for word in key.split("."):
        config = getattr(config, word, None)
    return config


def changed(config: Config, key: str, value: object) -> Iterator[Config]:
    """Yield the configuration with another value: made anew, then as it stands."""
    *inner, last = key.split(".")
    with contextlib.suppress(Exception):  # each configuration refuses in its own way
        yield _anew(config, inner, last, value)
    with contextlib.suppress(Exception):
        found = copy.deepcopy(config)
        setattr(value_at(found, ".".join(inner)) if inner else found, last, value)
        yield found


def _anew(config: Config, inner: list[str], last: str, value: object) -> Config:
    """Make a configuration from its own settings, lists by layer left to be made again."""
    given = {
        key: getattr(config, config.attribute_map.get(key, key))
        for key, old in vars(config).items()
        if not key.startswith("_") and not isinstance(old, list | tuple)
        and key not in {"transformers_version", "architectures", "dtype"}
    }  # fmt: skip
    for key, old in given.items():
        if isinstance(old, PreTrainedConfig):
            given[key] = _anew(old, inner[1:], last, value) if inner[:1] == [key] else old
    if not inner:
        given[last] = value
    return type(config)(**given)
