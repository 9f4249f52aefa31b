"""Settings of a quantisation that stand in a file of their own, beside config.json."""

from collections.abc import Mapping
from typing import Any

from spectra.checkpoint.codecs.settings import SECTIONS
from spectra.checkpoint.documents import read_object
from spectra.checkpoint.source import Folder

CONFIG = "quantization_config"
BESIDE = {
    "quantize_config.json": "gptq",
    "quant_config.json": "awq",
    "hf_quant_config.json": "modelopt",
}
"""The method that a file is of where it does not say: AutoGPTQ's, AutoAWQ's, ModelOpt's."""

TELLING = frozenset({"bits", "w_bit", "quant_method", "quant_algo"})
"""One of these is in every file of such settings."""


def with_settings(config: Mapping[str, Any], folder: Folder) -> dict[str, Any]:
    """Return config.json with the settings of a quantisation that stand beside it.

    Args:
        config: Of the model; its own settings go before all others.
        folder: Where it lies.

    Raises:
        CheckpointError: A file of settings is no JSON object.
    """
    inner = config.get("text_config")
    places = (config, inner if isinstance(inner, dict) else {})
    if any(place.get(section) for place in places for section in SECTIONS):
        return dict(config)
    for name, method in BESIDE.items():
        if folder.has(name):
            found = read_object(folder.file(name))
            part = found.get("quantization")
            told = part if isinstance(part, dict) else found
            if not TELLING & told.keys():
                continue
            return {**config, CONFIG: {"quant_method": method, **told}}
    return dict(config)
