"""Which matrices a stored tensor holds: by its family's rule, or as it stands.

A fused tensor's sigma_1 mixes its parts, so each part is its own matrix. What the table
of families does not know is taken as it stands where that is safe, so that a new model
works on the day it appears; where it is not, the tensor is refused with its reason.
"""

import re
from collections.abc import Iterator

from spectra.matrices.families import TABLE
from spectra.matrices.layers import place_in
from spectra.matrices.part import LayoutError, Part, Rows
from spectra.matrices.rule import Config, Shape, divide
from spectra.matrices.unread import held_by, vector

__all__ = ["LayoutError", "Part", "Rows", "parts_of"]

SCOPES = {
    "encoder": r"encoder\.",
    "decoder": r"decoder\.",
    "vision_config": r".*visi|.*visual",
    "audio_config": r".*audio",
}
"""Which tensors the settings of a part of the model are for; others are for the text's."""


def parts_of(name: str, shape: Shape, config: Config) -> list[Part]:
    """Return the matrices that one stored tensor holds.

    Args:
        name: Key in the checkpoint.
        shape: As stored.
        config: The model's config.json; `model_type` and head counts are read, also those
            of its text or vision part. May be empty.

    Returns:
        Parts that together are the whole tensor, in stored order.

    Raises:
        LayoutError: The tensor holds no weight matrix, its layout is not known, or the
            family's rule does not fit its shape.
    """
    what = held_by(name)
    if what:
        raise LayoutError(what)
    for settings in _settings(name, config):
        for families, pattern, rule in TABLE:
            family = settings.get("model_type")
            known = not families or (isinstance(family, str) and family in families)
            parts = rule(settings, shape) if known and pattern.search(name) else []
            if parts:
                return parts
    what = vector(name, shape)
    if what:
        raise LayoutError(what)
    if len(shape) == 2:
        return [Part()]
    # Only modules have a `weight`: a bare 4-D tensor is a buffer, e.g. GPT-2's causal mask.
    if _KERNEL.search(name) and not _STACK.search(name):
        return _convolution(name, shape, config)
    raise LayoutError(f"{len(shape)}-dimensional, of a layout not known")


_KERNEL = re.compile(r"(?:^|\.)(?:weight|conv\w*_weight)$")
_STACK = re.compile(r"experts?(?:\.|_)|(?:^|\.)moe\.")
"""Modules whose weights of three dimensions are stacks, not kernels."""


def _settings(name: str, config: Config) -> Iterator[Config]:
    """Yield the model's settings, then those of the parts of it that the tensor is in."""
    yield _of_layer(name, config)
    elsewhere = any(re.match(SCOPES[key], name) for key in SCOPES if key.endswith("_config"))
    for key, inner in config.items():
        if isinstance(inner, dict) and "model_type" in inner:
            inside = re.match(SCOPES[key], name) if key in SCOPES else not elsewhere
            if inside:
                yield from _settings(name, {**config, key: None, **inner})


def _of_layer(name: str, config: Config) -> Config:
    """Return the settings with those that the tensor's own layer has of its own."""
    layers = config.get("per_layer_config")
    place = place_in(name) if isinstance(layers, dict) else None
    own = layers.get(str(place.numbers[-1])) if place and isinstance(layers, dict) else None
    return {**config, **own} if isinstance(own, dict) else config


def _convolution(name: str, shape: Shape, config: Config) -> list[Part]:
    """Kernels [out, in/groups, ...]: the kernel flattened, one matrix per group.

    The config tells the groups of a speech model's positional convolution. A depthwise
    kernel is one matrix, a row for each channel's filter.
    """
    groups = config.get("num_conv_pos_embedding_groups", 1) if "pos_conv" in name else 1
    if groups == 1:
        return [Part()]
    size = divide(shape[0], groups)
    return [Part(group=i, block=(i * size, (i + 1) * size)) for i in range(groups)]
