"""Tensors that hold no matrix of weights, told by their names and shapes, and what they hold."""

import re
from collections.abc import Iterable

from spectra.checkpoint import TensorEntry

VECTORS = 1  # dimensions longer than one that a vector has at most

OF_NORMS = (
    "layer|rms|batch|group|instance|pre|post|in|out|input|output|final|sub|attn|ffn|mlp|[qkl]"
)
"""What stands before `norm` in one word; `denorm` is none, and a matrix may be called so."""

HOLDS = (
    (r"(?:\w+_)?bias(?:_[uv])?|attention_biases", "a bias"),
    (r"weight_[gv]|parametrizations\.weight\.original[01]",
     "half of a weight-normalised weight, not the weight itself"),
    (r"weight_scales?(?:_inv|_2)?|scales?_inv|scales|SCB|(?:nested_)?absmax",
     "scales of quantised weights"),
    (r"A_logs?|ssm_a", "decay rates of a state-space model, no map of inputs to outputs"),
    (rf"(?i:(?:\w*_)?(?:{OF_NORMS})*norm\d*|ln_\w+)\.weight", "scales of a normalisation"),
)  # fmt: skip
"""Ends of names that hold no matrix of their own, whatever their shape."""

_HOLDS = tuple((re.compile(rf"(?:.*\.)?(?:{end})"), what) for end, what in HOLDS)
_SCALE = re.compile(r"(?:.*\.)?(?:\w+_)?scales?")

_LAYER = re.compile(r"(?:.*[._])?(?:weight|kernel|proj|projection)(?:_[a-z0-9]+)*|[^.]*")


def lies_bare(name: str) -> bool:
    """Say whether a tensor is a parameter of a module that is no layer's weight by its name.

    It may be anything: a table, a state, a map. A name without a dot tells of no module.
    """
    return _LAYER.fullmatch(name) is None


OTHER_NUMBERS = {
    "C64": "complex numbers (C64)",
    "F4": "4-bit floats (F4), packed two to a byte, with no scheme that says their scales",
    "F6_E2M3": "6-bit floats (F6_E2M3), with no scheme that says their scales",
    "F6_E3M2": "6-bit floats (F6_E3M2), with no scheme that says their scales",
    "F8_E8M0": "powers of two (F8_E8M0), the scales of quantised weights",
}
"""Dtypes that are floating and yet no weights as they stand, and what they are."""


def held_by(name: str) -> str:
    """Return what a tensor holds that by its name is no matrix; empty where it may be one."""
    return next((what for pattern, what in _HOLDS if pattern.fullmatch(name)), "")


def vector(name: str, shape: tuple[int, ...]) -> str:
    """Return that a tensor is a vector in more dimensions than it needs; empty where not.

    A weight of one output, or of one channel, is a matrix; a parameter that lies bare in its
    module is none.
    """
    is_weight = name.rpartition(".")[2] == "weight"
    if sum(size > 1 for size in shape) > VECTORS or (is_weight and shape[:2] != (1, 1)):
        return ""
    return f"a vector of shape {list(shape)}" if "." in name or len(shape) > 2 else ""


def scales_of(entries: Iterable[TensorEntry]) -> dict[str, str]:
    """Return what tensors hold that are called a scale: of quantised weights where some are there.

    Args:
        entries: Of the whole checkpoint.
    """
    every = list(entries)
    coded = {entry.name.rpartition(".")[0] for entry in every
             if entry.codec is not None or not entry.is_weights}  # fmt: skip
    found = {}
    for entry in every:
        if _SCALE.fullmatch(entry.name) and not held_by(entry.name):
            quantised = entry.name.rpartition(".")[0] in coded
            found[entry.name] = (
                "scales of quantised weights" if quantised else "a scale, no layer's weight"
            )
    return found


def no_weights(entry: TensorEntry) -> str:
    """Return why a tensor's numbers are no weights; empty where they are."""
    if not entry.is_weights:
        if entry.dtype.startswith("F8_E") and entry.dtype not in OTHER_NUMBERS:
            return f"8-bit floats ({entry.dtype}), with no scheme that says their scales"
        return OTHER_NUMBERS.get(entry.dtype, f"not floating point ({entry.dtype})")
    if len(entry.shape) == 0:
        return "a single number"
    if len(entry.shape) == 1:
        return "one-dimensional"
    return "" if entry.numel else "empty"
