"""Which matrices a stored tensor holds: by its family's rule, or as it stands.

A fused tensor's sigma_1 mixes its parts, so each part is its own matrix. What the table
of families does not know is taken as it stands where that is safe, so that a new model
works on the day it appears; where it is not, the tensor is refused with its reason.
"""

import re

from spectra.matrices.families import TABLE
from spectra.matrices.part import LayoutError, Part, Rows
from spectra.matrices.role import kind_of
from spectra.matrices.rule import Config, Shape, divide
from spectra.matrices.scopes import settings_in_turn
from spectra.matrices.unread import held_by, vector

__all__ = ["LayoutError", "Part", "Rows", "parts_of"]


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
    for settings in settings_in_turn(name, config):
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
    if len(shape) == 3 and shape[0] == 1 and kind_of(name) == "embed":
        return [Part(alone=True)]  # a table that is added to every one of a batch
    raise LayoutError(f"{len(shape)}-dimensional, of a layout not known")


_KERNEL = re.compile(r"(?:^|\.)(?:weight|conv\w*_weight)$")
_STACK = re.compile(r"experts?(?:\.|_)|(?:^|\.)moe\.")
"""Modules whose weights of three dimensions are stacks, not kernels."""


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
