"""Writes spectra/architectures/renames.json from the installed transformers.

`python -m benchmarks.families.renames`: about two minutes. No weights are made or fetched:
every class that an auto class leads to is built on the meta device from its default
configuration, and what it calls its parts is noted.
"""

import gc
import importlib
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from transformers import conversion_mapping
from transformers.models.auto import configuration_auto, modeling_auto

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import families  # found in tests/
from spectra.architectures import table
from spectra.exports.installed import USUAL, described, layers_of
from spectra.text import numberless

ALIKE = conversion_mapping._MODEL_TO_CONVERSION_PATTERN  # noqa: SLF001 - PEFT reads it too
ROUTERS = "mixtral", "qwen2_moe"
"""Families whose experts PEFT takes older names of modules to mean."""


def _halves() -> tuple[Any, Any]:
    return hf.BertConfig(), hf.BertConfig(is_decoder=True, add_cross_attention=True)


RECIPES: Mapping[str, Callable[[], Any]] = {
    "EncoderDecoderModel": lambda: hf.EncoderDecoderConfig.from_encoder_decoder_configs(*_halves()),
    "VisionEncoderDecoderModel": lambda: hf.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        hf.ViTConfig(), _halves()[1]
    ),
    "SpeechEncoderDecoderModel": lambda: hf.SpeechEncoderDecoderConfig.from_encoder_decoder_configs(
        hf.Wav2Vec2Config(), _halves()[1]
    ),
}
"""Configurations of classes that have no default one."""


def main() -> None:
    """Write the table."""
    text = json.dumps(renames(), separators=(",", ":"), sort_keys=True)
    # A line for each family and class keeps what changes between versions readable.
    for key in ("classes", "moves", "types"):
        text = text.replace(f'"{key}":{{', f'\n"{key}":{{\n')
    table.PATH.write_text(text.replace('],"', '],\n"') + "\n", encoding="utf-8")


def renames() -> dict[str, Any]:
    """Return the whole table."""
    classes: dict[str, list[Any]] = {}
    for name in [*auto_classes(), *parts()]:
        note(name, classes)
    return {
        "transformers": hf.__version__,
        "types": types(),
        "moves": moves(),
        "classes": classes,
        "expert_types": expert_types(),
    }


def stored() -> dict[str, Any]:
    """Return the table as it is committed."""
    read: dict[str, Any] = json.loads(table.PATH.read_text(encoding="utf-8"))
    return read


def expert_types() -> list[str]:
    """Return the families in which PEFT takes older names of modules to mean all experts."""
    return sorted({"mixtral", *(name for name, base in ALIKE.items() if base in ROUTERS)})


def moves() -> dict[str, list[list[Any]]]:
    """Return what transformers does to names, by family or class."""
    known = conversion_mapping._build_checkpoint_conversion_mapping()  # type: ignore[no-untyped-call]  # noqa: SLF001
    return {name: [described(one) for one in known[name]] for name in sorted(known)}


def types() -> dict[str, list[str]]:
    """Return every family, its bare class and the one that writes text."""
    bodies, writers = (
        modeling_auto.MODEL_MAPPING_NAMES,
        modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    )
    known = {*configuration_auto.CONFIG_MAPPING_NAMES, *bodies}  # type: ignore[attr-defined]
    return {name: [_first(bodies.get(name)), _first(writers.get(name))] for name in sorted(known)}


def _first(classes: object) -> str:
    """Return the first of several classes; empty where there is none."""
    return str(classes[0] if isinstance(classes, (list, tuple)) else classes or "")


def auto_classes() -> list[str]:
    """Return the name of every model class that an auto class leads to."""
    found: set[str] = set()
    for name, mapping in vars(modeling_auto).items():
        if name.startswith("MODEL_") and name.endswith("_MAPPING_NAMES"):
            for classes in mapping.values():
                found |= {classes} if isinstance(classes, str) else {*classes}
    return sorted(one for one in found if one)


@cache
def parts() -> dict[str, Any]:
    """Return the classes of models that no auto class leads to, by name."""
    found: dict[str, Any] = {}
    known = set(auto_classes())
    for family in families.model_types():
        home = configuration_auto.CONFIG_MAPPING[family].__module__
        with suppress(ImportError):  # some families have no models of their own
            names = families.classes(family)
            module = importlib.import_module(home.replace("configuration_", "modeling_"))
            found |= {name: getattr(module, name) for name in names if name not in known}
    return found


def note(name: str, classes: dict[str, list[Any]]) -> None:
    """Build a class and note it and the classes of the models inside it; those that fail not."""
    kind = getattr(hf, name, None) or parts().get(name)
    if kind is None:
        return
    for settings in (lambda: RECIPES.get(name, kind.config_class)(),  # noqa: PLW0108 - may raise
                     lambda: families.config_of(kind.config_class.model_type)):  # fmt: skip
        try:
            config = settings()
            with torch.device("meta"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = kind(config)
        except Exception:  # noqa: BLE001, S112 - a default that cannot be built, or needs another library
            continue
        for _, module in models(model):
            known = type(module).__name__
            if known not in classes or known == name:  # as it is alone, where it is
                classes[known] = noted(module)
        del model
        gc.collect(0)
        return


def models(model: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    """Return the models inside a model, itself first."""
    for path, module in model.named_modules():
        if isinstance(module, hf.PreTrainedModel):
            yield path, module


def noted(model: Any) -> list[Any]:  # noqa: ANN401 - a PreTrainedModel
    """Return the prefix of a model's body, its top names, and the models right inside it."""
    tops = {name.partition(".")[0] for name in model.state_dict()}
    inside: list[list[str]] = []
    for path, module in models(model):
        if path and not any(path.startswith(f"{one[0]}.") for one in inside):
            inside.append([path, type(module).__name__, module.config.model_type or "",
                           place(model.config, module.config)])  # fmt: skip
    own = (
        (path, one)
        for path, one in layers_of(model).items()
        if one.kind not in USUAL and not any(f"{path}.".startswith(f"{at[0]}.") for at in inside)
    )
    held = dict(model.named_modules())
    odd = {
        numberless(f"{path}."): f"{one.kind} {one.groups}"
        for path, one in own
        if path and any(value.ndim > 1 for value in held[path].parameters(recurse=False))
    }
    return [model.base_model_prefix, sorted(tops), inside, odd]


def place(config: Any, wanted: Any, at: str = "") -> str:  # noqa: ANN401 - configurations
    """Return where in a configuration another one is; empty for itself, `?` where nowhere."""
    if config is wanted:
        return at
    inside = {
        key: value for key, value in vars(config).items() if isinstance(value, hf.PreTrainedConfig)
    }
    for key, value in inside.items():
        found = place(value, wanted, f"{at}.{key}" if at else key)
        if found != "?":
            return found
    return "?"


if __name__ == "__main__":
    main()
