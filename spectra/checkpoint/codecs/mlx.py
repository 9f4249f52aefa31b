"""MLX's quantised weights: integers in words times scales plus offsets, or small floats."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from spectra.checkpoint.codecs.fp4 import Fp4
from spectra.checkpoint.codecs.parts import SCALES, Coded, Family, Found, MisfitError
from spectra.checkpoint.codecs.scaled import Scaled
from spectra.checkpoint.entry import Codec, ReadStored, Slab, TensorEntry
from spectra.deferred import Tensor
from spectra.text import quote

WORDS = frozenset({"U32"})
BYTES = frozenset({"U8"})
AXES = (2, 3)
WIDTHS = (2, 3, 4, 5, 6, 8)
GROUPS = (32, 64, 128)
MODES = {"affine": (64, 4), "mxfp4": (32, 4), "nvfp4": (16, 4), "mxfp8": (32, 8)}
"""Columns that share a scale and bits, where the settings do not tell."""

METAL = "metal"  # transformers' name for the same; its offsets are called qbiases

KNOWN = frozenset({"group_size", "bits", "mode"})
HARMLESS = frozenset({
    "quant_method", "linear_class_name", "modules_to_not_convert", "quantize_activations",
    "quantize_input",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mlx(Coded):
    """field * scale + bias, the fields of a row without gaps from the lowest bit on.

    Source:
        `affine_dequantize` of MLX 0.32 (`mlx/ops.cpp`).
    """

    name: str
    words: TensorEntry  # [..., rows, cols * bits / 32], taken for I32
    scales: TensorEntry  # [..., rows, groups]
    biases: TensorEntry  # likewise
    bits: int
    cols: int

    def decode(self, read: ReadStored, slab: Slab) -> Tensor:
        """Return the values as float32."""
        from spectra.checkpoint.codecs import affine, numbers  # noqa: PLC0415 - needs torch

        words = read(self.words, slab)
        scales, biases = read(self.scales, slab).float(), read(self.biases, slab).float()
        values = numbers.unpack_bits(words.flatten(0, -2), self.bits, self.cols)
        values = values.view(*words.shape[:-1], self.cols)
        affine.scale_and_shift(values, scales, biases, self.cols // scales.shape[-1])
        return values


def make_mlx(found: Found) -> TensorEntry:
    """Put one weight that MLX has quantised together.

    Raises:
        MisfitError: The settings tell of another scheme, or the parts do not fit each other.
    """
    told = _told(found)
    offsets = "qbiases" if "qbiases" in found.others else "biases"
    mode = told.get("mode") or ("affine" if offsets in found.others else "")
    if not isinstance(mode, str) or mode not in MODES:
        raise MisfitError(
            f"MLX's quantisation in the mode {quote(mode)} is not read"
            if mode
            else "words with scales and no biases: config.json does not tell MLX's mode"
        )
    if "global_scale" in found.others:
        raise MisfitError("MLX's weights with a global_scale are not read")
    shape = found.matrix(WORDS, AXES)
    if mode != "affine":
        return _floats(found, mode, told)
    scales = found.need("scales", SCALES)
    groups = scales.shape[-1] if scales.shape else 0
    scales = found.need("scales", SCALES, (*shape[:-1], groups))
    biases = found.need(offsets, SCALES, scales.shape)
    bits, group = _width(32 * shape[-1], groups, told)
    words = replace(found.main, dtype="I32")
    codec = Mlx(f"mlx-{bits}bit", words, scales, biases, bits, groups * group)
    return found.whole((*shape[:-1], groups * group), codec)


def _told(found: Found) -> Mapping[str, Any]:
    """Return what config.json says of one module, or of all."""
    settings = found.settings
    if settings.method == METAL:
        return settings.values
    if not settings.mlx and settings.method:
        raise MisfitError(f"weights of the scheme {settings.label} are not read")
    for key, value in settings.mlx.items():  # those of a module are an object, or true or false
        if key not in KNOWN | HARMLESS and value and not isinstance(value, bool | Mapping):
            raise MisfitError(f"the key {quote(key)} of MLX's settings is not understood")
    own = settings.mlx.get(found.main.name.removesuffix(".weight"))
    if not isinstance(own, Mapping):
        return {key: value for key, value in settings.mlx.items() if key in KNOWN}
    strange = [key for key in own if key not in KNOWN]
    if strange:
        raise MisfitError(f"the key {quote(strange[0])} of its quantisation is not understood")
    group, bits = MODES.get(str(own.get("mode") or "affine"), (0, 0))
    return {"group_size": group, "bits": bits, **own}


def _width(bits_of_row: int, groups: int, told: Mapping[str, Any]) -> tuple[int, int]:
    """Return bits and columns in a group; a row's words and groups give their product."""
    fitting = [
        (bits, group) for bits in WIDTHS for group in GROUPS if bits * group * groups == bits_of_row
    ]
    stated = told.get("bits"), told.get("group_size")
    if stated in fitting:
        return fitting[fitting.index(stated)]
    if len(fitting) != 1:
        raise MisfitError(
            f"{bits_of_row} bits a row in {groups} groups fit "
            + (f"{len(fitting)} widths of" if fitting else "no width of")
            + f" MLX, and config.json tells {stated[0] or 'no'} bits in groups of "
            f"{stated[1] or 'no'} columns"
        )
    return fitting[0]


def _floats(found: Found, mode: str, told: Mapping[str, Any]) -> TensorEntry:
    """Put a weight of small floats together: the four- and eight-bit ones of other libraries."""
    group, bits = MODES[mode]
    if (told.get("group_size") or group, told.get("bits") or bits) != (group, bits):
        raise MisfitError(
            f"MLX's {mode} has {bits} bits in groups of {group}, and config.json tells "
            f"{told.get('bits')} in groups of {told.get('group_size')}"
        )
    if "biases" in found.others:
        raise MisfitError(f"MLX's {mode} has no biases, and they are there")
    main = found.main
    rows, words = main.shape[:-1], main.shape[-1]
    cols = words * 32 // bits
    if cols % group:
        raise MisfitError(f"{cols} columns are no whole number of groups of {group}")
    scales = found.need("scales", BYTES, (*rows, cols // group))
    codec: Codec
    if mode == "nvfp4":
        scales = replace(scales, dtype="F8_E4M3")
    if bits == 4:
        codec = Fp4(f"mlx-{mode}", main, scales, None, None, (1, group))
    else:
        main = replace(main, dtype="F8_E4M3", shape=(*rows, cols))
        codec = Scaled(f"mlx-{mode}", main, scales, None, (1, group))
    return found.whole((*rows, cols), codec)


FAMILIES = (
    Family(
        main="weight",
        weight="weight",
        others=("scales", "biases", "qbiases", "global_scale"),
        needs=("scales",),
        dtypes=WORDS,
        make=make_mlx,
    ),
)


def channels_first(entry: TensorEntry) -> TensorEntry:
    """Return a convolution that MLX stores as [out, ..., in] as [out, in, ...].

    Args:
        entry: Any tensor of a file of MLX. One of three axes is a convolution where its
            module is called so, for stacks of matrices have three too.
    """
    module = entry.name.removesuffix(".weight").rpartition(".")[2]
    axes = len(entry.shape)
    told = axes in {4, 5} or (axes == 3 and "conv" in module)
    if entry.codec is not None or entry.strides or not entry.is_weights or not told:
        return entry
    if not entry.name.endswith(".weight") or not entry.numel:
        return entry
    out, *inner, channels = entry.shape
    strides = [channels]
    for extent in reversed(inner[1:]):
        strides.insert(0, strides[0] * extent)
    across = entry.numel // out, 1, *strides
    return replace(entry, shape=(out, channels, *inner), strides=across)
